"""The `table` evaluator against a plain dictionary of the same rows, its wrong inputs, and whole runs on a table."""

from __future__ import annotations

import csv
import json
import math
import pickle
import re
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from codesign.assemble import Parts, assemble
from codesign.drive_serial import drive_serial
from codesign.errors import InputError, TrialError
from codesign.job import load_job, parse_job
from codesign.jobs_upload import check_job, plan_upload
from codesign.run import create_run, plan_run, study_of
from codesign.table import TableEvaluator
from codesign.table_rows import CodeIndex, Readings
from codesign.train import Session
from codesign.trial import State
from search_spaces.nasbench201 import NasBench201
from search_spaces.nasbench201_cell import OPERATIONS, all_cells, cell_text
from tests.codesign.test_cli import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "nasbench201.yaml"
SPACE = NasBench201()
CELLS = all_cells()[np.random.default_rng(0).permutation(15_625)[:600]]
METRICS = {"accuracy": "acc", "latency_ms@pi": "pi"}


def made_up(cells: np.ndarray) -> dict[str, Any]:
    """Columns of a table: accuracies in percent by seed and epoch, a latency; no network was trained for them."""
    rng = np.random.default_rng(1)
    size = (cells == 3).sum(axis=1) + 0.4 * (cells == 2).sum(axis=1)
    seeds = 60 + 10 * np.sqrt(size)[:, None] + rng.normal(size=(len(cells), 3))
    seeds[rng.random(len(cells)) < 0.4, 2] = np.nan
    return {
        "arch": [cell_text(cell) for cell in cells],
        "acc": np.nanmean(seeds, axis=1),
        **{f"s{i}": seeds[:, i] for i in range(3)},
        "e12": seeds[:, 0] - 20,
        "pi": 2 + 5 * size + rng.random(len(cells)),
        **{f"op{edge}": cells[:, edge] for edge in range(6)},
        **{f"name{edge}": [OPERATIONS[operation] for operation in cells[:, edge]] for edge in range(6)},
        "sparse": np.where(np.arange(len(cells)) % 3 == 0, np.nan, 0.5),
    }


TABLE = made_up(CELLS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    pq.write_table(pa.table(TABLE), folder / "cells.parquet")
    with (folder / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(TABLE)
        for row in zip(*TABLE.values(), strict=True):
            writer.writerow(["" if value != value else value for value in row])
    return folder


def job(evaluate: Mapping[str, object] | None = None, **changes: Any) -> dict[str, Any]:
    given: dict[str, object] = {"type": "table", "path": "cells.parquet", "architecture": "arch", "metrics": METRICS}
    given |= {"scale": {"accuracy": 0.01}} | dict(evaluate or {})
    content = {
        "name": "tiny",
        "space": "nasbench201",
        "objectives": {"maximize": "accuracy", "minimize": "latency_ms@pi"},
        "search": {"strategy": "local-search", "trials": 40},
        "evaluate": {key: value for key, value in given.items() if value is not None},
    }
    return content | changes


def parts_of(folder: Path, evaluate: Mapping[str, object] | None = None, **changes: Any) -> Parts:
    return assemble(parse_job(job(evaluate, **changes)), folder / "out", folder)


def table_of(parts: Parts) -> TableEvaluator:
    assert isinstance(parts.evaluator, TableEvaluator)
    return parts.evaluator


@cache
def by_class(column: str, merge: bool = True) -> dict[tuple[int, ...], list[float]]:
    """Every finite number of a column by the candidate it belongs to."""
    found: dict[tuple[int, ...], list[float]] = {}
    for cell, value in zip(SPACE.canonical(CELLS) if merge else CELLS, TABLE[column], strict=True):
        key = tuple(cell.tolist())
        found.setdefault(key, [])
        if np.isfinite(value):
            found[key].append(float(value))
    return found


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"path": "cells.csv"},
        {"architecture": None, "codes": [f"op{edge}" for edge in range(6)]},
        {"architecture": None, "codes": [f"name{edge}" for edge in range(6)], "path": "cells.csv"},
    ],
)
def test_values_are_those_of_a_dictionary(folder: Path, rows: dict[str, object], merge: bool) -> None:
    parts = parts_of(folder, rows, space={"type": "nasbench201", "merge_equal": merge})
    codes = np.concatenate([CELLS[:200], SPACE.sample(200, np.random.default_rng(2))])
    found = parts.evaluator.evaluate(codes)
    accuracy, latency = by_class("acc", merge), by_class("pi", merge)
    for row, code in enumerate(SPACE.canonical(codes) if merge else codes):
        key = tuple(code.tolist())
        if key not in accuracy:
            assert found.errors[row] == "the table has no row for this candidate"
            assert np.isnan(found.metrics["accuracy"][row])
            continue
        assert not found.errors[row]
        assert found.metrics["accuracy"][row] == pytest.approx(np.mean(accuracy[key]) / 100, rel=1e-9)
        assert found.metrics["latency_ms@pi"][row] == pytest.approx(np.mean(latency[key]), rel=1e-9)


