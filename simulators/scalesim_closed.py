"""SCALE-Sim 3.0.0 in closed form: what it reports of a matrix product on an R x C array, where no events are needed.

With E output pixels, F filters and a window of W words, Sr, Sc, T are (E, F, W) for os, (W, F, E) for ws, (W, E, F) for
is; fr = ceil(Sr/R), fc = ceil(Sc/C), n = fr fc folds (Samajdar et al. 2020, section III; the rest is what the tool
does). Cycles, utilisation and scratchpad accesses always have a closed form. DRAM words and stalls have one where
`unlimited_input_reads`, `undrained` and `quiet` say so; elsewhere `scalesim_events` follows the buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulators.scalesim_layer import (
    BANDWIDTH,
    CHANNELS,
    COLUMN_FOLDS,
    COLUMNS,
    DATAFLOW,
    DILATION,
    FILTER_WORDS,
    FILTER_X,
    FILTER_Y,
    FILTERS,
    IFMAP_WORDS,
    IN_X,
    IN_Y,
    IS,
    LAST_COLUMNS,
    OFMAP_WORDS,
    OS,
    OUT_X,
    OUT_Y,
    PIXELS,
    ROW_FOLDS,
    ROWS,
    SPACE_ROWS,
    STRIDE,
    TIME,
    WINDOW,
    IntArray,
)
from simulators.workload import FloatArray

DATAFLOWS = ("os", "ws", "is")

BoolArray = NDArray[np.bool_]

GemmModel = Callable[[ArrayLike, ArrayLike, ArrayLike, ArrayLike, ArrayLike, str], FloatArray]
"""A quantity of one matrix product on one array: arguments as `scalesim_cycles`."""


def scalesim_cycles(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """Compute cycles of a matrix product: n p - 1, SCALE-Sim's total cycles minus its stalls.

    A fold of `os` takes p = T + R + C - 2 cycles (the skew in and across); `ws` and `is` first load the stationary
    operand, R cycles more.

    Args:
        pixels, filters, window: E, F and W, whole numbers of at least 1, broadcast together with the next two.
        rows, columns: R and C of the array.
        dataflow: one of `DATAFLOWS`.

    Returns:
        Cycles as float64: whole numbers, exact below 2**53, free of integer overflow above. (The quotient of two whole
        numbers below 2**52 never rounds up to the next whole number, so the ceilings are exact.)

    Raises:
        ValueError: unknown dataflow.
    """
    space_rows, space_columns, time = unrolled(pixels, filters, window, dataflow)
    n_folds = _ceil_divide(space_rows, rows) * _ceil_divide(space_columns, columns)
    return np.asarray(n_folds * (time + _overhead(rows, columns, dataflow)) - 1.0)


def mapping_efficiency(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """Share of PEs with work, averaged over the folds: Sr Sc / (n R C), in 0..1. Arguments as `scalesim_cycles`."""
    space_rows, space_columns, _ = unrolled(pixels, filters, window, dataflow)
    n_folds = _ceil_divide(space_rows, rows) * _ceil_divide(space_columns, columns)
    n_pes = np.asarray(rows, np.float64) * np.asarray(columns, np.float64)
    return np.asarray(space_rows * space_columns / (n_folds * n_pes))


def compute_utilisation(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """SCALE-Sim's compute utilisation, in 0..1: mapping efficiency times T over the length of a fold.

    The length is p for `os`, but T + 2R + 2C - 3, which is p + C - 1, for `ws` and `is`.
    Arguments as `scalesim_cycles`.
    """
    efficiency = mapping_efficiency(pixels, filters, window, rows, columns, dataflow)
    _, _, time = unrolled(pixels, filters, window, dataflow)
    length = time + _overhead(rows, columns, dataflow)
    if dataflow != "os":
        length = length + np.asarray(columns, np.float64) - 1.0
    return np.asarray(efficiency * time / length)


def sram_ifmap_reads(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """Words of input read from the scratchpad: E W fc (os, ws) or E W (is). Arguments as `scalesim_cycles`."""
    words = np.asarray(pixels, np.float64) * np.asarray(window, np.float64)
    return np.asarray(words if dataflow == "is" else words * _ceil_divide(np.asarray(filters, np.float64), columns))


def sram_filter_reads(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """Weights read from the scratchpad: W F fr (os), W F (ws) or W F fc (is). Arguments as `scalesim_cycles`."""
    words = np.asarray(filters, np.float64) * np.asarray(window, np.float64)
    if dataflow == "ws":
        return np.asarray(words)
    return np.asarray(words * _ceil_divide(np.asarray(pixels, np.float64), rows if dataflow == "os" else columns))


def sram_ofmap_writes(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """Words of output written to the scratchpad: E F fr (ws, is), partial sums included.

    For os it is E F + n (R + C): the tool adds the array's sides once per fold. Arguments as `scalesim_cycles`.
    """
    words = np.asarray(pixels, np.float64) * np.asarray(filters, np.float64)
    space_rows, space_columns, _ = unrolled(pixels, filters, window, dataflow)
    if dataflow != "os":
        return np.asarray(words * _ceil_divide(space_rows, rows))
    n_folds = _ceil_divide(space_rows, rows) * _ceil_divide(space_columns, columns)
    return np.asarray(words + n_folds * (np.asarray(rows, np.float64) + np.asarray(columns, np.float64)))


CLOSED: Mapping[str, GemmModel] = {
    "sram_ifmap_reads": sram_ifmap_reads,
    "sram_filter_reads": sram_filter_reads,
    "sram_ofmap_writes": sram_ofmap_writes,
}
"""Metrics that have a closed form on every array."""


def output_size(size: ArrayLike, kernel: ArrayLike, stride: ArrayLike) -> IntArray:
    """Output pixels along one axis as SCALE-Sim counts them: ceil((size - kernel + stride) / stride), size padded.

    It rounds up, so that a last partial window counts; convolutions of deep-learning frameworks round down.
    """
    size, kernel, stride = (np.asarray(value, dtype=np.int64) for value in (size, kernel, stride))
    return np.asarray(-(-(size - kernel + stride) // stride))


def unrolled(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, dataflow: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sr, Sc and T as float64. Raises ValueError for an unknown dataflow."""
    e, f, w = (np.asarray(value, dtype=np.float64) for value in (pixels, filters, window))
    if dataflow == "os":
        return e, f, w
    if dataflow == "ws":
        return w, f, e
    if dataflow == "is":
        return w, e, f
    raise ValueError(f"dataflow: {dataflow!r} is not one of {', '.join(DATAFLOWS)}")


