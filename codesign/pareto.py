"""Dominance, fronts and hypervolume. Every loss is minimised.

A row dominates another if it is nowhere larger and somewhere smaller. With violations (0: feasible), the constrained
domination of Deb et al. 2002 (NSGA-II, section VI) holds: feasible before infeasible, then the smaller violation.
One and two objectives are handled here; from three on, moocore is loaded.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_CHUNK = 4096


def is_nondominated(
    losses: FloatArray, violations: FloatArray | None = None, *, keep_duplicates: bool = True
) -> BoolArray:
    """Which rows lie on the Pareto front.

    Args:
        losses: shape (n, m).
        violations: shape (n,); a row with a positive or NaN violation is never on the front.
        keep_duplicates: whether equal rows on the front are all kept, or the first alone.

    Returns:
        Shape (n,). A row with a NaN is never on the front and dominates nothing.
    """
    losses = _as_losses(losses)
    on_front = np.zeros(len(losses), dtype=np.bool_)
    rows = np.flatnonzero(_is_comparable(losses, violations))
    if len(rows) == 0:
        return on_front
    rows = rows[_survives_pivot(losses[rows])]
    rows = rows[_nondominated(losses[rows])]
    if not keep_duplicates:
        rows = rows[np.unique(losses[rows], axis=0, return_index=True)[1]]
    on_front[rows] = True
    return on_front


def rank(losses: FloatArray, violations: FloatArray | None = None) -> IntArray:
    """Non-dominated sorting: 0 for the front, 1 for the front without those, and so on.

    Infeasible rows follow the last feasible front, one rank per distinct violation; rows with a NaN loss that are not
    over budget, or an infinite or NaN violation (failed), come last and share a rank.

    Args:
        losses: shape (n, m); the losses of infeasible rows are not looked at and may be NaN.
        violations: shape (n,), None if all are 0.

    Returns:
        Shape (n,). Equal rows share a rank.

    Source: Deb et al. 2002 (NSGA-II), section III-A, and VI for the constraints.
    """
    losses = _as_losses(losses)
    over = np.zeros(len(losses)) if violations is None else np.maximum(violations, 0.0)
    over = np.where(np.isnan(over) | (np.isnan(losses).any(axis=1) & (over == 0)), np.inf, over)
    ranks = np.zeros(len(losses), dtype=np.int64)
    feasible = over == 0
    n_fronts = 0
    if feasible.any():
        ranks[feasible] = _rank_feasible(losses[feasible])
        n_fronts = int(ranks[feasible].max()) + 1
    if not feasible.all():
        ranks[~feasible] = n_fronts + np.unique(over[~feasible], return_inverse=True)[1]
    return ranks


def fronts(losses: FloatArray, violations: FloatArray | None = None) -> list[IntArray]:
    """Row numbers by `rank`: the first array is the front, each in ascending order."""
    ranks = rank(losses, violations)
    if len(ranks) == 0:
        return []
    order = np.argsort(ranks, kind="stable")
    return np.split(order, np.cumsum(np.bincount(ranks))[:-1])


def crowding_distance(losses: FloatArray, ranks: IntArray | None = None) -> FloatArray:
    """How much room each row has within its front.

    Args:
        losses: shape (n, m).
        ranks: shape (n,), which front each row is in; None puts all rows in one.

    Returns:
        Shape (n,): the sum over the objectives of the gap between the two neighbours, relative to the width of the
        front; infinite for the two ends. An objective that is constant over a front adds nothing; a row with a NaN
        has distance 0 and is nobody's neighbour.

    Source: Deb et al. 2002 (NSGA-II), section III-B.
    """
    losses = _as_losses(losses)
    groups = np.zeros(len(losses), dtype=np.int64) if ranks is None else ranks
    distance = np.zeros(len(losses))
    rows = np.flatnonzero(~np.isnan(losses).any(axis=1))
    if len(rows) == 0:
        return distance
    for column in losses[rows].T:
        order = np.lexsort((column, groups[rows]))
        values, group = column[order], groups[rows][order]
        starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        ends = np.r_[starts[1:], len(group)] - 1
        sizes = ends - starts + 1
        with np.errstate(invalid="ignore"):
            width = np.repeat(values[ends] - values[starts], sizes)
            below, above = np.r_[values[0], values[:-1]], np.r_[values[1:], values[-1]]
            gap = np.nan_to_num((above - below) / np.where(width > 0, width, 1.0), nan=0.0, posinf=np.inf)
        gap[starts] = gap[ends] = np.inf
        distance[rows[order]] += np.where(width > 0, gap, 0.0)
    return distance


def crowded_places(losses: FloatArray, violations: FloatArray | None = None) -> IntArray:
    """Places from best (0) to worst: by rank, within a rank by crowding distance, shape (n,). Equals share a place.

    Source: Deb et al. 2002 (NSGA-II), the crowded-comparison operator, section III-B.
    """
    ranks = rank(losses, violations)
    over = np.zeros(len(ranks), dtype=np.bool_) if violations is None else ~(violations <= 0)
    distance = crowding_distance(np.where(over[:, None], np.nan, losses), ranks)
    order = np.lexsort((-distance, ranks))
    steps = (np.diff(ranks[order]) != 0) | (distance[order][1:] != distance[order][:-1])
    places = np.zeros(len(ranks), dtype=np.int64)
    places[order[1:]] = np.cumsum(steps)
    return places


def default_reference(losses: FloatArray) -> FloatArray:
    """A reference point a tenth of the range behind the worst finite loss of each objective, shape (m,).

    It depends on the rows given: to compare runs, take it once over all of them. An objective with a single value v
    gets v + max(|v|, 1) / 10; one without any finite value gets 1.
    """
    losses = _as_losses(losses)
    finite = np.isfinite(losses)
    worst = np.where(finite, losses, -np.inf).max(axis=0, initial=-np.inf)
    best = np.where(finite, losses, np.inf).min(axis=0, initial=np.inf)
    known = np.isfinite(worst)
    worst, best = np.where(known, worst, 0.9), np.where(known, best, 0.9)
    margin = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1.0))
    return np.asarray(worst + 0.1 * margin)


def hypervolume(losses: FloatArray, reference: FloatArray, violations: FloatArray | None = None) -> float:
    """Volume dominated by the rows and bounded by a reference point.

    Args:
        losses: shape (n, m).
        reference: shape (m,); a row that is not better in every objective adds nothing.
        violations: shape (n,); a row with a positive or NaN violation adds nothing, nor does one with a NaN loss.
    """
    losses, reference = _as_losses(losses), np.asarray(reference, dtype=np.float64)
    _check_reference(losses, reference)
    inside = _is_comparable(losses, violations) & _all(losses < reference)
    front = losses[inside]
    front = front[is_nondominated(front)]
    if len(front) == 0:
        return 0.0
    if losses.shape[1] == 1:
        return float(reference[0] - front[0, 0])
    if losses.shape[1] == 2:
        front = front[np.argsort(front[:, 0])]
        heights = np.r_[reference[1], front[:-1, 1]] - front[:, 1]
        return float(((reference[0] - front[:, 0]) * heights).sum())
    import moocore

    return float(moocore.hypervolume(front, ref=reference))


def hypervolume_curve(losses: FloatArray, reference: FloatArray, violations: FloatArray | None = None) -> FloatArray:
    """The hypervolume of rows 0..i, for every i: shape (n,), never falling.

    Args and treatment of NaN and violations: see `hypervolume`.
    """
    losses, reference = _as_losses(losses), np.asarray(reference, dtype=np.float64)
    _check_reference(losses, reference)
    inside = _is_comparable(losses, violations) & _all(losses < reference)
    gains = np.zeros(len(losses))
    rows = np.flatnonzero(inside)
    archive: _Staircase | _Archive = _Staircase(reference) if losses.shape[1] == 2 else _Archive(reference)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        for row in chunk[archive.may_gain(losses[chunk])]:
            gains[row] = archive.add(losses[row])
    return np.cumsum(gains)


class _Staircase:
    """The two-objective front, first loss ascending and second descending; `add` costs O(log n + removed)."""

    def __init__(self, reference: FloatArray) -> None:
        self._right, self._top = map(float, reference)
        self._x: list[float] = []
        self._y: list[float] = []

    def may_gain(self, points: FloatArray) -> BoolArray:
        """Whether each point is outside the front as it stands, shape (k,)."""
        if not self._x:
            return np.ones(len(points), dtype=np.bool_)
        left = np.searchsorted(np.array(self._x), points[:, 0], side="right") - 1
        return (left < 0) | (np.array(self._y)[np.maximum(left, 0)] > points[:, 1])

    def add(self, point: FloatArray) -> float:
        """Add a point; returns by how much the area grew."""
        x, y = float(point[0]), float(point[1])
        after = bisect_right(self._x, x)
        if after and self._y[after - 1] <= y:
            return 0.0
        first = last = bisect_left(self._x, x)
        left, height = x, self._y[first - 1] if first else self._top
        area = 0.0
        while last < len(self._x) and self._y[last] >= y:
            area += (self._x[last] - left) * (height - y)
            left, height = self._x[last], self._y[last]
            last += 1
        area += ((self._x[last] if last < len(self._x) else self._right) - left) * (height - y)
        self._x[first:last] = [x]
        self._y[first:last] = [y]
        return area


class _Archive:
    """The front for any number of objectives; a gain is the box of the point minus what the front holds of it."""

    def __init__(self, reference: FloatArray) -> None:
        self._reference = reference
        self._front = np.zeros((0, len(reference)))

    def may_gain(self, points: FloatArray) -> BoolArray:
        """Whether each point is outside the front as it stands, shape (k,)."""
        outside = np.ones(len(points), dtype=np.bool_)
        for member in self._front:
            outside &= _any(points < member)
        return outside

    def add(self, point: FloatArray) -> float:
        """Add a point; returns by how much the volume grew."""
        if (self._front <= point).all(axis=1).any():
            return 0.0
        box = float(np.prod(self._reference - point))
        held = hypervolume(np.maximum(self._front, point), self._reference) if len(self._front) else 0.0
        self._front = np.vstack([self._front[(self._front < point).any(axis=1)], point])
        return max(0.0, box - held)


def _as_losses(losses: FloatArray) -> FloatArray:
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 2 or losses.shape[1] == 0:
        raise ValueError(f"losses have shape {losses.shape}, expected (n, m) with m >= 1")
    return losses


def _any(flags: BoolArray) -> BoolArray:
    """`flags.any(axis=1)`, column by column: several times faster for the few columns of a loss array."""
    return np.asarray(functools.reduce(np.logical_or, flags.T))


def _all(flags: BoolArray) -> BoolArray:
    """`flags.all(axis=1)`, column by column."""
    return np.asarray(functools.reduce(np.logical_and, flags.T))


def _check_reference(losses: FloatArray, reference: FloatArray) -> None:
    if reference.shape != losses.shape[1:]:
        raise ValueError(f"reference has shape {reference.shape}, expected {losses.shape[1:]}")


def _is_comparable(losses: FloatArray, violations: FloatArray | None) -> BoolArray:
    usable = ~_any(np.isnan(losses))
    return usable if violations is None else usable & (np.asarray(violations) <= 0)


def _survives_pivot(losses: FloatArray) -> BoolArray:
    """Drops most dominated rows cheaply: those that one good row leaves no objective to win, equal rows apart."""
    with np.errstate(invalid="ignore", over="ignore"):
        low = np.array([column.min() for column in losses.T])
        width = np.array([column.max() for column in losses.T]) - low
        total = ((losses - low) / np.where(width > 0, width, 1.0)) @ np.ones(losses.shape[1])
    pivot = losses[np.argmin(np.where(np.isnan(total), np.inf, total))]
    return _any(losses < pivot) | _all(losses == pivot)


def _nondominated(losses: FloatArray) -> BoolArray:
    """The front of rows without NaN, equal rows all kept."""
    if losses.shape[1] == 1:
        lowest = losses[:, 0] == losses[:, 0].min()
        return np.asarray(lowest, dtype=np.bool_)
    if losses.shape[1] > 2:
        import moocore

        return np.asarray(moocore.is_nondominated(_without_infinities(losses), keep_weakly=True), dtype=np.bool_)
    order = np.argsort(losses[:, 0])
    x, y = losses[order, 0], losses[order, 1]
    starts = np.flatnonzero(np.r_[True, x[1:] != x[:-1]])
    lowest = np.minimum.reduceat(y, starts)
    is_step = np.r_[True, lowest[1:] < np.minimum.accumulate(lowest)[:-1]]
    group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(x)]))
    result = np.zeros(len(losses), dtype=np.bool_)
    result[order] = is_step[group] & (y == lowest[group])
    return result


def _rank_feasible(losses: FloatArray) -> IntArray:
    if losses.shape[1] == 1:
        return np.asarray(np.unique(losses[:, 0], return_inverse=True)[1], dtype=np.int64)
    if losses.shape[1] > 2:
        import moocore

        return np.asarray(moocore.pareto_rank(_without_infinities(losses)), dtype=np.int64)
    order = np.lexsort((losses[:, 1], losses[:, 0]))
    last_y: list[float] = []  # of each front: the second loss of its newest member, its smallest; ascending
    found = np.zeros(len(losses), dtype=np.int64)
    previous, level = None, 0
    for i, point in enumerate(zip(losses[order, 0].tolist(), losses[order, 1].tolist(), strict=True)):
        if point != previous:
            level = bisect_right(last_y, point[1])
            last_y[level : level + 1] = [point[1]]
        found[i], previous = level, point
    ranks = np.zeros(len(losses), dtype=np.int64)
    ranks[order] = found
    return ranks


def _without_infinities(losses: FloatArray) -> FloatArray:
    """The same order relations in finite numbers: moocore misjudges rows with an infinity."""
    if np.isfinite(losses).all():
        return np.ascontiguousarray(losses)
    columns = [np.unique(column, return_inverse=True)[1] for column in losses.T]
    return np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.float64)
