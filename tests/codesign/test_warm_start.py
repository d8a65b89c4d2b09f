"""A job's `warm_start`: reading earlier runs, stores and tables, and what a new run does with them."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

from codesign.assemble import Parts
from codesign.errors import DataError, InputError
from codesign.job import parse_job
from codesign.run import Run, create_run, drive, open_run, plan_run, study_of
from codesign.store import Store
from codesign.strategies.auto_pool import all_codes
from codesign.trial import FloatArray
from codesign.warm_start_model import kendall
from codesign.warm_start_sources import _usable
from search_spaces.nasbench201 import NasBench201
from search_spaces.nasbench201_cell import cell_text
from search_spaces.ops import IntArray

AUTO = "codesign.strategies.auto:Auto"
SPACE = NasBench201(image_shape=(3, 32, 32), classes=10)
EDGES = [f"edge{i}" for i in range(6)]
GAIN = np.array([-1.0, 0.3, 1.0, 2.0, 0.1])


def quality(codes: IntArray, task: int) -> FloatArray:
    """A made-up accuracy: two tasks agree in most."""
    weights = np.array([1.0, 0.8, 1.2, 1.5, 0.9, 1.1]) + 0.1 * task * np.array([1.0, -1, 1, -1, 1, -1])
    return np.asarray(0.9 - 0.4 / (1.0 + np.exp((GAIN[codes] * weights).sum(axis=1) / 2)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two tasks and two devices, a run of the first, and one with few trials."""
    made = tmp_path_factory.mktemp("earlier")
    codes = all_codes(SPACE)
    slow = (codes == 3).sum(axis=1) * 9.0 + (codes == 2).sum(axis=1) + 1
    columns = np.column_stack([codes, quality(codes, 0), quality(codes, 1), slow, 2 * slow**1.1])
    header = ",".join([*EDGES, "first", "second", "pi", "phone"])
    np.savetxt(made / "cells.csv", columns, delimiter=",", header=header, comments="")
    with (made / "old.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "first", "none"])
        writer.writerows([cell_text(code), quality(code[None], 0)[0], ""] for code in codes[::50])
    carry_out(made, "first", job("first", search={"strategy": "random", "trials": 60, "batch": 20}))
    carry_out(made, "short", job("first", search={"strategy": "random", "trials": 6, "batch": 6}))
    return made


def job(column: str, **more: object) -> dict[str, object]:
    return {
        "name": "cells", "space": "nasbench201",
        "objectives": {"maximize": "accuracy", "minimize": "latency_ms@pi"},
        "search": {"strategy": AUTO, "trials": 14, "seed": 1},
        "evaluate": {
            "type": "table", "path": "cells.csv", "codes": EDGES,
            "metrics": {"accuracy": column, "latency_ms@pi": "pi"}, "known": ["latency_ms@pi"],
        },
        **more,
    }  # fmt: skip


def plan(folder: Path, content: Mapping[str, object], name: str = "unused") -> Parts:
    return plan_run(parse_job(content), folder / name, folder)


def carry_out(folder: Path, name: str, content: Mapping[str, object]) -> Run:
    parts = plan(folder, content, name)
    run = create_run(parts, folder)
    drive(run, parts, study_of(run, parts))
    return run


def estimates(parts: Parts) -> FloatArray:
    """The first prior at every cell; losses, so less is better."""
    return parts.foresight()(all_codes(SPACE)).priors[:, 0]


def test_an_earlier_run_tells_about_the_objective_of_the_same_name(folder: Path) -> None:
    parts = plan(folder, job("second", warm_start=["first"]))
    assert parts.foresight().prior_of == (0,)
    codes = all_codes(SPACE)
    rows = np.random.default_rng(0).choice(len(codes), 500, replace=False)
    assert kendall(-estimates(parts)[rows], quality(codes, 1)[rows]) > 0.75
    (learned,) = parts.learned
    assert learned.n_results == 60
    assert learned.counts == ("macs", "params")
    assert learned.source.endswith("first:accuracy")


def test_without_a_warm_start_there_is_no_prior(folder: Path) -> None:
    parts = plan(folder, job("second"))
    assert parts.foresight().prior_of == ()


@pytest.mark.slow
def test_a_run_goes_on_alike_when_the_earlier_one_is_gone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    content = job("second", warm_start=["first"])
    whole = carry_out(tmp_path, "whole", content)
    half = plan(tmp_path, content, "half")
    run = create_run(half, tmp_path)
    before = estimates(half)
    shutil.rmtree(tmp_path / "first")
    run = open_run(tmp_path / "half")
    np.testing.assert_array_equal(estimates(run.parts()), before)
    drive(run, run.parts(), study_of(run, run.parts()))
    numbers = range(14)
    np.testing.assert_array_equal(run.store.codes(run.study_id, numbers), whole.store.codes(whole.study_id, numbers))
    (tmp_path / "half" / "warm_start.npz").unlink()
    with pytest.raises(DataError, match=r"warm_start\.npz"):
        run.parts()


def test_a_table_and_another_name(folder: Path) -> None:
    entry = {"table": "old.csv", "architecture": "arch", "metric": "first"}
    named = {"run": "first", "metric": "accuracy", "objective": "accuracy"}
    parts = plan(folder, job("second", warm_start=[entry, {**entry, "objective": "accuracy"}, named]))
    assert [one.source.rpartition("/")[2] for one in parts.learned] == [
        "old.csv:first",
        "old.csv:first",
        "first:accuracy",
    ]
    assert [one.n_results for one in parts.learned] == [len(all_codes(SPACE)[::50])] * 2 + [60]
    assert [one.objective for one in parts.learned] == ["accuracy"] * 3


def test_devices_are_matched_by_what_stands_before_the_at(folder: Path) -> None:
    evaluate = {
        "type": "table", "path": "cells.csv", "codes": EDGES,
        "metrics": {"accuracy": "second", "latency_ms@phone": "phone"}, "known": ["accuracy"],
    }  # fmt: skip
    objectives = {"maximize": "accuracy", "minimize": "latency_ms@phone"}
    parts = plan(folder, job("second", warm_start="first", evaluate=evaluate, objectives=objectives))
    assert parts.foresight().prior_of == (1,)
    assert [one.source.rpartition(":")[2] for one in parts.learned] == ["latency_ms@pi"]
    codes = all_codes(SPACE)
    slow = (codes == 3).sum(axis=1) * 9.0 + (codes == 2).sum(axis=1)
    assert kendall(estimates(parts)[::10], slow[::10]) > 0.9


@pytest.mark.slow
def test_of_a_shared_store_every_search_that_fits(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "cells.csv", tmp_path)
    shared = {"store": "sqlite:///shared.db"}
    for name, trials in (("a", 30), ("b", 20), ("c", 5)):
        carry_out(tmp_path, name, job("first", search={"strategy": "random", "trials": trials, "batch": 20}, **shared))
    parts = plan(tmp_path, job("second", warm_start="sqlite:///shared.db"))
    assert [one.n_results for one in parts.learned] == [30, 20]
    assert parts.foresight().prior_of == (0, 0)
    Store(f"sqlite:///{tmp_path / 'empty.db'}").close()
    with pytest.raises(InputError, match="holds no search"):
        plan(tmp_path, job("second", warm_start="sqlite:///empty.db"))
    with pytest.raises(InputError, match="no database"):
        plan(tmp_path, job("second", warm_start="sqlite:///gone.db"))


def test_trials_that_failed_or_were_stopped_early_teach_nothing_but_their_cost() -> None:
    columns = {
        "accuracy": np.array([0.5, 0.6, np.nan, 0.7, 0.1]), "latency_ms@pi": np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
        "violation": np.array([0.0, 0.2, 1.0, np.inf, 0.0]), "stopped_early": np.array([0.0, np.nan, np.nan, 0.0, 1.0]),
    }  # fmt: skip
    assert _usable(columns, "accuracy").tolist() == [True, True, False, False, False]
    assert _usable(columns, "latency_ms@pi").tolist() == [True, True, True, False, True]


@pytest.mark.slow
def test_of_networks_searched_with_accelerators_the_networks_tell(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "cells.csv", tmp_path)
    targets = {"edge": {"type": "systolic", "preset": "edge-16x16", "search": {"rows": [8, 16]}}}
    objectives = {"maximize": "accuracy", "minimize": "latency_ms@edge"}
    random = {"strategy": "random", "trials": 40, "batch": 20}
    carry_out(tmp_path, "joint", job("first", targets=targets, objectives=objectives, search=random))
    parts = plan(tmp_path, job("second", warm_start="joint"))
    codes = all_codes(SPACE)
    assert kendall(-estimates(parts)[::10], quality(codes, 1)[::10]) > 0.65
    again = plan(tmp_path, job("second", targets=targets, objectives=objectives, warm_start="joint"))
    joint = np.hstack([codes[:50], np.ones((50, 1), dtype=np.int64)])
    np.testing.assert_array_equal(again.foresight()(joint).priors[:, 0], estimates(parts)[:50])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("short", "6 results of 'accuracy', and 10 are needed"),
        ("nowhere", "holds no run"),
        ({"run": "first", "metric": "acuracy"}, "did you mean 'accuracy'"),
        ({"run": "first", "metric": "params"}, "nothing to learn 'accuracy' from"),
        ({"run": "first", "objective": "latency_ms@pi"}, "warm_start.0.objective.*not one of accuracy"),
        ({"table": "old.csv", "architecture": "arch", "metric": "frist"}, "did you mean 'first'"),
        ({"table": "old.csv", "architecture": "arch", "metric": "none"}, "null values, not numbers"),
        ({"table": "none.csv", "architecture": "arch", "metric": "first"}, "no file"),
        ({"table": "old.csv", "metric": "first"}, "name its column of genotypes"),
        ({"table": "old.csv", "architecture": "arch"}, "name the column to learn from"),
        ({"run": "first", "table": "cells.csv"}, "one of them"),
        ({"run": "first", "codes": ["a"]}, "columns of a table"),
        ({"run": "first", "metrics": "accuracy"}, "did you mean 'metric'"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(folder: Path, entry: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(folder, job("second", warm_start=[entry]))


def test_another_space_is_refused_with_the_difference(folder: Path) -> None:
    other = {"space": {"type": "nasnet", "blocks": 2}, "evaluate": "cost", "warm_start": "first"}
    content = job("second", **other, objectives={"minimize": "macs"}, data="digits")
    with pytest.raises(InputError, match="first searched another space, with the choice '.*' that this one lacks"):
        plan(folder, content)


def test_a_strategy_that_does_not_ask_and_a_job_that_knows_all_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="'nsga2' learns nothing"):
        plan(folder, job("second", warm_start="first", search={"strategy": "nsga2"}))
    with pytest.raises(InputError, match=r"\(latency_ms@pi\) is known"):
        plan(folder, job("second", warm_start="first", objectives={"minimize": "latency_ms@pi"}))


def test_the_resolved_job_reads_back(folder: Path) -> None:
    run = create_run(plan(folder, job("second", warm_start="first"), "resolved"), folder)
    written = yaml.safe_load((run.folder / "job.yaml").read_text())
    assert written["warm_start"][0]["run"] == "first"
    assert parse_job(written) == run.job
