"""What `Auto` believes of one unknown loss: its results, put to scale, and a Gaussian process through them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.strategies.strategy import BoolArray, FloatArray
from codesign.strategies.surrogate import Surrogate
from codesign.strategies.surrogate_kernel import Kernel, fit_kernel, left_out, prior_parameters
from search_spaces.ops import IntArray

FITTED = 300
"""Results that parameters are fitted to at most."""
STEPS = (10, 40)
"""Steps of a fit, at least and at most."""
WORK = 3.6e8
"""Rows squared times features times steps of a fit, about: with many features a fit takes fewer steps, and the next one
goes on where it ended."""
MIN_FITTED = 4
"""Results below which the parameters keep their prior medians."""


@dataclass(frozen=True, slots=True)
class Bend:
    """A loss as it is up to a level, its logarithm beyond: how bad the bad ones are does not matter.

    Attributes:
        level: where the bend begins.
        width: scale of the logarithm, positive: so much further the loss counts half again.
    """

    level: float
    width: float

    @classmethod
    def of(cls, losses: FloatArray, level: float) -> Bend:
        """The bend at a level for losses, finite and at least one: the width is the level's distance from the best."""
        width = level - float(losses.min())
        return cls(level, width if width > 0 else max(1e-12, float(losses.std()) or 1.0))

    def __call__(self, losses: FloatArray) -> FloatArray:
        """Bent losses, of the same shape; NaN stays."""
        beyond = np.maximum(losses - self.level, 0.0) / self.width
        return np.where(losses > self.level, self.level + self.width * np.log1p(beyond), losses)

    def straighten(self, bent: FloatArray) -> FloatArray:
        """The losses that were bent."""
        beyond = np.minimum(np.maximum(bent - self.level, 0.0) / self.width, 50.0)
        return np.where(bent > self.level, self.level + self.width * np.expm1(beyond), bent)


@dataclass(frozen=True, slots=True)
class Fit:
    """What was last learned of the scale and the kernel; all that a restored model needs beside its rows.

    Attributes:
        bend: of the losses.
        center, scale: standardise bent losses.
        parameters: of the kernel.
        skill: rank correlation of left-out predictions with results, among them the sign that the model is of use.
    """

    bend: Bend
    center: float
    scale: float
    parameters: FloatArray
    skill: float


def fit(features: FloatArray, losses: FloatArray, trend: FloatArray, level: float, start: FloatArray | None) -> Fit:
    """Learn scale and kernel from results.

    Args:
        features: shape (n, d), n at least 1.
        losses: shape (n,), finite.
        trend: shape (d,), see `Kernel`.
        level: where losses stop to matter.
        start: parameters to begin from, those of the last fit.
    """
    bend = Bend.of(losses, level)
    bent = bend(losses)
    center, scale = float(bent.mean()), float(bent.std())
    scale = scale if scale > 1e-12 * max(1.0, abs(center)) else 1.0
    values = (bent - center) / scale
    rows = most_telling(losses, FITTED)
    medians = prior_parameters(features.shape[1])
    if len(rows) < MIN_FITTED:
        return Fit(bend, center, scale, medians, 1.0)
    n_steps = int(np.clip(WORK / (len(rows) ** 2 * features.shape[1]), *STEPS))
    kernel = fit_kernel(features[rows], values[rows], trend, medians if start is None else start, n_steps)
    skill = rank_correlation(left_out(kernel, features[rows], values[rows])[0], values[rows])
    return Fit(bend, center, scale, kernel.parameters, skill)


def most_telling(losses: FloatArray, n: int) -> IntArray:
    """Rows to fit to: all, or the better half of the places to the smallest losses and the rest evenly spread."""
    if len(losses) <= n:
        return np.arange(len(losses))
    order = np.argsort(losses, kind="stable")
    others = order[n // 2 :]
    return np.sort(np.concatenate([order[: n // 2], others[np.linspace(0, len(others) - 1, n - n // 2).astype(int)]]))


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Spearman's, ties sharing their mean rank; 0 if either never varies."""
    ranks = [_ranks(values) for values in (first, second)]
    spreads = [float(rank.std()) for rank in ranks]
    if min(spreads) == 0:
        return 0.0
    return float(((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())).mean() / (spreads[0] * spreads[1]))


def _ranks(values: FloatArray) -> FloatArray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(((last - counts) + (last - 1))[place] / 2, dtype=np.float64)


class Model:
    """A fit with the rows it learns from, over a pool.

    Args:
        fitted: scale and kernel.
        trend: shape (d,), see `Kernel`.
        pool: features of the pool, shape (u, d).
        rows: features of the first rows, shape (n, d).
    """

    def __init__(self, fitted: Fit, trend: FloatArray, pool: FloatArray, rows: FloatArray) -> None:
        self.fit = fitted
        self._surrogate = Surrogate(Kernel(fitted.parameters, trend), pool, rows)

    def append(self, row: FloatArray) -> None:
        """Add a row, whose loss may follow later."""
        self._surrogate.append(row)

    def over_pool(self, losses: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of bent losses at the pool, shapes (u,); losses of the rows, NaN if unknown."""
        mean = self._surrogate.mean(*self._values(losses)) * self.fit.scale + self.fit.center
        return mean, np.sqrt(self._surrogate.variance()) * self.fit.scale

    def at(self, features: FloatArray, losses: FloatArray) -> FloatArray:
        """Mean of bent losses anywhere, shape (q,); losses of the rows, NaN if unknown."""
        return self._surrogate.mean_at(features, *self._values(losses)) * self.fit.scale + self.fit.center

    def _values(self, losses: FloatArray) -> tuple[FloatArray, BoolArray]:
        known = np.isfinite(losses)
        values = (self.fit.bend(np.where(known, losses, self.fit.center)) - self.fit.center) / self.fit.scale
        return values, known
