"""Loop nests as a struct of arrays: many layers, each with a mapping, for one hierarchy.

Arrays have the nests on their last axis. Quantities that are the same for every nest may have length 1 there.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simulators.mapping import Mapping
from simulators.spatial_hierarchy import DIMENSIONS, OPERANDS, Hierarchy
from simulators.workload import FloatArray, IntArray, Workload

B, G, K, C, OY, OX, FY, FX = range(8)

PAD = -1
"""Loop dimension of an empty position; its size is 1."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers as loop nests, with what tiles of them are made of; arrays of shape (n,), `sizes` (8, n).

    Attributes:
        sizes: loop sizes B, G, K, C, OY, OX, FY, FX; K and C are those of one group.
        stride, dilation: of the window, in both directions.
        in_y, in_x: distinct input rows and columns that a whole layer touches and that exist.
        input_bits, weight_bits, psum_bits, output_bits: bits per word; partial sums are wider than final outputs.
    """

    sizes: FloatArray
    stride: FloatArray
    dilation: FloatArray
    in_y: FloatArray
    in_x: FloatArray
    input_bits: FloatArray
    weight_bits: FloatArray
    psum_bits: FloatArray
    output_bits: FloatArray

    def __len__(self) -> int:
        return int(self.sizes.shape[1])

    @property
    def macs(self) -> FloatArray:
        """Multiply-accumulates, shape (n,)."""
        return np.asarray(self.sizes.prod(axis=0))

    def take(self, rows: IntArray) -> Layers:
        """The given rows, which may repeat."""
        return Layers(**{f.name: getattr(self, f.name)[..., rows] for f in fields(self)})


def layers_of(workload: Workload) -> Layers:
    """A workload's layers: words of `bits`, partial sums of twice that; only input pixels that exist are counted."""
    groups = workload.groups
    sizes = np.array(
        [
            workload.batch, groups, workload.out_channels // groups, workload.in_channels // groups,
            workload.out_y, workload.out_x, workload.filter_y, workload.filter_x,
        ],
        dtype=np.float64,
    )  # fmt: skip
    stride, dilation = workload.stride.astype(np.float64), workload.dilation.astype(np.float64)
    rows = distinct(sizes[OY], sizes[FY], stride, dilation)
    columns = distinct(sizes[OX], sizes[FX], stride, dilation)
    bits = workload.bits.astype(np.float64)
    in_y, in_x = np.minimum(rows, workload.in_y), np.minimum(columns, workload.in_x)
    return Layers(sizes, stride, dilation, in_y, in_x, bits, bits, 2.0 * bits, bits)


def distinct(outputs: FloatArray, taps: FloatArray, stride: FloatArray, dilation: FloatArray) -> FloatArray:
    """Distinct input positions stride o + dilation t of some outputs o and some taps t, all whole numbers.

    The sums repeat with period stride/g in t and dilation/g in o, g their greatest common divisor.
    """
    divisor = np.gcd(stride.astype(np.int64), dilation.astype(np.int64)).astype(np.float64)
    repeated = np.maximum(taps - stride / divisor, 0.0) * np.maximum(outputs - dilation / divisor, 0.0)
    return np.asarray(outputs * taps - repeated)


def running_product(values: FloatArray) -> FloatArray:
    """Products of the first 1, 2, ... rows, row by row: along a short first axis far faster than `numpy.cumprod`."""
    result = np.empty_like(values, dtype=np.float64)
    result[0] = values[0]
    for row in range(1, len(values)):
        np.multiply(result[row - 1], values[row], out=result[row])
    return result


@dataclass(frozen=True, slots=True)
class Nests:
    """N layers, each with a mapping on one hierarchy.

    Attributes:
        layers: n = N layers, or 1 that all nests share.
        loop_dims, loop_sizes: shape (M, N), the temporal loops, innermost first; empty positions are `PAD` of size 1.
        bounds: operand -> shape (levels, N): how many positions lie in each level or below; the last one is M.
        spatial: operand -> shape (levels + 1, 8, n), unrolling of each loop dimension at each fan-out, maybe fractions.
        drain_cycles: shape (n,), cycles that the last results need to leave a systolic array.
        operand_order: the operands in the order in which they claim space for double buffering.
    """

    layers: Layers
    loop_dims: NDArray[np.int8]
    loop_sizes: FloatArray
    bounds: MappingType[str, NDArray[np.intp]]
    spatial: MappingType[str, FloatArray]
    drain_cycles: FloatArray
    operand_order: tuple[str, ...] = OPERANDS

    def __len__(self) -> int:
        return int(self.loop_dims.shape[1])


