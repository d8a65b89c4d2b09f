"""What an earlier search learned of one metric, as a function of what describes a candidate.

A Gaussian process with a trend and a smooth part, one length scale per column (`codesign.strategies.surrogate_kernel`).
Its mean at a candidate that was evaluated is the result, drawn towards what its like had by as much as results scatter.
Results that are no cost are learned as they are in the better half and by their logarithm in the worse: how bad the bad
ones are does not matter, and the strategy `auto` sees its own results on such a scale. Costs of a device are learned by
their logarithm: devices differ by factors, and a straight line is left to whoever uses the estimate.

Of 50 to 1,500 NAS-Bench-201 cells it told the others' order better than boosted trees, random forests and extremely
randomised trees, by 0.02 to 0.15 of Kendall's tau; so there is nothing to choose from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError
from codesign.strategies.auto_model import Bend, most_telling
from codesign.strategies.surrogate_kernel import Kernel, fit_kernel, left_out, prior_parameters
from codesign.trial import FloatArray

COUNTS = ("macs", "params")
"""Metrics that describe a candidate beside its features, where they are known before an evaluation."""
FITTED = 400
"""Results that the kernel is fitted to at most."""
POINTS = 1_000
"""Results that estimates rest on at most."""
DIGITS = 6
"""Decimals of an estimate; results have a spread of 1. What rounding hides is the order of a sum's terms."""
CHUNK = 1_024
FENCE = 4.0
"""Interquartile ranges beyond the quartiles at which a logarithm of a cost is cut: a stall is no property of it."""


def describe(features: FloatArray, known: Mapping[str, FloatArray], counts: tuple[str, ...]) -> FloatArray:
    """Columns that a model sees: features, shape (n, k), and logarithms of counts, each of shape (n,)."""
    columns = [features]
    for name in counts:
        values = known[name]
        columns.append(np.log1p(np.maximum(np.where(np.isfinite(values), values, 0.0), 0.0))[:, None])
    return np.hstack(columns)


@dataclass(frozen=True, eq=False)
class Learned:
    """A fitted model; numbers and arrays alone.

    Attributes:
        objective: the metric that it estimates.
        source: where its results come from, and the metric's name there.
        counts: which counts it was told.
        n_results: how many results it learned from.
        skill: Kendall's tau between results and what the model says of each from the others.
        mean, deviation: shape (c,), of the columns.
        used: shape (d,), the columns that vary.
        parameters: shape (d + 3,), of the kernel.
        points: shape (p, d), standardised columns.
        weights: shape (p,).
    """

    objective: str
    source: str
    counts: tuple[str, ...]
    n_results: int
    skill: float
    mean: FloatArray
    deviation: FloatArray
    used: NDArray[np.int64]
    parameters: FloatArray
    points: FloatArray
    weights: FloatArray

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other."""
        d, c = len(self.used), len(self.mean)
        fits = (
            self.deviation.shape == (c,)
            and self.parameters.shape == (d + 3,)
            and self.points.shape == (len(self.weights), d)
            and bool(((self.used >= 0) & (self.used < c)).all())
            and all(np.isfinite(getattr(self, item.name)).all() for item in fields(self) if item.name in ARRAYS)
        )
        if not fits:
            raise DataError(f"what was learned of {self.objective!r} from {self.source} does not fit together")

    @property
    def metric(self) -> str:
        """See `codesign.foresee.Prior`."""
        return self.objective

    def __call__(self, features: FloatArray, known: Mapping[str, FloatArray]) -> FloatArray:
        """Estimates, shape (n,), see `codesign.foresee.Prior`.

        Raises:
            DataError: features of another number than were learned from.
        """
        columns = describe(features, known, self.counts)
        if columns.shape[1] != len(self.mean):
            raise DataError(
                f"what was learned from {self.source} describes a candidate in {len(self.mean)} numbers, this space in "
                f"{columns.shape[1]}: it was made by another version of codesign; begin a new run"
            )
        if len(columns) == 0 or len(self.used) == 0:
            return np.zeros(len(columns))
        columns = np.ascontiguousarray(columns[:, self.used]) + 0.0
        rows = columns.view(np.dtype((np.void, columns.dtype.itemsize * columns.shape[1])))[:, 0]
        _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
        distinct = (columns[first] - self.mean[self.used]) / self.deviation[self.used]
        kernel = Kernel(self.parameters, np.ones(len(self.used)))
        parts = [kernel(distinct[i : i + CHUNK], self.points) @ self.weights for i in range(0, len(distinct), CHUNK)]
        return np.asarray(np.concatenate(parts).round(DIGITS)[inverse] + 0.0)


ARRAYS = ("mean", "deviation", "used", "parameters", "points", "weights")
"""The attributes of `Learned` that are arrays."""


def learn(
    columns: FloatArray, values: FloatArray, *, objective: str, source: str, counts: tuple[str, ...], maximize: bool
) -> Learned:
    """Learn from results.

    Args:
        columns: see `describe`, shape (n, c).
        values: results, shape (n,), finite.
        objective, source, counts: see `Learned`.
        maximize: whether more is better; the best results are learned most finely.
    """
    distinct, place = np.unique(columns, axis=0, return_inverse=True)
    place = place.reshape(-1)
    means = np.bincount(place, weights=values) / np.bincount(place)  # equal candidates: readings of one
    targets = _targets(means, objective, maximize)
    rows = most_telling(-means if maximize else means, POINTS)
    distinct, targets = distinct[rows], targets[rows]
    mean, deviation = distinct.mean(axis=0), distinct.std(axis=0)
    used = np.flatnonzero(deviation > 1e-9 * np.maximum(1.0, np.abs(mean)))
    if len(used) == 0:  # all candidates are alike to the model: it says the same of each
        none = np.zeros((0, 0))
        return Learned(
            objective, source, counts, len(values), 0.0, mean, deviation, used, np.zeros(3), none, np.zeros(0)
        )
    points = (distinct[:, used] - mean[used]) / deviation[used]
    center, spread = float(targets.mean()), float(targets.std()) or 1.0
    targets = (targets - center) / spread
    trend = np.ones(len(used))
    fitted = most_telling(-targets if maximize else targets, FITTED)
    kernel = fit_kernel(points[fitted], targets[fitted], trend, prior_parameters(len(used)))
    skill = kendall(left_out(kernel, points[fitted], targets[fitted])[0], targets[fitted])
    covariance = kernel(points, points)
    covariance[np.diag_indices(len(points))] += kernel.noise
    weights = np.linalg.solve(covariance, targets)
    scale = (mean, deviation, used.astype(np.int64))
    kept = (kernel.parameters, points, np.asarray(weights, dtype=np.float64))
    return Learned(objective, source, counts, len(values), skill, *scale, *kept)


def _targets(values: FloatArray, objective: str, maximize: bool) -> FloatArray:
    """Results on the scale on which they are learned."""
    if "@" in objective and (values > 0).all():
        logs = np.log(values)
        low, high = np.quantile(logs, [0.25, 0.75])
        reach = FENCE * (high - low)
        return np.asarray(np.clip(logs, low - reach, high + reach) if reach > 0 else logs)
    sign = -1.0 if maximize else 1.0
    return sign * Bend.of(sign * values, float(np.median(sign * values)))(sign * values)


def kendall(first: FloatArray, second: FloatArray) -> float:
    """Kendall's tau-b; 0 if either never varies."""
    a, b = (np.sign(values[:, None] - values) for values in (first, second))
    n_untied = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum() / n_untied) if n_untied else 0.0