def capacity(scratchpad: IntArray) -> IntArray:
    """Words that make a read buffer empty itself where bandwidth has no limit: 50 sets of a hundredth, rounded down."""
    return np.asarray(50 * np.maximum(scratchpad // 100, 1))


def input_words(g: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct words of input in all windows, and words of all windows; words beyond the input are none.

    Args:
        g: shape (N, N_NUMBERS), layers as `scalesim_layer` has them. Only a last window may end beyond the input, as
            `output_size` makes them.

    Two taps meet where a stride + b dilation is the same for two (window a, tap b); the pairs whose counterpart
    (a - dilation / gcd, b + stride / gcd) does not exist stand for one pixel each.
    """
    distinct, every = g[:, CHANNELS].copy(), g[:, CHANNELS].copy()
    stride, dilation = g[:, STRIDE], g[:, DILATION]
    common = np.gcd(stride, dilation)
    for out, taps, size in ((OUT_Y, FILTER_Y, IN_Y), (OUT_X, FILTER_X, IN_X)):
        windows, n_taps = g[:, out], g[:, taps]
        meeting = np.maximum(windows - dilation // common, 0) * np.maximum(n_taps - stride // common, 0)
        inside = -(-(g[:, size] - (windows - 1) * stride) // dilation)  # taps of the last window
        missing = n_taps - np.clip(inside, 0, n_taps)
        distinct *= windows * n_taps - meeting - missing
        every *= windows * n_taps - missing
    return distinct, every


def unlimited_input_reads(g: IntArray) -> tuple[IntArray, BoolArray]:
    """DRAM reads of inputs where bandwidth has no limit, and where this closed form holds.

    It does where all distinct words fit, and where no word is in two windows (then every demand is a fetch).
    """
    distinct, every = input_words(g)
    fits = distinct < capacity(g[:, IFMAP_WORDS])
    passes = np.where(g[:, DATAFLOW] == IS, 1, g[:, COLUMN_FOLDS])
    return np.where(fits, distinct, every * passes), fits | (distinct == every)


def unlimited_filter_reads(g: IntArray) -> IntArray:
    """DRAM reads of weights where bandwidth has no limit.

    If all W F fit, these. Else ws reads each once and is all of them for every column of folds. Under os, blocks of
    W C words are used fr times one after the other: a block that exceeds the buffer is read fr times, and one within
    which the buffer empties itself after q words reads these again. As the buffer then holds one block, it empties
    itself in every (m - 1)-th block after the m-th, m the blocks that fill it, and always after the same q words.
    """
    words, held = g[:, WINDOW] * g[:, FILTERS], capacity(g[:, FILTER_WORDS])
    row_folds, column_folds = g[:, ROW_FOLDS], g[:, COLUMN_FOLDS]
    block, last = g[:, WINDOW] * g[:, COLUMNS], g[:, WINDOW] * g[:, LAST_COLUMNS]
    full = column_folds - 1  # the last block is treated apart: it may be smaller
    to_fill = np.maximum(-(-held // block), 2)
    flushes = np.where(full < to_fill, 0, 1 + (full - to_fill) // (to_fill - 1))
    before = np.where(full < to_fill, full, (full - to_fill) % (to_fill - 1) + 1) * block
    again = flushes * (held - (to_fill - 1) * block)
    again += np.where(before + last >= held, held - before, 0)
    again = np.where(row_folds > 1, again, 0)
    blockwise = np.where(last >= held, words * row_folds, full * block * row_folds + last + _small_last(g, held, block))
    blockwise = np.where(block >= held, blockwise, words + again)
    repeated = np.where(g[:, DATAFLOW] == OS, blockwise, np.where(g[:, DATAFLOW] == IS, words * column_folds, words))
    return np.asarray(np.where(words < held, words, repeated))


def _small_last(g: IntArray, held: IntArray, block: IntArray) -> IntArray:
    """Words that a last block which fits reads again, after blocks that exceed the buffer."""
    row_folds, last = g[:, ROW_FOLDS], g[:, WINDOW] * g[:, LAST_COLUMNS]
    before = block * row_folds * (g[:, COLUMN_FOLDS] - 1) % held
    return np.where((before + last >= held) & (row_folds > 1), held - before, 0)


def output_words(g: IntArray) -> IntArray:
    """Words of output, partial sums included: E F (os) or E F fr."""
    return np.asarray(g[:, PIXELS] * g[:, FILTERS] * np.where(g[:, DATAFLOW] == OS, 1, g[:, ROW_FOLDS]))


def undrained(g: IntArray) -> BoolArray:
    """Whether at most half of the write buffer fills, so that it drains at the end alone and writes every word once."""
    return np.asarray(output_words(g) <= g[:, OFMAP_WORDS] // 2)


def quiet(g: IntArray) -> BoolArray:
    """Where a limited bandwidth stalls nothing: both operands fit the resident half, and the outputs half of theirs."""
    _, every = input_words(g)
    result = undrained(g)
    for words, scratchpad in ((every, g[:, IFMAP_WORDS]), (g[:, WINDOW] * g[:, FILTERS], g[:, FILTER_WORDS])):
        per_set, resident = -(-scratchpad // 100), (scratchpad + 1) // 2
        result &= words // per_set + 1 <= -(-resident // per_set)
    return result


def first_fill_lines(g: IntArray) -> tuple[IntArray, IntArray]:
    """DRAM lines of the first fill of inputs and weights where bandwidth is limited.

    Half the scratchpad, or all of the operand, with the empty places of partial folds.
    """
    dataflow = g[:, DATAFLOW]
    by_rows = g[:, TIME] * g[:, ROW_FOLDS] * g[:, ROWS]
    by_columns = np.where(dataflow == OS, g[:, TIME], g[:, SPACE_ROWS]) * g[:, COLUMN_FOLDS] * g[:, COLUMNS]
    inputs = np.where(dataflow == IS, by_columns, by_rows)
    weights = np.where(dataflow == IS, by_rows, by_columns)
    bandwidth = np.maximum(g[:, BANDWIDTH], 1)
    halves = (-(-g[:, scratchpad] // 2) for scratchpad in (IFMAP_WORDS, FILTER_WORDS))
    first, second = (
        -(-np.minimum(half, words) // bandwidth) for half, words in zip(halves, (inputs, weights), strict=True)
    )
    return first, second


def _overhead(rows: ArrayLike, columns: ArrayLike, dataflow: str) -> FloatArray:
    """p - T: skew across the array, and loading the stationary operand."""
    skew = np.asarray(rows, np.float64) * (1.0 if dataflow == "os" else 2.0)
    return np.asarray(skew + np.asarray(columns, np.float64) - 2.0)


def _ceil_divide(size: FloatArray, side: ArrayLike) -> FloatArray:
    return np.asarray(np.ceil(np.true_divide(size, side)))
