"""SCALE-Sim's read buffers at a given DRAM bandwidth: at which demand a prefetch window has to move on, and how often.

An operand is cut, in the order in which it is prefetched, into sets of `per_set` words. `active` consecutive sets (of
`n_sets`, in a circle) are resident; a word outside them moves the window by `step` sets until it is inside. Which
demand moves the window does not depend on time, so the movements are found first, as (line, moves) pairs.

The prefetch order is that of the diagonals of all folds stacked on one another, so that a line of demand is an interval
of it; where no word occurs twice, only the ends of intervals need to be looked at.
"""

from __future__ import annotations

from simulators.compile_numba import compiled
from simulators.scalesim_layer import (
    COLUMN_FOLDS,
    COLUMNS,
    FOLD_LENGTH,
    LAST_COLUMNS,
    ROW_FOLDS,
    ROWS,
    SPACE_COLUMNS,
    SPACE_ROWS,
    IntArray,
    diagonal_words,
    grown,
)


@compiled
def window_sizes(words: int, scratchpad: int) -> tuple[int, int, int, int]:
    """Words of a set, sets of the operand (the last may be empty), sets that are resident, and sets of a move.

    Args:
        words: of the operand as it is prefetched, repeated words included.
        scratchpad: words of the buffer; half of it (rounded up) is resident, the other half is being prefetched.
    """
    per_set, resident = (scratchpad + 99) // 100, (scratchpad + 1) // 2
    n_sets = words // per_set + 1
    active = min(n_sets, (resident + per_set - 1) // per_set)
    return per_set, n_sets, active, min(n_sets - active, (scratchpad - resident + per_set - 1) // per_set)


@compiled
def moves_to(behind: int, active: int, step: int) -> int:
    """Moves that bring a set `behind` sets after the window's start into the window; 0 if it is there."""
    return 0 if behind < active else (behind - active + step) // step


@compiled
def diagonal_interval(block: int, x: int, n_blocks: int, time: int, width: int, last_width: int) -> tuple[int, int]:
    """First and last prefetch position of line x of a fold: `time` rows of `width` words, `last_width` in the last."""
    used = last_width if block == n_blocks - 1 else width
    left, right = max(0, x - time + 1), min(used - 1, x)
    diagonal, rows, full_rows = block * time + x, n_blocks * time, (n_blocks - 1) * time
    position = diagonal_words(diagonal, rows, last_width)
    if width > last_width:
        position += diagonal_words(diagonal - last_width, full_rows, width - last_width)
    if left > 0:  # words of later folds on the same diagonal come first
        first = max(0, diagonal - rows + 1)
        position += max(0, min(left, last_width) - first)
        position += max(0, left - max(first, last_width, diagonal - full_rows + 1))
    return position, position + right - left


@compiled
def moves_streamed(
    g: IntArray, by_column: bool, load: int, time: int, width: int, last_width: int, scratchpad: int, pairs: IntArray
) -> tuple[IntArray, int]:
    """Movements of the window over a streamed operand without repeated words.

    Args:
        g: the layer.
        by_column: whether a fold streams what its column of folds shares, else what its row of folds shares.
        load: lines before a fold's demand.
        time, width, last_width: rows and columns of what a fold streams, and columns of the last.
        scratchpad: words of the buffer.
        pairs: room for the result.

    Returns:
        (line, moves) pairs one after the other, and how many pairs there are.
    """
    n_blocks = g[COLUMN_FOLDS] if by_column else g[ROW_FOLDS]
    words = time * ((n_blocks - 1) * width + last_width)
    per_set, n_sets, active, step = window_sizes(words, scratchpad)
    size, start = 0, 0
    if step == 0:
        return pairs, 0
    for fold in range(g[ROW_FOLDS] * g[COLUMN_FOLDS]):
        block = fold // g[ROW_FOLDS] if by_column else fold % g[ROW_FOLDS]
        n_lines = time + (last_width if block == n_blocks - 1 else width) - 1
        final = diagonal_interval(block, n_lines - 1, n_blocks, time, width, last_width)[1] // per_set
        x = 0
        while x < n_lines:
            first, last = diagonal_interval(block, x, n_blocks, time, width, last_width)
            first, last = first // per_set, last // per_set
            moves = 0
            for current in range(first, last + 1):
                more = moves_to((current - start) % n_sets, active, step)
                start = (start + more * step) % n_sets
                moves += more
            if moves:
                pairs = grown(pairs, size)
                pairs[2 * size], pairs[2 * size + 1] = fold * g[FOLD_LENGTH] + load + x, moves
                size += 1
            reached = last - (last - start) % n_sets + active - 1  # the last set that is resident without a gap
            if reached >= final:
                break
            low, high = x + 1, n_lines - 1  # the first line with a later set
            while low < high:
                middle = (low + high) // 2
                if diagonal_interval(block, middle, n_blocks, time, width, last_width)[1] // per_set > reached:
                    high = middle
                else:
                    low = middle + 1
            x = low
    return pairs, size


@compiled
def moves_stationary(g: IntArray, scratchpad: int, pairs: IntArray) -> tuple[IntArray, int]:
    """Movements of the window over a stationary operand without repeated words; as `moves_streamed`.

    The operand is prefetched in blocks of the array's columns, row by row; a fold loads its last row first.
    """
    per_set, n_sets, active, step = window_sizes(g[SPACE_ROWS] * g[SPACE_COLUMNS], scratchpad)
    size, start = 0, 0
    if step == 0:
        return pairs, 0
    for fold in range(g[ROW_FOLDS] * g[COLUMN_FOLDS]):
        row_fold, column_fold = fold % g[ROW_FOLDS], fold // g[ROW_FOLDS]
        used_rows = min(g[ROWS], g[SPACE_ROWS] - row_fold * g[ROWS])
        used = g[LAST_COLUMNS] if column_fold == g[COLUMN_FOLDS] - 1 else g[COLUMNS]
        origin = column_fold * g[COLUMNS] * g[SPACE_ROWS] + row_fold * g[ROWS] * used
        first, last = origin // per_set, (origin + used_rows * used - 1) // per_set
        if (first - start) % n_sets <= (last - start) % n_sets < active:
            continue
        for row in range(used_rows - 1, -1, -1):
            moves = 0
            for current in range((origin + row * used) // per_set, (origin + row * used + used - 1) // per_set + 1):
                more = moves_to((current - start) % n_sets, active, step)
                start = (start + more * step) % n_sets
                moves += more
            if moves:
                pairs = grown(pairs, size)
                pairs[2 * size], pairs[2 * size + 1] = fold * g[FOLD_LENGTH] + g[ROWS] - 1 - row, moves
                size += 1
    return pairs, size
