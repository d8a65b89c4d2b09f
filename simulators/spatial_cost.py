"""Accesses and energy of loop nests on a memory hierarchy, as ZigZag 3.9.1 counts them, for many nests at once.

For each operand and level l, with the loops of the levels below merged with those that do not change the operand
(a tile is not read again while only such loops run):

    words(l)    words of the tile that one copy of level l - 1 holds (words(0) = 1, at the PE)
    cycles(l)   cycles for which that tile is used: the period of the transfer between levels l - 1 and l
    copies(l)   how many copies of level l are in use, fan(l) how many different tiles a copy feeds

so that level l reads words(l) fan(l) words in each of total / cycles(l) periods. An access is counted as a share
(min_bits / max_bits) of a port's whole width, rounded up to a whole number of the smallest access (`ceil`).

A loop over pixels and one over filter taps share input positions; a tile holds the distinct ones. Where a spatial loop
does not fill its PEs in every tile, energies use the average (a fraction) and latencies the whole number below it.
Source: ZigZag 3.9.1, `mapping.py`, `cost_model.py`; Mei et al. 2021, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.spatial_hierarchy import OPERANDS, READ_HIGH, READ_LOW, WRITE_HIGH, WRITE_LOW, Hierarchy
from simulators.spatial_nest import FX, FY, IRRELEVANT, OX, OY, B, C, G, K, Layers, Nests, distinct, running_product
from simulators.workload import FloatArray

_RELEVANT = {"O": (B, G, K, OY, OX), "W": (G, K, C, FY, FX), "I": (B, G, C)}
_IRRELEVANT = {"O": (C, FY, FX), "W": (B, OY, OX), "I": (K,)}
assert {op: len(names) for op, names in IRRELEVANT.items()} == {op: len(d) for op, d in _IRRELEVANT.items()}


@dataclass(frozen=True, slots=True)
class Numbers:
    """A hierarchy's numbers, one array per memory or port, each of shape (1,), or (N,) to differ between nests.

    Attributes:
        bits, read_pj, write_pj: by memory.
        port_min, port_max: by memory, by port: bits a cycle.
        mac_pj: of one multiply-accumulate.
    """

    bits: Sequence[FloatArray]
    read_pj: Sequence[FloatArray]
    write_pj: Sequence[FloatArray]
    port_min: Sequence[Sequence[FloatArray]]
    port_max: Sequence[Sequence[FloatArray]]
    mac_pj: FloatArray


def numbers_of(hierarchy: Hierarchy) -> Numbers:
    """The numbers of one hierarchy."""
    memories = hierarchy.memories
    return Numbers(
        bits=[np.array([m.bits]) for m in memories],
        read_pj=[np.array([m.read_pj]) for m in memories],
        write_pj=[np.array([m.write_pj]) for m in memories],
        port_min=[[np.array([p.min_bits]) for p in m.ports] for m in memories],
        port_max=[[np.array([p.max_bits]) for p in m.ports] for m in memories],
        mac_pj=np.array([hierarchy.mac_pj]),
    )


@dataclass(frozen=True, slots=True)
class Tiles:
    """What each level of one operand holds and moves; lists run over boundaries 0..L between levels l - 1 and l.

    Attributes:
        words: of one copy of level l - 1, rounded to whole words as ZigZag does.
        exact_words: the same, not rounded.
        fan: different tiles that one copy of level l feeds at boundary l (L entries).
        copies: copies of level l - 1 in use; copies[0] counts PEs.
        cycles: for which a tile is used.
        top_relevant, top_irrelevant: product of the outermost loops of level l - 1 that change, or do not change, the
            operand.
        is_partial: whether words that cross boundary l upwards are sums not yet complete (outputs only).
        has_psums: as `is_partial`, from the count of words that return (outputs only).
        word_bits: bits of a word that level l - 1 holds.
        crossing_bits: bits of a word that crosses boundary l.
    """

    words: list[FloatArray]
    exact_words: list[FloatArray]
    fan: list[FloatArray]
    copies: list[FloatArray]
    cycles: list[FloatArray]
    top_relevant: list[FloatArray]
    top_irrelevant: list[FloatArray]
    is_partial: list[NDArray[np.bool_]]
    has_psums: list[NDArray[np.bool_]]
    word_bits: list[FloatArray]
    crossing_bits: list[FloatArray]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Products of the temporal loops below each position, shape (M + 1, N), that all tiles are made from."""

    total: FloatArray
    relevant: MappingType[str, FloatArray]
    output_irrelevant: FloatArray
    window: MappingType[int, FloatArray]
    relevant_run: MappingType[str, FloatArray]
    irrelevant_run: MappingType[str, FloatArray]
    bounds: MappingType[str, NDArray[np.intp]]
    first: MappingType[str, FloatArray]


