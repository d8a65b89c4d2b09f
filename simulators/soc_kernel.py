"""The phase loop of the `soc` model, compiled where numba is: see `simulators.soc` for what it computes.

Legend: A designs, T tasks, E edges, P PEs, M memories, B buses, K = M + B places (memories, then buses); direction 0
reads, 1 writes. Wires lead into a place: into a bus from each of its PEs, and from its left (P) and right (P + 1)
neighbour; into a memory one. A bus has M + 2 outputs, to its memories and to its left (M) and right (M + 1)
neighbour; a memory has one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.compile_numba import compiled

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

WAITING, READY, RUNNING, ENDING, DONE = 0, 1, 2, 3, 4
_TIE = 1e-12  # tasks that would end within this share of a phase after its end, end with it: rounding, not time


@compiled
def route(
    a: int,
    edge_ends: IntArray,
    edge_bytes: FloatArray,
    edge_bursts: FloatArray,
    task_pe: IntArray,
    task_mem: IntArray,
    source_mem: IntArray,
    pe_bus: IntArray,
    mem_bus: IntArray,
    place_rate: FloatArray,
    moved: FloatArray,
    burst: FloatArray,
    wire: IntArray,
    outputs: IntArray,
) -> None:
    """Write which way the data of every task go in design `a`.

    Args:
        a: the design.
        edge_ends: shape (2, E), `TaskGraph.edge_to` and `edge_from`; edge_bytes: shape (E,).
        edge_bursts: shape (2, E), `TaskGraph.bursts`.
        task_pe, task_mem: shape (A, T); source_mem: shape (A,).
        pe_bus: shape (A, P); mem_bus: shape (A, M).
        place_rate: shape (A, K), bytes/s each way, 0 for what is absent.
        moved, burst: added to; shape (T, 2, K), bytes and burst units of a task at a place.
        wire: written where something moves; shape (T, K).
        outputs: added to; shape (T, 2, K), bit mask of the outputs a task uses.
    """
    n_pes, n_mems = pe_bus.shape[1], mem_bus.shape[1]
    for edge in range(edge_bytes.size):
        writer = edge_ends[1, edge]
        memory = task_mem[a, writer] if writer >= 0 else source_mem[a]
        last = mem_bus[a, memory]
        for direction in range(2):
            task = edge_ends[direction, edge]
            if task < 0:
                continue
            moved[task, direction, memory] += edge_bytes[edge]
            burst[task, direction, memory] += edge_bursts[direction, edge]
            wire[task, memory] = 0
            outputs[task, direction, memory] = 1
            home = pe_bus[a, task_pe[a, task]]
            for bus in range(min(home, last), max(home, last) + 1):
                place = n_mems + bus
                if place_rate[a, place] == 0.0:  # an absent bus is no part of the chain
                    continue
                moved[task, direction, place] += edge_bytes[edge]
                burst[task, direction, place] += edge_bursts[direction, edge]
                wire[task, place] = task_pe[a, task] if bus == home else (n_pes if bus > home else n_pes + 1)
                output = memory if bus == last else (n_mems if last < bus else n_mems + 1)
                outputs[task, direction, place] |= 1 << output


@compiled
def task_rates(
    a: int,
    state: IntArray,
    seconds: FloatArray,
    task_pe: IntArray,
    pe_tasks: IntArray,
    place_rate: FloatArray,
    moved: FloatArray,
    burst: FloatArray,
    wire: IntArray,
    outputs: IntArray,
    wire_total: FloatArray,
    output_wires: IntArray,
    rate: FloatArray,
) -> None:
    """Write the rates of the running tasks, in tasks per second.

    Args:
        a: the design.
        state: shape (T,).
        seconds: shape (A, T), compute time of a task that has its PE to itself.
        task_pe: shape (A, T); pe_tasks: shape (P,), how many tasks run on each PE.
        place_rate, moved, burst, wire, outputs: as in `route`.
        wire_total, output_wires: scratch of shapes (2, K, P + 2) and (2, K, M + 2).
        rate: written; shape (T,).
    """
    for direction in range(2):
        for place in range(place_rate.shape[1]):
            for i in range(wire_total.shape[2]):
                wire_total[direction, place, i] = 0.0
            for i in range(output_wires.shape[2]):
                output_wires[direction, place, i] = 0
            for task in range(state.size):
                if state[task] == RUNNING and moved[task, direction, place] > 0.0:
                    wire_total[direction, place, wire[task, place]] += burst[task, direction, place]
                    for i in range(output_wires.shape[2]):
                        if outputs[task, direction, place] >> i & 1:
                            output_wires[direction, place, i] |= 1 << wire[task, place]
            for i in range(output_wires.shape[2]):  # from which wires are in use to how many
                wires, mask = 0, output_wires[direction, place, i]
                while mask:
                    mask &= mask - 1
                    wires += 1
                output_wires[direction, place, i] = wires
    for task in range(state.size):
        if state[task] != RUNNING:
            continue
        slowest = 1.0 / (seconds[a, task] * pe_tasks[task_pe[a, task]])
        for direction in range(2):
            for place in range(place_rate.shape[1]):
                if moved[task, direction, place] > 0.0:
                    wires = 1
                    for i in range(output_wires.shape[2]):
                        if outputs[task, direction, place] >> i & 1:
                            wires = max(wires, output_wires[direction, place, i])
                    share = burst[task, direction, place] / (wire_total[direction, place, wire[task, place]] * wires)
                    slowest = min(slowest, place_rate[a, place] * share / moved[task, direction, place])
        rate[task] = slowest


@compiled
def highest_power(
    n_phases: int, phase_seconds: FloatArray, phase_progress: FloatArray, a: int, joules: FloatArray, window: float
) -> float:
    """The largest mean power, in watts, of runs of whole phases, cut once they are longer than the window.

    Args:
        n_phases: how many there were.
        phase_seconds: shape (T,); phase_progress: shape (T, T), share of each task done in each phase.
        a: the design; joules: shape (A, T), energy of each task.
        window: seconds.

    Source: FARSI, common_design_utils.py: `slice_phases_with_PWP`; design.py: `calc_SOC_power`.
    """
    highest, spent, length, left = 0.0, 0.0, 0.0, window
    for phase in range(n_phases):
        length += phase_seconds[phase]
        for task in range(joules.shape[1]):
            spent += phase_progress[phase, task] * joules[a, task]
        left -= phase_seconds[phase]
        if left < 0.0 or phase == n_phases - 1:
            highest = max(highest, spent / length)
            spent, length, left = 0.0, 0.0, window
    return highest


@compiled
def simulate(
    edge_ends: IntArray,
    edge_bytes: FloatArray,
    edge_bursts: FloatArray,
    seconds: FloatArray,
    pe_joules: FloatArray,
    task_pe: IntArray,
    task_mem: IntArray,
    source_mem: IntArray,
    pe_bus: IntArray,
    mem_bus: IntArray,
    mem_kind: IntArray,
    place_rate: FloatArray,
    joules_per_byte: FloatArray,
    bus_joules_per_byte: float,
    step_bytes: float,
    window_seconds: float,
    queued: bool,
    start: FloatArray,
    finish: FloatArray,
    joules: FloatArray,
    mem_peak: FloatArray,
    peak_watts: FloatArray,
) -> None:
    """Run the task graph on every design.

    Args:
        edge_ends, edge_bytes, edge_bursts, seconds, task_pe, task_mem, source_mem, pe_bus, mem_bus, place_rate: as in
            `route` and `task_rates`; every design must be one that works.
        pe_joules: shape (A, T), energy of the task's operations.
        mem_kind: shape (A, M), 0 for SRAM, 1 for DRAM, below 0 for none.
        joules_per_byte: shape (2 kinds, 2 directions, S capacities).
        bus_joules_per_byte: energy of a byte on a bus.
        step_bytes: between one capacity and the next.
        window_seconds: of `highest_power`.
        queued: whether a PE does one task at a time.
        start, finish, joules: written; shape (A, T), seconds, seconds and dynamic energy of each task.
        mem_peak: written; shape (A, M), most bytes kept at once.
        peak_watts: written; shape (A,); NaN, as `joules` is, where a memory outgrows the table.
    """
    n_designs, n_tasks = task_pe.shape
    n_pes, n_mems, n_places = pe_bus.shape[1], mem_bus.shape[1], place_rate.shape[1]
    traffic = np.empty((2, n_tasks, 2, n_places))
    moved, burst = traffic[0], traffic[1]
    wire, outputs = np.empty((n_tasks, n_places), np.int64), np.empty((n_tasks, 2, n_places), np.int64)
    wire_total = np.empty((2, n_places, n_pes + 2))
    output_wires = np.empty((2, n_places, n_mems + 2), np.int64)
    floats, ints = np.empty((4, max(n_tasks, n_mems))), np.empty((5, max(n_tasks, n_pes)), np.int64)
    left, rate, written, live = floats[0], floats[1], floats[2], floats[3]
    state, queue, parents_left, readers_left, pe_tasks = ints[0, :n_tasks], ints[1], ints[2], ints[3], ints[4]
    phase_seconds, phase_progress = np.empty(n_tasks), np.empty((n_tasks, n_tasks))
    for a in range(n_designs):
        for task in range(n_tasks):
            for direction in range(2):
                for place in range(n_places):
                    moved[task, direction, place] = 0.0
                    burst[task, direction, place] = 0.0
                    outputs[task, direction, place] = 0
            state[task], parents_left[task], readers_left[task] = WAITING, 0, 0
            left[task], written[task] = 1.0, 0.0
        for memory in range(n_mems):
            live[memory] = 0.0
        for edge in range(edge_bytes.size):
            reader, writer = edge_ends[0, edge], edge_ends[1, edge]
            if writer >= 0:
                readers_left[writer] += 1
                written[writer] += edge_bytes[edge]
                if reader >= 0:
                    parents_left[reader] += 1
            else:
                live[source_mem[a]] += edge_bytes[edge]
        for memory in range(n_mems):
            mem_peak[a, memory] = live[memory]
        route(
            a, edge_ends, edge_bytes, edge_bursts, task_pe, task_mem, source_mem, pe_bus, mem_bus, place_rate,
            moved, burst, wire, outputs,
        )  # fmt: skip
        clock, n_queued, n_done, phase = 0.0, 0, 0, 0
        while n_done < n_tasks:
            for pe in range(n_pes):
                pe_tasks[pe] = 0
            for task in range(n_tasks):  # launch what is ready, and keep room for what it writes
                if state[task] == RUNNING:
                    pe_tasks[task_pe[a, task]] += 1
                elif state[task] == WAITING and parents_left[task] == 0:
                    state[task] = READY
                    queue[n_queued] = task
                    n_queued += 1
                    memory = task_mem[a, task]
                    live[memory] += written[task]
                    mem_peak[a, memory] = max(mem_peak[a, memory], live[memory])
            for place in range(n_queued):
                task = queue[place]
                if state[task] == READY and (not queued or pe_tasks[task_pe[a, task]] == 0):
                    state[task] = RUNNING
                    pe_tasks[task_pe[a, task]] += 1
                    start[a, task] = clock
            task_rates(
                a, state, seconds, task_pe, pe_tasks, place_rate, moved, burst, wire, outputs,
                wire_total, output_wires, rate,
            )  # fmt: skip
            length = np.inf
            for task in range(n_tasks):
                if state[task] == RUNNING:
                    length = min(length, left[task] / rate[task])
            clock += length
            phase_seconds[phase] = length
            for task in range(n_tasks):
                done = 0.0
                if state[task] == RUNNING:
                    if left[task] / rate[task] <= length * (1.0 + _TIE):
                        done = left[task]
                        state[task] = ENDING
                        finish[a, task] = clock
                        n_done += 1
                    else:
                        done = rate[task] * length
                        left[task] -= done
                phase_progress[phase, task] = done
            for edge in range(edge_bytes.size):  # hand data on, and free what all its readers have read
                reader, writer = edge_ends[0, edge], edge_ends[1, edge]
                if reader >= 0 and writer >= 0:  # what was there, and results, stay
                    if state[writer] == ENDING:
                        parents_left[reader] -= 1
                    if state[reader] == ENDING:
                        readers_left[writer] -= 1
                        if readers_left[writer] == 0:
                            live[task_mem[a, writer]] -= written[writer]
            for task in range(n_tasks):
                if state[task] == ENDING:
                    state[task] = DONE
            phase += 1
        for task in range(n_tasks):
            joules[a, task] = pe_joules[a, task]
        for place in range(n_places):
            row = int(np.ceil(mem_peak[a, place]) / step_bytes) if place < n_mems else 0
            for direction in range(2):
                per_byte = bus_joules_per_byte
                if place < n_mems:
                    per_byte = np.nan
                    if mem_kind[a, place] >= 0 and row < joules_per_byte.shape[2]:
                        per_byte = joules_per_byte[mem_kind[a, place], direction, row]
                for task in range(n_tasks):
                    if moved[task, direction, place] > 0.0:
                        joules[a, task] += per_byte * moved[task, direction, place]
        peak_watts[a] = highest_power(phase, phase_seconds, phase_progress, a, joules, window_seconds)
