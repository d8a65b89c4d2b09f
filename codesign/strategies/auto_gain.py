"""Expected growth of the hypervolume by one more candidate, in closed form for any number of losses.

What a front leaves undominated below the reference point is cut into boxes. The share of one box that a point p newly
dominates is the product over losses of (upper - max(lower, p))+, and for independent Gaussian losses its expectation is
the product of differences of expected improvements, EI(upper) - EI(lower). A known loss has standard deviation 0.

Source: Emmerich, Deutz and Klinkenberg 2011, "Hypervolume-based expected improvement"; the box form is that of Yang et
al. 2019, "Efficient computation of expected hypervolume improvement using box decomposition algorithms", eq. 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.pareto import is_nondominated
from codesign.strategies.strategy import FloatArray

_CELLS = 400_000
"""Candidates times boxes handled at a time."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """Disjoint boxes that fill what is not dominated, shapes (b, m); lower ends may be minus infinity."""

    lower: FloatArray
    upper: FloatArray


def undominated(front: FloatArray, reference: FloatArray) -> Boxes:
    """The region below a reference point that a front does not dominate.

    Args:
        front: shape (k, m); rows outside the reference point add nothing.
        reference: shape (m,), finite.
    """
    inside = front[(front < reference).all(axis=1)]
    inside = inside[is_nondominated(inside, keep_duplicates=False)] if len(inside) else inside
    lower, upper = _slabs(inside, reference)
    return Boxes(lower, upper)


def _slabs(front: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cut along the last loss; within a slab, what the members below it leave of the other losses."""
    m = len(reference)
    if m == 1:
        return np.array([[-np.inf]]), np.array([[front.min(initial=float(reference[0]))]])
    order = front[np.lexsort((front[:, 0], front[:, -1]))]
    if m == 2:  # from below, each step of the staircase leaves a box to its left
        lowest = np.minimum.accumulate(order[:, 0]) if len(order) else order[:, 0]
        is_step = np.append(True, lowest[1:] < lowest[:-1])[: len(order)]
        uppers = np.append(reference[0], order[is_step, 0])
        ends = np.concatenate([[-np.inf], order[is_step, 1], reference[1:]])
        lower = np.column_stack([np.full(len(uppers), -np.inf), ends[:-1]])
        return lower, np.column_stack([uppers, ends[1:]])
    ends = np.concatenate([[-np.inf], order[:, -1], reference[-1:]])
    lows, highs = [], []
    for i in range(len(order) + 1):
        if ends[i] == ends[i + 1]:
            continue
        below = order[:i, :-1]
        if m > 3 and len(below):
            below = below[is_nondominated(below, keep_duplicates=False)]
        low, high = _slabs(below, reference[:-1])
        lows.append(np.column_stack([low, np.full(len(low), ends[i])]))
        highs.append(np.column_stack([high, np.full(len(high), ends[i + 1])]))
    return np.vstack(lows), np.vstack(highs)


def gain(losses: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """Hypervolume that each candidate with exact losses would add, shape (n,).

    Args:
        losses: shape (n, m), finite.
        front: shape (k, m); rows outside the reference point add nothing.
        reference: shape (m,), finite.
    """
    if losses.shape[1] != 2:
        return expected_gain(losses, np.zeros(losses.shape), undominated(front, reference))
    inside = front[(front < reference).all(axis=1)]
    if len(inside) == 0:
        return np.asarray(np.prod(np.maximum(reference - losses, 0.0), axis=1))
    steps = inside[is_nondominated(inside, keep_duplicates=False)]
    left, top = steps[np.argsort(steps[:, 0])].T
    area = np.concatenate([[0.0], np.cumsum(np.diff(left) * top[:-1])])  # below the staircase, from its first step on

    def below(x: FloatArray) -> FloatArray:
        """Area below the staircase from its first step to each x, negative before it."""
        step = np.searchsorted(left, x, side="right") - 1
        at = np.maximum(step, 0)
        return np.asarray(np.where(step < 0, (x - left[0]) * reference[1], area[at] + (x - left[at]) * top[at]))

    x, y = losses.T
    meets = len(top) - np.searchsorted(top[::-1], y, side="right")  # the first step that is no higher than y
    end = np.maximum(np.append(left, reference[0])[meets], x)
    grown = below(end) - below(x) - y * (end - x)
    return np.asarray(np.where((losses < reference).all(axis=1), np.maximum(grown, 0.0), 0.0))


def thinned(front: FloatArray, n: int) -> FloatArray:
    """At most `n` members of a front, far apart in units of its range; the best in each loss are among them."""
    if len(front) <= n:
        return front
    scaled = (front - front.min(axis=0)) / np.maximum(np.ptp(front, axis=0), 1e-300)
    chosen = list(dict.fromkeys(scaled.argmin(axis=0).tolist()))
    nearest = np.min([np.abs(scaled - scaled[row]).max(axis=1) for row in chosen], axis=0)
    while len(chosen) < n:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.abs(scaled - scaled[chosen[-1]]).max(axis=1))
    return np.asarray(front[np.sort(chosen)])


def advance(losses: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """How far each candidate lies before a front, shape (n,): a cheap stand-in for its gain.

    The additive epsilon: the smallest shift, as a share of the front's range to the reference point, by which the front
    would dominate the candidate.
    """
    span = reference - front.min(axis=0) if len(front) else np.ones(len(reference))
    span = np.where(span > 0, span, 1.0)
    ahead = np.asarray(((reference - losses) / span).max(axis=1))
    for member in front:
        np.minimum(ahead, ((member - losses) / span).max(axis=1), out=ahead)
    return ahead


def expected_gain(mean: FloatArray, deviation: FloatArray, boxes: Boxes) -> FloatArray:
    """Expected hypervolume improvement of each candidate, shape (n,).

    Args:
        mean: expected losses, shape (n, m), finite.
        deviation: their standard deviations, shape (n, m); 0 where a loss is known.
        boxes: what is not dominated yet.
    """
    gain = np.zeros(len(mean))
    step = max(1, _CELLS // max(1, len(boxes.lower)))
    for start in range(0, len(mean), step):
        rows = slice(start, start + step)
        product = np.ones((len(mean[rows]), len(boxes.lower)))
        for column in range(mean.shape[1]):
            center, spread = mean[rows, column], deviation[rows, column]
            product *= _below(center, spread, boxes.upper[:, column]) - _below(center, spread, boxes.lower[:, column])
        gain[rows] = product.sum(axis=1)
    return gain


def _below(mean: FloatArray, deviation: FloatArray, levels: FloatArray) -> FloatArray:
    """Expected amount by which each candidate falls below each level, shape (n, number of levels)."""
    from scipy.special import ndtr  # type: ignore[import-untyped]

    distinct, place = np.unique(levels, return_inverse=True)
    finite = np.isfinite(distinct)
    distance = np.where(finite, distinct, 0.0) - mean[:, None]
    result = np.maximum(distance, 0.0)
    rows = np.flatnonzero(deviation > 0)
    if len(rows):
        spread = deviation[rows, None]
        z = distance[rows] / spread
        result[rows] = np.maximum(distance[rows] * ndtr(z) + spread * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi), 0.0)
    result[:, ~finite] = 0.0  # nothing is below minus infinity
    return np.asarray(result[:, place])