def prefixes(nests: Nests) -> Prefixes:
    """Prefix products, and each operand's bounds moved outwards over loops that do not change it.

    Source: `TemporalMapping.innermost_stationary_loop_merge_down` of ZigZag 3.9.1.
    """
    dims, sizes = nests.loop_dims, nests.loop_sizes
    one_hot = [dims == d for d in range(8)]
    inert = dims < 0
    masks = {op: np.logical_or.reduce([one_hot[d] for d in _IRRELEVANT[op]]) for op in OPERANDS}
    relevant_masks = {op: np.logical_or.reduce([one_hot[d] for d in _RELEVANT[op]]) for op in OPERANDS}
    total = _prefix(sizes)
    bounds, first = {}, {}
    n = np.arange(dims.shape[1])
    for op in OPERANDS:
        onward = _next_changing(masks[op] | inert)
        bounds[op] = np.take_along_axis(onward, nests.bounds[op], axis=0)
        bounds[op][-1] = len(dims)
        first[op] = total[onward[0], n]
    return Prefixes(
        total=total,
        relevant={op: _prefix(np.where(relevant_masks[op], sizes, 1.0)) for op in OPERANDS},
        output_irrelevant=_prefix(np.where(masks["O"], sizes, 1.0)),
        window={d: np.where(one_hot[d], sizes, 1.0) for d in (OY, OX, FY, FX)},
        relevant_run={op: _runs(relevant_masks[op], inert, sizes) for op in OPERANDS},
        irrelevant_run={op: _runs(masks[op], inert, sizes) for op in OPERANDS},
        bounds=bounds,
        first=first,
    )


def tiles_of(nests: Nests, operand: str, pre: Prefixes, whole: bool) -> Tiles:
    """Tiles of one operand.

    Args:
        nests: N nests.
        operand: W, I or O.
        pre: their prefix products.
        whole: cut fractional unrollings down to whole numbers (for latency).
    """
    layers, bounds = nests.layers, pre.bounds[operand]
    spatial = np.floor(nests.spatial[operand]) if whole else nests.spatial[operand]
    n = len(nests)
    at = bounds * n + np.arange(n)
    total = pre.total.ravel()[at]
    spatial_relevant = _spatial_words(operand, spatial, layers)
    below = running_product(spatial[:, list(_RELEVANT[operand])].prod(axis=1))
    relevant = pre.relevant[operand].ravel()[at] * below[:-1]
    if operand == "I":
        relevant = relevant * _window_words(pre, bounds, spatial, layers)
    exact = [np.ones(1), *relevant]
    start = pre.first[operand] if operand != "O" else np.ones(1)
    cycles = [start, *total]
    lower = np.concatenate([np.ones((1, n)), total[:-1]])
    own = total / lower
    runs = [np.minimum(run.ravel()[at], own) for run in (pre.relevant_run[operand], pre.irrelevant_run[operand])]
    partial, psums, bits, crossing = _precision(nests, operand, pre, at, spatial)
    return Tiles(
        words=[np.rint(words) for words in exact],
        exact_words=exact,
        fan=[np.rint(fan) for fan in spatial_relevant],
        copies=[np.rint(np.round(c, 3)) for c in _above(spatial.prod(axis=1))],
        cycles=cycles,
        top_relevant=[np.ones(1), *runs[0]],
        top_irrelevant=[np.ones(1), *runs[1]],
        is_partial=partial,
        has_psums=psums,
        word_bits=bits,
        crossing_bits=crossing,
    )


@dataclass(frozen=True, slots=True)
class Accesses:
    """Accesses and energy of N nests.

    Attributes:
        words: operand -> shape (levels, 4, N), accesses by level and direction (`DIRECTIONS`), in port widths.
        memory_pj: operand -> shape (levels, N).
        mac_pj: shape (N,).
    """

    words: MappingType[str, FloatArray]
    memory_pj: MappingType[str, FloatArray]
    mac_pj: FloatArray

    @property
    def energy_pj(self) -> FloatArray:
        """Energy of each nest, shape (N,)."""
        total = self.mac_pj.copy()
        for levels in self.memory_pj.values():
            total += levels.sum(axis=0)
        return np.asarray(total)


