"""Input activations whose windows overlap or end beyond the input: the same word stands in several prefetch sets.

Here positions have no closed form, so that words are walked; a whole line is skipped where its own sets are resident.
"""

from __future__ import annotations

import numpy as np

from simulators.compile_numba import compiled
from simulators.scalesim_layer import (
    CHANNELS,
    COLUMN_FOLDS,
    COLUMNS,
    DATAFLOW,
    DILATION,
    FILTER_X,
    FILTER_Y,
    FOLD_LENGTH,
    IN_X,
    IN_Y,
    IS,
    IS_CUT,
    LOAD,
    OUT_X,
    OUT_Y,
    PIXELS,
    ROW_FOLDS,
    ROWS,
    STRIDE,
    TIME,
    WINDOW,
    WS,
    IntArray,
    SmallArray,
    grown,
    is_inside,
    line_words,
    n_lines_of,
)
from simulators.scalesim_prefetch import moves_to, window_sizes


@compiled
def count_words(g: IntArray, corner: IntArray, tap: IntArray) -> int:
    """Words of all windows that are in the input."""
    rows, columns = 0, 0
    for y in range(0, g[PIXELS], g[OUT_X]):
        for j in range(0, g[WINDOW], g[FILTER_X] * g[CHANNELS]):
            rows += corner[1, y] + tap[1, j] < g[IN_Y]
    for x in range(g[OUT_X]):
        for j in range(0, g[FILTER_X] * g[CHANNELS], g[CHANNELS]):
            columns += corner[2, x] + tap[2, j] < g[IN_X]
    words: int = rows * columns * g[CHANNELS]
    return words


@compiled
def prefetch_order(
    g: IntArray, corner: IntArray, tap: IntArray, per_set: int, words: int
) -> tuple[SmallArray, SmallArray]:
    """The set of every word of every window, and the words in the order in which they are prefetched.

    A word beyond the input is not prefetched; its set is that of the next one.
    """
    window, is_cut = g[WINDOW], g[IS_CUT] == 1
    sets, order = np.empty(g[PIXELS] * window, np.int32), np.empty(words, np.int32)
    if g[DATAFLOW] == IS:
        position, current, rest = 0, 0, per_set
        for block in range(0, g[PIXELS], g[COLUMNS]):
            for j in range(window):
                for i in range(block, min(g[PIXELS], block + g[COLUMNS])):
                    sets[i * window + j] = current
                    if is_cut and not is_inside(g, corner, tap, i, j):
                        continue
                    order[position] = corner[0, i] + tap[0, j]
                    position, rest = position + 1, rest - 1
                    if rest == 0:
                        current, rest = current + 1, per_set
        return sets, order
    following = np.zeros(g[ROW_FOLDS] * g[TIME] + g[ROWS], np.int64)  # words on each diagonal, then the next position
    for block in range(g[ROW_FOLDS]):
        for x in range(n_lines_of(g, block)):
            left, right, i, di, j, dj = line_words(g, block, x)
            here = right - left + 1
            if is_cut:
                here = 0
                for c in range(left, right + 1):
                    here += is_inside(g, corner, tap, i + di * c, j + dj * c)
            following[block * g[TIME] + x] += here
    total = 0
    for d in range(len(following)):
        here = following[d]
        following[d] = total
        total += here
    for block in range(g[ROW_FOLDS] - 1, -1, -1):  # along a diagonal, later folds have the lower columns
        for x in range(n_lines_of(g, block)):
            left, right, i, di, j, dj = line_words(g, block, x)
            position = following[block * g[TIME] + x]
            current, rest = position // per_set, per_set - position % per_set
            for c in range(left, right + 1):
                pixel, place = i + di * c, j + dj * c
                sets[pixel * window + place] = current
                if is_cut and not is_inside(g, corner, tap, pixel, place):
                    continue
                order[position] = corner[0, pixel] + tap[0, place]
                position, rest = position + 1, rest - 1
                if rest == 0:
                    current, rest = current + 1, per_set
            following[block * g[TIME] + x] = position
    return sets, order


