"""Fits the gated Gaussian process of `proxy_kernel` by its marginal likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, lapack  # type: ignore[import-untyped]
from scipy.optimize import minimize  # type: ignore[import-untyped]

from codesign.proxy_kernel import MAX_EXPONENT, MIN_EXPONENT, KernelModel, embed
from codesign.trial import FloatArray

MAX_FITTED = 1000
"""Designs whose likelihood chooses the hyper-parameters; a step of it costs the third power of their number."""
MAX_POINTS = 4000
"""Designs that predictions are drawn from."""
MAX_GATES = 20_000
"""Gates above which the model goes without."""
NOISE_FLOOR = 1e-7
"""Variance added to every design's own, relative to the outputs' variance, so that equal designs can be told from
singular matrices."""

_WEIGHT_PRIOR, _GATE_PRIOR, _SIGNAL_PRIOR = 0.05, 0.5, 0.01  # of Gaussians around 0: half of their inverse variances
_START = (-0.7, 0.5, -7.0)  # weights, log signal, log noise


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """The negative logarithm of the posterior density of the hyper-parameters, with its gradient.

    Attributes:
        base: shape (n, d).
        indicators: shape (n, g); g is 0 without gates.
        outputs: shape (n, T), standardised.
    """

    base: FloatArray
    indicators: FloatArray
    outputs: FloatArray

    def start(self) -> FloatArray:
        d, g = self.base.shape[1], self.indicators.shape[1]
        return np.concatenate([np.full(d, _START[0]), np.zeros(g * d), _START[1:]])

    def unpack(self, packed: FloatArray) -> tuple[FloatArray, FloatArray, float, float]:
        """Weights (d,), gates (g, d), log signal, log noise."""
        d = self.base.shape[1]
        return packed[:d], packed[d:-2].reshape(-1, d), float(packed[-2]), float(packed[-1])

    def __call__(self, packed: FloatArray) -> tuple[float, FloatArray]:
        """Rasmussen and Williams eq. 5.8 and 5.9 over all outputs, and the priors."""
        weights, gates, log_signal, log_noise = self.unpack(packed)
        n, n_outputs = self.outputs.shape
        at = embed(self.base, self.indicators, weights, gates)
        signal = np.exp(log_signal) * np.exp(-_distances(at))
        covariance = signal.copy()
        covariance[np.diag_indices(n)] += np.exp(log_noise) + NOISE_FLOOR
        factor, info = lapack.dpotrf(covariance, lower=1)
        if info:  # too close to singular: worse than anything, so that the line search steps back
            return 1e12, np.zeros_like(packed)
        inverse = lapack.dpotri(factor, lower=1)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        alpha = inverse @ self.outputs
        value = 0.5 * float((self.outputs * alpha).sum()) + n_outputs * float(np.log(np.diag(factor)).sum())
        value += _WEIGHT_PRIOR * float(weights @ weights) + _GATE_PRIOR * float((gates**2).sum())
        value += _SIGNAL_PRIOR * log_signal**2
        by_covariance = 0.5 * (n_outputs * inverse - alpha @ alpha.T)
        pull = by_covariance * signal  # by minus the squared distances
        by_log_scale = -4 * (pull.sum(axis=1)[:, None] * at - pull @ at) * at
        exponents = weights + self.indicators @ gates
        by_log_scale[(exponents < MIN_EXPONENT) | (exponents > MAX_EXPONENT)] = 0
        gradient = np.concatenate(
            [
                by_log_scale.sum(axis=0) + 2 * _WEIGHT_PRIOR * weights,
                (self.indicators.T @ by_log_scale + 2 * _GATE_PRIOR * gates).ravel(),
                [float(pull.sum()) + 2 * _SIGNAL_PRIOR * log_signal],
                [float(np.exp(log_noise) * np.trace(by_covariance))],
            ]
        )
        return value, gradient


def fit_kernel(
    base: FloatArray, indicators: FloatArray, outputs: FloatArray, n_steps: int, rng: np.random.Generator
) -> KernelModel:
    """Learn the hyper-parameters by L-BFGS, then the weights of the designs.

    Args:
        base: shape (n, d), as `Encoder.base` gives them.
        indicators: shape (n, g), as `Encoder.indicators` gives them.
        outputs: shape (n, T), each on a scale on which errors should be even.
        n_steps: of the optimiser, at most.
        rng: draws the designs that take part if there are too many.
    """
    if base.shape[1] * indicators.shape[1] > MAX_GATES:
        indicators = indicators[:, :0]
    mean, spread = outputs.mean(axis=0), outputs.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    standard = (outputs - mean) / spread
    order = rng.permutation(len(base))
    few, points = np.sort(order[:MAX_FITTED]), np.sort(order[:MAX_POINTS])
    likelihood = _Likelihood(base[few], indicators[few], standard[few])
    bounds = _bounds(likelihood)
    found = minimize(
        likelihood, likelihood.start(), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": n_steps, "maxcor": 20},
    )  # fmt: skip
    weights, gates, log_signal, log_noise = likelihood.unpack(found.x)
    at = embed(base[points], indicators[points], weights, gates)
    covariance = np.exp(log_signal) * np.exp(-_distances(at))
    covariance[np.diag_indices(len(at))] += np.exp(log_noise) + NOISE_FLOOR
    alpha = cho_solve(cho_factor(covariance, lower=True), standard[points])
    return KernelModel(weights, gates, at, alpha, mean, spread, log_signal)


def _bounds(likelihood: _Likelihood) -> list[tuple[float, float]]:
    n_scales = len(likelihood.start()) - 2
    return [(MIN_EXPONENT, MAX_EXPONENT)] * n_scales + [(-10.0, 10.0), (-20.0, 2.0)]


def _distances(at: FloatArray) -> FloatArray:
    """Squared distances between all rows, shape (n, n)."""
    squares = np.square(at).sum(axis=1)
    distances: FloatArray = np.maximum(squares[:, None] + squares[None, :] - 2 * at @ at.T, 0.0)
    return distances
