"""Latency of a new device from a few measured candidates and what is known of other devices.

Devices agree on much: what they have in common is told by the principal components of their log latencies; what is
their own, by counts of operations. Neither is better on every device or at every number of readings, so both enter one
Gaussian process (`transfer_kernel`) and the readings weigh them. Noise and trends are additive on some scale between
milliseconds and their logarithm: a power transform (Box and Cox 1964) whose exponent the likelihood picks.

The candidates to measure are worth choosing: `choose_cells` takes those that leave the least uncertainty about all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.errors import InputError
from codesign.transfer_kernel import JITTER, Parts, Weights, fit_weights
from codesign.trial import FloatArray
from search_spaces.ops import IntArray

MIN_READINGS = 3
"""Fewer readings tell no weights."""
POWERS = (0.0, 0.5, 1.0)
"""Exponents of the power transform: logarithm, root, milliseconds."""
N_COMPARED = 1_000
"""Candidates that `choose_cells` picks from, and whose uncertainty it minimises."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What readings told.

    Attributes:
        latency_ms: shape (m,), of every candidate.
        power: the exponent of the transform.
        weights: of the groups of columns in order, of the components of other devices if there are any, and of the
            smooth part, shape (parts,); shares of the variance of the readings.
        noise: the share that nothing explains.
    """

    latency_ms: FloatArray
    power: float
    weights: FloatArray
    noise: float


class LatencyTransfer:
    """Predicts latency on a new device of m candidates of which a few are measured.

    Args:
        groups: columns that describe the candidates, each of shape (m, d): counts of operations, MACs. A group is
            weighed as a whole, so columns that tell the same kind of thing belong into one.
        others_ms: shape (m, q), latency on other devices; NaN where it is not known. A device that none is known of
            adds nothing.

    Raises:
        InputError: the shapes do not fit, or a column is not finite.
    """

    def __init__(self, groups: Sequence[FloatArray], others_ms: FloatArray | None = None) -> None:
        columns = [np.asarray(group, dtype=np.float64) for group in groups]
        others = np.zeros((len(columns[0]) if columns else 0, 0)) if others_ms is None else np.asarray(others_ms, float)
        lengths = {len(group) for group in columns} | {len(others)}
        if not columns or len(lengths) != 1 or any(group.ndim != 2 for group in [*columns, others]):
            raise InputError("groups: give one or more arrays of shape (m, d), and others_ms of shape (m, q), m alike")
        if not all(np.isfinite(group).all() for group in columns):
            raise InputError("groups: every number must be finite")
        self._plain = Parts.of(columns)
        components, self._consensus = self._components(others)
        self._parts = Parts.of([*columns, components]) if components.shape[1] else self._plain

    def __len__(self) -> int:
        return len(self._parts.smooth)

    def _components(self, others: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Principal components of log latencies, shape (m, q), and the first, standardised so that more is slower.

        Gaps are filled by what the columns predict.
        """
        known = [device for device in others.T if np.isfinite(device).sum() >= MIN_READINGS]
        if not known:
            return np.zeros((len(others), 0)), np.zeros(len(others))
        logs = []
        for device in known:
            cells = np.flatnonzero(np.isfinite(device))
            full = device if len(cells) == len(device) else self._fit(self._plain, cells, device[cells]).latency_ms
            floor = np.quantile(full, 0.01)  # what hardly runs at all says nothing of what does
            logs.append(np.log(np.maximum(full, max(floor, 1e-12))))
        centred = np.stack(logs, axis=1)
        centred = (centred - centred.mean(axis=0)) / np.maximum(centred.std(axis=0), 1e-12)
        left, sizes, right = np.linalg.svd(centred, full_matrices=False)
        first = left[:, 0] * np.sign(right[0].sum() or 1.0)
        return np.asarray(left * sizes), first / (first.std() or 1.0)

    def order_unread(self, size: FloatArray) -> FloatArray:
        """What is known before any reading, on no unit's scale, shape (m,): more is slower.

        Args:
            size: shape (m,), what latency mostly grows with, such as MACs: it counts as much as all other devices do.
        """
        log_size = np.log1p(np.asarray(size, dtype=np.float64))
        log_size = (log_size - log_size.mean()) / (log_size.std() or 1.0)
        return np.asarray(log_size + self._consensus)

    def fit(self, cells: IntArray, latency_ms: FloatArray) -> Fitted:
        """Learn from readings.

        Args:
            cells: shape (n,), which candidates were measured.
            latency_ms: shape (n,), positive.

        Raises:
            InputError: fewer than `MIN_READINGS` readings, or one is not a positive number.
        """
        latency_ms = np.asarray(latency_ms, dtype=np.float64)
        if len(cells) < MIN_READINGS or latency_ms.shape != np.shape(cells):
            raise InputError(f"readings: {len(latency_ms)} of {len(cells)} candidates; give {MIN_READINGS} or more")
        if not (np.isfinite(latency_ms) & (latency_ms > 0)).all():
            raise InputError(f"readings: latencies are positive numbers, not {float(latency_ms.min()):g}")
        return self._fit(self._parts, np.asarray(cells, dtype=np.int64), latency_ms)

    @staticmethod
    def _fit(parts: Parts, cells: IntArray, latency_ms: FloatArray) -> Fitted:
        between = parts.between(cells, cells)
        found: list[tuple[float, float, Weights, FloatArray]] = []
        for power in POWERS:
            values = _transformed(latency_ms, power)
            spread = max(float(values.std()), 1e-12)
            scaled = (values - values.mean()) / spread
            weights = fit_weights(between, scaled)
            jacobian = (power - 1) * np.log(latency_ms).sum() - len(values) * np.log(spread)
            found.append((weights.log_density + float(jacobian), power, weights, scaled))
        _, power, weights, scaled = max(found, key=lambda one: one[0])
        covariance = weights.covariance(between)
        covariance[np.diag_indices(len(cells))] += weights.noise
        alpha = np.linalg.solve(covariance, scaled)
        everything = np.arange(len(parts.smooth))
        predicted = weights.covariance(parts.between(everything, cells)) @ alpha
        values = _transformed(latency_ms, power)
        values = values.mean() + max(float(values.std()), 1e-12) * predicted
        return Fitted(_restored(values, power, float(latency_ms.min())), power, weights.parts, weights.noise)

    def choose_cells(self, n: int, rng: np.random.Generator) -> IntArray:
        """Candidates whose readings leave the least uncertainty about all, one after the other, shape (n,).

        The mean posterior variance under equal weights of all parts is minimised greedily (A-optimal design; Cohn 1996,
        "Neural network exploration using optimal experiment design"), over at most `N_COMPARED` candidates.

        Args:
            n: how many, at most the number of candidates.
            rng: draws the candidates that are compared.
        """
        if not 0 <= n <= len(self):
            raise InputError(f"cells: {n} of {len(self)} candidates cannot be chosen")
        pool = np.sort(rng.choice(len(self), max(n, min(len(self), N_COMPARED)), replace=False))
        covariance = self._parts.between(pool, pool).mean(axis=0)
        noise = np.exp(-3.0) + JITTER
        free = np.ones(len(pool), dtype=np.bool_)
        chosen: list[int] = []
        for _ in range(n):
            gain = np.square(covariance).sum(axis=0) / (np.diag(covariance) + noise)
            best = int(np.argmax(np.where(free, gain, -np.inf)))
            covariance = covariance - np.outer(covariance[best], covariance[best]) / (covariance[best, best] + noise)
            free[best] = False
            chosen.append(best)
        return np.asarray(pool[chosen], dtype=np.int64)


def _transformed(values: FloatArray, power: float) -> FloatArray:
    return np.asarray(np.log(values) if power == 0 else (values**power - 1) / power)


def _restored(values: FloatArray, power: float, lowest: float) -> FloatArray:
    """Back to milliseconds; the order is kept below what the transform reaches, too."""
    if power == 0:
        return np.asarray(np.exp(values))
    base = values * power + 1
    floor = 0.1 * lowest**power
    return np.asarray(np.where(base > floor, base, floor * np.exp(np.minimum(base / floor - 1, 0.0))) ** (1 / power))