def default_unrolling(layers: Layers, hierarchy: Hierarchy, pes: FloatArray | None = None) -> FloatArray:
    """The hierarchy's default spatial mapping, cut to each layer: shape (array dimensions, 8, n), whole numbers.

    An unrolling is at most the loop, what is left of the array dimension, and what the innermost memories can feed
    (ZigZag 3.9.1, `SpatialMappingGeneratorStage`).

    Args:
        layers: n layers.
        hierarchy: whose default it is.
        pes: shape (array dimensions, n), PEs along each, where they are not the hierarchy's.
    """
    result = np.ones((len(hierarchy.array), 8, len(layers)))
    for a, (name, size) in enumerate(hierarchy.array.items()):
        along = np.full(len(layers), float(size)) if pes is None else pes[a]
        for dimension, factor in hierarchy.spatial.get(name, ()):
            d = DIMENSIONS.index(dimension)
            room = along // result[a].prod(axis=0)
            wanted = np.full(len(layers), float(factor)) if pes is None else along
            left = np.ceil(layers.sizes[d] / result[:, d].prod(axis=0))
            limit = feed_limit(layers, hierarchy, name, d)
            result[a, d] = np.maximum(np.minimum.reduce([wanted, room, left, limit]), 1.0)
    return result


def fractional(layers: Layers, unrolling: FloatArray) -> FloatArray:
    """Unrollings averaged over the temporal tiles: a loop of 7 on 4 PEs takes 2 tiles of 3.5.

    Args:
        layers: n layers.
        unrolling: shape (array dimensions, 8, n), whole numbers.

    Returns:
        The same shape. A loop on several array dimensions is cut at the one that unrolls it most (the first such).
    """
    result = unrolling.copy()
    total = unrolling.prod(axis=0)
    tiles = np.ceil(layers.sizes / total)
    widest = unrolling.argmax(axis=0)
    scale = layers.sizes / tiles / total
    at = widest[None] == np.arange(len(unrolling))[:, None, None]
    # one quotient where a loop is unrolled once, as ZigZag rounds it
    once = at & (unrolling == total)
    result[at] = (unrolling * scale)[at]
    result[once] = np.broadcast_to(layers.sizes / tiles, unrolling.shape)[once]
    return np.asarray(result)


def fan_out(hierarchy: Hierarchy, unrolling: FloatArray) -> dict[str, FloatArray]:
    """Unrollings by array dimension, shape (array dimensions, 8, n), as those of `Nests.spatial`."""
    names = list(hierarchy.array)
    result = {}
    for operand in OPERANDS:
        groups = hierarchy.unrolled_at(operand)
        levels = [unrolling[[names.index(name) for name in group]].prod(axis=0) for group in groups]
        result[operand] = np.array(levels)
    return result


def drain(hierarchy: Hierarchy, unrolling: FloatArray) -> FloatArray:
    """Cycles until the last results have left a systolic array, shape (n,): PEs in use along it, less one."""
    rows = [list(hierarchy.array).index(name) for name in hierarchy.systolic]
    used = unrolling[rows].prod(axis=1)
    return np.asarray(np.maximum(np.ceil(used) - 1.0, 0.0).sum(axis=0))


def nests_of(layers: Layers, hierarchy: Hierarchy, mappings: Sequence[Mapping]) -> Nests:
    """Nests from readable mappings, one per layer.

    The array's drain is counted from the hierarchy's default spatial mapping where a mapping agrees with it, else from
    its own spatial loops.

    Raises:
        ValueError: a mapping has other levels than the hierarchy, or its loops do not cover its layer.
    """
    n_loops = max(1, *(len(mapping.order) for mapping in mappings))
    dims = np.full((n_loops, len(mappings)), PAD, dtype=np.int8)
    sizes = np.ones((n_loops, len(mappings)))
    levels = {op: len(hierarchy.levels(op)) for op in OPERANDS}
    bounds = {op: np.full((levels[op], len(mappings)), n_loops, dtype=np.intp) for op in OPERANDS}
    spatial = {op: np.ones((levels[op] + 1, 8, len(mappings))) for op in OPERANDS}
    for n, mapping in enumerate(mappings):
        for position, (dimension, size) in enumerate(mapping.order):
            dims[position, n], sizes[position, n] = DIMENSIONS.index(dimension), size
        for op in OPERANDS:
            if len(mapping.temporal[op]) != levels[op]:
                raise ValueError(
                    f"mapping {n}: {op} has {len(mapping.temporal[op])} levels, {hierarchy.name} has {levels[op]}"
                )
            bounds[op][:-1, n] = mapping.bounds(op)[:-1]
            for level, loops in enumerate(mapping.spatial[op]):
                for dimension, size in loops:
                    spatial[op][level, DIMENSIONS.index(dimension), n] *= size
    nests = Nests(layers, dims, sizes, bounds, spatial, np.zeros(len(mappings)))
    _check_cover(nests)
    default = default_unrolling(layers, hierarchy)
    agrees = np.isclose(fractional(layers, default).prod(axis=0), spatial["O"].prod(axis=0)).all(axis=0)
    own = _array_unrolling(hierarchy, spatial)
    cycles = np.where(agrees, drain(hierarchy, default), drain(hierarchy, own))
    order = tuple(mappings[0].temporal) if mappings else OPERANDS
    return Nests(layers, dims, sizes, bounds, spatial, cycles, order)


