"""Hypervolumes of many subsets of one set of losses, and of its beginnings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.pareto import hypervolume, hypervolume_curve, is_nondominated

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_CELLS = 2_000_000
"""Entries of a table of subsets worked on at a time."""


def hypervolumes(losses: FloatArray, reference: FloatArray, members: BoolArray) -> FloatArray:
    """The hypervolume of each subset.

    Args:
        losses: shape (n, m); a row with a NaN adds nothing.
        reference: shape (m,).
        members: shape (k, n), which rows each subset holds.

    Returns:
        Shape (k,).
    """
    m = losses.shape[1]
    if m > 2:
        return np.array([hypervolume(losses[subset], reference) for subset in members])
    usable = np.flatnonzero((losses < reference).all(axis=1))
    order = usable[np.argsort(losses[usable, 0], kind="stable")]
    x, members = losses[order, 0], members[:, order]
    if len(order) == 0:
        return np.zeros(len(members))
    if m == 1:
        best = np.where(members.any(axis=1), x[members.argmax(axis=1)], reference[0])
        return np.asarray(reference[0] - best)
    heights = reference[1] - losses[order, 1]
    widths = np.diff(x, append=reference[0])
    found = np.zeros(len(members))
    step = max(1, _CELLS // len(order))
    for start in range(0, len(members), step):
        held = np.where(members[start : start + step], heights, 0.0)
        found[start : start + step] = np.maximum.accumulate(held, axis=1) @ widths
    return found


def beginnings(losses: FloatArray, reference: FloatArray, counts: IntArray) -> FloatArray:
    """The hypervolume of the first c rows for each of the ascending counts, shape (len(counts),)."""
    if losses.shape[1] <= 2:
        curve = hypervolume_curve(losses, reference)
        return np.concatenate([[0.0], curve])[np.minimum(counts, len(losses))]
    found = np.zeros(len(counts))
    front, done = losses[:0], 0
    for i, count in enumerate(counts.tolist()):
        joined = np.concatenate([front, losses[done:count]])
        front, done = joined[is_nondominated(joined, keep_duplicates=False)], count
        found[i] = hypervolume(front, reference)
    return found


def subsets(n: int, size: int, k: int, rng: np.random.Generator) -> BoolArray:
    """`k` subsets of `size` of n rows without replacement, disjoint as far as possible, shape (k, n)."""
    members = np.zeros((k, n), dtype=np.bool_)
    each = max(1, n // max(size, 1))
    for start in range(0, k, each):
        order = rng.permutation(n)
        for i, subset in enumerate(members[start : start + each]):
            subset[order[i * size : (i + 1) * size]] = True
    return members


def within(outer: BoolArray, size: int, k: int, rng: np.random.Generator) -> BoolArray:
    """`k` subsets of `size` of the rows of each outer subset, shape (len(outer) * k, n)."""
    members = np.zeros((len(outer) * k, outer.shape[1]), dtype=np.bool_)
    for i, subset in enumerate(outer):
        rows = np.flatnonzero(subset)
        members[i * k : (i + 1) * k, rows] = subsets(len(rows), size, k, rng)
    return members
