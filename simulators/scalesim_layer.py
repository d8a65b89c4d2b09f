"""A layer on an array as SCALE-Sim 3.0.0 unrolls it, as one row of whole numbers that the compiled loops read.

A fold's demand of a streamed operand is skewed: line x (one a cycle, after the `LOAD` lines in which the stationary
operand is loaded) holds the words (t, c) with t + c = x, in the order of c, of at most `TIME` rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.compile_numba import compiled

IntArray = NDArray[np.int64]
SmallArray = NDArray[np.int32]

OS, WS, IS = 0, 1, 2

N_GIVEN = 17
(
    DATAFLOW, ROWS, COLUMNS, OUT_Y, OUT_X, FILTER_Y, FILTER_X, CHANNELS, FILTERS, STRIDE, DILATION, IN_Y, IN_X,
    IFMAP_WORDS, FILTER_WORDS, OFMAP_WORDS, BANDWIDTH,
    PIXELS, WINDOW, SPACE_ROWS, SPACE_COLUMNS, TIME, ROW_FOLDS, COLUMN_FOLDS, LAST_ROWS, LAST_COLUMNS, LOAD,
    FOLD_LENGTH, IS_CUT, IS_REPEATED, N_NUMBERS,
) = range(31)  # fmt: skip
"""Columns of a row: the first `N_GIVEN` are given (words of the scratchpads, and words per cycle or 0 for no limit),
the others follow from them (`layer_numbers`)."""


def layer_numbers(given: IntArray) -> IntArray:
    """Rows of `N_NUMBERS` from rows of `N_GIVEN` numbers, of shape (N, N_GIVEN)."""
    g = np.zeros((N_NUMBERS, len(given)), np.int64)
    g[:N_GIVEN] = given.T
    g[PIXELS] = g[OUT_Y] * g[OUT_X]
    g[WINDOW] = g[FILTER_Y] * g[FILTER_X] * g[CHANNELS]
    is_os, is_is = g[DATAFLOW] == OS, g[DATAFLOW] == IS
    g[SPACE_ROWS] = np.where(is_os, g[PIXELS], g[WINDOW])
    g[SPACE_COLUMNS] = np.where(is_is, g[PIXELS], g[FILTERS])
    g[TIME] = np.where(is_os, g[WINDOW], np.where(is_is, g[FILTERS], g[PIXELS]))
    g[LOAD] = np.where(is_os, 0, g[ROWS])
    g[ROW_FOLDS] = -(-g[SPACE_ROWS] // g[ROWS])
    g[COLUMN_FOLDS] = -(-g[SPACE_COLUMNS] // g[COLUMNS])
    g[LAST_ROWS] = g[SPACE_ROWS] - (g[ROW_FOLDS] - 1) * g[ROWS]
    g[LAST_COLUMNS] = g[SPACE_COLUMNS] - (g[COLUMN_FOLDS] - 1) * g[COLUMNS]
    g[FOLD_LENGTH] = g[TIME] + g[LOAD] + g[ROWS] + g[COLUMNS] - 2
    for out, taps, size in ((OUT_Y, FILTER_Y, IN_Y), (OUT_X, FILTER_X, IN_X)):
        g[IS_CUT] |= g[size] < (g[out] - 1) * g[STRIDE] + (g[taps] - 1) * g[DILATION] + 1
        g[IS_REPEATED] |= repeats(g[out], g[taps], g[STRIDE], g[DILATION])
    return np.ascontiguousarray(g.T)


def repeats(out: IntArray, taps: IntArray, stride: IntArray, dilation: IntArray) -> NDArray[np.bool_]:
    """Whether a pixel is in two windows along one axis: a stride + b dilation is the same for two (a, b)."""
    common = np.gcd(stride, dilation)
    return (out > dilation // common) & (taps > stride // common)


@compiled
def ramp(x: int, width: int) -> int:
    """Sum over c < width of max(x - c, 0)."""
    if x <= 0:
        return 0
    if x < width:
        return x * (x + 1) // 2
    return width * x - width * (width - 1) // 2


@compiled
def diagonal_words(x: int, rows: int, columns: int) -> int:
    """Words (r, c) of a rows x columns rectangle with r + c < x."""
    return ramp(x, columns) - ramp(x - rows, columns)


@compiled
def line_of_word(n: int, rows: int, columns: int) -> int:
    """The line of a skewed rows x columns rectangle that holds its n-th word, n from 0."""
    low, high = 0, rows + columns - 2
    while low < high:
        middle = (low + high) // 2
        if diagonal_words(middle + 1, rows, columns) > n:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def n_lines_of(g: IntArray, fold: int) -> int:
    """Lines of a fold's input demand, from the first that `line_words` counts."""
    n_lines: int = g[ROWS]
    if g[DATAFLOW] != IS:
        n_lines = g[TIME] + (g[LAST_ROWS] if fold % g[ROW_FOLDS] == g[ROW_FOLDS] - 1 else g[ROWS]) - 1
    return n_lines