def test_genotypes_may_be_json(folder: Path, tmp_path: Path) -> None:
    distinct = CELLS[np.unique(SPACE.canonical(CELLS), axis=0, return_index=True)[1]][:50]
    table = pa.table({"arch": [json.dumps(SPACE.decode(cell)) for cell in distinct], "acc": range(50), "pi": range(50)})
    pq.write_table(table, tmp_path / "cells.parquet")
    found = parts_of(tmp_path).evaluator.evaluate(distinct)
    assert found.metrics["latency_ms@pi"].tolist() == list(range(50))


def test_several_columns_are_readings_of_one_metric(folder: Path) -> None:
    parts = parts_of(folder, {"metrics": {"accuracy": ["s0", "s1", "s2"], "latency_ms@pi": "pi"}})
    readings = [by_class(f"s{i}") for i in range(3)]
    found = parts.evaluator.evaluate(CELLS[:100]).metrics["accuracy"]
    for code, value in zip(SPACE.canonical(CELLS[:100]), found, strict=True):
        every = [one for by in readings for one in by[tuple(code.tolist())]]
        assert value == pytest.approx(np.mean(every) / 100, rel=1e-9)


def test_noise_draws_one_reading_by_the_seed(folder: Path) -> None:
    noisy = {"metrics": {"accuracy": ["s0", "s1", "s2"], "latency_ms@pi": "pi"}, "noise": True}
    readings = [by_class(f"s{i}") for i in range(3)]

    def drawn(seed: int, codes: np.ndarray) -> np.ndarray:
        parts = parts_of(folder, noisy, search={"seed": seed})
        return parts.evaluator.evaluate(codes).metrics["accuracy"]

    first, again, other = drawn(0, CELLS[:200]), drawn(0, CELLS[199::-1])[::-1], drawn(1, CELLS[:200])
    assert np.array_equal(first, again)
    assert 0.3 < (first != other).mean() < 0.9
    for code, value in zip(SPACE.canonical(CELLS[:200]), first, strict=True):
        every = [one / 100 for by in readings for one in by[tuple(code.tolist())]]
        assert min(abs(value - one) for one in every) < 1e-9
    prints = [table_of(parts_of(folder, noisy, search={"seed": seed})).fingerprint for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_known_metrics_are_free_and_budgets_on_them_come_first(folder: Path) -> None:
    parts = parts_of(folder, {"known": ["latency_ms@pi"]}, budgets=["latency_ms@pi <= 10"])
    assert parts.evaluator.metrics == ("accuracy",)
    assert "latency_ms@pi" in parts.screens[0].metrics
    codes = SPACE.canonical(CELLS[:300])
    foreseen = parts.foresight()(codes)
    latency = np.array([np.mean(by_class("pi")[tuple(code.tolist())]) for code in codes])
    assert np.isnan(foreseen.losses[:, 0]).all()
    assert np.allclose(foreseen.losses[:, 1], latency)
    assert np.array_equal(foreseen.violations == 0, latency <= 10)
    unknown = SPACE.sample(300, np.random.default_rng(7))
    is_listed = np.array([tuple(code.tolist()) in by_class("pi") for code in SPACE.canonical(unknown)])
    assert np.array_equal(np.isinf(parts.foresight()(unknown).violations), ~is_listed)


def test_a_table_with_fidelities_works_in_steps(folder: Path, tmp_path: Path) -> None:
    levels = {12: {"accuracy": "e12"}, 200: {"accuracy": "acc"}}
    parts = parts_of(folder, {"metrics": {"latency_ms@pi": "pi"}, "known": ["latency_ms@pi"], "fidelities": levels})
    table = table_of(parts)
    assert (table.max_epochs, table.metrics) == (200, ("accuracy", "epochs", "stopped_early"))
    code = SPACE.canonical(CELLS[:1])[0]
    whole = {name: float(values[0]) for name, values in table.evaluate(code[None]).metrics.items()}
    session: Session = pickle.loads(pickle.dumps(table)).start(code, "key")
    assert not session.metrics
    session.step()
    low = session.metrics
    assert low == {"accuracy": pytest.approx(np.mean(by_class("e12")[tuple(code.tolist())]) / 100), "epochs": 12}
    assert table.result(low, stopped_early=True) == {**low, "stopped_early": 1}
    session.save(tmp_path / "state")
    resumed = table.start(code, "key")
    assert not resumed.resume(tmp_path / "nothing")
    assert resumed.resume(tmp_path / "state")
    resumed.step()
    assert resumed.is_done
    assert table.result(resumed.metrics) == whole
    missing = next(c for c in all_cells() if tuple(SPACE.canonical(c[None])[0].tolist()) not in by_class("acc"))
    with pytest.raises(TrialError, match="no row for this candidate"):
        table.start(missing, "key")


def test_a_candidate_without_a_number_fails_with_the_reason(folder: Path) -> None:
    parts = parts_of(folder, {"metrics": {"accuracy": "sparse", "latency_ms@pi": "pi"}, "scale": {}})
    found = parts.evaluator.evaluate(CELLS[:300])
    numbers = by_class("sparse")
    has_none = [not numbers[tuple(code.tolist())] for code in SPACE.canonical(CELLS[:300])]
    assert any(has_none)
    assert [error == "the table has no number for accuracy of this candidate" for error in found.errors] == has_none


@pytest.mark.parametrize("strategy", ["random", "auto"])
def test_what_the_table_lacks_costs_no_evaluation(folder: Path, tmp_path: Path, strategy: str) -> None:
    pq.write_table(pa.table(TABLE).slice(0, 60), folder / "part.parquet")
    evaluate = {"path": "part.parquet", "metrics": {"accuracy": "acc"}}
    search = {"strategy": strategy, "trials": 12}
    objectives = {"maximize": "accuracy", "minimize": "macs"}
    planned = parse_job(job(evaluate, search=search, objectives=objectives))
    parts = plan_run(planned, tmp_path / "out", folder)
    made = create_run(parts, folder)
    drive_serial(study_of(made, parts), parts.evaluator)
    states = [trial.state for trial in made.store.trials(made.study_id)]
    assert states.count(State.MEASURED) == 12
    assert (State.FAILED in states) == (strategy == "random"), "what is known to be missing is not proposed by auto"


def test_images_and_classes_come_from_the_job_or_the_space(folder: Path) -> None:
    assert parts_of(folder).context.data_shape.image_shape == (3, 32, 32)
    parts = parts_of(folder, space={"type": "nasbench201", "classes": 100, "image_shape": [1, 8, 8]})
    assert parts.context.data_shape.n_classes == 100
    assert parts.context.network_space.ops(CELLS[:1]).in_channels[0] == 1
    with pytest.raises(InputError, match="this run has no data"):
        parts.context.load_data()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "cell.parquet"}, r"evaluate: path: there is no file .*cell.parquet.*begins at the job file's folder"),
        ({"path": "cells.txt"}, r"path: .* is not allowed; use a file that ends in .parquet, .csv"),
        (
            {"architecture": "arc"},
            r"architecture: a column of cells.parquet: 'arc' is not one of .*; did you mean 'arch'",
        ),
        ({"metrics": {"accuracy": "ac"}}, r"metrics.accuracy: a column of .*'ac' .*did you mean 'acc'"),
        (
            {"metrics": {"accuracy": "arch"}, "scale": {}},
            r"metrics.accuracy: column 'arch' .* string values, not numbers",
        ),
        ({"architecture": "acc"}, r"architecture: column 'acc' of .* double values; each row needs a text"),
        ({"architecture": "name0"}, r"architecture: no row is a candidate of the space; the first: '.*' is not of the"),
        ({"architecture": None}, r"architecture: name the column of genotypes, or one column per choice"),
        ({"architecture": None, "codes": ["op0"]}, r"codes: 1 columns for the space's 6 choices \(1<-0, 2<-0"),
        ({"architecture": None, "codes": ["pi"] * 6}, r"codes: no row is a candidate .*'pi' for the choice '1<-0'"),
        (
            {"known": ["latency"]},
            r"known: 'latency' is not one of accuracy, latency_ms@pi; did you mean 'latency_ms@pi'",
        ),
        ({"codes": ["op0"] * 6}, r"architecture: name the column of genotypes, or .* under codes \(not both\)"),
        ({"metrics": None, "scale": None}, r"evaluate: metrics: name at least one metric and its column"),
        ({"metrics": "accuracy"}, r"evaluate.metrics: 'accuracy': input should be a mapping of names to values"),
        ({"metrics": {"accuracy": 3}}, r"evaluate.metrics.accuracy: 3: "),
        ({"metrics": {"accuracy": []}}, r"metrics.accuracy: '\[\]' is not allowed; use a column, or a list of columns"),
        ({"known": "latency_ms@pi"}, r"evaluate.known: 'latency_ms@pi': input should be a list$"),
        ({"path": 3}, r"evaluate.path: 3: input is not a valid path$"),
        ({"scale": {"accuracy": 0}}, r"scale.accuracy: 0.0 is not allowed; use a finite number other than 0"),
        ({"scale": {"accuracy": math.nan}}, r"scale.accuracy: nan is not allowed"),
        ({"fidelities": {"twelve": {"x": "e12"}}}, r"evaluate.fidelities.twelve: 'twelve': .* integer"),
        ({"known": ["accuracy", "latency_ms@pi"]}, r"metrics: all of them are known"),
        ({"scale": {"acc": 2}}, r"scale: 'acc' is not one of accuracy, .*did you mean 'accuracy'"),
        ({"scale": {}}, r"accuracy is a share from 0 to 1: for a column in percent add scale: \{accuracy: 0.01\}"),
        ({"metrics": METRICS | {"macs": "pi"}}, r"evaluate.metrics: 'macs' is computed for every candidate already"),
        ({"fidelities": {12: {"accuracy": "e12"}}}, r"'accuracy' stands under fidelities too"),
        ({"fidelities": {0: {"x": "e12"}}}, r"fidelities: 0 is not allowed; use a number of epochs of at least 1"),
        ({"fidelities": {1: {"x": "e12"}, 2: {"y": "acc"}}}, r"fidelities: 1 has x; each needs the same"),
        ({"metric": {}}, r"unknown key in evaluate: 'metric' .*did you mean 'metrics'"),
        ({"path": "broken.parquet"}, r"path: '.*broken.parquet' cannot be read"),
        ({"path": "empty.parquet"}, r"path: '.*empty.parquet' has no rows"),
    ],
)
def test_whatever_is_wrong_is_told_before_the_run(folder: Path, changes: dict[str, object], message: str) -> None:
    (folder / "broken.parquet").write_bytes(b"PAR1 but not really")
    pq.write_table(pa.table(TABLE).slice(0, 0), folder / "empty.parquet")
    with pytest.raises(InputError, match=message):
        parts_of(folder, changes, objectives={"maximize": "accuracy"})


