"""A Gaussian process whose inputs switch each other off: the smooth part of a proxy.

Design spaces have many inputs that matter only beside certain values of others: how often a refresh may be postponed
means nothing to a controller that never refreshes. So each input column x_j of a design is scaled by a weight that
depends on all its other values,

    z_j = x_j exp(w_j + sum_i h_i g_ij),

with h_i the indicators of the values (`Encoder.indicators`) and g_ij gates, learned together with w; then the
covariance of two designs is s exp(-|z - z'|^2) and prediction is the posterior mean. Outputs share w, g and s.

Source: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, eq. 2.25 (mean) and 5.1 (automatic
relevance determination); the gates are an addition of this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError
from codesign.trial import FloatArray

MAX_EXPONENT = 6.0
"""Largest exponent of a weight: beyond it the values differ as much as they can."""
MIN_EXPONENT = -20.0
_CHUNK = 512  # designs at a time: their covariances with 1,000 points fill a second-level cache

_NAMES = ("weights", "gates", "points", "alpha", "mean", "spread", "log_signal")


@dataclass(frozen=True, eq=False)
class KernelModel:
    """A fitted process with T outputs.

    Attributes:
        weights: shape (d,), w.
        gates: shape (g, d).
        points: shape (n, d), z of the designs learned from.
        alpha: shape (n, T), the posterior mean's weight of each of them.
        mean, spread: shape (T,), by which the outputs were standardised.
        log_signal: log of s.
    """

    weights: FloatArray
    gates: FloatArray
    points: FloatArray
    alpha: FloatArray
    mean: FloatArray
    spread: FloatArray
    log_signal: float

    def predict(self, base: FloatArray, indicators: FloatArray) -> FloatArray:
        """Posterior means.

        Args:
            base: shape (m, d), `Encoder.base` of the designs.
            indicators: shape (m, g), `Encoder.indicators` of the designs.

        Returns:
            Shape (m, T).
        """
        means = np.empty((len(base), self.alpha.shape[1]))
        for start in range(0, len(base), _CHUNK):
            rows = slice(start, start + _CHUNK)
            at = embed(base[rows], indicators[rows], self.weights, self.gates)
            covariance = at @ self._doubled_points
            covariance -= self._squares
            covariance -= np.square(at).sum(axis=1)[:, None]
            np.exp(covariance, out=covariance)
            means[rows] = covariance @ self._scaled_alpha
        return means + self.mean

    def only(self, outputs: list[int]) -> KernelModel:
        """The model with some of its outputs."""
        return KernelModel(
            self.weights, self.gates, self.points, self.alpha[:, outputs], self.mean[outputs], self.spread[outputs],
            self.log_signal,
        )  # fmt: skip

    @cached_property
    def _doubled_points(self) -> FloatArray:
        return np.ascontiguousarray(2 * self.points.T)

    @cached_property
    def _squares(self) -> FloatArray:
        squares: FloatArray = np.square(self.points).sum(axis=1)
        return squares

    @cached_property
    def _scaled_alpha(self) -> FloatArray:
        scaled: FloatArray = np.exp(self.log_signal) * self.alpha * self.spread
        return scaled

    def to_arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """The model as named arrays."""
        return {f"{prefix}.{name}": np.asarray(getattr(self, name)) for name in _NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> KernelModel:
        """The inverse of `to_arrays`. Raises DataError if arrays are missing or do not fit each other."""
        try:
            found = {name: np.asarray(arrays[f"{prefix}.{name}"], dtype=np.float64) for name in _NAMES}
        except (KeyError, ValueError) as error:
            raise DataError(f"the array {error} of the kernel model is missing or wrong") from error
        log_signal = float(found.pop("log_signal").reshape(-1)[0])
        model = cls(**found, log_signal=log_signal)
        d, n, n_outputs = len(model.weights), len(model.points), len(model.mean)
        wanted = {"gates": d, "points": d, "alpha": n_outputs}
        if any(getattr(model, name).ndim != 2 or getattr(model, name).shape[1] != k for name, k in wanted.items()):
            raise DataError("the arrays of the kernel model do not fit each other")
        if len(model.alpha) != n or model.spread.shape != (n_outputs,):
            raise DataError("the arrays of the kernel model do not fit each other")
        return model


def embed(base: FloatArray, indicators: FloatArray, weights: FloatArray, gates: FloatArray) -> FloatArray:
    """z of designs, shape (m, d); see the head of this file. Without gates (g = 0) the indicators do not count."""
    exponents = weights + indicators @ gates if len(gates) else weights
    embedded: FloatArray = base * np.exp(np.clip(exponents, MIN_EXPONENT, MAX_EXPONENT))
    return embedded
