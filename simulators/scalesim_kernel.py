"""SCALE-Sim 3.0.0, one layer on one array: the events of its memories in order of time."""

from __future__ import annotations

import numpy as np

from simulators.compile_numba import compiled
from simulators.scalesim_layer import (
    BANDWIDTH,
    COLUMN_FOLDS,
    COLUMNS,
    DATAFLOW,
    FOLD_LENGTH,
    IFMAP_WORDS,
    LAST_COLUMNS,
    LAST_ROWS,
    OFMAP_WORDS,
    OS,
    ROW_FOLDS,
    ROWS,
    TIME,
    IntArray,
    diagonal_words,
    grown,
    line_of_word,
)

(
    TOTAL, STALLS, IFMAP_READS, FILTER_READS, OFMAP_WRITES, IFMAP_FIRST, IFMAP_LAST, FILTER_FIRST, FILTER_LAST,
    OFMAP_FIRST, OFMAP_LAST, IFMAP_DRAM_FIRST, IFMAP_DRAM_LAST, FILTER_DRAM_FIRST, FILTER_DRAM_LAST, OFMAP_DRAM_FIRST,
    OFMAP_DRAM_LAST, N_RESULTS,
) = range(18)  # fmt: skip
"""Columns of the results: cycles, DRAM words, first and last cycle of the SRAM streams, then of the DRAM streams."""

PROBE_ORDER = 6

# the write buffer: free words, words of an unfinished DRAM line, lines made, lines drained, end of the drain, words
# written, first and last cycle of writing, lines with missing words, those of them that are drained
FREE, FILL, MADE, DRAINED, DRAIN_END, WRITTEN, FIRST, FINAL, N_PADDED, N_SEEN, N_STATE = range(11)


@compiled
def store(state: IntArray, words: int, bandwidth: int) -> None:
    """Words into the write buffer; each `bandwidth` of them make a DRAM line."""
    fill = state[FILL] + words
    state[FREE] -= words
    state[MADE] += fill // bandwidth
    state[FILL] = fill % bandwidth


@compiled
def close_line(state: IntArray, padded: IntArray, bandwidth: int) -> IntArray:
    """Make a DRAM line of what is left over; keep its number and how many words it lacks."""
    if state[FILL] > 0:
        n = state[N_PADDED]
        padded = grown(padded, n)
        padded[2 * n], padded[2 * n + 1] = state[MADE], bandwidth - state[FILL]
        state[N_PADDED] += 1
        state[MADE] += 1
        state[FILL] = 0
    return padded


@compiled
def drain(state: IntArray, padded: IntArray, cycle: int, bandwidth: int, n_lines: int) -> None:
    """Write up to `n_lines` lines to DRAM from a cycle on. Missing words count as written but in the last line."""
    end = min(state[DRAINED] + n_lines, state[MADE])
    words = (end - state[DRAINED]) * bandwidth
    while state[N_SEEN] < state[N_PADDED] and padded[2 * state[N_SEEN]] < end:
        if padded[2 * state[N_SEEN]] == end - 1:
            words -= padded[2 * state[N_SEEN] + 1]
        state[N_SEEN] += 1
    if state[FIRST] < 0:
        state[FIRST] = cycle
    state[DRAIN_END] = cycle + end - state[DRAINED] - 1
    state[FINAL] = max(state[FINAL], state[DRAIN_END])
    state[WRITTEN] += words
    state[FREE] += words
    state[DRAINED] = end


@compiled
def write_line(
    state: IntArray, padded: IntArray, words: int, cycle: int, active: int, bandwidth: int, n_lines: int
) -> tuple[IntArray, int]:
    """The words of one cycle into the write buffer; returns the cycle at which the last of them is in.

    While a drain goes on, the word that leaves no room waits for its end; else the word that leaves less than `active`
    words of room starts one.
    """
    while words > 0:
        draining = cycle < state[DRAIN_END]
        until = max(1, state[FREE] if draining else state[FREE] - active + 1)
        store(state, min(words, until), bandwidth)
        if words < until:
            break
        words -= until
        if draining:
            cycle = state[DRAIN_END]
        else:
            padded = close_line(state, padded, bandwidth)
            drain(state, padded, cycle, bandwidth, n_lines)
    return padded, cycle


@compiled
def write_until(
    state: IntArray, padded: IntArray, line: int, end: int, offset: int, rows: int, columns: int, stalls: int,
    active: int, bandwidth: int, n_lines: int,
) -> tuple[IntArray, int]:  # fmt: skip
    """Lines `line` to `end` of one fold into the write buffer, where no read stalls.

    Args:
        state, padded: the write buffer.
        offset: the line of the fold's first word.
        rows, columns: its words, skewed.
        stalls: so far.
        active, bandwidth, n_lines: see `write_line`.

    Returns:
        The padded lines, and the stalls up to here.
    """
    while line < end:
        draining = line + stalls < state[DRAIN_END]
        stop = min(end, state[DRAIN_END] - stalls) if draining else end
        before = diagonal_words(line - offset, rows, columns)
        until = max(1, state[FREE] if draining else state[FREE] - active + 1)
        words = diagonal_words(stop - offset, rows, columns) - before
        if words < until:
            store(state, words, bandwidth)
            line = stop
            continue
        at = line_of_word(before + until - 1, rows, columns)
        upto = diagonal_words(at, rows, columns)
        store(state, upto - before, bandwidth)
        here = diagonal_words(at + 1, rows, columns) - upto
        line = offset + at
        padded, cycle = write_line(state, padded, here, line + stalls, active, bandwidth, n_lines)
        stalls = cycle - line
        line += 1
    return padded, stalls


