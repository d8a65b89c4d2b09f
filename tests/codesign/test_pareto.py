from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray

from codesign.pareto import (
    crowded_places,
    crowding_distance,
    default_reference,
    fronts,
    hypervolume,
    hypervolume_curve,
    is_nondominated,
    rank,
)

FloatArray = NDArray[np.float64]
calm = settings(deadline=None)


def dominates(a: FloatArray, b: FloatArray) -> bool:
    return bool((a <= b).all() and (a < b).any())


def slow_front(losses: FloatArray, violations: FloatArray | None = None) -> list[bool]:
    usable = [
        not np.isnan(row).any() and (violations is None or bool(violations[i] <= 0)) for i, row in enumerate(losses)
    ]
    return [
        usable[i] and not any(usable[j] and dominates(losses[j], losses[i]) for j in range(len(losses)))
        for i in range(len(losses))
    ]


def slow_rank(losses: FloatArray) -> list[int]:
    """Peels front after front; rows without NaN."""
    ranks = [-1] * len(losses)
    left = set(range(len(losses)))
    level = 0
    while left:
        front = {i for i in left if not any(dominates(losses[j], losses[i]) for j in left)}
        for i in front:
            ranks[i] = level
        left -= front
        level += 1
    return ranks


def slow_hypervolume(losses: FloatArray, reference: FloatArray) -> float:
    """Counts the cells of the grid that all coordinates span."""
    rows = [row for row in losses if not np.isnan(row).any() and (row < reference).all()]
    if not rows:
        return 0.0
    edges = [np.unique([row[k] for row in rows] + [reference[k]]) for k in range(len(reference))]
    corners = np.stack(np.meshgrid(*[edge[:-1] for edge in edges], indexing="ij"), axis=-1).reshape(-1, len(edges))
    sizes = np.stack(np.meshgrid(*[np.diff(edge) for edge in edges], indexing="ij"), axis=-1).reshape(-1, len(edges))
    covered = np.zeros(len(corners), dtype=bool)
    for row in rows:
        covered |= (row <= corners).all(axis=1)
    return float(sizes[covered].prod(axis=1).sum())


few_values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0, np.inf, -np.inf, np.nan, -0.0])
finite_values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0])


def losses_of(elements: st.SearchStrategy[float], max_rows: int = 12) -> st.SearchStrategy[FloatArray]:
    shapes = st.tuples(st.integers(0, max_rows), st.integers(1, 4))
    return shapes.flatmap(lambda shape: st_numpy.arrays(np.float64, shape, elements=elements))


@calm
@given(losses_of(few_values))
def test_the_front_is_what_no_row_dominates(losses: FloatArray) -> None:
    assert is_nondominated(losses).tolist() == slow_front(losses)


@calm
@given(losses_of(few_values), st.data())
def test_infeasible_rows_are_never_on_the_front(losses: FloatArray, data: st.DataObject) -> None:
    some = st.sampled_from([0.0, 0.0, 0.5, np.inf, np.nan])
    violations = data.draw(st_numpy.arrays(np.float64, len(losses), elements=some))
    assert is_nondominated(losses, violations).tolist() == slow_front(losses, violations)


@calm
@given(losses_of(few_values))
def test_of_equal_rows_the_first_can_be_kept_alone(losses: FloatArray) -> None:
    everyone, first = is_nondominated(losses), is_nondominated(losses, keep_duplicates=False)
    seen: set[tuple[float, ...]] = set()
    for i, row in enumerate(losses + 0.0):  # -0.0 equals 0.0
        assert first[i] == (everyone[i] and tuple(row) not in seen)
        seen.add(tuple(row))


@calm
@given(losses_of(few_values), st.data())
def test_order_does_not_matter(losses: FloatArray, data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(len(losses)))), dtype=np.int64)
    np.testing.assert_array_equal(is_nondominated(losses[order]), is_nondominated(losses)[order])
    np.testing.assert_array_equal(rank(losses[order]), rank(losses)[order])


@calm
@given(losses_of(few_values), st.data())
def test_a_dominated_point_changes_nothing(losses: FloatArray, data: st.DataObject) -> None:
    front = is_nondominated(losses)
    if not front.any():
        return
    member = losses[data.draw(st.sampled_from(np.flatnonzero(front).tolist()))]
    worse = np.where(np.isfinite(member), member + 1, np.inf)
    if not dominates(member, worse):
        return
    more = np.vstack([losses, worse])
    np.testing.assert_array_equal(is_nondominated(more), [*front, False])
    reference = np.full(losses.shape[1], 4.0)
    if np.isfinite(losses[front]).all():
        assert hypervolume(more, reference) == pytest.approx(hypervolume(losses, reference))


