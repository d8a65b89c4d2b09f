from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.strategies.scalar import FAILED, RHO, WINDOW, Scalar, spread_directions

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)


def learnt(losses: list[list[float]], violations: list[float] | None = None) -> Scalar:
    values = np.array(losses)
    scalar = Scalar(values.shape[1])
    scalar.learn(values, np.zeros(len(values)) if violations is None else np.array(violations))
    return scalar


def test_one_loss_by_hand() -> None:
    scalar = learnt([[2.0], [4.0], [6.0]])  # ideal 2, typical 4
    values = scalar.value(np.array([[2.0], [4.0], [6.0], [10.0]]), np.zeros(4), np.ones((1, 1)))
    np.testing.assert_allclose(values, [0.0, 1 / 2, 2 / 3, 4 / 5])


def test_two_losses_by_hand() -> None:
    scalar = learnt([[0.0, 10.0], [1.0, 20.0], [2.0, 30.0]])  # ideal (0, 10), typical (1, 20)
    t = np.array([1 / 2, 2 / 3])
    weights = np.array([0.25, 0.75])
    expected = (max(weights * t) + RHO * (weights * t).sum()) / (1 + RHO)
    np.testing.assert_allclose(scalar.value(np.array([[1.0, 30.0]]), np.zeros(1), weights[None]), [expected])


@settings(max_examples=50)
@given(
    st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=12),
    st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_feasible_before_infeasible_before_failed(
    rows: list[tuple[float, float]], violations: list[float], weight: float
) -> None:
    losses = np.array(rows + [(np.nan, np.nan)] * (len(violations) + 1))
    over = np.array([0.0] * len(rows) + sorted(violations) + [np.inf])
    scalar = Scalar(2)
    scalar.learn(losses, over)
    values = scalar.value(losses, over, np.array([[weight, 1 - weight]]))
    assert np.isfinite(values).all()
    feasible, infeasible = values[: len(rows)], values[len(rows) : -1]
    assert feasible.min() >= 0
    assert feasible.max() <= 1 < infeasible.min()
    assert (np.diff(infeasible) >= 0).all()
    assert infeasible.max() < values[-1] == FAILED


@settings(max_examples=40)
@given(st.lists(st.tuples(FINITE, FINITE), min_size=3, max_size=12), st.floats(0.05, 0.95))
def test_what_dominates_has_the_smaller_value(rows: list[tuple[float, float]], weight: float) -> None:
    losses = np.array(rows)
    scalar = learnt(losses.tolist())
    values = scalar.value(losses, np.zeros(len(losses)), np.array([[weight, 1 - weight]]))
    for first, a in zip(losses, values, strict=True):
        for second, b in zip(losses, values, strict=True):
            if (first <= second).all():
                assert a <= b + 1e-12


def test_an_outlier_squeezes_nothing() -> None:
    near = [[1.0], [1.1], [1.2], [1.3]]
    before = learnt(near).value(np.array(near), np.zeros(4), np.ones((1, 1)))
    after = learnt([*near, [1e9]]).value(np.array(near), np.zeros(4), np.ones((1, 1)))
    assert np.diff(after).min() > 0.5 * np.diff(before).min()


def test_typical_is_of_the_latest_alone() -> None:
    scalar = learnt([[1000.0]] * 500)
    scalar.learn(np.linspace(0, 1, WINDOW)[:, None], np.zeros(WINDOW))
    assert scalar.value(np.array([[0.5]]), np.zeros(1), np.ones((1, 1)))[0] == pytest.approx(0.5)


def test_nothing_feasible_yet_and_nothing_at_all() -> None:
    scalar = Scalar(2)
    assert scalar.value(np.zeros((0, 2)), np.zeros(0), np.ones((8, 1, 2))).shape == (8, 0)
    values = scalar.value(np.full((2, 2), np.nan), np.array([0.5, np.inf]), np.ones((1, 2)))
    assert values[0] < values[1] == FAILED


def test_a_state_survives_json() -> None:
    scalar = learnt([[1.0, 2.0], [3.0, 4.0]])
    other = Scalar(2)
    other.load_state_dict(json.loads(json.dumps(scalar.state_dict(), allow_nan=False)))
    probe, weights = np.array([[2.5, 3.5]]), np.array([[0.4, 0.6]])
    assert other.value(probe, np.zeros(1), weights) == scalar.value(probe, np.zeros(1), weights)


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_directions_lie_far_apart(m: int) -> None:
    directions = spread_directions(8, m)
    assert directions.shape == ((1, 1) if m == 1 else (8, m))
    np.testing.assert_allclose(directions.sum(axis=1), 1)
    if m == 2:
        gaps = np.diff(np.sort(directions[:, 0]))
        assert gaps.min() > 0.5 / 7  # evenly spread ones are 1/7 apart
    assert (directions[: min(m, 8)] == np.eye(m)[:8]).all()


def test_drawn_directions() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert (Scalar(1).weights(3, rng) == 1).all()
    assert rng.bit_generator.state == before
    drawn = Scalar(3).weights(2000, rng)
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / 3, atol=0.03)
