"""A Gaussian process whose covariance is a sum of given parts, each with a weight that the readings decide.

    y = mean + sum_i f_i(x) + noise,   cov f_i = w_i K_i

A part is a straight trend in one group of columns, or a smooth function of all of them. With few readings the weights
are what there is to learn: which group of columns tells anything at all. They and the noise have the largest
posterior density under wide log-normal priors; the mean is integrated out under a flat prior.

Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", eq. 2.25 and 2.26 (prediction), eq. 2.45
with b = 0 (the flat mean), eq. 5.8 and 5.9 (marginal likelihood and its gradient).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.trial import FloatArray

FLAT = 10.0
"""Variance of the mean of standardised readings: as good as flat."""
JITTER = 1e-6
PRIOR_WEIGHT, PRIOR_NOISE, PRIOR_SPREAD = -1.0, -3.0, 2.0
"""Medians and spread of the logarithms of weights and noise, for readings of variance 1."""
BOUNDS_WEIGHT, BOUNDS_NOISE = (-9.0, 4.0), (-9.0, 1.0)


@dataclass(frozen=True, eq=False)
class Parts:
    """Covariances of each part, before weights.

    Attributes:
        groups: columns of m candidates, each (m, d_i), scaled so that rows have a mean square norm of 1; every group is
            a part with a straight trend.
        smooth: (m, d) columns of the last part, a smooth function.
    """

    groups: tuple[FloatArray, ...]
    smooth: FloatArray

    @classmethod
    def of(cls, groups: Sequence[FloatArray]) -> Parts:
        """Standardise groups of columns; columns without variance are dropped, and groups without columns."""
        scaled = [_unit(_standardised(group)) for group in groups]
        kept = tuple(group for group in scaled if group.shape[1])
        return cls(kept, _unit(np.hstack(kept)) if kept else np.zeros((len(groups[0]), 0)))

    @property
    def n(self) -> int:
        """How many parts there are."""
        return len(self.groups) + 1

    def between(self, first: np.ndarray, second: np.ndarray) -> FloatArray:
        """Covariances of rows `first` with rows `second`, shape (parts, a, b)."""
        linear = [group[first] @ group[second].T for group in self.groups]
        return np.stack([*linear, _squared_exponential(self.smooth[first], self.smooth[second])])


@dataclass(frozen=True, slots=True)
class Weights:
    """What was learned: the parts' weights, shape (parts,), the noise, and how likely it makes the readings."""

    parts: FloatArray
    noise: float
    log_density: float

    def covariance(self, between: FloatArray) -> FloatArray:
        """Covariance with the flat mean but without noise, shape (a, b)."""
        total: FloatArray = np.tensordot(self.parts, between, axes=1) + FLAT
        return total


def fit_weights(between: FloatArray, values: FloatArray) -> Weights:
    """The weights with the largest posterior density.

    Args:
        between: covariances of the readings' candidates, shape (parts, n, n).
        values: shape (n,), with mean 0 and variance 1.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    start = np.array([PRIOR_WEIGHT] * len(between) + [PRIOR_NOISE])
    bounds = [BOUNDS_WEIGHT] * len(between) + [BOUNDS_NOISE]
    found = minimize(
        _negative_log_density,
        start,
        args=(between, values, start),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 60},
    )
    learned = np.exp(found.x)
    return Weights(learned[:-1], float(learned[-1]) + JITTER, -float(found.fun))


def _negative_log_density(
    logs: FloatArray, between: FloatArray, values: FloatArray, center: FloatArray
) -> tuple[float, FloatArray]:
    """Minus the log marginal likelihood and log prior, up to a constant, and the gradient."""
    weights = np.exp(logs)
    n = len(values)
    covariance = np.tensordot(weights[:-1], between, axes=1) + FLAT
    covariance[np.diag_indices(n)] += weights[-1] + JITTER
    inverse = np.linalg.inv(covariance)
    alpha = inverse @ values
    shift = (logs - center) / PRIOR_SPREAD
    loss = 0.5 * values @ alpha + 0.5 * np.linalg.slogdet(covariance)[1] + 0.5 * shift @ shift
    outer = inverse - np.outer(alpha, alpha)
    by_weight = 0.5 * weights[:-1] * np.tensordot(between, outer, axes=2)
    by_noise = 0.5 * weights[-1] * np.trace(outer)
    return float(loss), np.append(by_weight, by_noise) + shift / PRIOR_SPREAD


def _standardised(columns: FloatArray) -> FloatArray:
    spread = columns.std(axis=0)
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(columns).max(axis=0, initial=0.0))
    return np.asarray((columns[:, varies] - columns[:, varies].mean(axis=0)) / spread[varies])


def _unit(columns: FloatArray) -> FloatArray:
    norm = float(np.sqrt(np.square(columns).sum(axis=1).mean())) if columns.size else 1.0
    return columns / (norm or 1.0)


def _squared_exponential(first: FloatArray, second: FloatArray) -> FloatArray:
    """exp(-|a - b|^2 / 2): over rows of mean square norm 1, the typical distance is the root of 2."""
    squared = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * first @ second.T
    return np.asarray(np.exp(-0.5 * np.maximum(squared, 0.0)))
