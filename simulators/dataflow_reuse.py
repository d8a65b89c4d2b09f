"""Data reuse of a layer under directives, by the rules of MAESTRO: one compiled walk over the cases of its iterations.

A dataflow is a list of clusters, outermost first. Within a cluster every dimension is mapped once: a chunk of `size`
elements that moves by `offset`, over time (temporal) or over the sub-clusters (spatial). Each mapped dimension is at
its first chunk (init), at a whole one (steady) or at a last, partial one (edge); a *case* is one such state for every
dimension, and how often it occurs is a product. Traffic, buffer needs and delays of a case are products of the sizes
of its chunks, so a layer costs a few dozen products, however many iterations it has (Kwon et al. 2019, sections 4-5).

The rules, their order and their oddities are MAESTRO's (snapshot of August 2022: cluster analysis, iteration analysis,
reuse analysis, cost analysis engine), so that figures agree with it to the last element. What is odd:

- An input whose own chunks do not change between two cases is charged no traffic, even where an inner loop over it
  starts again.
- L1 writes of inputs and weights equal their L2 reads: a multicast is one write.
- The need for L1 of the outputs is taken from the input pixels of a chunk.
- The wait for DRAM in every case is that of filling the whole L2 need anew.
- Where windows overlap and a last chunk is partial, outputs are counted by chunks of inputs; on strided layers the
  number of multiply-accumulates departs from the exact one.
- The required DRAM bandwidth halves with every case that follows the one that sets it.

Where a chunk of overlapping windows is larger than the input and MAESTRO finds no valid case, the chunk is the input.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.compile_numba import compiled
from simulators.dataflow_levels import (
    CLUSTER,
    COUNT,
    DEPTHWISE,
    DIM,
    EDGE,
    HAS_PARTIAL,
    INIT,
    IS_EDGE,
    IS_UNROLLED,
    KIND,
    MAPPED,
    MAPPED_EDGE,
    N_DIMS,
    N_SUB,
    N_SUB_EDGE,
    OY,
    POSITION,
    SPATIAL,
    TEMPORAL,
    UNIQUE,
    UNIQUE_EDGE,
    IntArray,
    R,
    Y,
    find_slot,
    iteration_states,
    mark_tiles,
    measure_chunks,
    resolve_clusters,
    tile_sizes,
)

FloatArray = NDArray[np.float64]

INPUT, FILTER, OUTPUT = range(3)
PRODUCED, SUMMED, CRITICAL, FETCHED = range(4)


COLUMNS = (
    "runtime_cycles", "num_macs", "peak_bw_req", "avg_bw_req", "offchip_bw_req", "l2_bytes_req", "l1_bytes_req",
    "input_l1_read", "input_l1_write", "input_l2_read", "input_l2_write",
    "filter_l1_read", "filter_l1_write", "filter_l2_read", "filter_l2_write",
    "output_l1_read", "output_l1_write", "output_l2_read", "output_l2_write",
    "avg_utilized_pes", "arithmetic_intensity",
)  # fmt: skip
"""What `analyse_pairs` gives, by the names of MAESTRO's own table: cycles, elements, elements per cycle, PEs."""

RUNTIME, MACS, PEAK_BW, AVG_BW, OFFCHIP_BW, L2_NEED, L1_NEED, ACCESSES = range(8)
L1_READ, L1_WRITE, L2_READ, L2_WRITE = range(4)  # within the accesses of a tensor
ACTIVE, INTENSITY = 19, 20

COUPLED = np.array(
    [
        [[0, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 1, 1]],
        [[0, 1, 0, 0, 1, 1], [0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 1, 1]],
    ],
    dtype=np.int64,
)
"""Which dimensions a tensor has: by whether the layer is depthwise, tensor (input, filter, output) and dimension."""


