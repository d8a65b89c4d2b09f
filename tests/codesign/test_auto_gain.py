"""Expected hypervolume improvement against hypervolumes and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.pareto import hypervolume
from codesign.strategies.auto_gain import advance, expected_gain, gain, thinned, undominated
from codesign.strategies.strategy import FloatArray


def grown(points: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """Hypervolume with a point less that without it, for each."""
    held = hypervolume(front, reference) if len(front) else 0.0
    return np.array([hypervolume(np.vstack([front, point]), reference) - held for point in points])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(0, 7), st.integers(0, 10**6), st.booleans())
def test_gain_is_the_growth_of_the_hypervolume(m: int, k: int, seed: int, on_grid: bool) -> None:
    rng = np.random.default_rng(seed)
    front, points = rng.random((k, m)), rng.random((8, m))
    if on_grid:  # ties
        front, points = np.round(front * 4) / 4, np.round(points * 4) / 4
    reference = np.full(m, 0.9)
    expected = grown(points, front, reference)
    np.testing.assert_allclose(gain(points, front, reference), expected, atol=1e-12)
    boxes = undominated(front, reference)
    np.testing.assert_allclose(expected_gain(points, np.zeros_like(points), boxes), expected, atol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_expected_gain_is_the_mean_over_draws(m: int) -> None:
    rng = np.random.default_rng(m)
    front = rng.random((6, m)) if m > 1 else np.array([[0.5]])
    reference = np.ones(m)
    mean, deviation = rng.random((5, m)) * 0.8, rng.random((5, m)) * 0.3
    deviation[:2, 0] = 0.0  # known
    found = expected_gain(mean, deviation, undominated(front, reference))
    for i in range(len(mean)):
        draws = mean[i] + deviation[i] * rng.standard_normal((100_000, m))
        gains = gain(draws, front, reference)
        assert found[i] == pytest.approx(gains.mean(), abs=5 * gains.std() / np.sqrt(len(gains)) + 1e-9)


def test_boxes_are_disjoint_and_fill_what_is_not_dominated() -> None:
    rng = np.random.default_rng(5)
    front = rng.random((9, 3))
    boxes = undominated(front, np.ones(3))
    points = rng.random((4000, 3))
    inside = ((points[:, None] > boxes.lower) & (points[:, None] < boxes.upper)).all(axis=2).sum(axis=1)
    is_dominated = np.asarray((front[None] <= points[:, None]).all(axis=2)).any(axis=1)
    np.testing.assert_array_equal(inside, np.where(is_dominated, 0, 1))


def test_more_candidates_than_are_handled_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    mean, deviation = rng.random((50, 2)), rng.random((50, 2))
    boxes = undominated(rng.random((5, 2)), np.ones(2))
    whole = expected_gain(mean, deviation, boxes)
    monkeypatch.setattr("codesign.strategies.auto_gain._CELLS", 20)
    np.testing.assert_array_equal(expected_gain(mean, deviation, boxes), whole)


def test_a_thinned_front_keeps_its_ends_and_its_spread() -> None:
    rng = np.random.default_rng(1)
    x = np.sort(rng.random(200))
    front = np.stack([x, 1 - x], axis=1)
    kept = thinned(front, 20)
    assert len(kept) == 20
    assert kept[:, 0].min() == x[0]
    assert kept[:, 1].min() == 1 - x[-1]
    assert np.diff(np.sort(kept[:, 0])).max() < 0.12
    np.testing.assert_array_equal(thinned(front[:5], 20), front[:5])


def test_advance_is_the_shift_that_lets_the_front_dominate() -> None:
    front = np.array([[0.2, 0.6], [0.6, 0.2]])
    reference = np.array([1.0, 1.0])
    points = np.array([[0.1, 0.5], [0.6, 0.6], [0.2, 0.6], [0.4, 0.4]])
    np.testing.assert_allclose(advance(points, front, reference), np.array([0.1, 0.0, 0.0, 0.2]) / 0.8, atol=1e-12)
    np.testing.assert_allclose(advance(points[:1], front[:0], reference), 0.9)
