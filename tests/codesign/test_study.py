"""The study: what it asks, records and tells, and that it resumes as if nothing had happened."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.drive_serial import drive_serial
from codesign.errors import TrialError
from codesign.expressions import parse_budget
from codesign.guard import guarded
from codesign.objectives import Objective, Objectives
from codesign.store import Store
from codesign.strategies.evolution import RegularizedEvolution
from codesign.strategies.nsga2 import Nsga2
from codesign.strategies.random import Random
from codesign.strategies.strategy import Strategy
from codesign.study import Study, candidate_keys
from codesign.trial import Evaluation, State
from search_spaces.ops import IntArray
from tests.codesign.fakes import CheapCost, Grid, Quality

OBJECTIVES = Objectives((Objective("accuracy", maximize=True), Objective("cost")), (parse_budget("cost <= 24"),))


def make_study(
    path: Path,
    quality: Quality | None = None,
    *,
    strategy: type[Strategy] = RegularizedEvolution,
    space: Grid | None = None,
    trials: int = 40,
    batch: int = 1,
    in_flight: int = 1,
    objectives: Objectives = OBJECTIVES,
    seed: int = 0,
    name: str = "study",
) -> Study:
    space = space or Grid()
    store = Store(f"sqlite:///{path}")
    known = {str(study["name"]) for study in store.studies()}
    study_id = store.study_id(name) if name in known else store.add_study(name, "{}")
    made = strategy(space, len(objectives.objectives), seed)  # type: ignore[call-arg]
    return Study(space, made, objectives, store, study_id, quality or Quality(), [CheapCost()],
                 trials=trials, batch=batch, in_flight=in_flight)  # fmt: skip


def ledger(study: Study) -> list[tuple[object, ...]]:
    """Everything of the ledger but the times."""
    trials = study.store.trials(study.id)
    return [
        (t.number, t.state, tuple(t.genotype["x"]), tuple(sorted(t.metrics.items())), t.violation, t.error)
        for t in trials
    ]


def test_over_budget_candidates_are_recorded_and_never_evaluated(tmp_path: Path) -> None:
    quality = Quality()
    study = make_study(tmp_path / "a.db", quality)
    drive_serial(study, quality)
    trials = study.store.trials(study.id)
    over = [trial for trial in trials if trial.violation > 0]
    assert len(trials) - len(over) == 40
    assert over
    for trial in over:
        assert trial.state is State.MEASURED
        assert trial.metrics["cost"] > 24
        assert "accuracy" not in trial.metrics
        assert trial.violation == pytest.approx((trial.metrics["cost"] - 24) / 24)
    evaluated = {tuple(code) for code in quality.evaluated}
    assert evaluated.isdisjoint(tuple(trial.genotype["x"]) for trial in over)  # type: ignore[arg-type]


def test_no_candidate_is_evaluated_twice_and_a_small_space_is_exhausted(tmp_path: Path) -> None:
    quality = Quality(options=3)
    study = make_study(tmp_path / "a.db", quality, space=Grid(3, 3), trials=1000)
    drive_serial(study, quality)
    assert study.is_exhausted
    assert len(quality.evaluated) == len(set(quality.evaluated)) == 27
    assert study.n_finished == 27


def test_a_crash_and_a_nan_fail_their_trial_with_a_reason_and_the_run_goes_on(tmp_path: Path) -> None:
    quality = Quality(crash_when_first=1, nan_when_first=2)
    study = make_study(tmp_path / "a.db", quality, strategy=Random, trials=60, batch=7)
    drive_serial(study, quality)
    by_first: dict[int, list[str]] = {}
    for trial in study.store.trials(study.id):
        if trial.state is State.FAILED:
            assert trial.violation == np.inf
            assert "accuracy" not in trial.metrics
            by_first.setdefault(trial.genotype["x"][0], []).append(trial.error)  # type: ignore[index]
    assert set(by_first) == {1, 2}
    assert all(error.startswith("RuntimeError: cannot build [1,") for error in by_first[1])
    assert set(by_first[2]) == {"the evaluation gave no finite accuracy"}
    assert study.n_finished == 60


@pytest.mark.parametrize("strategy", [RegularizedEvolution, Nsga2, Random])
@pytest.mark.parametrize(("batch", "in_flight"), [(1, 3), (5, 2)])
def test_resumed_from_any_cut_equals_unbroken(
    tmp_path: Path, strategy: type[Strategy], batch: int, in_flight: int
) -> None:
    """Cut after every k-th step by opening the store anew, with results of the open round partly recorded."""
    whole = make_study(tmp_path / "whole.db", strategy=strategy, batch=batch, in_flight=in_flight)
    drive_serial(whole, Quality())
    rng = np.random.default_rng(0)
    quality = Quality()
    while True:
        study = make_study(tmp_path / "cut.db", quality, strategy=strategy, batch=batch, in_flight=in_flight)
        if study.is_done:
            break
        for _ in range(int(rng.integers(1, 4))):
            found = study.ask(int(rng.integers(1, batch + 1)))
            if found is None:
                break
            n = int(rng.integers(0, len(found.numbers) + 1))  # the cut may come in the middle of a batch
            if n:
                study.finish(found.numbers[:n], guarded(quality, found.codes[:n]))
        study.store.close()
    assert ledger(study) == ledger(whole)
    assert len(quality.evaluated) == len(set(quality.evaluated)) == 40


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_ledger_does_not_depend_on_the_order_of_completion(tmp_path: Path, data: st.DataObject) -> None:
    reference = make_study(tmp_path / "reference.db", in_flight=4, trials=16)
    if not reference.is_done:
        drive_serial(reference, Quality())
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "study.db"
    quality = Quality()
    study = make_study(path, quality, in_flight=4, trials=16)
    out: list[tuple[int, IntArray]] = []
    while not study.is_done:
        while (batch := study.ask()) is not None:
            out.extend(zip(batch.numbers, batch.codes, strict=True))
        number, code = out.pop(data.draw(st.integers(0, len(out) - 1)))
        study.finish([number], guarded(quality, code[None]))
    assert [row[:5] for row in ledger(study)] == [row[:5] for row in ledger(reference)]


def test_equal_evaluation_keys_are_evaluated_once_even_when_in_flight(tmp_path: Path) -> None:
    """Candidates that differ in columns that do not decide the outcome share one evaluation."""
    quality = Quality(key_columns=1)
    study = make_study(tmp_path / "a.db", quality, strategy=Random, trials=30, batch=10, in_flight=2)
    drive_serial(study, quality)
    assert len(quality.evaluated) <= 8
    reused = [row["is_reused"] for row in study.store.ledger(study.id) if row["round"] != -1]
    assert len(reused) == 30
    assert sum(map(bool, reused)) == 30 - len(quality.evaluated)
    values: dict[int, set[float]] = {}
    for trial in study.store.trials(study.id):
        if trial.violation == 0:
            values.setdefault(trial.genotype["x"][0], set()).add(trial.metrics["accuracy"])  # type: ignore[index]
    assert all(len(found) == 1 for found in values.values())


def test_outcomes_are_shared_across_studies_of_one_store(tmp_path: Path) -> None:
    first, second = Quality(), Quality()
    study = make_study(tmp_path / "a.db", first, name="first")
    drive_serial(study, first)
    again = make_study(tmp_path / "a.db", second, name="second")
    drive_serial(again, second)
    assert second.evaluated == []
    assert [row[2] for row in ledger(again)] == [row[2] for row in ledger(study)]
    other = make_study(tmp_path / "a.db", Quality(fingerprint="other-data"), name="third")
    third = Quality(fingerprint="other-data")
    drive_serial(other, third)
    assert len(third.evaluated) == 40


def test_a_result_reported_twice_counts_once(tmp_path: Path) -> None:
    study = make_study(tmp_path / "a.db")
    batch = study.ask()
    assert batch is not None
    evaluation = guarded(Quality(), batch.codes)
    study.finish(batch.numbers, evaluation)
    before = ledger(study)
    study.finish(batch.numbers, Evaluation({"accuracy": np.array([0.0])}, [""]))
    assert ledger(study) == before


def test_released_candidates_are_handed_out_again(tmp_path: Path) -> None:
    study = make_study(tmp_path / "a.db")
    batch = study.ask()
    assert batch is not None
    assert study.ask() is None
    study.release(batch.numbers)
    again = study.ask()
    assert again is not None
    assert again.numbers == batch.numbers


def test_tight_budgets_are_met_by_search_not_by_luck(tmp_path: Path) -> None:
    """One candidate in 300,000 has cost <= 1 when drawn at random: the strategy must descend the violation."""
    objectives = Objectives((Objective("accuracy", maximize=True),), (parse_budget("cost <= 1"),))
    quality = Quality()
    study = make_study(tmp_path / "a.db", quality, space=Grid(7, 8), trials=5, objectives=objectives)
    drive_serial(study, quality)
    assert study.n_finished == 5
    assert all(sum(code) <= 1 for code in quality.evaluated)


def test_failed_batches_are_split_so_that_only_the_culprit_fails() -> None:
    codes = np.array([[0, 0], [1, 0], [2, 0]])
    found = guarded(Quality(crash_when_first=1), codes)
    assert [bool(error) for error in found.errors] == [False, True, False]
    assert np.isnan(found.metrics["accuracy"]).tolist() == [False, True, False]


def test_a_trial_error_keeps_its_own_words() -> None:
    class Diverges(Quality):
        def evaluate(self, codes: IntArray) -> Evaluation:
            raise TrialError("the loss became NaN in epoch 3")

    assert guarded(Diverges(), np.zeros((1, 2), np.int64)).errors == ["the loss became NaN in epoch 3"]


def test_keys_are_equal_for_equal_rows_alone() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, (500, 5))
    keys = candidate_keys(codes)
    assert len(set(keys)) == len(np.unique(codes, axis=0))