def count_accesses(nests: Nests, hierarchy: Hierarchy, numbers: Numbers, tiles: MappingType[str, Tiles]) -> Accesses:
    """Accesses of every level in every direction, and their energy. Shapes: see `Accesses`."""
    n = len(nests)
    words, energy = {}, {}
    for op in OPERANDS:
        levels = hierarchy.levels(op)
        words[op] = np.zeros((len(levels), 4, n))
        energy[op] = np.zeros((len(levels), n))
        for level, memory in enumerate(levels):
            for direction, (amount, bits, cycles) in moves(op, level, len(levels), tiles[op]).items():
                port = hierarchy.memories[memory].port_of(op, direction)
                if port is None:
                    continue
                low, high = numbers.port_min[memory][port], numbers.port_max[memory][port]
                periods = np.floor(tiles[op].cycles[-1] / cycles)
                count = np.ceil(amount * bits / low) * (low / high) * periods * tiles[op].copies[level + 1]
                words[op][level, direction] = np.floor(count)
            reads = words[op][level, READ_LOW] + words[op][level, READ_HIGH]
            writes = words[op][level, WRITE_LOW] + words[op][level, WRITE_HIGH]
            energy[op][level] = reads * numbers.read_pj[memory] + writes * numbers.write_pj[memory]
    mac_pj = np.broadcast_to(nests.layers.macs * numbers.mac_pj, (n,)).copy()
    return Accesses(words, energy, mac_pj)


def moves(
    operand: str, level: int, n_levels: int, tiles: Tiles
) -> dict[int, tuple[FloatArray, FloatArray, FloatArray]]:
    """Movements at a level: direction -> (words per period, bits per word, cycles per period).

    Where sums are complete, none return: their bits per word are 0. Nothing crosses the top level's upper side.
    """
    low = tiles.words[level] * tiles.fan[level], tiles.cycles[level]
    has_high = level < n_levels - 1
    high = tiles.words[level + 1], tiles.cycles[level + 1]
    if operand != "O":
        result = {READ_LOW: (low[0], tiles.crossing_bits[level], low[1])}
        if has_high:
            result[WRITE_HIGH] = (high[0], tiles.crossing_bits[level + 1], high[1])
        return result
    bits = tiles.crossing_bits[level]
    result = {
        WRITE_LOW: (low[0], bits, low[1]),
        READ_LOW: (low[0] * tiles.is_partial[level], bits * tiles.has_psums[level], low[1]),
    }
    if has_high:
        bits = tiles.crossing_bits[level + 1]
        result[READ_HIGH] = (high[0], bits, high[1])
        result[WRITE_HIGH] = (high[0] * tiles.is_partial[level + 1], bits * tiles.has_psums[level + 1], high[1])
    return result


def fits_by_memory(
    nests: Nests, hierarchy: Hierarchy, numbers: Numbers, tiles: MappingType[str, Tiles]
) -> NDArray[np.bool_]:
    """Whether each memory holds its tiles, shape (memories, N).

    A level holds sums at full width as long as any loop of it or above adds to them, as ZigZag's allocator demands.
    """
    result = np.ones((len(hierarchy.memories), len(nests)), dtype=bool)
    for index, memory in enumerate(hierarchy.memories):
        held = np.zeros(1)
        for op in memory.operands:
            level = hierarchy.levels(op).index(index)
            bits = tiles[op].exact_words[level + 1] * tiles[op].word_bits[level]
            if memory.is_double_buffered:
                bits = bits * np.where(tiles[op].cycles[level + 1] < tiles[op].cycles[-1], 2.0, 1.0)
            held = held + bits
        result[index] = held <= numbers.bits[index] * (1.0 + 1e-12)
    return result


