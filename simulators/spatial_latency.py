"""Latency of loop nests on a memory hierarchy, with stalls, as ZigZag 3.9.1 estimates it, for many nests at once.

Compute takes one cycle per temporal iteration. Each transfer has, in every period, a window in which it may run: the
whole period where the receiving level is double-buffered (its tile, less the loops that refill it piece by piece, takes
at most half of the free room), else the last part, while the outermost loops that do not change the operand keep it.
A port that needs more cycles than its windows allow stalls the array, and so do the transfers of one port that
together need more than the union of their windows. The ports work side by side: the slowest counts.

Then come the first tiles (onloading), as far as bandwidth left over during compute does not hide them; the last results
(offloading); and the drain of a systolic array.

Source: ZigZag 3.9.1, `cost_model.py`, and Mei et al., "A uniform latency model for DNN accelerators", DATE 2022.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from simulators.spatial_cost import Numbers, Tiles, moves
from simulators.spatial_hierarchy import OPERANDS, READ_HIGH, READ_LOW, WRITE_HIGH, WRITE_LOW, Hierarchy
from simulators.spatial_nest import Nests
from simulators.workload import FloatArray

Buffered = dict[str, list[NDArray[np.bool_]]]
"""Operand -> whether the level below each boundary 0..L is double-buffered."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Cycles of N nests, each of shape (N,).

    Attributes:
        ideal_cycles: at one multiply-accumulate per PE and cycle.
        temporal_cycles: temporal iterations.
        stall_cycles: while computing.
        onload_cycles, offload_cycles, drain_cycles: before and after.
        port_cycles: that the busiest port needs for all its transfers.
    """

    ideal_cycles: FloatArray
    temporal_cycles: FloatArray
    stall_cycles: FloatArray
    onload_cycles: FloatArray
    offload_cycles: FloatArray
    drain_cycles: FloatArray
    port_cycles: FloatArray

    @property
    def compute_cycles(self) -> FloatArray:
        """Compute with its stalls (ZigZag's latency_total0)."""
        return np.asarray(self.temporal_cycles + self.stall_cycles)

    @property
    def total_cycles(self) -> FloatArray:
        """Everything (ZigZag's latency_total2)."""
        return np.asarray(self.compute_cycles + self.onload_cycles + self.offload_cycles + self.drain_cycles)

    @property
    def bounded_cycles(self) -> FloatArray:
        """As `total_cycles`, but never below what the busiest port needs.

        ZigZag cuts the bandwidth that transfers need on average down to whole bits per cycle before it hides first and
        last tiles behind compute; a slow DRAM port then seems to move more than it can.
        """
        return np.maximum(self.total_cycles, self.port_cycles)


@dataclass(frozen=True, slots=True)
class _Transfer:
    """One operand's movement at one memory's port: per period, and how often."""

    operand: str
    level: int
    direction: int
    boundary: int
    real: FloatArray
    active: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Windows:
    """At one boundary: cycles of a period, cycles of it in which data may move, and periods in all."""

    period: FloatArray
    allowed: FloatArray
    count: FloatArray


def estimate_latency(
    nests: Nests,
    hierarchy: Hierarchy,
    numbers: Numbers,
    tiles: MappingType[str, Tiles],
    whole_tiles: MappingType[str, Tiles],
) -> Latency:
    """Latency of every nest.

    Args:
        nests: N nests.
        hierarchy: they are mapped on.
        numbers: of the hierarchy, or N of them.
        tiles: by operand, with fractional unrollings (they decide what is double-buffered).
        whole_tiles: the same with whole unrollings.
    """
    buffered = _double_buffered(nests, hierarchy, numbers, tiles)
    windows = {op: _windows(whole_tiles[op], buffered[op]) for op in OPERANDS}
    ports = _transfers(hierarchy, numbers, whole_tiles)
    stall, busy = np.zeros(len(nests)), np.zeros(len(nests))
    for transfers in ports.values():
        stall = np.maximum(stall, _port_stall(transfers, windows, whole_tiles["O"].cycles[-1]))
        busy = np.maximum(busy, _port_cycles(transfers, windows))
    temporal = whole_tiles["O"].cycles[-1]
    loading: dict[tuple[str, int, int], tuple[FloatArray, bool]] = {}
    for (memory, port), transfers in ports.items():
        width = numbers.port_max[memory][port]
        loading |= _first_or_last(transfers, windows, whole_tiles, width, temporal + stall)
    n_units = hierarchy.pes
    return Latency(
        ideal_cycles=np.broadcast_to(np.ceil(nests.layers.macs / n_units), (len(nests),)),
        temporal_cycles=temporal,
        stall_cycles=stall,
        onload_cycles=np.broadcast_to(_onload(hierarchy, loading), (len(nests),)),
        offload_cycles=np.broadcast_to(_offload(hierarchy, loading), (len(nests),)),
        drain_cycles=np.broadcast_to(nests.drain_cycles, (len(nests),)),
        port_cycles=busy,
    )


def _double_buffered(nests: Nests, hierarchy: Hierarchy, numbers: Numbers, tiles: MappingType[str, Tiles]) -> Buffered:
    """Which levels have room for the next tile beside this one, claimed operand by operand."""
    own: dict[tuple[str, int], FloatArray] = {}
    shared: dict[int, FloatArray] = {}
    for op in OPERANDS:
        for level, memory in enumerate(hierarchy.levels(op)):
            bits = tiles[op].words[level + 1] * tiles[op].word_bits[level + 1]
            own[op, memory] = np.floor(bits / tiles[op].top_relevant[level + 1]) / numbers.bits[memory]
    for index, held in enumerate(hierarchy.memories):
        shared[index] = sum((own[op, index] for op in held.operands), start=np.zeros(1))
    result: Buffered = {}
    for op in nests.operand_order:
        result[op] = [np.zeros(1, dtype=bool)]
        for memory in hierarchy.levels(op):
            is_half = shared[memory] <= 0.5
            has_room = ~is_half & (own[op, memory] <= 1.0 - shared[memory])
            if len(hierarchy.memories[memory].operands) > 1:
                shared[memory] = np.where(has_room, shared[memory] + own[op, memory], shared[memory])
            result[op].append(is_half | has_room)
    return result


def _windows(tiles: Tiles, buffered: list[NDArray[np.bool_]]) -> list[_Windows]:
    result = []
    for boundary, period in enumerate(tiles.cycles):
        while_kept = np.floor(period / tiles.top_irrelevant[boundary])
        allowed = np.where(buffered[boundary], period, while_kept)
        result.append(_Windows(period, allowed, np.floor(tiles.cycles[-1] / period)))
    return result


def _transfers(
    hierarchy: Hierarchy, numbers: Numbers, tiles: MappingType[str, Tiles]
) -> dict[tuple[int, int], list[_Transfer]]:
    """Every transfer of every port, in the port's order: by operand of the memory, then as the port lists them."""
    ports: dict[tuple[int, int], list[_Transfer]] = {}
    for index, memory in enumerate(hierarchy.memories):
        for op in memory.operands:
            level = hierarchy.levels(op).index(index)
            here = moves(op, level, len(hierarchy.levels(op)), tiles[op])
            for number, port in enumerate(memory.ports):
                for direction in (way for operand, way in port.moves if operand == op and way in here):
                    amount, bits, _ = here[direction]
                    boundary = level if direction in (READ_LOW, WRITE_LOW) else level + 1
                    returns = op == "O" and direction in (READ_LOW, WRITE_HIGH)
                    active = tiles[op].is_partial[boundary] if returns else np.ones(1, dtype=bool)
                    real = np.ceil(amount * bits / numbers.port_max[index][number])
                    transfer = _Transfer(op, level, direction, boundary, real, active)
                    ports.setdefault((index, number), []).append(transfer)
    return ports


def _port_stall(transfers: list[_Transfer], windows: MappingType[str, list[_Windows]], total: FloatArray) -> FloatArray:
    """Stall cycles that one port's transfers need: each one's own, and those of sharing the port."""
    late: FloatArray = np.zeros(1)
    spare: FloatArray = np.zeros(1)
    allowed_sum: FloatArray = np.zeros(1)
    for t in transfers:
        window = windows[t.operand][t.boundary]
        repeats = np.where(t.active, window.count - 1.0, 0.0)
        balance = (t.real - window.allowed) * repeats
        late = late + np.maximum(balance, 0.0)
        spare = spare + np.minimum(balance, 0.0)
        allowed_sum = allowed_sum + window.allowed * repeats
    if len(transfers) == 1:
        return late
    shared = np.maximum(0.0, spare + allowed_sum - _window_union(transfers, windows, total))
    return np.asarray(late + shared)


def _port_cycles(transfers: list[_Transfer], windows: MappingType[str, list[_Windows]]) -> FloatArray:
    """Cycles of all transfers of one port, one after another."""
    total: FloatArray = np.zeros(1)
    for t in transfers:
        total = total + np.where(t.active, t.real * windows[t.operand][t.boundary].count, 0.0)
    return total


def _window_union(
    transfers: list[_Transfer], windows: MappingType[str, list[_Windows]], total: FloatArray
) -> FloatArray:
    """Cycles of the whole computation in at least one transfer's window.

    Periods and windows are products of the innermost loops up to some position, so a cycle lies in a window when all
    loop counters between two positions are zero. Cycles in several windows at once are those with the counters of all
    the windows zero; the union follows by inclusion and exclusion.
    """
    active: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for t in transfers:
        key = (t.operand, t.boundary)
        active[key] = active[key] | t.active if key in active else t.active
    chosen = [(windows[op][boundary], is_active) for (op, boundary), is_active in active.items()]
    outside: FloatArray = np.zeros(1)
    for size in range(len(chosen) + 1):
        for subset in combinations(chosen, size):
            outside = outside + (-1.0) ** size * _in_all(subset, total)
    return np.asarray(total - outside)


def _in_all(subset: tuple[tuple[_Windows, NDArray[np.bool_]], ...], total: FloatArray) -> FloatArray:
    """Cycles in every one of some windows; 0 where one of them is not active."""
    if not subset:
        return total
    periods = [window.period for window, _ in subset]
    alloweds = [window.allowed for window, _ in subset]
    if len(subset) == 1:
        counters = periods[0] / alloweds[0]
    else:
        shape = np.broadcast_shapes(*(a.shape for a in (*periods, *alloweds)))
        period = np.array([np.broadcast_to(p, shape) for p in periods])
        allowed = np.array([np.broadcast_to(a, shape) for a in alloweds])
        order = np.argsort(-period, axis=0, kind="stable")
        period, allowed = np.take_along_axis(period, order, 0), np.take_along_axis(allowed, order, 0)
        counters = period[0] / allowed[0]
        lowest = allowed[0]
        for p, a in zip(period[1:], allowed[1:], strict=True):
            counters = counters * np.maximum(np.minimum(p, lowest) / a, 1.0)
            lowest = np.minimum(lowest, a)
    is_active = np.ones(1, dtype=bool)
    for _, one in subset:
        is_active = is_active & one
    return np.where(is_active, np.rint(total / counters), 0.0)


def _first_or_last(
    transfers: list[_Transfer],
    windows: MappingType[str, list[_Windows]],
    tiles: MappingType[str, Tiles],
    width: FloatArray,
    compute: FloatArray,
) -> dict[tuple[str, int, int], tuple[FloatArray, bool]]:
    """Cycles that one port needs for the first tile of each input and the last one of the output.

    Data that moves once in all (period count 1) may use bandwidth that the port has left during compute, down to the
    cycles of the innermost tile, the longest transfers first (`reduce_ordered` of ZigZag 3.9.1).
    """
    edge = [t for t in transfers if t.operand != "O" or t.direction in (READ_HIGH, WRITE_LOW)]
    is_shared = len({t.operand for t in transfers if t.operand != "O"}) > 1
    once = [windows[t.operand][t.boundary].count == 1.0 for t in edge]
    needed: FloatArray = np.zeros(1)
    reducible = []
    for t, single in zip(edge, once, strict=True):
        tile = tiles[t.operand]
        rate = tile.words[t.boundary] * tile.word_bits[t.boundary] / tile.cycles[t.boundary]
        if t.direction in (READ_LOW, WRITE_LOW):
            rate = rate * tile.fan[t.boundary]
        needed = needed + np.where(single, 0.0, np.floor(rate))
        smallest = np.ceil(tile.words[1] * tile.word_bits[1] / width)
        reducible.append(np.where(single, np.maximum(t.real - smallest, 0.0), 0.0))
    surplus = np.maximum(0.0, (width - needed) / width * compute)
    result = {}
    for i, t in enumerate(edge):
        before: FloatArray = np.zeros(1)
        for j, other in enumerate(edge):
            if i != j:
                is_first = other.real >= t.real if j < i else other.real > t.real
                before = before + np.where(is_first, reducible[j], 0.0)
        hidden = np.clip(surplus - before, 0.0, reducible[i])
        result[t.operand, t.level, t.direction] = (np.asarray(t.real - hidden), is_shared)
    return result


def _onload(hierarchy: Hierarchy, loading: MappingType[tuple[str, int, int], tuple[FloatArray, bool]]) -> FloatArray:
    """Cycles until the first tiles of W and I are in place, level by level; links that share ports take turns."""
    alone: dict[str, FloatArray] = {op: np.zeros(1) for op in "WI"}
    half, both = dict(alone), dict(alone)
    for op in "WI":
        for level in range(len(hierarchy.levels(op)) - 1):
            lower, lower_shared = loading[op, level, WRITE_HIGH]
            upper, upper_shared = loading[op, level + 1, READ_LOW]
            cycles = np.maximum(lower, upper)
            if lower_shared and upper_shared:
                both[op] = both[op] + cycles
            elif lower_shared or upper_shared:
                half[op] = cycles  # ZigZag keeps the outermost such link only
            else:
                alone[op] = alone[op] + cycles
    ways = [both[a] + np.maximum(both[b] + half[b] + alone[b], half[a] + alone[a]) for a, b in (("W", "I"), ("I", "W"))]
    return np.minimum(*ways)


def _offload(hierarchy: Hierarchy, loading: MappingType[tuple[str, int, int], tuple[FloatArray, bool]]) -> FloatArray:
    """Cycles until the last outputs are in the top level, level after level."""
    total: FloatArray = np.zeros(1)
    for level in range(len(hierarchy.levels("O")) - 1):
        out, into = loading["O", level, READ_HIGH][0], loading["O", level + 1, WRITE_LOW][0]
        total = total + np.maximum(out, into)
    return total
