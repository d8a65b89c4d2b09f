"""Tables of cells: read from files of many kinds, and turned into tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
from pyarrow import csv, parquet

from codesign.compare import run_task
from codesign.compare_cells import CellTable, cell_problem, cell_space, read_cells, read_columns
from codesign.compare_race import named_strategy
from codesign.errors import DataError, InputError
from codesign.trial import FloatArray
from search_spaces.nasbench201_cell import all_cells, cell_text
from search_spaces.ops import IntArray

CELLS = all_cells()[::50]
"""313 cells."""


def made_up(codes: IntArray) -> tuple[FloatArray, FloatArray]:
    """Accuracy in percent and cost in ms of cells, by a formula."""
    convs = (codes == 3).sum(axis=1) + 0.5 * (codes == 2).sum(axis=1)
    wobble = np.sin(codes @ np.array([1.0, 2.0, 3.0, 5.0, 7.0, 11.0]))
    return 90 * (1 - np.exp(-(0.4 + convs) / 2)) + wobble, 1 + 4 * convs + 0.5 * (codes == 4).sum(axis=1)


def columns(codes: IntArray = CELLS) -> dict[str, object]:
    accuracy, cost = made_up(codes)
    return {"arch": [cell_text(code) for code in codes], "acc": accuracy, "ms": cost}


def write(path: Path, table: dict[str, object]) -> Path:
    made = arrow.table(table)
    csv.write_csv(made, path) if path.suffix == ".csv" else parquet.write_table(made, path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_cells_by_text_and_by_numbers_are_the_same(tmp_path: Path, suffix: str) -> None:
    by_text = read_cells(write(tmp_path / f"text{suffix}", columns()), ["acc", "ms"])
    numbered: dict[str, object] = {f"op{edge}": CELLS[:, edge].astype(np.int8) for edge in range(6)}
    numbered |= {"acc": made_up(CELLS)[0].astype(np.float32), "ms": np.rint(made_up(CELLS)[1]).astype(np.int32)}
    by_number = read_cells(write(tmp_path / f"numbers{suffix}", numbered), ["acc", "ms"])
    assert np.array_equal(by_text.codes, CELLS)
    assert np.array_equal(by_number.codes, CELLS)
    assert by_text.columns["acc"] == pytest.approx(made_up(CELLS)[0])
    assert by_number.columns["acc"] == pytest.approx(made_up(CELLS)[0], rel=1e-6)
    assert by_number.columns["ms"].tolist() == np.rint(made_up(CELLS)[1]).tolist()


def test_a_wrong_column_suggests_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.parquet", columns())
    with pytest.raises(InputError, match="'accu' is not one of acc, ms; did you mean 'acc'"):
        read_cells(path, ["accu"])
    with pytest.raises(InputError, match="did you mean 'ms'"):
        read_columns(path, ["mss"])


def test_files_that_are_no_tables_of_cells_are_refused(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.parquet"
    rubbish.write_text("no table")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_cells(rubbish, ["acc"])
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_cells(tmp_path / "missing.parquet", ["acc"])
    with pytest.raises(InputError, match="no column says what the cells are"):
        read_cells(write(tmp_path / "none.parquet", {"acc": [1.0]}), ["acc"])
    with pytest.raises(DataError, match="no rows"):
        read_cells(
            write(tmp_path / "empty.csv", {"arch": arrow.array([], arrow.string()), "acc": [], "ms": []}), ["acc"]
        )
    with pytest.raises(DataError, match="row 1"):
        read_cells(
            write(tmp_path / "bad.parquet", {"arch": [cell_text(CELLS[0]), "|x~0|"], "acc": [1.0, 2.0]}), ["acc"]
        )
    operations = {f"op{edge}": [0, 5] for edge in range(6)}
    with pytest.raises(DataError, match="row 1 has an operation"):
        read_cells(write(tmp_path / "op.parquet", {**operations, "acc": [1.0, 2.0]}), ["acc"])
    with pytest.raises(DataError, match="column 'acc' is not all numbers"):
        read_cells(write(tmp_path / "text.parquet", {"arch": [cell_text(CELLS[0])], "acc": ["high"]}), ["acc"])


def table(accuracy: FloatArray, cost: FloatArray, codes: IntArray = CELLS) -> CellTable:
    return CellTable(codes, {"acc": accuracy, "ms": cost})


def test_percent_fractions_and_a_stated_best_give_one_score() -> None:
    accuracy, cost = made_up(CELLS)
    percent = cell_problem(table(accuracy, cost), "acc", "ms")
    fraction = cell_problem(table(accuracy / 100, cost), "acc", "ms")
    stated = cell_problem(table(accuracy, cost / 1000), "acc", "ms", best=95.0)
    assert (percent.best, fraction.best, stated.best) == (100, 1, 95)
    for problem in (fraction, stated):
        assert problem.score.full == pytest.approx(percent.score.full)
        curve = problem.score(problem.losses)
        assert curve == pytest.approx(percent.score(percent.losses))
        assert curve[-1] == pytest.approx(1)
    with pytest.raises(DataError, match="above the best, 80"):
        cell_problem(table(accuracy, cost), "acc", "ms", best=80.0)


def test_rows_without_a_value_are_left_out_and_counted() -> None:
    accuracy, cost = made_up(CELLS)
    accuracy[3], cost[4], cost[5] = np.nan, np.inf, np.nan
    problem = cell_problem(table(accuracy, cost), "acc", "ms")
    assert problem.n_dropped == 3
    assert len(problem.codes) == len(CELLS) - 3
    with pytest.raises(DataError, match="no row has both"):
        cell_problem(table(np.full(len(CELLS), np.nan), cost), "acc", "ms")
    with pytest.raises(DataError, match="more than once"):
        cell_problem(table(*made_up(CELLS), codes=np.vstack([CELLS[:-1], CELLS[:1]])), "acc", "ms").task()


def test_what_is_known_of_a_cell_is_its_cost_and_its_counts() -> None:
    accuracy, cost = made_up(CELLS)
    problem = cell_problem(table(accuracy, cost), "acc", "ms")
    task = problem.task()
    assert task.foresight is not None
    foreseen = task.foresight(CELLS)
    assert np.isnan(foreseen.losses[:, 0]).all()
    assert foreseen.losses[:, 1] == pytest.approx(cost)
    assert (foreseen.violations == 0).all()
    ops = cell_space().ops(CELLS)
    macs, params = ops.per_candidate(ops.macs()), ops.per_candidate(ops.params())
    assert foreseen.features[:, -2] == pytest.approx(np.log1p(macs))
    assert foreseen.features[:, -1] == pytest.approx(np.log1p(params))
    assert task.duration(CELLS) == pytest.approx(0.2 + 0.8 * macs / macs.mean())
    assert task.evaluate(CELLS) == pytest.approx(np.stack([100 - accuracy, cost], axis=1))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_budgeted_tasks_count_regret_from_the_true_optimum(share: float) -> None:
    accuracy, cost = made_up(CELLS)
    problem = cell_problem(table(accuracy, cost), "acc", "ms")
    limit = problem.score.limit(share)
    task = problem.budgeted_task(share)
    optimum = accuracy[cost <= limit].max()
    outcome = run_task(task, named_strategy("random"), evaluations=40, seed=1)
    assert outcome.n_infeasible == 0
    found = made_up(outcome.codes)
    assert (found[1] <= limit).all()
    assert outcome.at(40) == pytest.approx(optimum - found[0].max())
    assert task.score(task.evaluate(CELLS[cost <= limit]))[-1] == 0


@pytest.mark.slow
def test_the_whole_space_is_searched_as_it_is_and_a_part_as_a_part() -> None:
    cells = all_cells()
    accuracy, cost = made_up(cells)
    whole = cell_problem(table(accuracy, cost, cells), "acc", "ms").task()
    assert whole.space == cell_space()
    part = cell_problem(table(*made_up(CELLS)), "acc", "ms").task()
    assert part.space.valid(cells).sum() == len(CELLS)