@calm
@given(losses_of(few_values.filter(lambda value: value == value)))
def test_ranks_peel_front_after_front(losses: FloatArray) -> None:
    assert rank(losses).tolist() == slow_rank(losses)


def test_ranks_of_infeasible_and_failed_rows_follow() -> None:
    losses = np.array([[1, 2], [2, 1], [3, 3], [0, 0], [np.nan, np.nan], [np.nan, 1], [0, 0], [0, 0], [9, 9]])
    violations = np.array([0, 0, 0, 0.5, 0.1, 0, np.inf, np.nan, 0.5])
    assert rank(losses, violations).tolist() == [0, 0, 1, 3, 2, 4, 4, 4, 3]
    assert [front.tolist() for front in fronts(losses, violations)] == [[0, 1], [2], [4], [3, 8], [5, 6, 7]]
    assert fronts(np.zeros((0, 2))) == []
    assert rank(np.full((2, 2), np.nan)).tolist() == [0, 0]


@calm
@given(losses_of(few_values), st.data())
def test_fronts_hold_every_row_once(losses: FloatArray, data: st.DataObject) -> None:
    some = st.sampled_from([0.0, 0.0, 0.5, np.inf, np.nan])
    violations = data.draw(st_numpy.arrays(np.float64, len(losses), elements=some))
    rows = [row for front in fronts(losses, violations) for row in front.tolist()]
    assert sorted(rows) == list(range(len(losses)))
    ranks = rank(losses, violations)
    assert ranks[rows].tolist() == sorted(ranks.tolist())
    order = np.argsort(crowded_places(losses, violations), kind="stable")
    assert ranks[order].tolist() == sorted(ranks.tolist())


def test_crowding_of_a_line() -> None:
    x = np.array([0.0, 1.0, 4.0, 10.0])
    line = np.stack([x, 10 - x], axis=1)
    np.testing.assert_allclose(crowding_distance(line), [np.inf, 2 * 4 / 10, 2 * 9 / 10, np.inf])
    np.testing.assert_allclose(crowding_distance(line[:, :1]), [np.inf, 4 / 10, 9 / 10, np.inf])
    constant = np.concatenate([line, np.ones((4, 1))], axis=1)
    np.testing.assert_allclose(crowding_distance(constant), crowding_distance(line))


def test_crowding_stays_within_a_front_and_ignores_nan() -> None:
    x = np.array([0.0, 1.0, 4.0, 10.0])
    line = np.stack([x, 10 - x], axis=1)
    two = np.concatenate([line, line * 5 + 20, [[np.nan, 3.0]]])
    ranks = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0])
    np.testing.assert_allclose(crowding_distance(two, ranks), [*crowding_distance(line), *crowding_distance(line), 0])
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(crowding_distance(two[order], ranks[order]), crowding_distance(two, ranks)[order])


def test_crowding_with_infinities_and_without_rows() -> None:
    found = crowding_distance(np.array([[0.0, np.inf], [1.0, 1.0], [2.0, 0.0], [np.inf, -1.0]]))
    assert np.isinf(found[[0, 3]]).all()
    assert not np.isnan(found).any()
    assert crowding_distance(np.zeros((0, 2))).shape == (0,)
    assert crowding_distance(np.ones((3, 2))).tolist() == [0.0, 0.0, 0.0]


