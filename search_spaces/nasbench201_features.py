"""What describes a NAS-Bench-201 cell to a model: its live operations and the paths through it.

Cells that compute the same function once zero edges, dead edges and identities are removed have equal features: only
what survives that removal is counted. A cell is a sum over its paths from input to output, of which there are at most
four; a path is the sequence of its operations without identities. Nothing here depends on a data set or a device.

Source of the space: Dong and Yang 2020, "NAS-Bench-201", section 2.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search_spaces.ops import IntArray
from search_spaces.space import FloatArray

NONE, SKIP, CONV_1X1, CONV_3X3, POOL = range(5)
"""Operations of an edge, by code."""
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""The edges of every path from node 0 to node 3; edge 0 is 1<-0, then 2<-0, 2<-1, 3<-0, 3<-1, 3<-2."""
N_EDGES = 6
Open = NDArray[np.bool_]
"""Shape (n, 4): which paths of each cell have no zero edge."""
Counts = NDArray[np.int64]
GAIN_3X3 = 3.0
"""How much more a 3x3 convolution than a 1x1 adds up with positive weights: 9 times the terms, a third of the size."""
GAINS = (1.0, 4.0, 16.0)
"""Of a 1x1 convolution against a skip, for the path sums: all paths alike, to the deepest alone."""


def cell_features(codes: IntArray) -> FloatArray:
    """Counts of live convolutions, counts, ends and lengths of paths, and sums over paths.

    Args:
        codes: shape (n, 6), operation of each edge, in the order 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2.

    Returns:
        Shape (n, 32), finite; equal for cells that compute the same function.
    """
    edge_on_path = np.array([[edge in path for edge in range(N_EDGES)] for path in PATHS])  # (4, 6)
    is_open = ~((codes[:, None, :] == NONE) & edge_on_path).any(axis=2)  # (n, 4): no edge of the path is zero
    is_live = (is_open[:, :, None] & edge_on_path).any(axis=1)  # (n, 6): on some open path
    n_1x1, n_3x3 = (((codes == op) & is_live).sum(axis=1) for op in (CONV_1X1, CONV_3X3))
    on_path = {op: ((codes[:, None, :] == op) & edge_on_path).sum(axis=2) for op in (CONV_1X1, CONV_3X3, POOL)}
    n_convs = n_1x1 + n_3x3
    columns: list[Counts | FloatArray] = [n_1x1, n_3x3, n_convs, np.log1p(n_convs), np.log1p(9.0 * n_3x3 + n_1x1)]
    columns += _path_counts(is_open, on_path)
    columns += _path_ends(is_open, codes)
    columns += _path_lengths(is_open, on_path)
    columns += [_path_sum(is_open, on_path, gain) for gain in GAINS]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _path_counts(is_open: Open, on_path: dict[int, Counts]) -> list[Counts]:
    """How many open paths have each content: by number of convolutions, and by what else they hold."""
    convs = on_path[CONV_1X1] + on_path[CONV_3X3]
    kinds = [convs == count for count in range(4)]
    kinds += [(convs == 0) & (on_path[POOL] == 0), (convs == 0) & (on_path[POOL] > 0)]
    kinds += [(convs > 0) & (on_path[POOL] > 0), (on_path[CONV_3X3] == 1), (on_path[CONV_3X3] >= 2)]
    counts = [(is_open & kind).sum(axis=1) for kind in kinds]
    return [*counts, np.where(is_open, on_path[POOL], 0).sum(axis=1)]


def _path_ends(is_open: Open, codes: IntArray) -> list[Counts]:
    """How many open paths begin with each operation, and how many end with it, identities left out."""
    firsts, lasts = (np.full(is_open.shape, NONE) for _ in range(2))
    for column, path in enumerate(PATHS):
        for edge in path:
            op = codes[:, edge]
            firsts[:, column] = np.where((op != SKIP) & (firsts[:, column] == NONE), op, firsts[:, column])
            lasts[:, column] = np.where(op != SKIP, op, lasts[:, column])
    return [(is_open & (ends == op)).sum(axis=1) for ends in (firsts, lasts) for op in (CONV_1X1, CONV_3X3, POOL)]


def _path_lengths(is_open: Open, on_path: dict[int, Counts]) -> list[Counts | FloatArray]:
    """Number of open paths; the longest and the mean, in convolutions, in 3x3 ones, in what widens the view."""
    n_open = np.asarray(is_open.sum(axis=1), dtype=np.int64)
    found: list[Counts | FloatArray] = [n_open, np.asarray(is_open.any(axis=1), dtype=np.int64)]
    for ops in ((CONV_1X1, CONV_3X3), (CONV_3X3,), (CONV_3X3, POOL)):
        length = np.where(is_open, np.sum([on_path[op] for op in ops], axis=0), 0)
        found += [length.max(axis=1), length.sum(axis=1) / np.maximum(1, n_open)]
    return found


def _path_sum(is_open: Open, on_path: dict[int, Counts], gain: float) -> FloatArray:
    """Logarithm of the sum over open paths of the product of their operations' gains (as synflow adds them up)."""
    product = gain ** (on_path[CONV_1X1] + on_path[CONV_3X3]) * GAIN_3X3 ** on_path[CONV_3X3]
    return np.asarray(np.log1p(np.where(is_open, product, 0.0).sum(axis=1)))
