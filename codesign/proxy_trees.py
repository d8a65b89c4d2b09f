"""Sums of regression trees as plain arrays: written to a file without pickle, predicted without the library that fitted
them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError
from codesign.proxy_bits import BitTrees, tabulate
from codesign.trial import FloatArray

_CHUNK = 1024  # designs at a time: nodes and columns then stay in a cache
_NAMES = ("roots", "feature", "threshold", "left", "value", "factor", "offset")


@dataclass(frozen=True, eq=False)
class Trees:
    """`offset + factor * (sum of the trees' values)`.

    The nodes of all trees lie in one array; the right child of a node follows its left one, and a leaf is its own
    child. A number takes the left way if, in single precision, it is at most the threshold.

    Attributes:
        roots: shape (trees,), the first node of each tree.
        feature: shape (nodes,), the column a node asks for; 0 at a leaf.
        threshold: shape (nodes,); infinite at a leaf.
        left: shape (nodes,), the left child.
        value: shape (nodes,), of leaves.
        factor, offset: see above.
    """

    roots: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: FloatArray
    left: NDArray[np.int64]
    value: FloatArray
    factor: float
    offset: float

    def predict(self, columns: FloatArray) -> FloatArray:
        """Values of designs: columns of shape (m, p), result of shape (m,)."""
        sums = np.empty(len(columns))
        for start in range(0, len(columns), _CHUNK):
            part = np.ascontiguousarray(columns[start : start + _CHUNK], dtype=np.float32)
            sums[start : start + len(part)] = self._sum(part) if self._bits is None else self._bits.sum(part)
        return self.offset + self.factor * sums

    @cached_property
    def _bits(self) -> BitTrees | None:
        """The trees as tables, if they are small enough: some 20 times as fast."""
        return tabulate(self.roots, self.feature, self.threshold, self.left, self.value)

    def _sum(self, part: NDArray[np.float32]) -> FloatArray:
        flat, width = part.ravel(), part.shape[1]
        first = np.arange(len(part)) * width
        nodes = np.broadcast_to(self.roots[:, None], (len(self.roots), len(part)))
        while True:
            asked = flat[self.feature[nodes] + first] if width else np.zeros(nodes.shape, np.float32)
            below = self.left[nodes]
            below += asked > self.threshold[nodes]
            if np.array_equal(below, nodes):
                total: FloatArray = self.value[nodes].sum(axis=0)
                return total
            nodes = below

    def to_arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """The trees as named arrays."""
        return {f"{prefix}.{name}": np.asarray(getattr(self, name)) for name in _NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str, n_columns: int) -> Trees:
        """The inverse of `to_arrays`.

        Raises:
            DataError: arrays are missing, or a node leads to no node or asks for a column beyond `n_columns`.
        """
        try:
            found = {name: np.asarray(arrays[f"{prefix}.{name}"]) for name in _NAMES}
        except KeyError as error:
            raise DataError(f"the array {error} of the trees is missing") from error
        integers = {name: found[name].astype(np.int64) for name in ("roots", "feature", "left")}
        n = len(found["left"])
        is_leaf = np.isposinf(found["threshold"])
        children = integers["left"][~is_leaf]
        is_sound = (
            all(len(found[name]) == n for name in ("feature", "threshold", "value"))
            and bool(((integers["roots"] >= 0) & (integers["roots"] < n)).all())
            and bool(((integers["feature"] >= 0) & (integers["feature"] < max(1, n_columns))).all())
            and bool((integers["left"][is_leaf] == np.flatnonzero(is_leaf)).all())
            and bool(((children > np.flatnonzero(~is_leaf)) & (children < n - 1)).all())
        )
        if not is_sound:
            raise DataError("the arrays of the trees do not fit each other")
        return cls(
            integers["roots"], integers["feature"], found["threshold"].astype(np.float64), integers["left"],
            found["value"].astype(np.float64), float(found["factor"]), float(found["offset"]),
        )  # fmt: skip


def pack_trees(trees: Sequence[tuple[NDArray[np.generic], ...]], factor: float, offset: float) -> Trees:
    """Trees given node by node, in one array.

    Args:
        trees: per tree `(feature, threshold, left, right, value)`, each of shape (nodes,); left and right are negative
            at a leaf.
        factor, offset: as in `Trees`.
    """
    roots, feature, threshold, left, value = [], [], [], [], []
    total = 0
    for tree in trees:
        order, new_left = _siblings_side_by_side(np.asarray(tree[2]), np.asarray(tree[3]))
        is_leaf = np.asarray(tree[2])[order] < 0
        roots.append(total)
        feature.append(np.where(is_leaf, 0, np.asarray(tree[0])[order]).astype(np.int64))
        threshold.append(np.where(is_leaf, np.inf, np.asarray(tree[1])[order]).astype(np.float64))
        left.append(new_left + total)
        value.append(np.asarray(tree[4])[order].astype(np.float64))
        total += len(order)
    return Trees(
        np.array(roots, dtype=np.int64), np.concatenate(feature), np.concatenate(threshold),
        np.concatenate(left).astype(np.int64), np.concatenate(value), factor, offset,
    )  # fmt: skip


def _siblings_side_by_side(
    left: NDArray[np.generic], right: NDArray[np.generic]
) -> tuple[list[int], NDArray[np.int64]]:
    """Nodes in order of breadth, so that siblings are neighbours, and the new place of each one's left child."""
    order, new_left = [0], []
    for place, node in enumerate(order):  # the list grows as it is read
        if int(left[node]) < 0:
            new_left.append(place)
        else:
            new_left.append(len(order))
            order.extend((int(left[node]), int(right[node])))
    return order, np.array(new_left, dtype=np.int64)
