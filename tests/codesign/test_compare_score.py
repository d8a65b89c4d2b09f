"""The scores of comparisons: against a slow area, in closed form, and a published table's figure."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codesign.compare_score import Regret, Score
from codesign.errors import DataError
from codesign.trial import FloatArray

TABLES = arrays(np.int64, st.tuples(st.integers(3, 14), st.just(2)), elements=st.integers(1, 12)).map(
    lambda table: table.astype(np.float64)
)

EYERISS = """15.335999 1.67954 12.833336 1.9253 11.772003 2.17106 11.720001 2.41682 11.449997 2.66258 10.598663 3.1541
9.362 3.39986 9.286003 3.64562 9.165337 3.89138 8.938667 4.62866 8.711998 4.87442 8.584 5.12018 8.494667 6.34898
8.484001 6.59474 8.393333 7.82354"""
"""Front of CIFAR-10 error and Eyeriss latency over the 15,625 cells: NATS-Bench accuracies, HW-NAS-Bench latencies."""
EYERISS_MEDIAN = 12.688004


def slow_score(table: FloatArray, visited: FloatArray) -> float:
    """The definition word by word, areas by counting cells of the grid that all coordinates span."""

    def dominated(point: FloatArray) -> bool:
        return any((row <= point).all() and (row < point).any() for row in table)

    front = [row for row in table if not dominated(row)]
    low, median = min(table[:, 0]), float(np.median(table[:, 0]))
    c_lo = min(cost for error, cost in front if error < median)
    c_ref = 1.1 * min(cost for error, cost in table if error == low)

    def area(points: FloatArray) -> float:
        scaled = [((e - low) / (median - low), np.log(c / c_lo) / np.log(c_ref / c_lo)) for e, c in points]
        xs = sorted({x for x, _ in scaled if x < 1} | {1.0})
        ys = sorted({y for _, y in scaled if y < 1} | {1.0})
        return sum(
            (right - left) * (top - bottom)
            for (left, right), (bottom, top) in itertools.product(itertools.pairwise(xs), itertools.pairwise(ys))
            if any(x <= left and y <= bottom for x, y in scaled)
        )

    return area(visited) / area(np.array(front))


@settings(max_examples=40)
@given(TABLES, st.randoms(use_true_random=False))
def test_the_curve_is_the_slow_definition_at_every_length(table: FloatArray, random: object) -> None:
    assume(np.median(table[:, 0]) > table[:, 0].min())
    score = Score.of_table(table)
    order = np.random.default_rng(random.randrange(2**32)).permutation(len(table))  # type: ignore[attr-defined]
    visited = table[order]
    expected = [slow_score(table, visited[: n + 1]) for n in range(len(table))]
    assert score(visited) == pytest.approx(expected, abs=1e-12)
    assert score(visited)[-1] == pytest.approx(1.0)


def test_a_table_worked_by_hand() -> None:
    table = np.array([[10.0, 1.0], [4.0, np.e], [2.0, np.e**2], [8.0, 30.0], [6.0, 3.0], [7.0, 40.0]])
    score = Score.of_table(table)  # errors 2 4 6 7 8 10: the median is 6.5
    assert (score.error_low, score.error_median, score.n_front) == (2.0, 6.5, 3)
    assert (score.cost_low, score.cost_best) == (np.e, np.e**2)
    width = np.log(1.1) + 1  # of the logarithm of cost, from e to 1.1 e^2
    staircase = (1 - 2 / 4.5) * 1 + (2 / 4.5) * (1 - 1 / width)
    assert score.full == pytest.approx(staircase)
    assert score(table[[1]])[0] == pytest.approx((1 - 2 / 4.5) / staircase)
    assert score(table[[0, 3, 5]]) == pytest.approx([0, 0, 0])
    assert score.limit(0.25) == pytest.approx(np.e + 0.25 * (np.e**2 - np.e))


def test_the_published_figure_of_a_task() -> None:
    front = np.array([float(number) for number in EYERISS.split()]).reshape(-1, 2)
    score = Score.of_table(np.array([[EYERISS_MEDIAN, 9.0]]), front)
    assert score.n_front == 15
    assert score.full == pytest.approx(0.7072, abs=5e-5)
    assert score.cost_low == 2.17106


@settings(max_examples=20)
@given(TABLES, st.floats(0.01, 100), st.floats(0.01, 100), st.floats(-50, 50))
def test_units_and_origin_of_errors_do_not_matter(table: FloatArray, error: float, cost: float, shift: float) -> None:
    assume(np.median(table[:, 0]) > table[:, 0].min())
    other = table * [error, cost] + [shift, 0.0]
    assume(len(np.unique(other[:, 0])) == len(np.unique(table[:, 0])))  # nothing was rounded together
    assert Score.of_table(other)(other) == pytest.approx(Score.of_table(table)(table), abs=1e-6)


def test_a_cost_of_nothing_counts_as_the_smallest_that_is_one() -> None:
    table = np.array([[90.0, 0.0], [90.0, 0.0], [5.0, 2.0], [3.0, 4.0], [50.0, 9.0]])
    assert Score.of_table(table)(table)[-1] == pytest.approx(1.0)
    useful = np.array([[1.0, 0.0], [0.0, 4.0], [3.0, 8.0], [4.0, 9.0]])  # free, and better than the median
    score = Score.of_table(useful)
    assert score.cost_low == 4.0
    assert np.isfinite(score(useful)).all()


def test_of_equally_accurate_candidates_the_cheapest_sets_the_reference() -> None:
    table = np.array([[1.0, 9.0], [1.0, 5.0], [2.0, 3.0], [7.0, 4.0], [8.0, 4.0], [9.0, 4.0]])
    assert Score.of_table(table).cost_best == 5.0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one"),
        ([[1.0, np.nan]], "finite"),
        ([[1.0, -2.0], [2.0, 1.0]], "negative"),
        ([[1.0, 0.0], [2.0, 0.0]], "every cost is 0"),
        ([[1.0, 1.0], [1.0, 2.0], [3.0, 1.0]], "share the lowest error"),
    ],
)
def test_tables_without_a_score_say_why(rows: list[list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Score.of_table(np.array(rows).reshape(-1, 2))


@settings(max_examples=30)
@given(arrays(np.float64, st.tuples(st.integers(1, 20), st.just(1)), elements=st.floats(0, 100)))
def test_regret_is_what_the_best_so_far_lacks(errors: FloatArray) -> None:
    curve = Regret(0.0)(errors)
    assert curve.tolist() == [errors[: n + 1].min() for n in range(len(errors))]
