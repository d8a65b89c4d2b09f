"""Latency of a new device: the process, its weights, and the choice of candidates to measure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import InputError
from codesign.transfer import MIN_READINGS, LatencyTransfer
from codesign.transfer_kernel import FLAT, JITTER, Parts, _negative_log_density, fit_weights
from codesign.trial import FloatArray

PRICES = np.array([0.2, 1.5, 9.0, 0.8])


def counts(n: int = 400, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).integers(0, 7, (n, 4)).astype(np.float64)


def ranks(values: FloatArray) -> FloatArray:
    return np.argsort(np.argsort(values)).astype(np.float64)


def spearman(first: FloatArray, second: FloatArray) -> float:
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def test_the_gradient_is_that_of_the_density() -> None:
    columns = counts(30)
    parts = Parts.of([columns[:, :2], columns[:, 2:]])
    rows = np.arange(12)
    values = np.random.default_rng(1).normal(size=12)
    between, center = parts.between(rows, rows), np.array([-1.0, -1.0, -1.0, -3.0])
    logs = np.array([0.3, -0.8, -1.2, -2.0])
    _, gradient = _negative_log_density(logs, between, values, center)
    for i in range(4):
        step = np.zeros(4)
        step[i] = 1e-5
        up, down = (_negative_log_density(logs + sign * step, between, values, center)[0] for sign in (1, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-6)


def test_the_density_is_that_of_a_normal_distribution() -> None:
    columns = counts(30)
    parts = Parts.of([columns])
    rows = np.arange(8)
    values = np.random.default_rng(1).normal(size=8)
    between, center = parts.between(rows, rows), np.array([-1.0, -1.0, -3.0])
    logs = np.array([0.1, -0.5, -1.0])
    covariance = np.exp(0.1) * between[0] + np.exp(-0.5) * between[1] + FLAT
    covariance += (np.exp(-1.0) + JITTER) * np.eye(8)
    by_hand = 0.5 * values @ np.linalg.inv(covariance) @ values + 0.5 * np.log(np.linalg.det(covariance))
    by_hand += 0.5 * float((((logs - center) / 2.0) ** 2).sum())
    assert _negative_log_density(logs, between, values, center)[0] == pytest.approx(by_hand, rel=1e-9)


def test_a_part_that_tells_nothing_gets_little_weight() -> None:
    rng = np.random.default_rng(2)
    telling, idle = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    parts = Parts.of([telling, idle])
    rows = np.arange(60)
    values = telling @ np.array([1.0, -2.0, 0.5])
    weights = fit_weights(parts.between(rows, rows), (values - values.mean()) / values.std())
    assert weights.parts[0] > 20 * weights.parts[1]


@pytest.mark.parametrize("seed", range(5))
def test_a_straight_latency_is_found_from_few_readings(seed: int) -> None:
    columns = counts(seed=seed)
    latency = 3.0 + columns @ PRICES
    transfer = LatencyTransfer([columns])
    cells = transfer.choose_cells(12, np.random.default_rng(seed))
    fitted = transfer.fit(cells, latency[cells])
    assert fitted.power == 1.0
    assert np.median(np.abs(fitted.latency_ms / latency - 1)) < 0.02


def test_a_latency_of_factors_is_learned_as_a_logarithm() -> None:
    columns = counts()
    latency = np.exp(0.1 * columns @ np.array([1.0, 3.0, 6.0, 2.0]))
    transfer = LatencyTransfer([columns])
    cells = transfer.choose_cells(20, np.random.default_rng(0))
    fitted = transfer.fit(cells, latency[cells])
    assert fitted.power == 0.0
    assert np.median(np.abs(fitted.latency_ms / latency - 1)) < 0.05


def test_other_devices_tell_what_columns_do_not() -> None:
    rng = np.random.default_rng(3)
    columns, hidden = counts(), rng.normal(size=400)
    latency = np.exp(0.05 * columns @ PRICES + hidden)
    others = np.exp(0.05 * columns @ PRICES[:, None] + hidden[:, None] * np.array([0.8, 1.1, 0.9]))
    others *= np.exp(rng.normal(scale=0.05, size=others.shape))
    cells = rng.choice(400, 15, replace=False)
    alone = LatencyTransfer([columns]).fit(cells, latency[cells])
    both = LatencyTransfer([columns], others).fit(cells, latency[cells])
    assert spearman(both.latency_ms, latency) > 0.97 > spearman(alone.latency_ms, latency)


def test_gaps_of_other_devices_are_filled_and_devices_never_measured_add_nothing() -> None:
    rng = np.random.default_rng(4)
    columns = counts()
    latency = 1.0 + columns @ PRICES
    others = np.stack([latency * 2 * np.exp(rng.normal(scale=0.02, size=400)), np.full(400, np.nan)], axis=1)
    others[rng.choice(400, 340, replace=False), 0] = np.nan
    cells = rng.choice(400, 8, replace=False)
    fitted = LatencyTransfer([columns], others).fit(cells, latency[cells])
    assert spearman(fitted.latency_ms, latency) > 0.97
    bare = LatencyTransfer([columns], others[:, 1:]).fit(cells, latency[cells])
    np.testing.assert_array_equal(bare.latency_ms, LatencyTransfer([columns]).fit(cells, latency[cells]).latency_ms)


def test_before_any_reading_size_and_other_devices_agree_on_an_order() -> None:
    columns = counts()
    latency = 1.0 + columns @ PRICES
    transfer = LatencyTransfer([columns], np.stack([latency**1.2, 3 * latency], axis=1))
    assert spearman(transfer.order_unread(columns[:, 2]), latency) > 0.95
    np.testing.assert_array_equal(
        ranks(LatencyTransfer([columns]).order_unread(latency)), ranks(np.log1p(latency))
    )  # with nothing else known, size alone decides


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 1_000))
def test_the_unit_does_not_matter(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = counts(80, seed)
    latency = (1.0 + columns @ PRICES) * np.exp(rng.normal(scale=0.1, size=80))
    transfer = LatencyTransfer([columns])
    cells = rng.choice(80, 10, replace=False)
    plain, scaled = transfer.fit(cells, latency[cells]), transfer.fit(cells, factor * latency[cells])
    assert plain.power == scaled.power
    np.testing.assert_allclose(scaled.latency_ms, factor * plain.latency_ms, rtol=1e-3)


def test_predictions_are_positive_and_keep_the_order_where_a_line_falls_below_zero() -> None:
    columns = np.arange(40.0)[:, None]
    latency = columns[:, 0] - 19.5
    transfer = LatencyTransfer([columns])
    cells = np.arange(20, 40)
    found = transfer.fit(cells, latency[cells]).latency_ms
    assert (found > 0).all()
    assert (np.diff(found) > 0).all()


def test_the_first_choice_leaves_the_least_uncertainty_of_all_choices() -> None:
    columns = counts(60)
    transfer = LatencyTransfer([columns[:, :2], columns[:, 2:]])
    rows = np.arange(60)
    covariance = transfer._parts.between(rows, rows).mean(axis=0)
    noise = np.exp(-3.0) + JITTER
    left = [
        float(np.trace(covariance - np.outer(covariance[i], covariance[i]) / (covariance[i, i] + noise))) for i in rows
    ]
    assert transfer.choose_cells(1, np.random.default_rng(0))[0] == int(np.argmin(left))


def test_choices_are_different_repeatable_and_better_than_chance() -> None:
    columns = counts(300)
    latency = 1.0 + columns @ PRICES
    transfer = LatencyTransfer([columns])
    errors: dict[str, list[float]] = {"chosen": [], "random": []}
    for seed in range(12):
        chosen = transfer.choose_cells(10, np.random.default_rng(seed))
        assert len(set(chosen.tolist())) == 10
        np.testing.assert_array_equal(chosen, transfer.choose_cells(10, np.random.default_rng(seed)))
        drawn = np.random.default_rng(seed).choice(300, 10, replace=False)
        for name, cells in (("chosen", chosen), ("random", drawn)):
            readings = latency[cells] * np.exp(np.random.default_rng([seed, 1]).normal(scale=0.05, size=10))
            errors[name].append(1 - spearman(transfer.fit(cells, readings).latency_ms, latency))
    assert np.mean(errors["chosen"]) < 0.8 * np.mean(errors["random"])


def test_wrong_input_is_refused() -> None:
    columns = counts(20)
    with pytest.raises(InputError, match="shape"):
        LatencyTransfer([columns, columns[:5]])
    with pytest.raises(InputError, match="shape"):
        LatencyTransfer([])
    with pytest.raises(InputError, match="finite"):
        LatencyTransfer([np.full((20, 2), np.nan)])
    transfer = LatencyTransfer([columns])
    assert len(transfer) == 20
    with pytest.raises(InputError, match=f"give {MIN_READINGS} or more"):
        transfer.fit(np.arange(2), np.ones(2))
    with pytest.raises(InputError, match="positive"):
        transfer.fit(np.arange(3), np.array([1.0, 0.0, 2.0]))
    with pytest.raises(InputError, match="21 of 20"):
        transfer.choose_cells(21, np.random.default_rng(0))