@compiled
def fewest_moves(
    g: IntArray, y: int, x: int, channel: int, sets: SmallArray, start: int, n_sets: int, active: int, step: int
) -> int:
    """Moves until some copy of a word is resident, 0 if one is; `y` and `x` are its place in the input."""
    fewest = n_sets
    for fy in range(g[FILTER_Y]):
        py = y - fy * g[DILATION]
        if py < 0:
            break
        if py % g[STRIDE] or py // g[STRIDE] >= g[OUT_Y]:
            continue
        for fx in range(g[FILTER_X]):
            px = x - fx * g[DILATION]
            if px < 0:
                break
            if px % g[STRIDE] or px // g[STRIDE] >= g[OUT_X]:
                continue
            pixel, place = py // g[STRIDE] * g[OUT_X] + px // g[STRIDE], (fy * g[FILTER_X] + fx) * g[CHANNELS] + channel
            fewest = min(fewest, moves_to((sets[pixel * g[WINDOW] + place] - start) % n_sets, active, step))
    return fewest


@compiled
def change(copies: SmallArray, order: SmallArray, first: int, n: int, n_sets: int, per_set: int, by: int) -> None:
    """Add `by` to the resident copies of the words of `n` sets from `first` on, in a circle."""
    first %= n_sets
    end = min((first + n) * per_set, len(order))
    for position in range(first * per_set, end):
        copies[order[position]] += by
    for position in range(min((first + n - n_sets) * per_set, len(order))):
        copies[order[position]] += by


@compiled
def line_after(g: IntArray, fold: int, low: int, high: int, sets: SmallArray, reached: int) -> int:
    """The first line of a fold from `low` on whose own words need a set after `reached`, or `high`."""
    while low < high:
        middle = (low + high) // 2
        _, right, i, di, j, dj = line_words(g, fold, middle)
        if sets[(i + di * right) * g[WINDOW] + j + dj * right] > reached:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def moves_windows(
    g: IntArray, corner: IntArray, tap: IntArray, scratchpad: int, pairs: IntArray
) -> tuple[IntArray, int]:
    """Movements of the window over input activations; returns as `scalesim_prefetch.moves_streamed`."""
    words = count_words(g, corner, tap)
    per_set, n_sets, active, step = window_sizes(words, scratchpad)
    if step == 0:
        return pairs, 0
    window, is_cut, load = g[WINDOW], g[IS_CUT] == 1, g[LOAD] if g[DATAFLOW] == WS else 0
    sets, order = prefetch_order(g, corner, tap, per_set, words)
    size, start = 0, 0
    copies = np.zeros(corner[0, -1] + tap[0, -1] + 1, np.int32)  # in the resident sets, of each word
    change(copies, order, 0, active, n_sets, per_set, 1)
    for fold in range(g[ROW_FOLDS] * g[COLUMN_FOLDS]):
        n_lines = n_lines_of(g, fold)
        x = 0
        while x < n_lines:
            left, right, i, di, j, dj = line_words(g, fold, x)
            if right < left:
                x += 1
                continue
            own = sets[(i + di * right) * window + j + dj * right]
            last = (own - start) % n_sets
            if (sets[(i + di * left) * window + j + dj * left] - start) % n_sets <= last < active:
                x = x + 1 if g[DATAFLOW] == IS else line_after(g, fold, x + 1, n_lines, sets, own - last + active - 1)
                continue
            moved = 0
            for c in range(left, right + 1):
                pixel, place = i + di * c, j + dj * c
                if is_cut and not is_inside(g, corner, tap, pixel, place):
                    continue
                if moved == 0 and copies[corner[0, pixel] + tap[0, place]] > 0:
                    continue
                y, z = corner[1, pixel] + tap[1, place], corner[2, pixel] + tap[2, place]
                moves = fewest_moves(g, y, z, place % g[CHANNELS], sets, start, n_sets, active, step)
                start = (start + moves * step) % n_sets
                moved += moves
            if moved:
                gone = min(moved * step, active)
                change(copies, order, (start - moved * step) % n_sets, gone, n_sets, per_set, -1)
                change(copies, order, start + active - gone, gone, n_sets, per_set, 1)
                pairs = grown(pairs, size)
                pairs[2 * size], pairs[2 * size + 1] = fold * g[FOLD_LENGTH] + load + x, moved
                size += 1
            x += 1
    return pairs, size