@compiled
def analyse_pairs(program: IntArray, layers: IntArray, hardware: IntArray, is_paired: bool, result: FloatArray) -> None:
    """Analyse layers under one dataflow on accelerators.

    Args:
        program: shape (D, 6), the directives: kind, dimension, size, offset, and the dimensions whose extents stand for
            size and offset (-1: the numbers themselves).
        layers: shape (L, 9): extents of K, C, R, S, Y, X, strides of Y and X, 1 if depthwise.
        hardware: shape (A, 3): PEs, elements per cycle of the network on chip and of DRAM, at least 1 each.
        is_paired: layer i on accelerator i alone.
        result: shape (L, A, len(COLUMNS)), or (L, 1, len(COLUMNS)) when paired; written.
    """
    n_levels = 1
    for i in range(len(program)):
        n_levels += program[i, KIND] == CLUSTER
    slot = np.zeros((n_levels, N_DIMS, 4), np.int64)
    extent = np.zeros((n_levels, N_DIMS), np.int64)
    volume = np.zeros((n_levels, 4, 8), np.int64)
    array = np.zeros((n_levels, 2), np.int64)
    used = np.zeros(n_levels, np.int64)
    wanted = np.zeros((n_levels, 64), np.bool_)
    known = np.zeros((n_levels, 64, 2), np.float64)
    for i in range(len(layers)):
        for a in range(result.shape[1]):
            machine = hardware[i if is_paired else a]
            resolve_clusters(program, layers[i], machine[0], slot, extent, array, used)
            for level in range(n_levels):
                measure_chunks(slot[level], extent[level], array[level], volume[level])
            mark_tiles(slot, extent, volume, array, wanted)
            coupled = COUPLED[layers[i, DEPTHWISE]]
            l1_need = 0.0
            for level in range(n_levels - 1, -1, -1):
                for mask in range(64):
                    if wanted[level, mask]:
                        sizes = tile_sizes(extent, volume, level, mask)
                        _evaluate(level, slot, volume, array, sizes, coupled, machine, known, result[i, a])
                        known[level, mask, 0] = result[i, a, RUNTIME]
                        known[level, mask, 1] = result[i, a, ACTIVE]
                        if level == n_levels - 1:
                            l1_need = result[i, a, L1_NEED]
            result[i, a, L1_NEED] = l1_need


@compiled
def _tile(slots: IntArray, case: IntArray, n_edge: int, n_partial: int) -> int:
    """Which dimensions of a sub-cluster's tile are last chunks, a bit each."""
    mask = 0
    for j in range(N_DIMS):
        if case[j, IS_EDGE] and (slots[j, KIND] == TEMPORAL or n_edge == 1 or n_partial == 1):
            mask |= 1 << slots[j, DIM]
    return mask


@compiled
def _mapped(
    slots: IntArray, volume: IntArray, n_edge: int, case: IntArray, coupled: IntArray, is_first: bool, is_partial: bool
) -> int:
    """Elements of a tensor in a sub-cluster's tile."""
    elements = 1
    for j in range(N_DIMS):
        dim = slots[j, DIM]
        if not coupled[dim]:
            continue
        if not case[j, IS_EDGE]:
            elements *= volume[MAPPED, dim]
        elif slots[j, KIND] == TEMPORAL or is_partial or (n_edge == 1 and is_first):
            elements *= volume[MAPPED_EDGE, dim]
        elif n_edge > 1:
            elements *= volume[MAPPED, dim]
    return elements


@compiled
def _fetched(
    slots: IntArray, volume: IntArray, n_edge: int, case: IntArray, coupled: IntArray, is_first: bool, is_partial: bool
) -> int:
    """Elements of an input that a sub-cluster gets in a case: what neither time nor a neighbour has brought before."""
    changing = -1
    for j in range(N_DIMS):
        if case[j, POSITION] != INIT:
            changing = j
    if changing < 0:
        return _mapped(slots, volume, n_edge, case, coupled, is_first, is_partial)
    if not coupled[slots[changing, DIM]]:
        return 0
    is_restarted = False
    for j in range(changing + 1, N_DIMS):
        if coupled[slots[j, DIM]] and not case[j, IS_UNROLLED]:
            is_restarted = True
    elements = 1
    for j in range(N_DIMS):
        dim = slots[j, DIM]
        if not coupled[dim]:
            continue
        if slots[j, KIND] == TEMPORAL:
            if case[j, POSITION] == INIT:
                elements *= volume[MAPPED_EDGE if case[j, IS_EDGE] else MAPPED, dim]
            elif j == changing and not is_restarted:
                elements *= max(volume[UNIQUE, dim], 1)
            else:
                elements *= volume[MAPPED, dim]
            continue
        is_new = j > changing if case[j, POSITION] == INIT else j == changing and not is_restarted
        if is_new and not is_first:
            elements *= volume[UNIQUE_EDGE if is_partial else UNIQUE, dim]
        else:
            elements *= volume[MAPPED_EDGE if is_partial else MAPPED, dim]
    return elements


@compiled
def _in_space(
    volume: IntArray, n_edge: int, state: IntArray, dim: int, out: int, is_first: bool, is_partial: bool, kind: int
) -> int:
    """Factor of a spatially mapped dimension in `_produced`; `kind` is what a partial last chunk counts."""
    factor: int = volume[MAPPED if is_first else UNIQUE, out]
    if factor == 0 and not is_first:
        factor = 1
    if state[POSITION] == EDGE or (state[POSITION] == INIT and state[IS_EDGE] and is_partial):
        if n_edge == 1 and (is_first or is_partial):
            factor = volume[MAPPED_EDGE, dim if state[POSITION] == EDGE else out]
        elif n_edge == 1:
            factor = 1
        elif is_partial:
            factor = volume[UNIQUE_EDGE if state[POSITION] == EDGE else kind, out]
    return factor