@compiled
def line_words(g: IntArray, fold: int, x: int) -> tuple[int, int, int, int, int, int]:
    """Words of line x of a fold's input demand: first and last column, then pixel and tap at column 0 and their steps.

    `x` counts from the first line after `LOAD`, or with inputs stationary from the fold's first; then it may be empty.
    """
    row_fold, rows = fold % g[ROW_FOLDS], g[ROWS]
    used = g[LAST_ROWS] if row_fold == g[ROW_FOLDS] - 1 else rows
    if g[DATAFLOW] == OS:
        return max(0, x - g[TIME] + 1), min(used - 1, x), row_fold * rows, 1, x, -1
    if g[DATAFLOW] == WS:
        return max(0, x - g[TIME] + 1), min(used - 1, x), x, -1, row_fold * rows, 1
    column_fold, row = fold // g[ROW_FOLDS], rows - 1 - x
    width = g[LAST_COLUMNS] if column_fold == g[COLUMN_FOLDS] - 1 else g[COLUMNS]
    return 0, (width if row < used else 0) - 1, column_fold * g[COLUMNS], 1, row_fold * rows + row, 0


@compiled
def word_tables(g: IntArray) -> tuple[IntArray, IntArray]:
    """Where the words of the input stand: of each window's corner, and of each tap from there.

    Returns:
        Shape (3, pixels) and (3, window): the part of the word's number, its row and its column.
    """
    corner, tap = np.empty((3, g[PIXELS]), np.int64), np.empty((3, g[WINDOW]), np.int64)
    channels, in_x = g[CHANNELS], g[IN_X]
    for y in range(g[OUT_Y]):
        for x in range(g[OUT_X]):
            i, row, column = y * g[OUT_X] + x, y * g[STRIDE], x * g[STRIDE]
            corner[0, i], corner[1, i], corner[2, i] = (row * in_x + column) * channels, row, column
    for y in range(g[FILTER_Y]):
        for x in range(g[FILTER_X]):
            row, column = y * g[DILATION], x * g[DILATION]
            for channel in range(channels):
                j = (y * g[FILTER_X] + x) * channels + channel
                tap[0, j], tap[1, j], tap[2, j] = (row * in_x + column) * channels + channel, row, column
    return corner, tap


@compiled
def is_inside(g: IntArray, corner: IntArray, tap: IntArray, pixel: int, place: int) -> bool:
    """Whether a tap of a window is in the input."""
    return bool(corner[1, pixel] + tap[1, place] < g[IN_Y] and corner[2, pixel] + tap[2, place] < g[IN_X])


@compiled
def grown(pairs: IntArray, size: int) -> IntArray:
    """`pairs`, which holds `size` pairs of numbers one after the other, with room for one more."""
    if 2 * size + 2 <= len(pairs):
        return pairs
    larger = np.empty(2 * len(pairs) + 2, np.int64)
    larger[: 2 * size] = pairs[: 2 * size]
    return larger
