"""Logs of designs: what is appended is read back, whatever dies meanwhile; a run's log is its store."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.design_log import DesignLog, LogBatch, LoggedModel, features_of, join_batches, read_part
from codesign.errors import DataError, InputError
from codesign.job import parse_job
from codesign.log_run import log_of_run, read_logs
from codesign.run import Run, create_run, drive, plan_run, study_of
from simulators.accelerator import Columns, Field
from simulators.report import CostReport
from tests.codesign.design_models import MODEL, PRESET, Queue, batch_of, random_designs, run_cli


def same(first: LogBatch, second: LogBatch) -> bool:
    """Whether two batches hold the same."""
    return (
        all(getattr(first, name) == getattr(second, name) for name in ("space", "model", "context", "fields"))
        and list(first.reasons) == list(second.reasons)
        and dict(first.features) == dict(second.features)
        and all(np.array_equal(first.designs[name], second.designs[name]) for name in first.designs)
        and set(first.metrics) == set(second.metrics)
        and all(np.array_equal(first.metrics[name], second.metrics[name], equal_nan=True) for name in first.metrics)
        and (first.codes is None) == (second.codes is None)
        and (first.codes is None or second.codes is None or np.array_equal(first.codes, second.codes))
    )  # fmt: skip


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    log = DesignLog(tmp_path / "log")
    batch = batch_of(Queue(refuses=True), random_designs(30))
    batch = replace(batch, codes=np.arange(120).reshape(30, 4))
    assert log.append(batch).name == "part-000000.parquet"
    assert any(batch.reasons)
    (read,) = log.read()
    assert same(read, batch)
    assert log.append(batch).name == "part-000001.parquet"
    (read,) = log.read()
    assert len(read) == 60
    assert same(read.take(np.arange(30)), batch)
    assert same(read.take(np.arange(30, 60)), batch)


@settings(max_examples=15, deadline=None)
@given(
    numbers=st.lists(st.floats(allow_nan=True, width=64), min_size=0, max_size=5),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
def test_any_values_survive(numbers: list[float], text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    n = len(numbers)
    fields = (
        Field("x", "float", "", 0.0, doc="x"),
        Field("n", "int", "", 3, doc="n"),
        Field("s", "str", "", text, doc="s"),
    )
    designs: Columns = {
        "x": np.arange(n) / 3,
        "n": np.arange(n, dtype=np.int64),
        "s": np.array([text] * n, dtype=np.str_),
    }
    batch = LogBatch("s", "m-v1", text, fields, designs, {"y": np.array(numbers, dtype=np.float64)}, [text] * n)
    (read,) = [read_part(DesignLog(tmp_path_factory.mktemp("log")).append(batch))]
    assert same(read, batch)


def test_other_tools_read_the_columns(tmp_path: Path) -> None:
    path = DesignLog(tmp_path).append(batch_of(Queue(), random_designs(3), "night"))
    table = pq.read_table(path)
    assert table.column_names[:5] == ["space", "model", "context", "code", "reason"]
    assert table["context"].to_pylist() == ["night"] * 3
    assert table["model"].to_pylist() == ["queue-v1"] * 3
    assert {"field.depth", "metric.latency_ns"} <= set(table.column_names)


def test_parts_of_different_kind_stay_apart(tmp_path: Path) -> None:
    log = DesignLog(tmp_path)
    day, night = (batch_of(Queue(load), random_designs(4), name) for load, name in ((1.0, "day"), (2.0, "night")))
    for batch in (day, night, day):
        log.append(batch)
    joined = log.read()
    assert [(batch.context, len(batch)) for batch in joined] == [("day", 8), ("night", 4)]
    assert same(joined[0], join_batches([day, day])[0])


def test_a_write_that_is_cut_off_leaves_the_log_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, batch = DesignLog(tmp_path), batch_of(Queue(), random_designs(5))
    log.append(batch)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from codesign.design_log import DesignLog\n"
        "from tests.codesign.design_models import Queue, batch_of, random_designs\n"
        "os.link = lambda *paths: os._exit(9)\n"  # as if killed after the data and before it becomes a part
        "DesignLog(Path(sys.argv[1])).append(batch_of(Queue(), random_designs(5)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert done.returncode == 9
    assert len(list(tmp_path.iterdir())) == 2, "the cut-off write left no file: the test shows nothing"
    (read,) = log.read()
    assert same(read, batch)

    def refuse(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        log.append(batch)
    assert same(log.read()[0], batch)
    assert len(list(tmp_path.iterdir())) == 2, "a refused write cleans up after itself"


def test_writers_side_by_side_lose_nothing(tmp_path: Path) -> None:
    batches = [batch_of(Queue(), random_designs(2, seed)) for seed in range(12)]
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda batch: DesignLog(tmp_path).append(batch), batches))
    assert len(set(paths)) == 12
    assert all(same(read_part(path), batch) for path, batch in zip(paths, batches, strict=True))


def test_a_logged_model_gives_the_same_figures_and_logs_them(tmp_path: Path) -> None:
    log, designs = DesignLog(tmp_path), random_designs(7)
    logged = LoggedModel(Queue(2.0), log, space="design-v1", context="day")
    report, expected = logged.evaluate(designs), Queue(2.0).evaluate(designs)
    assert (logged.id, logged.fields, logged.metrics) == (Queue.id, Queue.fields, Queue.metrics)
    assert all(np.array_equal(report.metrics[name], expected.metrics[name]) for name in Queue.metrics)
    logged.evaluate({name: values[:0] for name, values in designs.items()})
    assert len(log.parts()) == 1, "an empty batch is not worth a part"
    assert same(log.read()[0], batch_of(Queue(2.0), designs, "day"))


def test_a_model_without_features_has_none() -> None:
    assert features_of(CostReport) == {}
    assert features_of(Queue(3.0)) == {"load": 3.0}


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no log"):
        DesignLog(tmp_path).read()
    with pytest.raises(DataError, match="neither a log of designs nor a run"):
        read_logs([tmp_path / "nowhere"])
    path = DesignLog(tmp_path).append(batch_of(Queue(), random_designs(20)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="part-000000.parquet"):
        DesignLog(tmp_path).read()
    pq.write_table(pa.table({"x": [1, 2]}), path)
    with pytest.raises(DataError, match="not a log of designs"):
        DesignLog(tmp_path).read()


def test_columns_that_do_not_fit_are_refused() -> None:
    batch = batch_of(Queue(), random_designs(4))
    with pytest.raises(InputError, match="latency_ns has 3 rows, the designs 4"):
        replace(batch, metrics={"latency_ns": np.zeros(3)})
    with pytest.raises(InputError, match="codes has 2 rows"):
        replace(batch, codes=np.zeros((2, 4), dtype=np.int64))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run over the toy controller."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "queue.toml").write_text(PRESET, encoding="utf-8")
    job = parse_job(
        {
            "name": "queues",
            "space": {"type": "design", "model": {"type": MODEL, "load": 2.0, "refuses": True}, "preset": "queue.toml"},
            "objectives": {"minimize": ["latency_ns", "energy_pj"]},
            "search": {"strategy": "random", "trials": 70, "seed": 1},
            "evaluate": "cost",
        }
    )
    parts = plan_run(job, folder / "out", folder)
    created = create_run(parts, folder)
    drive(created, parts, study_of(created, parts))
    return created


def test_the_log_of_a_run_is_its_store(run: Run) -> None:
    batch = log_of_run(run)
    trials = run.store.trials(run.study_id)
    assert (batch.space, batch.model, batch.context) == ("design-v1", "queue-v1", "load=2.0,refuses=True")
    assert dict(batch.features) == {"load": 2.0}
    assert len(batch) == len(trials) == 70
    assert batch.fields == Queue.fields
    assert batch.codes is not None
    space = run.parts().space
    for i, trial in enumerate(trials):
        assert space.decode(batch.codes[i]) == dict(trial.genotype)
        assert {name: batch.designs[name][i] for name in trial.genotype} == dict(trial.genotype)
        found = {name: values[i] for name, values in batch.metrics.items() if not np.isnan(values[i])}
        assert found == dict(trial.metrics)
        assert batch.reasons[i] == trial.error
    assert any(batch.reasons)
    report = Queue(2.0, refuses=True).evaluate(batch.designs)
    assert np.array_equal(batch.metrics["latency_ns"], report.metrics["latency_ns"], equal_nan=True)


def test_the_verb_appends_a_runs_log(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "log"
    for n_parts in (1, 2):
        status, text, _ = run_cli(capsys, monkeypatch, "log", str(run.folder), "--out", str(out))
        assert status == 0
        assert text.startswith("70 designs of queue-v1 logged in ")
        assert len(DesignLog(out).parts()) == n_parts
    assert same(read_part(out / "part-000000.parquet"), log_of_run(run))
    both = read_logs([out, run.folder, out / "part-000001.parquet"])
    assert [len(batch) for batch in both] == [280]
    status, _, err = run_cli(capsys, monkeypatch, "log", str(tmp_path), "--out", str(out))
    assert (status, err.count("\n")) == (2, 1)
    assert "holds no run" in err
