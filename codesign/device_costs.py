"""Time of units that were not measured, from those that were: a Gaussian process on the logarithms of their work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.device_units import CLASSES, FloatArray, classes_of, column, work_of
from search_spaces.ops import IntArray

_LENGTHS = (0.5, 1.0, 2.0, 4.0)
_NOISES = (0.03, 0.1, 0.3)
_LINEAR_VARIANCE = 4.0
_CLASS_WEIGHT = 1.5
"""How far apart units of two classes lie, in standard deviations of a feature."""
_SLACK = 0.05
"""A unit this much (in natural logarithms) beyond the measured ones still counts as within."""


@dataclass(frozen=True, slots=True, eq=False)
class UnitCosts:
    """Milliseconds of any unit.

    Attributes:
        known: signature -> measured milliseconds.
    """

    known: dict[tuple[int, ...], float]
    _mean: float
    _centre: FloatArray
    _scale: FloatArray
    _points: FloatArray
    _weights: FloatArray
    _length: float
    _low: FloatArray
    _high: FloatArray

    @classmethod
    def learn(cls, signatures: IntArray, measured_ms: FloatArray) -> UnitCosts:
        """From measured units, at least one: signatures of shape (S, 13), positive times of shape (S,)."""
        known = {tuple(row): float(ms) for row, ms in zip(signatures.tolist(), measured_ms, strict=True)}
        raw = _raw_features(signatures)
        centre, scale = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-3)
        points = _points(signatures, centre, scale)
        logs: FloatArray = np.log(measured_ms)
        mean = float(logs.mean())
        best = (np.inf, 1.0, 0.1)
        for length in _LENGTHS:
            for noise in _NOISES:
                kernel = _kernel(points, points, length) + noise**2 * np.eye(len(points))
                factor = np.linalg.cholesky(kernel)
                white = np.linalg.solve(factor, logs - mean)
                best = min(best, (float(white @ white / 2 + np.log(np.diag(factor)).sum()), length, noise))
        _, length, noise = best
        kernel = _kernel(points, points, length) + noise**2 * np.eye(len(points))
        low, high = np.full((len(CLASSES), raw.shape[1]), np.inf), np.full((len(CLASSES), raw.shape[1]), -np.inf)
        np.minimum.at(low, classes_of(signatures), raw)
        np.maximum.at(high, classes_of(signatures), raw)
        weights: FloatArray = np.linalg.solve(kernel, logs - mean).astype(np.float64)
        return cls(known, mean, centre, scale, points, weights, length, low, high)

    def of(self, signatures: IntArray) -> tuple[FloatArray, IntArray]:
        """Milliseconds of units, and how each is known.

        Args:
            signatures: shape (S, 13).

        Returns:
            Milliseconds, shape (S,); and, shape (S,), 0 for a measured unit, 1 for one within the range of measured
            units of its class, 2 for one beyond it.
        """
        ms = np.array([self.known.get(tuple(row), np.nan) for row in signatures.tolist()], dtype=np.float64)
        how = np.zeros(len(signatures), dtype=np.int64)
        unknown = np.flatnonzero(np.isnan(ms))
        if len(unknown):
            rows = signatures[unknown]
            near = _kernel(_points(rows, self._centre, self._scale), self._points, self._length)
            ms[unknown] = np.exp(self._mean + near @ self._weights)
            raw, of_class = _raw_features(rows), classes_of(rows)
            is_within = (raw >= self._low[of_class] - _SLACK) & (raw <= self._high[of_class] + _SLACK)
            how[unknown] = np.where(is_within.all(axis=1), 1, 2)
        return ms, how


def _raw_features(signatures: IntArray) -> FloatArray:
    """Logarithms of work, channels, window and stride, shape (S, 8)."""
    names = ("in_channels", "out_channels", "stride")
    shape = np.stack([column(signatures, name) for name in names], axis=1)
    window = column(signatures, "kernel_height") * column(signatures, "kernel_width")
    return np.hstack([np.log1p(work_of(signatures)), np.log(shape), np.log(window)[:, None]])


def _points(signatures: IntArray, centre: FloatArray, scale: FloatArray) -> FloatArray:
    """Standardised features, class and fusion, shape (S, 8 + classes + 1)."""
    own = _CLASS_WEIGHT * (classes_of(signatures)[:, None] == np.arange(len(CLASSES)))
    return np.hstack([(_raw_features(signatures) - centre) / scale, own, signatures[:, 1:2] / 4])


def _kernel(a: FloatArray, b: FloatArray, length: float) -> FloatArray:
    """A linear trend and smooth deviations from it."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.asarray(_LINEAR_VARIANCE / 4 * (a @ b.T) + np.exp(-np.maximum(squared, 0) / (2 * length**2)) + 1.0)