def test_early_stopping_needs_fidelities(folder: Path) -> None:
    driver = {"type": "tune", "asha": {"grace_epochs": 1}}
    with pytest.raises(InputError, match="driver.asha: early stopping needs evaluate.fidelities"):
        parts_of(folder, driver=driver)
    levels = {12: {"accuracy": "e12"}, 200: {"accuracy": "acc"}}
    parts_of(folder, {"metrics": {"latency_ms@pi": "pi"}, "fidelities": levels}, driver=driver)


def test_noise_needs_something_to_draw_from(folder: Path) -> None:
    space = {"type": "nasbench201", "merge_equal": False}
    with pytest.raises(InputError, match="noise: no candidate has more than one reading"):
        parts_of(folder, {"noise": True}, space=space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"classes": 0}, "space: image_shape .* and classes 0 are not allowed"),
        ({"image_shape": [3, 8]}, r"space: image_shape \[3, 8\]"),
    ],
)
def test_a_wrong_image_shape_is_told(folder: Path, space: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parts_of(folder, space={"type": "nasbench201", **space})


def test_the_file_is_read_when_a_run_is_new_and_not_when_it_is_looked_at(folder: Path) -> None:
    parts = parts_of(folder)
    content = parse_job(job({"path": "gone.parquet"}))
    assert assemble(content, folder / "out", folder, parts.context.shape).metrics == parts.metrics


def test_the_fingerprint_follows_the_bytes_and_their_meaning(folder: Path, tmp_path: Path) -> None:
    first = table_of(parts_of(folder)).fingerprint
    (tmp_path / "other.parquet").write_bytes((folder / "cells.parquet").read_bytes())
    assert table_of(parts_of(tmp_path, {"path": "other.parquet"})).fingerprint == first
    assert table_of(parts_of(folder, {"metrics": METRICS | {"accuracy": "s0"}})).fingerprint != first
    pq.write_table(pa.table(TABLE).slice(1), tmp_path / "other.parquet")
    assert table_of(parts_of(tmp_path, {"path": "other.parquet"})).fingerprint != first


def test_a_hundred_thousand_rows_are_looked_up_in_a_second(folder: Path) -> None:
    evaluator = parts_of(folder).evaluator
    codes = np.tile(CELLS, (167, 1))
    evaluator.evaluate(codes[:1])
    began = time.process_time()
    evaluator.evaluate(codes)
    assert time.process_time() - began < 1


@given(st.data())
def test_the_index_finds_what_the_table_holds_in_a_space_of_any_size(data: st.DataObject) -> None:
    n_options = np.array(data.draw(st.lists(st.sampled_from([1, 2, 3, 1_000, 2**31]), min_size=1, max_size=9)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    codes = rng.integers(0, np.minimum(n_options, 3), size=(20, len(n_options)))
    index = CodeIndex.of(codes, n_options)
    groups = index.find(codes)
    distinct = {tuple(code) for code in codes.tolist()}
    assert index.n_groups == len(distinct)
    assert len(set(zip(map(tuple, codes.tolist()), groups.tolist(), strict=True))) == len(distinct)
    others = rng.integers(0, np.minimum(n_options, 4), size=(20, len(n_options)))
    assert (index.find(others) >= 0).tolist() == [tuple(code) in distinct for code in others.tolist()]


def test_readings_of_a_group_are_averaged_and_drawn() -> None:
    columns = [np.array([1.0, 2.0, np.nan, 5.0]), np.array([3.0, np.nan, np.nan, 7.0])]
    readings = Readings.of(columns, np.array([0, 2, 1, 0]), 4)
    assert np.array_equal(readings.means, [4.0, np.nan, 2.0, np.nan], equal_nan=True)
    drawn = {tuple(readings.drawn(np.full(4, draw))[[0, 2]].tolist()) for draw in range(8)}
    assert drawn == {(1.0, 2.0), (3.0, 2.0), (5.0, 2.0), (7.0, 2.0)}
    assert np.isnan(readings.drawn(np.zeros(4, dtype=np.int64))[[1, 3]]).all()


def test_the_table_travels_with_a_submitted_job_and_unread_data_do_not(folder: Path) -> None:
    content = parse_job(job(data={"type": "image-parquet", "train": "nowhere.parquet"}))
    assert check_job(content, folder) == []
    assert list(plan_upload(content, folder).files) == ["cells.parquet"]
    away = parse_job(job({"path": "/nowhere/cells.parquet"}))
    assert "evaluate.path: /nowhere/cells.parquet is an absolute path" in check_job(away, folder)[0]


def test_the_example_fits_such_a_table_and_training(tmp_path: Path) -> None:
    names = {"s0": "c10_val_s0", "s1": "c10_val_s1", "s2": "c10_val_s2", "pi": "lat_raspi4", "arch": "arch"}
    pq.write_table(pa.table({name: TABLE[column] for column, name in names.items()}), tmp_path / "hw.parquet")
    parts = plan_run(load_job(EXAMPLE, [f"evaluate.path={tmp_path}/hw.parquet"]), tmp_path / "out", EXAMPLE.parent)
    assert {"accuracy", "latency_ms@pi", "latency_ms@edge"} <= set(parts.metrics)
    training = load_job(EXAMPLE, ["evaluate={type: train, epochs: 1}", "data=digits", "space.cells=1"])
    assert "accuracy" in plan_run(training, tmp_path / "out", EXAMPLE.parent).metrics


def test_init_writes_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "init", str(tmp_path / "job.yaml"), "--template", "nasbench201")[0] == 0
    assert (tmp_path / "job.yaml").read_text() == EXAMPLE.read_text()


@pytest.mark.slow
def test_a_run_on_a_table_from_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = job({"known": ["latency_ms@pi"], "path": str(folder / "cells.parquet")}, budgets=["latency_ms@pi <= 15"])
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(content))
    out = tmp_path / "out"
    status, text, error = run(capsys, "run", str(tmp_path / "job.yaml"), "--out", str(out))
    assert status == 0, error
    assert re.search(r"members of the front, \d+ trials", text)
    members = json.loads(run(capsys, "front", str(out), "--json")[1])["members"]
    for member in members:
        key = tuple(SPACE.canonical(SPACE.encode(member["genotype"])[None])[0].tolist())
        assert member["metrics"]["accuracy"] == pytest.approx(np.mean(by_class("acc")[key]) / 100, rel=1e-9)
        assert member["metrics"]["latency_ms@pi"] <= 15
    report = (out / "report.html").read_text()
    assert "conv 3×3" in report
    assert "Data</" not in report
    assert "Nothing was trained" in report
    assert "codesign export" not in report, "there are no weights"
    assert "test split" not in report, "and no images"
    assert "<figcaption>cell</figcaption>" in report
    assert "metrics {accuracy acc" in report
    status, text, error = run(capsys, "export", str(out), "--out", str(tmp_path / "model.onnx"))
    assert (status, text) == (2, "")
    assert "holds no weights to export: evaluate.type 'table' trains nothing" in error
    assert not list(tmp_path.glob("model*"))
    assert run(capsys, "resume", str(out), "search.trials=45")[0] == 0


@pytest.mark.ray
@pytest.mark.slow
def test_early_stopping_works_on_a_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levels = {12: {"accuracy": "e12"}, 200: {"accuracy": "acc"}}
    evaluate = {"metrics": {"latency_ms@pi": "pi"}, "fidelities": levels, "path": str(folder / "cells.parquet")}
    driver = {"type": "tune", "workers": 2, "asha": {"grace_epochs": 12, "reduction": 3}}
    search = {"strategy": "random", "trials": 24}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(evaluate, driver=driver, search=search)))
    out = tmp_path / "out"
    assert run(capsys, "run", str(tmp_path / "job.yaml"), "--out", str(out))[0] == 0
    trials = [json.loads(run(capsys, "show", str(out), str(number), "--json")[1]) for number in range(24)]
    measured = [trial for trial in trials if trial["state"] == "measured"]
    stopped = [trial for trial in measured if trial["metrics"]["stopped_early"]]
    assert stopped
    assert len(stopped) < len(measured)
    for trial in measured:
        key = tuple(SPACE.canonical(SPACE.encode(trial["genotype"])[None])[0].tolist())
        column = "e12" if trial["metrics"]["stopped_early"] else "acc"
        assert trial["metrics"]["accuracy"] == pytest.approx(np.mean(by_class(column)[key]) / 100, rel=1e-9)
        assert trial["metrics"]["epochs"] == (12 if trial["metrics"]["stopped_early"] else 200)
