"""The store: all or nothing, columns equal to what was written, readers beside writers, clear errors."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from codesign.errors import StoreError
from codesign.store import Final, Finished, NewTrials, Outcome, Progress, Store
from codesign.trial import State


def new_trials(first: int, n: int, seed: int = 0, state: State = State.MEASURED) -> NewTrials:
    rng = np.random.default_rng([seed, first])
    cost = np.where(rng.random(n) < 0.2, np.nan, rng.random(n))
    return NewTrials(
        first_number=first,
        rounds=[0] * n,
        states=[state] * n,
        keys=[f"{i}" for i in range(first, first + n)],
        codes=[[i, 0] for i in range(first, first + n)],
        genotypes=[{"x": i} for i in range(first, first + n)],
        violations=np.where(rng.random(n) < 0.5, 0.0, np.nan),
        errors=[""] * n,
        metrics={"cost": cost, "other": np.arange(first, first + n, dtype=float)},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'store.db'}")


def test_columns_are_what_was_written_with_nan_where_nothing_was(store: Store) -> None:
    study = store.add_study("a", "job")
    other = store.add_study("b", "job")
    written = [new_trials(first, 70) for first in (0, 70, 140)]
    for block in written:
        store.record(study, new=block)
    store.record(other, new=new_trials(0, 5, seed=9))
    columns = store.columns(study, ["cost", "other", "absent"])
    for name in ("cost", "other"):
        np.testing.assert_array_equal(columns[name], np.concatenate([block.metrics[name] for block in written]))
    np.testing.assert_array_equal(columns["violation"], np.concatenate([block.violations for block in written]))
    assert np.isnan(columns["absent"]).all()
    assert columns["absent"].shape == (210,)
    assert store.metric_names(study) == ["cost", "other"]


def test_trials_come_back_whole(store: Store) -> None:
    study = store.add_study("a", "job")
    store.record(study, new=new_trials(0, 3, state=State.RUNNING))
    found = Finished(
        [2, 0], [State.MEASURED, State.FAILED], np.array([0.25, np.inf]), ["", "it broke"],
        {"accuracy": np.array([0.5, np.nan])}, [{"weights": "w"}, {}],
    )  # fmt: skip
    store.record(study, finished=found)
    failed, running, measured = store.trials(study)
    assert (failed.state, failed.error, failed.violation) == (State.FAILED, "it broke", np.inf)
    assert "accuracy" not in failed.metrics
    assert running.state is State.RUNNING
    assert (measured.metrics["accuracy"], measured.violation, measured.genotype) == (0.5, 0.25, {"x": 2})
    assert store.artifacts(study, 2) == {"weights": "w"}
    assert store.codes(study, [2, 0]).tolist() == [[2, 0], [0, 0]]
    assert [trial.number for trial in store.trials(study, [2, 1])] == [1, 2]


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    study = store.add_study("a", "job")
    store.record(study, new=new_trials(0, 3), progress=Progress(3, 3, 1, 0, False, "{}"))
    broken = new_trials(2, 3)  # trial 2 is there already
    with pytest.raises(Exception, match="UNIQUE"):
        store.record(study, new=broken, progress=Progress(9, 9, 9, 9, True, "x"))
    assert len(store.trials(study)) == 3
    assert store.progress(study) == Progress(3, 3, 1, 0, False, "{}")


def test_outcomes_and_finals(store: Store) -> None:
    study = store.add_study("a", "job")
    store.record(study, outcomes=("f", {"k": Outcome({"accuracy": 0.9}, {"weights": "/gone"})}))
    store.record(study, outcomes=("f", {"k": Outcome({"accuracy": 0.9}, {"weights": "/w"})}))  # the newest is kept
    assert store.outcomes("f", ["k", "l"]) == {"k": Outcome({"accuracy": 0.9}, {"weights": "/w"})}
    assert store.outcomes("g", ["k"]) == {}
    store.set_finals(study, 4, {"test_accuracy": Final(0.9, 0.8, 0.95), "latency_ms@cpu": Final(1.0)})
    store.set_finals(study, 4, {"test_accuracy": Final(0.91, 0.8, 0.95)})
    assert store.finals(study) == {4: {"test_accuracy": Final(0.91, 0.8, 0.95), "latency_ms@cpu": Final(1.0)}}


def test_readers_see_whole_batches_while_a_writer_works(store: Store, tmp_path: Path) -> None:
    study = store.add_study("a", "job")
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        reader = Store(f"sqlite:///{tmp_path / 'store.db'}", create=False)
        while not done.is_set():
            seen.append(len(reader.columns(study, ["other"])["other"]))
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    for first in range(0, 3000, 100):
        store.record(study, new=new_trials(first, 100))
    done.set()
    thread.join()
    assert seen == sorted(seen)
    assert all(n % 100 == 0 for n in seen)


def test_names_are_unique_and_unknown_ones_are_named(store: Store) -> None:
    store.add_study("a", "job")
    with pytest.raises(StoreError, match="already holds a study named 'a'"):
        store.add_study("a", "job")
    with pytest.raises(StoreError, match="no study named 'b'"):
        store.study_id("b")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        Store(f"sqlite:///{tmp_path / 'none.db'}", create=False)
    (tmp_path / "text.db").write_text("this is no database, it is a text that is long enough to look like a header")
    with pytest.raises(StoreError, match="cannot be opened: .*not a database"):
        Store(f"sqlite:///{tmp_path / 'text.db'}")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store("no-such-backend://x")
    Store(f"sqlite:///{tmp_path / 'new.db'}").close()
    connection = sqlite3.connect(tmp_path / "new.db")
    connection.execute("UPDATE codesign_schema SET version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="schema version 99"):
        Store(f"sqlite:///{tmp_path / 'new.db'}")