@compiled
def _produced(
    slots: IntArray,
    volume: IntArray,
    n_edge: int,
    case: IntArray,
    coupled: IntArray,
    what: int,
    is_first: bool,
    is_partial: bool,
) -> int:
    """Outputs of a sub-cluster in a case, or the products that are summed up in them."""
    elements = 1
    for j in range(N_DIMS):
        dim = slots[j, DIM]
        if not coupled[dim] and what == PRODUCED:
            continue
        out = dim - Y + OY if coupled[dim] and dim >= Y else dim
        if slots[j, KIND] == TEMPORAL:
            elements *= volume[MAPPED_EDGE if case[j, IS_EDGE] else MAPPED, out]
        else:
            kind = UNIQUE_EDGE if coupled[dim] and what != SUMMED else MAPPED_EDGE
            elements *= _in_space(volume, n_edge, case[j], dim, out, is_first, is_partial, kind)
    return elements


@compiled
def _space(slots: IntArray, case: IntArray, coupled: IntArray, every: bool) -> tuple[bool, bool, bool]:
    """Whether a tensor (or `every`: the loop nest) is spread in space, is at an edge there, ends in a partial tile."""
    is_spread, is_edge, has_partial = False, False, False
    for dim in range(N_DIMS):  # of two spread dimensions the later one says whether there is a partial tile
        j = find_slot(slots, len(slots), dim)
        if coupled[dim] and slots[j, KIND] == SPATIAL:
            is_spread = True
            is_edge = is_edge or case[j, IS_EDGE] == 1
            has_partial = case[j, HAS_PARTIAL] == 1
    if every:
        for j in range(N_DIMS):
            if slots[j, KIND] == SPATIAL:
                is_spread = True
                is_edge = is_edge or case[j, IS_EDGE] == 1
                has_partial = case[j, HAS_PARTIAL] == 1
    return is_spread, is_edge, has_partial


@compiled
def _flow(slots: IntArray, volume: IntArray, array: IntArray, case: IntArray, coupled: IntArray, what: int) -> int:
    """A quantity of a case, summed over the sub-clusters: a whole first one, whole others and a partial last one.

    `what` is the elements of an input that enter (FETCHED), the outputs that leave (PRODUCED), the multiply-accumulates
    (SUMMED), or those of the busiest sub-cluster alone (CRITICAL).
    """
    is_spread, is_edge, has_partial = _space(slots, case, coupled, what == SUMMED)
    n_sub, n_edge = array[N_SUB], array[N_SUB_EDGE]
    total = 0
    for part in range(1 if what == CRITICAL or not is_spread else 3):
        if part == 0:
            n, is_partial = 1, is_edge and n_edge == 1 and has_partial
        elif part == 1:
            n, is_partial = max(n_edge - has_partial - 1, 0) if is_edge else n_sub - 1, False
        else:
            n, is_partial = int(is_edge and n_edge > 1 and has_partial), True
        if n == 0:
            continue
        is_first = part == 0 or (part == 1 and what == SUMMED)
        if what == FETCHED:
            total += n * _fetched(slots, volume, n_edge, case, coupled, is_first, is_partial)
        else:
            total += n * _produced(slots, volume, n_edge, case, coupled, what, is_first, is_partial)
    return total


@compiled
def _transfer(elements: int, per_cycle: int) -> int:
    """Cycles on a network of one hop."""
    return (elements + per_cycle - 1) // per_cycle


@compiled
def _below(
    slots: IntArray, array: IntArray, case: IntArray, known: FloatArray, n_levels: int, level: int
) -> tuple[int, float]:
    """Cycles of the slowest sub-cluster of a case, and PEs at work on average."""
    n_edge, is_edge, has_partial = array[N_SUB_EDGE], False, False
    for j in range(N_DIMS - 1, -1, -1):
        if slots[j, KIND] == SPATIAL:
            is_edge, has_partial = case[j, IS_EDGE] == 1, case[j, HAS_PARTIAL] == 1
    n_active = n_edge if is_edge else array[N_SUB]
    if level == n_levels - 1:
        return 0, float(n_active)
    cycles, active = 0.0, 0.0
    for n_partial in range(2):
        n = int(is_edge and has_partial)
        if n_partial == 0:
            n = n_active - n
        if n > 0:
            mask = _tile(slots, case, n_edge, n_partial)
            cycles = max(cycles, known[level + 1, mask, 0])
            active += known[level + 1, mask, 1] * n
    return int(cycles), active if active != 0.0 else float(n_active)


