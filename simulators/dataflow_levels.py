"""The clusters of a dataflow for one layer: what every directive is in numbers, chunk sizes, and states of iteration.

The first half of `dataflow_reuse`, whose docstring has the terms. It follows MAESTRO's cluster analysis (a dimension
that a cluster does not map is inherited, in front and in reverse order, or mapped whole, behind), cluster unit (how
many sub-clusters work at an edge), reuse analysis (sizes of chunks) and iteration analysis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.compile_numba import compiled

IntArray = NDArray[np.int64]

TEMPORAL, SPATIAL, CLUSTER = 0, 1, 2
K, C, R, S, Y, X, OY, OX = range(8)
N_DIMS = 6  # of the loop nest over inputs; OY and OX stand for Y and X in outputs
STRIDE_Y, STRIDE_X, DEPTHWISE = 6, 7, 8  # columns of a layer after its extents
KIND, DIM, SIZE, OFFSET, SIZE_OF, OFFSET_OF = range(6)
MAPPED, UNIQUE, MAPPED_EDGE, UNIQUE_EDGE = range(4)
POSITION, IS_EDGE, IS_UNROLLED, HAS_PARTIAL, COUNT = range(5)
INIT, STEADY, EDGE = range(3)
N_SUB, N_SUB_EDGE = 0, 1

UNROLL_ORDER = np.array([C, K, R, S, X, Y], dtype=np.int64)  # MAESTRO sorts the names of the dimensions


@compiled
def resolve_clusters(
    program: IntArray, layer: IntArray, pes: int, slot: IntArray, extent: IntArray, array: IntArray, used: IntArray
) -> None:
    """The directives of every cluster in numbers: six slots each, with what MAESTRO adds for missing dimensions."""
    level, in_cluster = 0, 1
    used[0] = 0
    for i in range(len(program)):
        size = program[i, SIZE] if program[i, SIZE_OF] < 0 else layer[program[i, SIZE_OF]]
        if program[i, KIND] == CLUSTER:
            level += 1
            in_cluster *= size
            array[level, N_SUB] = size
            used[level] = 0
            continue
        n = used[level]
        slot[level, n, KIND], slot[level, n, DIM], slot[level, n, SIZE] = program[i, KIND], program[i, DIM], size
        slot[level, n, OFFSET] = program[i, OFFSET] if program[i, OFFSET_OF] < 0 else layer[program[i, OFFSET_OF]]
        used[level] += 1
    array[0, N_SUB] = pes // in_cluster
    for level in range(len(slot)):
        for j in range(N_DIMS):
            if level == 0:
                extent[0, j] = layer[j]
            else:
                dim = slot[level - 1, j, DIM]
                extent[level, dim] = min(slot[level - 1, j, SIZE], extent[level - 1, dim])
        _complete(slot, extent[level], level, used[level])
        _stride(slot[level], layer, level)


@compiled
def find_slot(slots: IntArray, n: int, dim: int) -> int:
    """Which of the first n slots maps a dimension, -1 if none does."""
    for j in range(n):
        if slots[j, DIM] == dim:
            return j
    return -1


@compiled
def _complete(slot: IntArray, extent: IntArray, level: int, n: int) -> None:
    """Outputs become inputs; dimensions of the outer cluster are inherited in front, the others mapped whole behind."""
    slots = slot[level]
    for out in range(OY, OX + 1):
        j = find_slot(slots, n, out)
        if j >= 0:
            taps = find_slot(slots, n, out - OY + R)
            slots[j, DIM] = out - OY + Y
            slots[j, SIZE] += (slots[taps, SIZE] if taps >= 0 else extent[out - OY + R]) - 1
    if level > 0:
        for upper in range(N_DIMS):
            if find_slot(slots, n, slot[level - 1, upper, DIM]) < 0:
                for field in range(4):  # element by element: copies of rows take numba seconds to compile
                    for j in range(n, 0, -1):
                        slots[j, field] = slots[j - 1, field]
                    slots[0, field] = slot[level - 1, upper, field]
                slots[0, KIND] = TEMPORAL
                n += 1
    for i in range(N_DIMS):
        dim = UNROLL_ORDER[i]
        if find_slot(slots, n, dim) < 0:
            slots[n, KIND], slots[n, DIM], slots[n, SIZE], slots[n, OFFSET] = TEMPORAL, dim, extent[dim], extent[dim]
            n += 1


@compiled
def _stride(slots: IntArray, layer: IntArray, level: int) -> None:
    """Chunks of strided inputs hold whole windows and move by whole outputs."""
    for j in range(N_DIMS):
        dim = slots[j, DIM]
        if dim < Y:
            continue
        stride, taps = layer[STRIDE_Y + dim - Y], layer[R + dim - Y]
        if stride != 1 and slots[j, SIZE] >= taps:
            outputs = (slots[j, SIZE] + stride - taps) // stride
            slots[j, SIZE] = outputs * min(stride, taps) + max(taps - stride, 0)
            slots[j, OFFSET] = outputs * (taps if level > 0 and taps < stride else stride)


@compiled
def _quotient(numerator: int, denominator: int) -> int:
    """Integer division that rounds to zero, as C++ does."""
    if numerator < 0:
        return -(-numerator // denominator)
    return numerator // denominator


@compiled
def measure_chunks(slots: IntArray, extent: IntArray, array: IntArray, volume: IntArray) -> None:
    """Elements of every dimension in a whole and in a last chunk, and those of them that the chunk before lacks."""
    first = -1
    for j in range(N_DIMS):
        dim, size, offset = slots[j, DIM], slots[j, SIZE], slots[j, OFFSET]
        if slots[j, KIND] == SPATIAL and first < 0:
            first = j
        whole = extent[dim]
        n_steady = max(_quotient(whole - size, offset), 0)
        has_edge = n_steady * offset + size < whole or size > whole
        is_unrolled = slots[j, KIND] == TEMPORAL and whole <= size
        rest = whole - (n_steady + 1) * offset
        if rest < 0:
            rest = whole
        volume[MAPPED, dim] = size
        volume[UNIQUE, dim] = 0 if is_unrolled else min(size, offset)
        volume[MAPPED_EDGE, dim] = rest if has_edge else size
        volume[UNIQUE_EDGE, dim] = max(offset - (size - rest), 0)
    for j in range(N_DIMS):
        dim = slots[j, DIM]
        if dim >= Y:
            out, taps = dim - Y + OY, dim - Y + R
            whole, size = extent[dim], slots[j, SIZE]
            if whole < size and volume[MAPPED_EDGE, dim] < volume[MAPPED_EDGE, taps]:
                volume[MAPPED_EDGE, dim] = whole  # the one chunk is the input itself; MAESTRO has no valid case here
                volume[UNIQUE_EDGE, dim] = max(slots[j, OFFSET] - (size - whole), 0)
            volume[MAPPED, out] = volume[MAPPED, dim] - volume[MAPPED, taps] + 1
            volume[UNIQUE, out] = min(slots[j, OFFSET], slots[j, SIZE])
            volume[MAPPED_EDGE, out] = volume[MAPPED_EDGE, dim] - volume[MAPPED_EDGE, taps] + 1
            volume[UNIQUE_EDGE, out] = min(slots[j, OFFSET], volume[MAPPED_EDGE, out])
    size, offset, n_sub = slots[first, SIZE], slots[first, OFFSET], array[N_SUB]
    whole = extent[slots[first, DIM]]
    n_edge = 1
    if whole > offset * (n_sub - 1) + size:
        rest = whole - ((whole - size) // offset + 1) // n_sub * offset * n_sub
        n_edge = 1 if rest < size else (rest - size) // offset + 1
    elif whole > size:
        n_edge = (whole - size) // offset + 1
        n_edge += offset * (n_edge - 1) + size < whole
    array[N_SUB_EDGE] = 1 if whole <= size else n_edge


@compiled
def iteration_states(slots: IntArray, sizes: IntArray, n_sub: int, state: IntArray, n_states: IntArray) -> None:
    """The states of every slot for a tile of `sizes`: (slot, state, POSITION..COUNT), and how many there are."""
    for j in range(N_DIMS):
        whole, size, offset = sizes[slots[j, DIM]], slots[j, SIZE], slots[j, OFFSET]
        n_parallel = n_sub if slots[j, KIND] == SPATIAL else 1
        step = offset * n_parallel
        covered = size + offset * (n_parallel - 1)
        has_partial = False
        if slots[j, KIND] == TEMPORAL:
            n_steady = _quotient(whole - size, offset)
            has_edge = n_steady * offset + size < whole and whole >= size
        else:
            n_steady = _quotient(_quotient(whole - size, offset) + 1, n_sub) - 1
            has_edge = (n_steady + 1) * step + covered > whole and n_steady * step + covered != whole
            has_edge = has_edge and whole > covered
            rest = whole - (n_steady + 1) * step
            n_edge = 1 if rest < size else (rest - size) // offset + 1
            has_partial = (n_edge - 1) * offset + size < rest
        n = 1
        is_short = whole < covered
        state[j, 0, POSITION], state[j, 0, COUNT] = INIT, 1
        state[j, 0, IS_EDGE], state[j, 0, IS_UNROLLED] = is_short, whole <= covered
        state[j, 0, HAS_PARTIAL] = is_short and slots[j, KIND] == SPATIAL
        if covered < whole and n_steady > 0:
            state[j, n, POSITION], state[j, n, COUNT] = STEADY, n_steady
            state[j, n, IS_EDGE], state[j, n, IS_UNROLLED], state[j, n, HAS_PARTIAL] = 0, 0, 0
            n += 1
        if has_edge:
            state[j, n, POSITION], state[j, n, COUNT] = EDGE, 1
            state[j, n, IS_EDGE], state[j, n, IS_UNROLLED], state[j, n, HAS_PARTIAL] = 1, 0, has_partial
            n += 1
        n_states[j] = n


@compiled
def tile_sizes(extent: IntArray, volume: IntArray, level: int, mask: int) -> IntArray:
    """Extents of the tile that a cluster at `level` gets."""
    sizes = np.empty(N_DIMS, np.int64)
    for dim in range(N_DIMS):
        if level == 0:
            sizes[dim] = extent[0, dim]
        else:
            sizes[dim] = volume[level - 1, MAPPED_EDGE if mask >> dim & 1 else MAPPED, dim]
    return sizes


@compiled
def mark_tiles(slot: IntArray, extent: IntArray, volume: IntArray, array: IntArray, wanted: NDArray[np.bool_]) -> None:
    """Find the tiles that occur at every level."""
    state = np.zeros((N_DIMS, 3, 5), np.int64)
    n_states = np.zeros(N_DIMS, np.int64)
    for level in range(len(slot)):
        for mask in range(64):
            wanted[level, mask] = level == 0 and mask == 0
    for level in range(len(slot) - 1):
        for mask in range(64):
            if not wanted[level, mask]:
                continue
            iteration_states(slot[level], tile_sizes(extent, volume, level, mask), array[level, N_SUB], state, n_states)
            always, sometimes = 0, 0
            for j in range(N_DIMS):
                bit = 1 << slot[level, j, DIM]
                is_alone = slot[level, j, KIND] == TEMPORAL or array[level, N_SUB_EDGE] == 1
                n_edges = 0
                for s in range(n_states[j]):
                    n_edges += state[j, s, IS_EDGE]
                if n_edges == n_states[j] and is_alone:
                    always |= bit
                elif n_edges > 0:
                    sometimes |= bit
            for below in range(64):
                if below & ~sometimes == always:
                    wanted[level + 1, below] = True