def mapping_at(nests: Nests, index: int) -> Mapping:
    """One nest's mapping as readable data."""
    n = index if len(nests.drain_cycles) > 1 else 0
    order = [
        (DIMENSIONS[d], float(s)) for d, s in zip(nests.loop_dims[:, index], nests.loop_sizes[:, index], strict=True)
    ]
    temporal, spatial = {}, {}
    for op in nests.operand_order:
        ends = [0, *nests.bounds[op][:, index]]
        kept = [[loop for loop in order[a:b] if loop[1] > 1] for a, b in pairwise(ends)]
        temporal[op] = tuple(map(tuple, kept))
        rows = nests.spatial[op][:, :, n if nests.spatial[op].shape[2] > 1 else 0]
        spatial[op] = tuple(
            tuple((DIMENSIONS[d], float(size)) for d, size in enumerate(row) if size > 1) for row in rows
        )
    return Mapping(spatial, temporal)


def _array_unrolling(hierarchy: Hierarchy, spatial: MappingType[str, FloatArray]) -> FloatArray:
    """A guess of the whole-number unrolling of each array dimension from the fan-outs of the operands.

    Loops that share a fan-out in every operand are given to the array dimensions in the order of the default mapping.
    """
    names = list(hierarchy.array)
    total = np.ceil(spatial["O"].prod(axis=0) - 1e-9)
    result = np.ones((len(names), *total.shape))
    left = total.copy()
    for a, name in enumerate(names):
        wanted = [DIMENSIONS.index(d) for d, _ in hierarchy.spatial.get(name, ())]
        for d in [*wanted, *(d for d in range(8) if d not in wanted)]:
            room = np.maximum(hierarchy.array[name] // np.maximum(result[a].prod(axis=0), 1.0), 1.0)
            result[a, d] = np.minimum(room, left[d])
            left[d] = np.ceil(left[d] / result[a, d])
    return result


def feed_limit(layers: Layers, hierarchy: Hierarchy, array_dimension: str, loop: int) -> FloatArray:
    """Widest fan-out of a loop over an array dimension that the innermost memories' ports can feed, shape (n,)."""
    limit = np.full(len(layers), np.inf)
    for operand in OPERANDS:
        memory = hierarchy.memories[hierarchy.levels(operand)[0]]
        if array_dimension not in memory.serves or DIMENSIONS[loop] in IRRELEVANT[operand]:
            continue
        port = memory.port_of(operand, 1 if operand == "O" else 0)
        bits = {"W": layers.weight_bits, "I": layers.input_bits, "O": layers.psum_bits}[operand]
        if port is not None:
            limit = np.minimum(limit, memory.ports[port].max_bits // bits)
    return limit


def _check_cover(nests: Nests) -> None:
    covered = nests.spatial["O"].prod(axis=0)
    for d in range(8):
        covered[d] = covered[d] * np.where(nests.loop_dims == d, nests.loop_sizes, 1.0).prod(axis=0)
    wrong = covered < nests.layers.sizes * (1.0 - 1e-6)
    if wrong.any():
        d, n = (int(i[0]) for i in np.nonzero(wrong))
        size = np.broadcast_to(nests.layers.sizes, covered.shape)[d, n]
        raise ValueError(f"mapping {n}: its loops cover {covered[d, n]:g} of {DIMENSIONS[d]} = {size:g}")


IRRELEVANT = {"O": ("C", "FY", "FX"), "W": ("B", "OY", "OX"), "I": ("K",)}
"""Operand -> loop dimensions that do not change which word is used."""