@compiled
def _needs(
    volume: IntArray, coupled: IntArray, sizes: IntArray, flow: IntArray, need: IntArray, result: FloatArray
) -> None:
    """Buffers for a double-buffered case, and the transfers between L2 and DRAM: every element once."""
    result[L1_NEED] = 0.0
    for tensor in range(3):
        elements, mapped = 1, 2
        for dim in range(N_DIMS):
            if coupled[tensor, dim]:
                is_window = tensor == OUTPUT and dim >= Y
                elements *= sizes[dim] - sizes[dim - Y + R] + 1 if is_window else sizes[dim]
                mapped *= volume[MAPPED, dim]
        at = ACCESSES + 4 * tensor
        result[L1_NEED] += mapped
        if tensor == OUTPUT:
            need[tensor] = 2 * flow[PRODUCED]
            result[at + L2_READ] = elements
        else:
            need[tensor] += 2 * flow[FETCHED + tensor]
            result[at + L2_WRITE] = elements


@compiled
def _evaluate(
    level: int,
    slot: IntArray,
    volumes: IntArray,
    arrays: IntArray,
    sizes: IntArray,
    coupled: IntArray,
    machine: IntArray,
    known: FloatArray,
    result: FloatArray,
) -> None:
    """All cases of a cluster that gets a tile of `sizes`; `known` holds cycles and active PEs of the level below."""
    slots, volume, array, n_levels = slot[level], volumes[level], arrays[level], len(slot)
    state = np.zeros((N_DIMS, 3, 5), np.int64)
    n_states = np.zeros(N_DIMS, np.int64)
    case = np.zeros((N_DIMS, 5), np.int64)
    need = np.zeros(3, np.int64)
    flow = np.zeros(5, np.int64)
    iteration_states(slots, sizes, array[N_SUB], state, n_states)
    n_cases = 1
    for j in range(N_DIMS):
        n_cases *= n_states[j]
    for column in range(len(result)):
        result[column] = 0.0
    n_done, n_iterations = 0, 0
    for number in range(n_cases):
        times, period, is_start = 1, n_cases, True
        for j in range(N_DIMS):  # MAESTRO's order of the cases: digit j is number / period, rounded up
            period //= n_states[j]
            for field in range(5):
                case[j, field] = state[j, (number + period - 1) // period % n_states[j], field]
            times *= case[j, COUNT]
            is_start = is_start and case[j, POSITION] == INIT
        for q in range(5):
            what = min(q, FETCHED)
            flow[q] = _flow(slots, volume, array, case, coupled[q - FETCHED if q >= FETCHED else OUTPUT], what)
        if n_done == 0:
            _needs(volume, coupled, sizes, flow, need, result)
        out, products, critical = flow[PRODUCED], flow[SUMMED], flow[CRITICAL]
        result[ACCESSES + 4 * OUTPUT + L2_WRITE] += times * out
        result[ACCESSES + 4 * OUTPUT + L1_READ] += times * products
        if critical <= 0:
            continue
        into = flow[FETCHED + INPUT] + flow[FETCHED + FILTER]
        for tensor in range(INPUT, FILTER + 1):
            result[ACCESSES + 4 * tensor + L2_READ] += times * flow[FETCHED + tensor]
            result[ACCESSES + 4 * tensor + L1_READ] += times * products
        result[INTENSITY] = products / into if into != 0 else np.inf
        cycles, active = _below(slots, array, case, known, n_levels, level)
        if level == n_levels - 1:
            cycles = critical
        wait = max(_transfer(out, machine[1]), max(cycles, _transfer(into, machine[1])))
        if is_start:
            wait = cycles + _transfer(into, machine[1])
        busy = max(cycles, 1)
        if level == 0:
            inputs = need[INPUT] + need[FILTER]
            wait = max(wait, max(inputs // machine[2] // 2, need[OUTPUT] // machine[2] // 2))
            drain = max(int(result[OFFCHIP_BW]), max(need[OUTPUT] // busy, inputs // busy))
            result[OFFCHIP_BW] = drain // 2
        result[RUNTIME] += times * wait
        result[MACS] += times * products
        result[ACTIVE] += times * active
        result[PEAK_BW] = max(result[PEAK_BW], float(max(into, out) // busy))
        result[AVG_BW] += times * max(into, out) // busy
        n_iterations += times
        n_done += 1
    result[AVG_BW] /= max(n_iterations, 1)
    result[ACTIVE] /= max(n_iterations, 1)
    result[L2_NEED] = need[INPUT] + need[FILTER] + need[OUTPUT]
    result[ACCESSES + 4 * OUTPUT + L1_WRITE] = result[ACCESSES + 4 * OUTPUT + L1_READ]
    for tensor in range(INPUT, FILTER + 1):
        result[ACCESSES + 4 * tensor + L1_WRITE] = result[ACCESSES + 4 * tensor + L2_READ]