@compiled
def wait(ends: IntArray, operand: int, cycle: int, moves: int, move_cycles: int) -> int:
    """The stall of a demand that moves its window; `ends[operand]` is the end of its last prefetch.

    Each move ends `move_cycles` after the one before. A demand that has to wait waits twice: its cycle is moved to the
    end of the prefetch and then on by the same wait; one that comes later than the prefetch is moved back to it.
    """
    late: int = max(0, ends[operand] + move_cycles - cycle - 1)
    if moves > 1:  # a further move is late by what the move before it was not
        late = max(0, move_cycles - late)
        if moves % 2:
            late = move_cycles - late
    end: int = ends[operand] + moves * move_cycles
    ends[operand] = end
    return end + late - cycle - 1


@compiled
def play(
    g: IntArray, probes: IntArray, pairs: IntArray, n_pairs: int, others: IntArray, n_others: int, out: IntArray
) -> None:
    """All lines in order of time.

    Args:
        g: the layer.
        probes: shape (12,), first and last line that demand inputs, weights and store outputs; then these six in order.
        pairs, others: (line, moves) pairs of the inputs' and the weights' windows, with their numbers of pairs; none
            where there is no limit on the bandwidth.
        out: filled, see `N_RESULTS`; DRAM reads hold moves of the windows.
    """
    bandwidth = g[BANDWIDTH] if g[BANDWIDTH] > 0 else g[COLUMNS]
    active = (g[OFMAP_WORDS] + 1) // 2
    n_lines = max(1, (g[OFMAP_WORDS] - active + bandwidth - 1) // bandwidth)
    i, j, probe, stalls, total = 0, 0, 0, 0, 0
    ends, move_cycles = np.empty(2, np.int64), np.empty(2, np.int64)
    for operand in range(2):
        ends[operand] = -1
        move_cycles[operand] = (g[IFMAP_WORDS + operand] // 2 + bandwidth - 1) // bandwidth + 1
    state, padded = np.zeros(N_STATE, np.int64), np.empty(0, np.int64)
    state[FREE], state[FIRST], state[FINAL] = g[OFMAP_WORDS], -1, -1
    n_folds = g[ROW_FOLDS] * g[COLUMN_FOLDS]
    never = n_folds * g[FOLD_LENGTH]
    for fold in range(n_folds):
        line, end = fold * g[FOLD_LENGTH], (fold + 1) * g[FOLD_LENGTH]
        rows, offset = g[TIME], line + 2 * g[ROWS] - 1
        if g[DATAFLOW] == OS:
            rows = g[LAST_ROWS] if fold % g[ROW_FOLDS] == g[ROW_FOLDS] - 1 else g[ROWS]
            offset = line + g[TIME] - 1 + g[ROWS] - rows
        columns = g[LAST_COLUMNS] if fold // g[ROW_FOLDS] == g[COLUMN_FOLDS] - 1 else g[COLUMNS]
        while line < end:
            while probe < 6 and probes[PROBE_ORDER + probe] < line:
                probe += 1
            a = pairs[2 * i] if i < n_pairs else never
            b = others[2 * j] if j < n_others else never
            c = probes[PROBE_ORDER + probe] if probe < 6 else never
            here = min(min(end, a), min(b, c))
            padded, stalls = write_until(
                state, padded, line, here, offset, rows, columns, stalls, active, bandwidth, n_lines
            )
            line = here
            if line == end:
                total = line - 1 + stalls
                break
            cycle, stall_a, stall_b = line + stalls, 0, 0
            if a == line:
                stall_a = wait(ends, 0, cycle, pairs[2 * i + 1], move_cycles[0])
                out[IFMAP_READS] += pairs[2 * i + 1]
                i += 1
            if b == line:
                stall_b = wait(ends, 1, cycle, others[2 * j + 1], move_cycles[1])
                out[FILTER_READS] += others[2 * j + 1]
                j += 1
            words = diagonal_words(line + 1 - offset, rows, columns) - diagonal_words(line - offset, rows, columns)
            padded, total = write_line(state, padded, words, cycle, active, bandwidth, n_lines)
            for s in range(6):
                if probes[s] == line:
                    out[IFMAP_FIRST + s] = total if s > 3 else cycle + 1 + (stall_a if s < 2 else stall_b)
            stalls += max(max(stall_a, stall_b), total - cycle)
            line += 1
    out[TOTAL], out[STALLS] = total, stalls
    padded = close_line(state, padded, bandwidth)
    while state[DRAINED] < state[MADE]:
        drain(state, padded, total, bandwidth, n_lines)
        total = state[DRAIN_END] + 1
    out[OFMAP_WRITES], out[OFMAP_DRAM_FIRST], out[OFMAP_DRAM_LAST] = state[WRITTEN], state[FIRST], state[FINAL]
    out[IFMAP_DRAM_LAST], out[FILTER_DRAM_LAST] = ends[0], ends[1]
