"""SCALE-Sim's read buffers without a bandwidth: they empty themselves when full.

A buffer keeps the `capacity` words that were fetched last, and forgets all of them when the last of these arrives; a
demanded word that it does not hold is fetched. Each function gives the words fetched and the line at which the buffer
was emptied last, -1 if it never was.
"""

from __future__ import annotations

import numpy as np

from simulators.compile_numba import compiled
from simulators.scalesim_layer import (
    COLUMN_FOLDS,
    COLUMNS,
    DATAFLOW,
    FOLD_LENGTH,
    IS,
    IS_CUT,
    LAST_COLUMNS,
    LOAD,
    PIXELS,
    ROW_FOLDS,
    ROWS,
    SPACE_COLUMNS,
    SPACE_ROWS,
    WINDOW,
    IntArray,
    SmallArray,
    is_inside,
    line_of_word,
    line_words,
    n_lines_of,
)


@compiled
def flush_streamed(
    g: IntArray, by_column: bool, load: int, time: int, width: int, last_width: int, capacity: int
) -> tuple[int, int]:
    """For a streamed operand without repeated words; arguments as `scalesim_prefetch.moves_streamed`."""
    row_folds = g[ROW_FOLDS]
    n_blocks = g[COLUMN_FOLDS] if by_column else row_folds
    total = time * ((n_blocks - 1) * width + last_width)
    if total < capacity:
        return total, -1
    fetched, held, last = 0, 0, -1
    if not by_column:  # all of it again and again: every word is fetched every time
        fetched = total * g[COLUMN_FOLDS]
        n = fetched // capacity * capacity - 1  # the word that fills the buffer for the last time
        fold, n = n // total * row_folds, n % total
        block = min(n // (time * width), n_blocks - 1)
        used = last_width if block == n_blocks - 1 else width
        line = line_of_word(n - block * time * width, time, used)
        return fetched, (fold + block) * g[FOLD_LENGTH] + load + line
    for block in range(n_blocks):
        used = last_width if block == n_blocks - 1 else width
        words = time * used
        if words >= capacity:  # every fold fetches all of it
            n = held + words * row_folds
            if n >= capacity:
                at = n // capacity * capacity - held - 1
                line = load + line_of_word(at % words, time, used)
                last = (block * row_folds + at // words) * g[FOLD_LENGTH] + line
            fetched, held = fetched + words * row_folds, n % capacity
            continue
        fetched += words
        if held + words < capacity:
            held += words
            continue
        before = capacity - held  # words of this block that are forgotten while it is fetched first
        last = block * row_folds * g[FOLD_LENGTH] + load + line_of_word(before - 1, time, used)
        held = words - before
        if row_folds > 1:
            fetched, held = fetched + before, words
    return fetched, last


@compiled
def flush_stationary(g: IntArray, capacity: int) -> tuple[int, int]:
    """For a stationary operand without repeated words."""
    total = g[SPACE_ROWS] * g[SPACE_COLUMNS]
    if total < capacity:
        return total, -1
    n = total // capacity * capacity - 1
    column_fold = min(n // (g[SPACE_ROWS] * g[COLUMNS]), g[COLUMN_FOLDS] - 1)
    n -= column_fold * g[SPACE_ROWS] * g[COLUMNS]
    used = g[LAST_COLUMNS] if column_fold == g[COLUMN_FOLDS] - 1 else g[COLUMNS]
    row_fold = min(n // (g[ROWS] * used), g[ROW_FOLDS] - 1)
    n -= row_fold * g[ROWS] * used
    used_rows = min(g[ROWS], g[SPACE_ROWS] - row_fold * g[ROWS])
    return total, (column_fold * g[ROW_FOLDS] + row_fold) * g[FOLD_LENGTH] + g[ROWS] - used_rows + n // used


@compiled
def input_pass(g: IntArray, corner: IntArray, tap: IntArray) -> tuple[SmallArray, IntArray, int]:
    """Words of one pass over the input activations in order of demand.

    Returns:
        Their numbers; how many there are up to each line that `line_words` counts, fold after fold; and the folds.
    """
    n_folds = g[ROW_FOLDS] * g[COLUMN_FOLDS] if g[DATAFLOW] == IS else g[ROW_FOLDS]
    n_lines = 0
    for fold in range(n_folds):
        n_lines += n_lines_of(g, fold)
    stream, until = np.empty(g[PIXELS] * g[WINDOW] + 1, np.int32), np.empty(n_lines, np.int64)
    size, line, is_cut = 0, 0, g[IS_CUT] == 1
    for fold in range(n_folds):
        for x in range(n_lines_of(g, fold)):
            left, right, i, di, j, dj = line_words(g, fold, x)
            for c in range(left, right + 1):
                pixel, place = i + di * c, j + dj * c
                if not is_cut or is_inside(g, corner, tap, pixel, place):
                    stream[size] = corner[0, pixel] + tap[0, place]
                    size += 1
            until[line] = size
            line += 1
    return stream[:size], until, n_folds


@compiled
def fill_ends(stream: SmallArray, n_words: int, capacity: int) -> IntArray:
    """For a buffer that is empty before each place of a pass: the place of the word that fills it.

    Places count on into the following passes, which are all alike. The end never moves back when the start moves on,
    so that one sweep with a count of every word between start and end finds all of them.
    """
    count = np.zeros(n_words, np.int32)
    ends = np.empty(len(stream), np.int64)
    end, at, distinct = 0, 0, 0
    for start in range(len(stream)):
        while distinct < capacity:
            word = stream[at]
            distinct += count[word] == 0
            count[word] += 1
            end, at = end + 1, at + 1 if at + 1 < len(stream) else 0
        ends[start] = end - 1
        word = stream[start]
        count[word] -= 1
        distinct -= count[word] == 0
    return ends


@compiled
def flush_passes(stream: SmallArray, n_words: int, n_passes: int, capacity: int) -> tuple[int, int]:
    """For passes over a stream with at least `capacity` words; the place of the last flush instead of its line."""
    size, fetched, last, place = len(stream), 0, -1, 0
    if n_passes > 3:
        ends = fill_ends(stream, n_words, capacity)
        while place < size * n_passes:
            end = place // size * size + ends[place % size]
            if end >= size * n_passes:
                break
            fetched, last, place = fetched + capacity, end, end + 1
    fills, held, at = 1, 0, place % size
    held_since = np.zeros(n_words, np.int64)
    while place < size * n_passes:
        word = stream[at]
        if held_since[word] != fills:
            held_since[word] = fills
            held, fetched = held + 1, fetched + 1
            if held == capacity:
                fills, held, last = fills + 1, 0, place
        place, at = place + 1, at + 1 if at + 1 < size else 0
    return fetched, last


@compiled
def flush_windows(g: IntArray, corner: IntArray, tap: IntArray, distinct: int, capacity: int) -> tuple[int, int]:
    """For input activations whose windows overlap or end beyond the input, `distinct` words in all."""
    if distinct < capacity:
        return distinct, -1
    stream, until, n_folds = input_pass(g, corner, tap)
    n_words = corner[0, -1] + tap[0, -1] + 1
    n_passes = 1 if g[DATAFLOW] == IS else g[COLUMN_FOLDS]
    fetched, place = flush_passes(stream, n_words, n_passes, capacity)
    fold, line = 0, 0
    while until[line] <= place % len(stream):
        line += 1
    while line >= n_lines_of(g, fold):
        line -= n_lines_of(g, fold)
        fold += 1
    load = 0 if g[DATAFLOW] == IS else g[LOAD]
    return fetched, (place // len(stream) * n_folds + fold) * g[FOLD_LENGTH] + load + line