def test_crowded_places_put_feasible_first_then_the_less_crowded() -> None:
    losses = np.array([[5.0, 5.0], [0, 10], [10, 0], [1, 9], [2, 2], [np.nan, np.nan], [0, 0], [11, 11]])
    violations = np.array([0, 0, 0, 0, 0.3, 0.2, np.inf, 0])
    assert crowded_places(losses, violations).tolist() == [1, 0, 0, 2, 5, 4, 6, 3]
    assert crowded_places(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_hypervolume_of_a_staircase(n: int) -> None:
    steps = np.arange(n, dtype=np.float64)
    staircase = np.stack([steps, n - 1 - steps], axis=1)
    expected = n * (n + 1) / 2  # columns of height 1, 2, ..., n below the corner (n, n)
    assert hypervolume(staircase, np.array([n, n])) == expected
    assert hypervolume(np.c_[staircase, np.zeros(n)], np.array([n, n, 2.0])) == pytest.approx(2 * expected)


def test_hypervolume_of_nothing_and_of_one_box() -> None:
    reference = np.array([1.0, 2.0])
    assert hypervolume(np.zeros((0, 2)), reference) == 0.0
    assert hypervolume(np.array([[1.0, 0.0], [np.nan, 0.0], [0.0, 2.0]]), reference) == 0.0
    assert hypervolume(np.array([[0.5, 0.5]]), reference) == 0.75
    assert hypervolume(np.array([[0.5, 0.5], [0.0, 0.0]]), reference, np.array([0.0, 0.1])) == 0.75
    assert hypervolume(np.array([[3.0], [2.0], [7.0]]), np.array([5.0])) == 3.0
    with pytest.raises(ValueError, match="reference has shape"):
        hypervolume(np.zeros((1, 2)), np.zeros(3))
    with pytest.raises(ValueError, match="losses have shape"):
        is_nondominated(np.zeros(3))


@calm
@given(losses_of(st.one_of(finite_values, st.just(np.nan)), max_rows=8))
def test_hypervolume_counts_cells(losses: FloatArray) -> None:
    reference = np.full(losses.shape[1], 2.5)
    assert hypervolume(losses, reference) == pytest.approx(slow_hypervolume(losses, reference))


@calm
@given(losses_of(st.one_of(finite_values, st.just(np.nan)), max_rows=10), st.data())
def test_the_curve_is_the_hypervolume_of_every_prefix(losses: FloatArray, data: st.DataObject) -> None:
    reference = np.full(losses.shape[1], 2.5)
    violations = data.draw(st_numpy.arrays(np.float64, len(losses), elements=st.sampled_from([0.0, 0.0, 1.0, np.nan])))
    curve = hypervolume_curve(losses, reference, violations)
    expected = [hypervolume(losses[: i + 1], reference, violations[: i + 1]) for i in range(len(losses))]
    np.testing.assert_allclose(curve, expected, atol=1e-12)
    assert (np.diff(curve) >= 0).all()


@pytest.mark.parametrize("m", [2, 3])
def test_the_curve_over_more_rows_than_a_chunk(m: int) -> None:
    losses = np.random.default_rng(0).random((10_000, m))
    curve = hypervolume_curve(losses, np.ones(m))
    for n in (1, 4096, 4097, 10_000):
        assert curve[n - 1] == pytest.approx(hypervolume(losses[:n], np.ones(m)))


def test_two_objectives_agree_with_moocore() -> None:
    import moocore

    rng = np.random.default_rng(0)
    for losses in (rng.random((2000, 2)), rng.integers(0, 30, (2000, 2)).astype(np.float64)):
        np.testing.assert_array_equal(is_nondominated(losses), moocore.is_nondominated(losses, keep_weakly=True))
        np.testing.assert_array_equal(rank(losses), moocore.pareto_rank(losses))
        reference = np.array([40.0, 40.0])
        assert hypervolume(losses, reference) == pytest.approx(moocore.hypervolume(losses, ref=reference))


def test_the_default_reference_lies_a_tenth_behind_the_worst() -> None:
    losses = np.array([[0.0, 5.0, np.nan], [10.0, 5.0, np.nan], [np.inf, 5.0, np.inf]])
    np.testing.assert_allclose(default_reference(losses), [11.0, 5.5, 1.0])
    np.testing.assert_allclose(default_reference(np.zeros((2, 1))), [0.1])
    np.testing.assert_allclose(default_reference(np.zeros((0, 2))), [1.0, 1.0])


@calm
@given(losses_of(finite_values))
def test_every_row_is_inside_the_default_reference(losses: FloatArray) -> None:
    assert (losses < default_reference(losses)).all()


def test_a_million_rows_are_quick() -> None:
    losses = np.random.default_rng(0).random((1_000_000, 2))
    start = time.process_time()
    front = is_nondominated(losses)
    assert time.process_time() - start < 0.5  # 0.07 s on a quiet core
    assert 1 < front.sum() < 100


def test_two_objectives_load_no_heavy_library() -> None:
    code = (
        "import sys, numpy as np; from codesign import pareto; x = np.random.default_rng(0).random((50, 2));"
        "pareto.crowded_places(x); pareto.hypervolume_curve(x, np.ones(2));"
        "assert not {'moocore', 'torch', 'optuna', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