def _precision(
    nests: Nests, operand: str, pre: Prefixes, at: NDArray[np.intp], spatial: FloatArray
) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]], list[FloatArray], list[FloatArray]]:
    """Whether sums at each boundary 0..L are partial, by ZigZag's two tests, and the bits per word by each."""
    layers, n_boundaries = nests.layers, len(at) + 1
    if operand != "O":
        bits = layers.weight_bits if operand == "W" else layers.input_bits
        return [], [], [bits] * n_boundaries, [bits] * n_boundaries
    adding = spatial[:, list(_IRRELEVANT["O"])].prod(axis=1)
    adding_above = [np.asarray(a) for a in _above(adding)]
    temporal = pre.output_irrelevant.ravel()[at]
    whole = pre.output_irrelevant[-1]
    left = [whole, *(whole / t for t in temporal)]
    factors = [left[lv] * adding_above[lv + 1] for lv in range(n_boundaries - 1)]
    factors.append(np.ones(1))
    outputs = layers.sizes[list(_RELEVANT["O"])].prod(axis=0)
    partial = [factor > 1.0 for factor in factors]
    psums = [np.floor(outputs * (factor - 1.0)) != 0.0 for factor in factors]
    held = [np.where(p, layers.psum_bits, layers.output_bits) for p in partial]
    crossing = [np.where(p, layers.psum_bits, layers.output_bits) for p in psums]
    return partial, psums, held, crossing


def _spatial_words(operand: str, spatial: FloatArray, layers: Layers) -> FloatArray:
    """Different tiles at each fan-out, shape (levels + 1, n)."""
    plain = spatial[:, list(_RELEVANT[operand])].prod(axis=1)
    if operand != "I":
        return np.asarray(plain)
    below = running_product(spatial)
    held = _axis_words(below[:, OY], below[:, FY], layers, layers.in_y) * _axis_words(
        below[:, OX], below[:, FX], layers, layers.in_x
    )
    shifted = np.concatenate([np.ones((1, held.shape[1])), held[:-1]])
    return np.asarray(plain * held / shifted)


def _axis_words(outputs: FloatArray, taps: FloatArray, layers: Layers, limit: FloatArray) -> FloatArray:
    return np.minimum(distinct(np.floor(outputs), np.floor(taps), layers.stride, layers.dilation), limit)


def _window_words(pre: Prefixes, bounds: NDArray[np.intp], spatial: FloatArray, layers: Layers) -> FloatArray:
    """Distinct input positions of each level's tile, rows times columns, shape (levels, N)."""
    sizes = {d: _at_bounds(pre.window[d], bounds, spatial[:-1, d]) for d in (OY, OX, FY, FX)}
    rows = _axis_words(sizes[OY], sizes[FY], layers, layers.in_y)
    return np.asarray(rows * _axis_words(sizes[OX], sizes[FX], layers, layers.in_x))


def _at_bounds(loops: FloatArray, bounds: NDArray[np.intp], spatial: FloatArray) -> FloatArray:
    """Product of temporal loops below each bound and spatial ones at and below each level, shape (levels, N).

    Fractions are multiplied in the nest's order, since the words are cut to whole numbers afterwards.
    """
    n_levels, n = bounds.shape
    if not (spatial != np.floor(spatial)).any():
        products = _prefix(loops).ravel()[bounds * n + np.arange(n)]
        return np.asarray(products * running_product(spatial))
    result = np.empty((n_levels, n))
    value, done = np.ones(n), np.zeros(n, dtype=np.intp)
    for level in range(n_levels):
        for position in range(len(loops)):
            value = np.where((position >= done) & (position < bounds[level]), value * loops[position], value)
        done = bounds[level]
        value = value * spatial[level]
        result[level] = value
    return result


def _above(values: FloatArray) -> list[FloatArray]:
    """Products of entries l, l + 1, ... for each l."""
    return list(running_product(values[::-1])[::-1])


def _prefix(sizes: FloatArray) -> FloatArray:
    """1, then the products of the first 1, 2, ... rows."""
    return running_product(np.concatenate([np.ones((1, *sizes.shape[1:])), sizes]))


def _next_changing(skipped: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each position 0..M, the first position from it that is not skipped; M if there is none."""
    n_loops, n = skipped.shape
    result = np.full((n_loops + 1, n), n_loops, dtype=np.intp)
    for position in range(n_loops - 1, -1, -1):
        result[position] = np.where(skipped[position], result[position + 1], position)
    return result


def _runs(wanted: NDArray[np.bool_], inert: NDArray[np.bool_], sizes: FloatArray) -> FloatArray:
    """Product of the unbroken run of wanted loops that ends below each position, shape (M + 1, N)."""
    result = np.ones((len(sizes) + 1, sizes.shape[1]))
    for position in range(len(sizes)):
        go_on = result[position] * sizes[position]
        result[position + 1] = np.where(wanted[position], go_on, np.where(inert[position], result[position], 1.0))
    return result
