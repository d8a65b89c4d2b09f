"""Which loops each memory holds: loop orders become mappings, memory by memory from the PE outwards.

A memory takes as many loops of each operand as fit, in the order's sequence; where operands share it, the combination
that leaves the fewest bits to fetch from above (tile bits times the repetitions left). This is the allocation of LOMA
(Symons et al., "LOMA", AICAS 2021), done for many orders at once, with one addition: each memory may be filled to a
share of its capacity only, since a tile that leaves room for the next one does not stall.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from itertools import product

import numpy as np
from numpy.typing import NDArray

from simulators.spatial_cost import Numbers
from simulators.spatial_hierarchy import OPERANDS, Hierarchy
from simulators.spatial_nest import FX, FY, OX, OY, B, C, G, K, Layers, distinct, running_product
from simulators.workload import FloatArray

_PLAIN = {"O": (B, G, K, OY, OX), "W": (G, K, C, FY, FX), "I": (B, G, C)}

Bounds = dict[str, NDArray[np.intp]]


def allocate(
    layers: Layers,
    hierarchy: Hierarchy,
    numbers: Numbers,
    spatial: MappingType[str, FloatArray],
    loop_dims: NDArray[np.int8],
    loop_sizes: FloatArray,
    shares: FloatArray,
) -> Bounds:
    """Bounds of every operand and level for N loop orders.

    Args:
        layers: n = N or 1 layers.
        hierarchy, numbers: what they are mapped on.
        spatial: as in `Nests`.
        loop_dims, loop_sizes: shape (M, N), as in `Nests`.
        shares: shape (memories, N or 1), the part of each memory that may be filled.

    Returns:
        operand -> shape (levels, N). Orders that cannot fit get bounds that `fits` refuses.
    """
    n_loops, n = loop_dims.shape
    steps = _prefix_by_dimension(loop_dims, loop_sizes)
    left = steps.prod(axis=0)
    left = left[-1] / left
    below = {op: running_product(spatial[op]) for op in OPERANDS}
    bounds = {op: np.full((len(hierarchy.levels(op)), n), n_loops, dtype=np.intp) for op in OPERANDS}
    starts = {op: np.zeros(n, dtype=np.intp) for op in OPERANDS}
    for index, memory in enumerate(hierarchy.memories):
        capacity = numbers.bits[index] * shares[index]
        tables, free = {}, []
        for op in memory.operands:
            level = hierarchy.levels(op).index(index)
            is_top = level == len(hierarchy.levels(op)) - 1
            words = _tile_words(op, steps, below[op][level], layers)
            tables[op] = words * _bits(op, level, steps, starts[op], spatial[op], layers)
            if is_top:
                capacity = capacity - tables[op][-1]
            else:
                free.append(op)
            if memory.is_double_buffered:
                tables[op] = tables[op] * np.where(left > 1.0, 2.0, 1.0)
        chosen = _choose({op: tables[op] for op in free}, left, starts, capacity)
        for op, bound in chosen.items():
            bounds[op][hierarchy.levels(op).index(index)] = bound
            starts[op] = bound
    return bounds


def _choose(
    tables: dict[str, FloatArray], left: FloatArray, starts: MappingType[str, NDArray[np.intp]], capacity: FloatArray
) -> Bounds:
    """For the operands of one memory, the bounds that fit and leave least to fetch."""
    if not tables:
        return {}
    n_positions, n = left.shape
    positions = np.arange(n_positions)[:, None]
    fetched = {op: np.where(positions >= starts[op], bits * left, np.inf) for op, bits in tables.items()}
    *others, final = tables
    cheapest = _cheapest_up_to(fetched[final])
    best = np.full(n, np.inf)
    result = {op: starts[op].copy() for op in tables}
    for combination in product(range(n_positions), repeat=len(others)):
        used: FloatArray = sum((tables[op][p] for op, p in zip(others, combination, strict=True)), start=np.zeros(n))
        cost: FloatArray = sum((fetched[op][p] for op, p in zip(others, combination, strict=True)), start=np.zeros(n))
        if not (cost <= best).any():
            continue
        # tiles only grow with the bound, so those that fit come first
        last = (tables[final] <= capacity - used).sum(axis=0) - 1
        at = np.take_along_axis(cheapest, np.maximum(last, 0)[None], axis=0)[0]
        cost = cost + np.take_along_axis(fetched[final], at[None], axis=0)[0]
        better = (cost <= best) & (last >= starts[final])
        best = np.where(better, cost, best)
        for op, p in zip(others, combination, strict=True):
            result[op] = np.where(better, p, result[op])
        result[final] = np.where(better, at, result[final])
    return result


def _cheapest_up_to(fetched: FloatArray) -> NDArray[np.intp]:
    """Position of the least value among the first p + 1, the last of equals; shape as `fetched`.

    A longer tile may fetch more in all: rounding a fraction of a tile down can favour short ones.
    """
    result = np.zeros(fetched.shape, dtype=np.intp)
    lowest = fetched[0]
    for position in range(1, len(fetched)):
        is_lower = fetched[position] <= lowest
        lowest = np.where(is_lower, fetched[position], lowest)
        result[position] = np.where(is_lower, position, result[position - 1])
    return result


def _prefix_by_dimension(loop_dims: NDArray[np.int8], loop_sizes: FloatArray) -> FloatArray:
    """Product of each dimension's loops below each position, shape (8, M + 1, N)."""
    n_loops, n = loop_dims.shape
    steps = np.ones((8, n_loops + 1, n))
    for d in range(8):
        steps[d, 1:] = running_product(np.where(loop_dims == d, loop_sizes, 1.0))
    return steps


def _tile_words(operand: str, steps: FloatArray, below: FloatArray, layers: Layers) -> FloatArray:
    """Words of a tile that ends at each position, with the spatial loops below it; shape (M + 1, N)."""
    plain = list(_PLAIN[operand])
    words = steps[plain].prod(axis=0) * below[plain].prod(axis=0)
    if operand != "I":
        return np.asarray(words)
    oy, ox, fy, fx = (np.floor(steps[d] * below[d] + 1e-9) for d in (OY, OX, FY, FX))
    rows = np.minimum(distinct(oy, fy, layers.stride, layers.dilation), layers.in_y)
    columns = np.minimum(distinct(ox, fx, layers.stride, layers.dilation), layers.in_x)
    return np.asarray(words * rows * columns)


def _bits(
    operand: str,
    level: int,
    steps: FloatArray,
    starts: NDArray[np.intp],
    spatial: FloatArray,
    layers: Layers,
) -> FloatArray:
    """Bits per word at a level: sums are wide while any loop of this level or above adds to them."""
    if operand != "O":
        return layers.weight_bits if operand == "W" else layers.input_bits
    adding = steps[C] * steps[FY] * steps[FX]
    unfinished = adding[-1] / np.take_along_axis(adding, starts[None], axis=0)[0]
    above = spatial[level + 1 :, [C, FY, FX]].prod(axis=(0, 1))
    return np.where(unfinished * above > 1.0, layers.psum_bits, layers.output_bits)
