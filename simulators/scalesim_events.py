"""SCALE-Sim 3.0.0's memories, event by event: DRAM words, stalls and cycles that have no closed form.

The loops (`scalesim_prefetch`, `scalesim_windows`, `scalesim_flush`, `scalesim_kernel`) are compiled where numba is
installed, each when it is first needed. Layers are rows of whole numbers, see `scalesim_layer`.
"""

from __future__ import annotations

import numpy as np

from simulators.scalesim_closed import (
    capacity,
    first_fill_lines,
    input_words,
)
from simulators.scalesim_flush import flush_stationary, flush_streamed, flush_windows
from simulators.scalesim_kernel import (
    FILTER_DRAM_FIRST,
    FILTER_DRAM_LAST,
    FILTER_READS,
    IFMAP_DRAM_FIRST,
    IFMAP_DRAM_LAST,
    IFMAP_READS,
    N_RESULTS,
    OFMAP_DRAM_FIRST,
    OFMAP_DRAM_LAST,
    OFMAP_WRITES,
    STALLS,
    TOTAL,
    play,
)
from simulators.scalesim_layer import (
    BANDWIDTH,
    COLUMN_FOLDS,
    COLUMNS,
    DATAFLOW,
    FILTER_WORDS,
    FOLD_LENGTH,
    IFMAP_WORDS,
    IN_X,
    IN_Y,
    IS,
    IS_CUT,
    IS_REPEATED,
    LAST_COLUMNS,
    LAST_ROWS,
    LOAD,
    OS,
    ROW_FOLDS,
    ROWS,
    TIME,
    WS,
    IntArray,
    line_words,
    n_lines_of,
    word_tables,
)
from simulators.scalesim_prefetch import moves_stationary, moves_streamed
from simulators.scalesim_windows import moves_windows
from simulators.workload import FloatArray

_NEVER = np.full(12, np.iinfo(np.int64).max)
_NONE = np.empty(0, np.int64)


