"""The covariance of a Gaussian process over features, and its parameters by marginal likelihood.

k(a, b) = linear * (w a).(w b) / d + smooth * matern(|(a - b) / length|), plus noise on the diagonal: a straight trend,
a smooth departure from it with one length scale per feature, and what no feature explains. Parameters have log-normal
priors, so that a handful of results does not fit one length scale per feature to them.

Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", eq. 4.17 (Matern, nu = 5/2), eq. 5.8 and
5.9 (the log marginal likelihood and its gradient), eq. 5.12 (leave-one-out predictions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.strategies.strategy import FloatArray

Matrix = NDArray[Any]
"""Of float64 or float32."""
JITTER = 1e-6
N_SHARED = 3
"""Parameters beside the length scales: log linear, log smooth, log noise; they come last."""
PRIOR_LENGTH = 1.5
"""Median length scale of standardised features, times the root of their number: typical distances grow with it."""
PRIOR_SHARED = (np.log(0.3), 0.0, np.log(0.02))
PRIOR_SPREAD = (1.0, 1.0, 1.5)
SPREAD_LENGTH = 1.0
BOUNDS_LENGTH = (-4.0, 9.0)
BOUNDS_SHARED = ((-9.0, 4.0), (-5.0, 4.0), (-9.0, 1.0))
_AT_ONCE = 32_768
"""Covariances computed at a time."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows that many others are compared with, under one kernel.

    Attributes:
        features: shape (p, d).
        scaled_twice: shape (d, p), minus twice the features in units of their length scales.
        squares: shape (p,), squared norms of the scaled features.
    """

    features: Matrix
    scaled_twice: Matrix
    squares: Matrix


@dataclass(frozen=True, slots=True)
class Kernel:
    """A covariance function with its parameters.

    Attributes:
        parameters: shape (d + 3,), logarithms: d length scales, linear, smooth, noise.
        trend: shape (d,), how much each feature's slope counts in the linear part.
    """

    parameters: FloatArray
    trend: FloatArray

    @property
    def linear(self) -> float:
        """Variance of the trend."""
        return float(np.exp(self.parameters[-3]))

    @property
    def smooth(self) -> float:
        """Variance of the smooth part."""
        return float(np.exp(self.parameters[-2]))

    @property
    def noise(self) -> float:
        """Variance of what features do not explain."""
        return float(np.exp(self.parameters[-1])) + JITTER

    @property
    def rates(self) -> FloatArray:
        """Inverse length scales, shape (d,)."""
        return np.asarray(np.exp(-self.parameters[:-N_SHARED]))

    @property
    def _slopes(self) -> FloatArray:
        """Variance of each feature's slope, shape (d,)."""
        return np.asarray(self.linear * np.square(self.trend) / len(self.trend))

    def __call__(self, first: Matrix, second: Matrix | Prepared) -> Matrix:
        """Covariance of every pair without noise; features (n, d) and (p, d) give (n, p), in their precision."""
        kind = first.dtype
        if not isinstance(second, Prepared):
            second = self.prepare(second)
        result = (first * (self._slopes.astype(kind))) @ second.features.T
        scaled = first * self.rates.astype(kind)
        squared = scaled @ second.scaled_twice
        squares = np.square(scaled).sum(axis=1)
        step = max(1, _AT_ONCE // max(1, len(second.features)))
        for start in range(0, len(first), step):  # blocks that stay in the processor's cache
            rows = slice(start, start + step)
            root = squared[rows]
            root += squares[rows, None]
            root += second.squares
            np.maximum(root, 0, out=root)
            np.sqrt(root, out=root)
            root *= kind.type(np.sqrt(5.0))
            smooth = self.smooth * (1 + root + root * root / 3)
            smooth *= np.exp(-root)
            result[rows] += smooth
        return np.asarray(result)

    def prepare(self, features: Matrix) -> Prepared:
        """What every covariance with these rows, shape (p, d), needs of them."""
        scaled = features * self.rates.astype(features.dtype)
        return Prepared(features, -2 * scaled.T, np.square(scaled).sum(axis=1))

    def diagonal(self, features: FloatArray) -> FloatArray:
        """Variance of each row without noise, shape (n,)."""
        return np.asarray(self.smooth + np.square(features) @ self._slopes)


def _distance(first: Matrix, second: Matrix) -> Matrix:
    """Euclidean distance of every pair, shape (n, p)."""
    squared = first @ (-2 * second.T)
    squared += np.square(first).sum(axis=1)[:, None]
    squared += np.square(second).sum(axis=1)
    np.maximum(squared, 0, out=squared)
    return np.asarray(np.sqrt(squared, out=squared))


def prior_parameters(n_features: int) -> FloatArray:
    """The medians of the parameters' priors, shape (n_features + 3,)."""
    length = np.log(PRIOR_LENGTH * np.sqrt(n_features))
    return np.concatenate([np.full(n_features, length), PRIOR_SHARED])


def fit_kernel(
    features: FloatArray, values: FloatArray, trend: FloatArray, start: FloatArray, n_steps: int = 40
) -> Kernel:
    """The kernel with the largest posterior density, by L-BFGS from a start.

    Args:
        features: shape (n, d), standardised.
        values: shape (n,), with mean 0 and variance 1.
        trend: shape (d,), see `Kernel`.
        start: shape (d + 3,), logarithms of the parameters to begin from.
        n_steps: of L-BFGS at most.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    n_features = features.shape[1]
    bounds = [BOUNDS_LENGTH] * n_features + list(BOUNDS_SHARED)
    low, high = np.array(bounds).T
    found = minimize(
        _negative_log_density,
        np.clip(start, low, high),
        args=(features, values, _products(features, trend)),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": n_steps},
    )
    return Kernel(np.asarray(found.x, dtype=np.float64), trend)


def _negative_log_density(
    parameters: FloatArray, features: FloatArray, values: FloatArray, products: FloatArray
) -> tuple[float, FloatArray]:
    """Minus the log marginal likelihood and log prior, up to a constant, and the gradient; see `_products`."""
    kernel = Kernel(parameters, np.zeros(0))  # the trend is in the products
    n, d = features.shape
    scaled = features * kernel.rates
    root = _distance(scaled, scaled)
    root *= np.sqrt(5.0)
    decay = np.exp(-root)
    decay *= kernel.smooth
    rise = 1 + root
    smooth = root * root
    smooth /= 3
    smooth += rise
    smooth *= decay
    linear = products * (kernel.linear / d)
    noise = kernel.noise
    covariance = smooth + linear
    covariance[np.diag_indices(n)] += noise
    lower = np.linalg.cholesky(covariance)
    outer = _inverse(lower)
    weights = outer @ values
    shift = (parameters - prior_parameters(d)) / _prior_spread(d)
    loss = 0.5 * values @ weights + np.log(np.diag(lower)).sum() + 0.5 * shift @ shift
    outer -= np.outer(weights, weights)
    by_length = decay  # d k / d log length_f = this times the squared scaled difference
    by_length *= outer
    by_length *= 5 / 3
    by_length *= rise
    lengths = by_length.sum(axis=1) @ np.square(scaled) - (scaled * (by_length @ scaled)).sum(axis=0)
    linear *= outer
    smooth *= outer
    shared = [0.5 * linear.sum(), 0.5 * smooth.sum(), 0.5 * np.trace(outer) * (noise - JITTER)]
    return float(loss), np.concatenate([lengths, shared]) + shift / _prior_spread(d)


def _products(features: FloatArray, trend: FloatArray) -> FloatArray:
    """Of every pair of rows the product that the trend rests on, shape (n, n)."""
    sloped = features * trend
    return np.asarray(sloped @ sloped.T)


def _prior_spread(n_features: int) -> FloatArray:
    return np.concatenate([np.full(n_features, SPREAD_LENGTH), PRIOR_SPREAD])


def _inverse(lower: FloatArray) -> FloatArray:
    """Inverse of a positive definite matrix from its lower Cholesky factor, 0 above the diagonal."""
    from scipy.linalg.lapack import dpotri  # type: ignore[import-untyped]

    half, _ = dpotri(lower, lower=1)  # what lies above the diagonal stays as it was, 0
    inverse = np.add(half, half.T, order="C")
    inverse[np.diag_indices(len(half))] = np.diag(half)
    return np.asarray(inverse)


def left_out(kernel: Kernel, features: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What the process says of each row from the others: means and variances with noise, each of shape (n,)."""
    covariance = kernel(features, features)
    covariance[np.diag_indices(len(values))] += kernel.noise
    inverse = _inverse(np.asarray(np.linalg.cholesky(covariance), dtype=np.float64))
    variances = 1 / np.diag(inverse)
    return values - (inverse @ values) * variances, variances
