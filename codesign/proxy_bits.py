"""Many small regression trees at once: which leaf a design reaches is found with a few bitwise operations per tree.

Leaves are numbered from left to right. A node whose test fails rules out every leaf of its left subtree; of the leaves
that no failed node rules out, the leftmost is the one reached. What each value of a column rules out is tabulated;
columns are merged into groups of up to 64 combinations of values, so that few tables are read.

Source: Lucchese et al. 2015, QuickScorer (SIGIR), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.trial import FloatArray

MAX_LEAVES = 64
"""Leaves of a tree: one bit of a word each."""
_MAX_COMBINATIONS = 64
_CHUNK = 64  # designs at a time: their words for 400 trees fill a second-level cache


@dataclass(frozen=True, eq=False)
class _Group:
    """Columns whose values are looked up together.

    Attributes:
        columns: of each, its number, the rising thresholds of all nodes that ask for it, and its stride in the table.
        table: shape (combinations, trees), the leaves that a combination leaves open.
    """

    columns: tuple[tuple[int, FloatArray, int], ...]
    table: NDArray[np.uint64]

    def place(self, part: NDArray[np.float32]) -> NDArray[np.int64]:
        """The combination of each design, shape (m,)."""
        place = np.zeros(len(part), dtype=np.int64)
        for column, thresholds, stride in self.columns:
            # the number of thresholds that a value exceeds: as many nodes, counted from the least, fail
            place += stride * np.searchsorted(thresholds, part[:, column].astype(np.float64), side="left")
        return place


@dataclass(frozen=True, eq=False)
class BitTrees:
    """Trees of at most 64 leaves, made by `tabulate`.

    Attributes:
        groups: tables that together cover every column asked for.
        values: shape (trees x 64,), of the leaves from left to right.
    """

    groups: tuple[_Group, ...]
    values: FloatArray

    def sum(self, columns: NDArray[np.float32]) -> FloatArray:
        """Sum of the trees' values for each design: columns of shape (m, p), result of shape (m,)."""
        n_trees = len(self.values) // MAX_LEAVES
        first = np.arange(n_trees, dtype=np.int64) * MAX_LEAVES
        places = [group.place(columns) for group in self.groups]
        sums = np.empty(len(columns))
        for start in range(0, len(columns), _CHUNK):
            rows = slice(start, start + _CHUNK)
            is_open = np.full((len(sums[rows]), n_trees), ~np.uint64(0))
            for group, place in zip(self.groups, places, strict=True):
                is_open &= group.table[place[rows]]
            is_open &= ~is_open + np.uint64(1)  # the lowest bit alone
            # a power of two as a double is its exponent, 1023 above that of 1
            leaf = (is_open.astype(np.float64).view(np.int64) >> 52) - 1023
            leaf += first
            sums[rows] = self.values[leaf].sum(axis=1)
        return sums


def tabulate(
    roots: NDArray[np.int64],
    feature: NDArray[np.int64],
    threshold: FloatArray,
    left: NDArray[np.int64],
    value: FloatArray,
) -> BitTrees | None:
    """The tables of trees given as in `proxy_trees.Trees`; None if a tree has more than 64 leaves."""
    values = np.zeros((len(roots), MAX_LEAVES))
    failed: list[tuple[int, int, float, int]] = []  # tree, column, threshold, leaves that stay open
    for tree, root in enumerate(roots.tolist()):
        n_leaves = 0
        pending: list[tuple[int, int]] = [(root, -1)]  # a node, or the number of leaves when one's left side began
        while pending:
            node, began = pending.pop()
            if began >= 0:
                ruled_out = ((1 << n_leaves) - 1) ^ ((1 << began) - 1)
                failed.append((tree, int(feature[node]), float(threshold[node]), ~ruled_out & (2**64 - 1)))
            elif left[node] == node:
                if n_leaves == MAX_LEAVES:
                    return None
                values[tree, n_leaves] = value[node]
                n_leaves += 1
            else:
                child = int(left[node])
                pending += [(child + 1, -1), (node, n_leaves), (child, -1)]
    return BitTrees(_grouped(_by_column(failed, len(roots))), values.ravel())


def _by_column(
    failed: list[tuple[int, int, float, int]], n_trees: int
) -> list[tuple[int, FloatArray, NDArray[np.uint64]]]:
    """Per column: its thresholds, shape (k,), and what stays open if 0 to k of them are exceeded, (k + 1, trees)."""
    result = []
    for column in sorted({column for _, column, _, _ in failed}):
        own = [(tree, at, mask) for tree, asked, at, mask in failed if asked == column]
        thresholds = np.unique([at for _, at, _ in own])
        table = np.full((len(thresholds) + 1, n_trees), ~np.uint64(0))
        rows = np.searchsorted(thresholds, [at for _, at, _ in own]) + 1
        for row, (tree, _, mask) in zip(rows.tolist(), own, strict=True):
            table[row, tree] &= np.uint64(mask)
        result.append((column, thresholds, np.bitwise_and.accumulate(table, axis=0)))
    return result


def _grouped(columns: list[tuple[int, FloatArray, NDArray[np.uint64]]]) -> tuple[_Group, ...]:
    """Columns side by side in groups as large as allowed, those with many values first."""
    groups: list[_Group] = []
    for column, thresholds, table in sorted(columns, key=lambda given: -len(given[2])):
        for i, group in enumerate(groups):
            n_before = len(group.table)
            if n_before * len(table) <= _MAX_COMBINATIONS:
                merged = (table[:, None, :] & group.table[None, :, :]).reshape(-1, table.shape[1])
                groups[i] = _Group((*group.columns, (column, thresholds, n_before)), merged)
                break
        else:
            groups.append(_Group(((column, thresholds, 1),), table))
    return tuple(groups)