def limited(g: IntArray, probes: IntArray | None = None) -> IntArray:
    """Layers at a limited bandwidth.

    Args:
        g: shape (N, N_NUMBERS), as `scalesim_layer.layer_numbers` makes them; bandwidths above 0.
        probes: shape (N, 12), lines of `demand_spans`; None if the cycles of the SRAM streams are not asked for.

    Returns:
        Shape (N, N_RESULTS): cycles and DRAM words of one run of each; see `scalesim_kernel.N_RESULTS`.
    """
    out = np.zeros((len(g), N_RESULTS), np.int64)
    for n, row in enumerate(g):
        if row[IS_CUT] or row[IS_REPEATED]:
            corner, tap = word_tables(row)
            inputs = moves_windows(row, corner, tap, row[IFMAP_WORDS], _NONE)
        elif row[DATAFLOW] == IS:
            inputs = moves_stationary(row, row[IFMAP_WORDS], _NONE)
        else:
            inputs = _moves_by_rows(row, row[IFMAP_WORDS])
        if row[DATAFLOW] == WS:
            weights = moves_stationary(row, row[FILTER_WORDS], _NONE)
        elif row[DATAFLOW] == IS:
            weights = _moves_by_rows(row, row[FILTER_WORDS])
        else:
            sides = row[TIME], row[COLUMNS], row[LAST_COLUMNS]
            weights = moves_streamed(row, True, 0, *sides, row[FILTER_WORDS], _NONE)
        play(row, _NEVER if probes is None else probes[n], *inputs, *weights, out[n])
    for reads, first, scratchpad, lines in zip(
        (IFMAP_READS, FILTER_READS), (IFMAP_DRAM_FIRST, FILTER_DRAM_FIRST), (IFMAP_WORDS, FILTER_WORDS),
        first_fill_lines(g), strict=True,
    ):  # fmt: skip
        per_move = -(-(g[:, scratchpad] // 2) // g[:, BANDWIDTH])
        out[:, reads] = (lines + out[:, reads] * per_move) * g[:, BANDWIDTH]
        out[:, first] = -lines
    return out


def unlimited_writes(g: IntArray, probes: IntArray | None = None) -> IntArray:
    """As `limited`, where bandwidth has no limit: all but the DRAM streams of inputs and weights."""
    out = np.zeros((len(g), N_RESULTS), np.int64)
    for n, row in enumerate(g):
        play(row, _NEVER if probes is None else probes[n], _NONE, 0, _NONE, 0, out[n])
    return out


def window_reads(g: IntArray) -> IntArray:
    """DRAM reads of inputs whose windows overlap, where bandwidth has no limit; shape (N, 2), with the last flush."""
    held, (distinct, _) = capacity(g[:, IFMAP_WORDS]), input_words(g)
    result = np.empty((len(g), 2), np.int64)
    for n, row in enumerate(g):
        result[n] = flush_windows(row, *word_tables(row), distinct[n], held[n])
    return result


def demand_spans(g: IntArray) -> IntArray:
    """First and last line that demand inputs, weights and store outputs, shape (N, 12): these six, then in order."""
    rows, time = g[:, ROWS], g[:, TIME]
    final = (g[:, ROW_FOLDS] * g[:, COLUMN_FOLDS] - 1) * g[:, FOLD_LENGTH]
    used_rows = np.where(g[:, ROW_FOLDS] > 1, rows, g[:, LAST_ROWS])
    is_os, is_ws, is_is = (g[:, DATAFLOW] == dataflow for dataflow in (OS, WS, IS))
    streamed = final + g[:, LOAD] + time - 2
    first_stored = np.where(is_os, time - 1 + rows - used_rows, 2 * rows - 1)
    last_stored = final + time + rows + np.where(is_os, 0, rows) + g[:, LAST_COLUMNS] - 3
    spans = np.stack([
        np.where(is_is, rows - used_rows, g[:, LOAD]),
        np.where(is_is, final + rows - 1, streamed + g[:, LAST_ROWS]),
        np.where(is_ws, rows - used_rows, g[:, LOAD]),
        np.where(is_ws, final + rows - 1, streamed + np.where(is_os, g[:, LAST_COLUMNS], g[:, LAST_ROWS])),
        first_stored,
        last_stored,
    ], axis=1)  # fmt: skip
    for n in np.flatnonzero(g[:, IS_CUT]):
        spans[n, :2] = _input_span(g[n])
    return np.concatenate([spans, np.sort(spans, axis=1)], axis=1)


def scalesim_report(g: IntArray) -> dict[str, FloatArray]:
    """Everything that SCALE-Sim reports of one run of each layer but its SRAM accesses and utilisations, shape (N,).

    Cycles count from the first demand's; DRAM cycles are negative before it. `total_cycles` includes stalls;
    `total_cycles_incl_prefetch` runs from the first DRAM read to the last DRAM write. Averages are words per cycle.
    """
    spans = demand_spans(g)
    out = np.zeros((len(g), N_RESULTS), np.int64)
    is_limited = g[:, BANDWIDTH] > 0
    out[is_limited] = limited(g[is_limited], spans[is_limited])
    free = np.flatnonzero(~is_limited)
    out[free] = unlimited_writes(g[free], spans[free])
    out[free[:, None], _READ_COLUMNS] = _unlimited_streams(g[free], spans[free])
    result = {name: out[:, column].astype(np.float64) for name, column in _NAMES.items()}
    first = np.minimum(result["dram_ifmap_start"], result["dram_filter_start"])
    result["total_cycles_incl_prefetch"] = result["dram_ofmap_stop"] - first
    for name, words in (("ifmap", "reads"), ("filter", "reads"), ("ofmap", "writes")):
        cycles = result[f"dram_{name}_stop"] - result[f"dram_{name}_start"] + 1
        result[f"avg_{name}_dram_bw"] = result[f"dram_{name}_{words}"] / cycles
    return result


_NAMES = {
    "total_cycles": TOTAL, "stall_cycles": STALLS,
    "dram_ifmap_reads": IFMAP_READS, "dram_filter_reads": FILTER_READS, "dram_ofmap_writes": OFMAP_WRITES,
    "sram_ifmap_start": 5, "sram_ifmap_stop": 6, "sram_filter_start": 7, "sram_filter_stop": 8,
    "sram_ofmap_start": 9, "sram_ofmap_stop": 10,
    "dram_ifmap_start": IFMAP_DRAM_FIRST, "dram_ifmap_stop": IFMAP_DRAM_LAST,
    "dram_filter_start": FILTER_DRAM_FIRST, "dram_filter_stop": FILTER_DRAM_LAST,
    "dram_ofmap_start": OFMAP_DRAM_FIRST, "dram_ofmap_stop": OFMAP_DRAM_LAST,
}  # fmt: skip

_READ_COLUMNS = [
    IFMAP_READS, FILTER_READS, IFMAP_DRAM_FIRST, IFMAP_DRAM_LAST, FILTER_DRAM_FIRST, FILTER_DRAM_LAST,
]  # fmt: skip


def _unlimited_streams(g: IntArray, spans: IntArray) -> IntArray:
    """DRAM reads of inputs and weights, first and last cycle of each, where bandwidth has no limit; shape (N, 6).

    The first fill comes at 10 words a cycle, any other until the buffer is full.
    """
    out = np.empty((len(g), 6), np.int64)
    distinct, _ = input_words(g)
    inputs, weights = capacity(g[:, IFMAP_WORDS]), capacity(g[:, FILTER_WORDS])
    for n, row in enumerate(g):
        if row[IS_CUT] or row[IS_REPEATED]:
            first = flush_windows(row, *word_tables(row), distinct[n], inputs[n])
        elif row[DATAFLOW] == IS:
            first = flush_stationary(row, inputs[n])
        else:
            first = _flush_by_rows(row, inputs[n])
        if row[DATAFLOW] == WS:
            second = flush_stationary(row, weights[n])
        elif row[DATAFLOW] == IS:
            second = _flush_by_rows(row, weights[n])
        else:
            second = flush_streamed(row, True, 0, row[TIME], row[COLUMNS], row[LAST_COLUMNS], weights[n])
        out[n, :2] = first[0], second[0]
        for operand, ((fetched, flush), held) in enumerate(((first, inputs[n]), (second, weights[n]))):
            is_flushed, per_set = flush >= 0, held // 50
            start = spans[n, 2 * operand] if is_flushed else 0
            filled = held if is_flushed else -(-fetched // per_set) * per_set
            out[n, 2 + 2 * operand] = start + -filled // 10
            out[n, 3 + 2 * operand] = flush + 1 if is_flushed else -1
    return out


def _moves_by_rows(g: IntArray, scratchpad: int) -> tuple[IntArray, int]:
    return moves_streamed(g, False, g[LOAD], g[TIME], g[ROWS], g[LAST_ROWS], scratchpad, _NONE)


def _flush_by_rows(g: IntArray, held: int) -> tuple[int, int]:
    return flush_streamed(g, False, g[LOAD], g[TIME], g[ROWS], g[LAST_ROWS], held)


def _input_span(g: IntArray) -> tuple[int, int]:
    """First and last line that demand an input word, where some windows end beyond the input."""
    corner, tap = word_tables(g)
    load = g[LOAD] if g[DATAFLOW] == WS else 0
    folds = range(int(g[ROW_FOLDS] * g[COLUMN_FOLDS]))

    def found(order: range, step: int) -> int:
        for fold in order:
            for x in range(int(n_lines_of(g, fold)))[::step]:
                left, right, i, di, j, dj = line_words(g, fold, x)
                c = np.arange(left, right + 1)
                place = corner[1:, i + di * c] + tap[1:, j + dj * c]
                if (place < g[[IN_Y, IN_X], None]).all(axis=0).any():
                    return int(fold * g[FOLD_LENGTH] + load + x)
        raise AssertionError("the first word of the first window is in the input")

    return found(folds, 1), found(folds[::-1], -1)
