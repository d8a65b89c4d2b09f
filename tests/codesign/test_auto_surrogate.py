"""The Gaussian process of `auto` against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.strategies.auto_model import Bend, Model, fit, most_telling, rank_correlation
from codesign.strategies.strategy import FloatArray
from codesign.strategies.surrogate import Surrogate
from codesign.strategies.surrogate_kernel import (
    JITTER,
    Kernel,
    _negative_log_density,
    _products,
    fit_kernel,
    left_out,
    prior_parameters,
)

RNG = np.random.default_rng(3)
POOL = RNG.standard_normal((40, 3))
ROWS = RNG.standard_normal((12, 3))
VALUES = np.sin(ROWS[:, 0]) + 0.5 * ROWS[:, 1]
TREND = np.array([1.0, 1.0, 2.0])
KERNEL = Kernel(np.log(np.array([1.0, 2.0, 3.0, 0.4, 1.2, 0.05])), TREND)
ALL = np.ones(len(ROWS), dtype=np.bool_)


def dense_kernel(first: FloatArray, second: FloatArray) -> FloatArray:
    """The same covariance, pair by pair, from its definition."""
    result = np.zeros((len(first), len(second)))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            r = np.sqrt(5 * (((a - b) / np.array([1.0, 2.0, 3.0])) ** 2).sum())
            result[i, j] = 0.4 * ((TREND * a) @ (TREND * b)) / 3 + 1.2 * (1 + r + r * r / 3) * np.exp(-r)
    return result


def dense_posterior(rows: FloatArray, values: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    noise = 0.05 + JITTER
    inverse = np.linalg.inv(dense_kernel(rows, rows) + noise * np.eye(len(rows)))
    crossed = dense_kernel(at, rows)
    explained = np.einsum("pi,ij,pj->p", crossed, inverse, crossed)
    return crossed @ inverse @ values, np.diag(dense_kernel(at, at)) - explained + noise


def test_kernel_is_its_definition() -> None:
    np.testing.assert_allclose(KERNEL(ROWS, POOL), dense_kernel(ROWS, POOL), rtol=1e-9)
    np.testing.assert_allclose(KERNEL.diagonal(POOL), np.diag(dense_kernel(POOL, POOL)), rtol=1e-9)


@pytest.mark.parametrize("n_first", [0, 1, 7, 12])
def test_posterior_is_that_of_dense_algebra_however_the_rows_came(n_first: int) -> None:
    surrogate = Surrogate(KERNEL, POOL, ROWS[:n_first])
    for row in ROWS[n_first:]:
        surrogate.append(row)
    mean, variance = dense_posterior(ROWS, VALUES, POOL)
    np.testing.assert_allclose(surrogate.mean(VALUES, ALL), mean, atol=2e-5)  # the pool is held in single precision
    np.testing.assert_allclose(surrogate.variance(), variance, atol=2e-5)
    np.testing.assert_allclose(surrogate.mean_at(POOL, VALUES, ALL), mean, atol=1e-9)


def test_many_appended_rows_outgrow_the_first_room() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((150, 3))
    values = rng.standard_normal(150)
    surrogate = Surrogate(KERNEL, POOL, rows[:2])
    for row in rows[2:]:
        surrogate.append(row)
    mean, variance = dense_posterior(rows, values, POOL)
    np.testing.assert_allclose(surrogate.mean(values, np.ones(150, dtype=np.bool_)), mean, atol=1e-4)
    np.testing.assert_allclose(surrogate.variance(), variance, atol=1e-4)


def test_unknown_values_leave_the_mean_and_shrink_the_variance() -> None:
    known = np.arange(len(ROWS)) % 3 != 1
    surrogate = Surrogate(KERNEL, POOL, ROWS)
    values = np.where(known, VALUES, np.nan)
    mean, variance = dense_posterior(ROWS[known], VALUES[known], POOL)
    np.testing.assert_allclose(surrogate.mean(values, known), mean, atol=2e-5)
    assert (surrogate.variance() <= variance + 1e-5).all()
    assert (surrogate.variance() < variance - 1e-3).any()


def test_nothing_known_is_the_prior() -> None:
    surrogate = Surrogate(KERNEL, POOL, ROWS)
    np.testing.assert_array_equal(surrogate.mean(VALUES, ~ALL), 0.0)


def test_gradient_is_that_of_differences() -> None:
    start = prior_parameters(3) + np.linspace(-0.5, 0.5, 6)
    value, gradient = _negative_log_density(start, ROWS, VALUES, _products(ROWS, TREND))
    for i in range(len(start)):
        step = np.zeros(len(start))
        step[i] = 1e-6
        above, below = (
            _negative_log_density(start + sign * step, ROWS, VALUES, _products(ROWS, TREND))[0] for sign in (1, -1)
        )
        assert gradient[i] == pytest.approx((above - below) / 2e-6, rel=1e-4, abs=1e-6)
    assert np.isfinite(value)


def test_fit_finds_the_feature_that_matters() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((80, 4))
    values = np.sin(2 * features[:, 2])
    values = (values - values.mean()) / values.std()
    kernel = fit_kernel(features, values, np.ones(4), prior_parameters(4))
    assert kernel.rates.argmax() == 2
    assert kernel.rates[2] > 3 * np.delete(kernel.rates, 2).max()
    assert kernel.noise < 0.01


def test_fit_finds_the_noise() -> None:
    rng = np.random.default_rng(2)
    features = rng.standard_normal((150, 2))
    values = features[:, 0] + 0.5 * rng.standard_normal(150)
    kernel = fit_kernel(features, (values - values.mean()) / values.std(), np.ones(2), prior_parameters(2))
    assert kernel.noise == pytest.approx(0.2, rel=0.3)  # 0.25 of a variance of 1.25


def test_left_out_is_what_the_others_say() -> None:
    mean, variance = left_out(KERNEL, ROWS, VALUES)
    for i in range(len(ROWS)):
        others = np.arange(len(ROWS)) != i
        expected_mean, expected_variance = dense_posterior(ROWS[others], VALUES[others], ROWS[i : i + 1])
        assert mean[i] == pytest.approx(expected_mean[0], abs=1e-9)
        assert variance[i] == pytest.approx(expected_variance[0], abs=1e-9)


def test_bend_is_straight_below_its_level_and_comes_back() -> None:
    losses = np.array([1.0, 2.0, 3.0, 10.0, 1000.0])
    bend = Bend.of(losses, 3.0)
    bent = bend(losses)
    np.testing.assert_array_equal(bent[:3], losses[:3])
    assert bent[3] < 10
    assert bent[4] < 20
    assert (np.diff(bent) > 0).all()
    np.testing.assert_allclose(bend.straighten(bent), losses)
    assert np.isnan(bend(np.array([np.nan])))[0]


def test_model_speaks_in_losses() -> None:
    losses = 1000.0 + 50.0 * VALUES
    fitted = fit(ROWS, losses, np.ones(3), float(losses.max()), None)
    model = Model(fitted, np.ones(3), ROWS, ROWS)
    mean, deviation = model.over_pool(losses)
    assert np.corrcoef(mean, losses)[0, 1] > 0.95
    assert (deviation < 50).all()
    np.testing.assert_allclose(model.at(ROWS, losses), mean, rtol=1e-4)
    assert fitted.skill > 0.5


def test_constant_losses_fit_without_skill() -> None:
    fitted = fit(ROWS, np.full(12, 5.0), np.ones(3), 5.0, None)
    assert fitted.skill == 0.0
    mean, _ = Model(fitted, np.ones(3), POOL, ROWS).over_pool(np.full(12, 5.0))
    np.testing.assert_allclose(mean, 5.0)


def test_most_telling_keeps_the_best_and_thins_the_rest() -> None:
    losses = np.random.default_rng(0).permutation(1000).astype(np.float64)
    rows = most_telling(losses, 100)
    assert len(np.unique(rows)) == 100
    kept = losses[rows]
    assert set(range(50)) <= set(kept.astype(int).tolist())
    assert kept.max() == 999


def test_rank_correlation() -> None:
    up = np.arange(5.0)
    assert rank_correlation(up, np.exp(up)) == pytest.approx(1)
    assert rank_correlation(up, -up) == pytest.approx(-1)
    assert rank_correlation(up, np.zeros(5)) == 0
    tied = np.array([1.0, 1.0, 2.0, 0.0, 3.0])  # ranks 1.5, 1.5, 3, 0, 4: covariance 3.5 of squares 10 and 9.5
    assert rank_correlation(up, tied) == pytest.approx(3.5 / np.sqrt(10 * 9.5))


@pytest.mark.parametrize("n", [1, 40, 700])  # in blocks, and in one
def test_covariance_with_prepared_rows_is_the_formula(n: int) -> None:
    rows, others = np.random.default_rng(4).standard_normal((2, n, 3))
    kernel = Kernel(KERNEL.parameters, np.array([1.0, 0.0, 2.0]))
    distance = np.sqrt(5 * np.square((rows[:, None] - others) * kernel.rates).sum(axis=2))
    expected = kernel.smooth * (1 + distance + distance**2 / 3) * np.exp(-distance)
    expected += kernel.linear / 3 * (rows * np.square(kernel.trend)) @ others.T
    np.testing.assert_allclose(kernel(rows, kernel.prepare(others)), expected, atol=1e-12)
    np.testing.assert_array_equal(kernel(rows, others), kernel(rows, kernel.prepare(others)))


@pytest.mark.parametrize(("n_rows", "n_features", "n_steps"), [(60, 3, 40), (300, 200, 20), (300, 2_000, 10)])
def test_a_fit_does_so_much_work_at_most(
    n_rows: int, n_features: int, n_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def note(features: FloatArray, values: FloatArray, trend: FloatArray, start: FloatArray, steps: int) -> Kernel:
        asked.append(steps)
        return Kernel(start, trend)

    monkeypatch.setattr("codesign.strategies.auto_model.fit_kernel", note)
    features, losses = np.zeros((n_rows, n_features)), np.arange(float(n_rows))
    fit(features, losses, np.ones(n_features), 1.0, None)
    assert asked == [n_steps]
