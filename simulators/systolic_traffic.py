"""DRAM traffic of a systolic array with three double-buffered scratchpads: the best of some loop orders, closed form.

A layer is a product of E pixels, F filters and a window of W words (`systolic`), once per group. Half of each
scratchpad is the working tile, of Ci, Cf words and Co accumulators; the other half is being filled or drained. An order
keeps one operand's tile and streams the others past it; within a tile the array's own folds apply. With n(x) the
number of tiles that x is cut into, and an operand that fits its half as a whole read once in every order:

    weight tile stays       f = Cf / W filters          weights 1            inputs n(f), or ceil(F/C)
    input tile stays        e pixels' windows fit       inputs 1             weights n(e), or ceil(E/R) (os)
    outputs stay            os: one fold's, in the PEs  inputs ceil(F/C)     weights ceil(E/R)
                            ws: e = Co / (k C) pixels   inputs ceil(F/(kC))  weights n(e)      k = 1, 2, 4, 8
                            is: f = Co / (k C) filters  inputs n(f)          weights ceil(E/(kC))
    partial sums spill      ws, is, always possible     stationary 1         streamed one per column of folds,
                                                        and each partial sum but the first written and read back

(The first two need room for a fold's share of both operands; with room for only the one that stays, the other is read
once per fold, the figure after "or". With k > 1, the slice of the streamed operand that one fold takes must fit too.)
The one that moves the fewest bytes is taken. All of ws and is but the last keep partial sums on chip, so they need
W <= R or room for a stretch of the stream between two loads of the array; a stretch is allowed if it is no shorter
than the array has rows, so that loading the next operand stays hidden: compute cycles do not depend on the order.

The inputs of one pass are fewer than E W words, since neighbouring windows share pixels: if span rows of the input fit,
each pixel is read once; if only a strip of them does, the strips' shared columns are read twice; else each window
anew. Pixels of padding are never read; padding is taken as even on both sides, the odd one at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simulators.workload import FloatArray, IntArray, Workload

COLUMN_BLOCKS = (1, 2, 4, 8)
"""Column blocks whose partial sums share the ofmap scratchpad, k above."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the traffic of a layer needs of it, per group; float64 arrays of one shape.

    Attributes:
        pixels, filters, window: E, F, W.
        image: words of one image's input channels.
        row: words of one input row.
        span_y, span_x: rows and pixels that one window covers, padding not counted.
        column_words: words of one pixel column of one window, span_y times the channels.
        stride: as the layer's.
        out_y, out_x, batch: output rows and pixels of an image, images.
        unique: words of input that are used at all.
        unique_columns: pixels of a row that are used at all.
        repeated: words of all windows, without padding.
    """

    pixels: FloatArray
    filters: FloatArray
    window: FloatArray
    image: FloatArray
    row: FloatArray
    span_y: FloatArray
    span_x: FloatArray
    column_words: FloatArray
    stride: FloatArray
    out_y: FloatArray
    out_x: FloatArray
    batch: FloatArray
    unique: FloatArray
    unique_columns: FloatArray
    repeated: FloatArray


@dataclass(frozen=True, slots=True)
class Traffic:
    """Words per group in the best order.

    Attributes:
        inputs, weights: read from DRAM.
        sums: partial sums written to DRAM and read back.
        loads: how often each stationary word is loaded into the array (1 for os).
    """

    inputs: FloatArray
    weights: FloatArray
    sums: FloatArray
    loads: FloatArray


@dataclass(frozen=True, slots=True)
class _Tiles:
    """An operand's tiles with the whole window: how many (infinite where one cannot be held), and words of a pass."""

    n: FloatArray
    words: FloatArray


def layer_shapes(workload: Workload) -> Shapes:
    """The shapes of one group of each layer, shape (L,) each."""
    used_y, hits_y = _touched(workload.out_y, workload.filter_y, workload.in_y, workload)
    used_x, hits_x = _touched(workload.out_x, workload.filter_x, workload.in_x, workload)
    batch, out_y, out_x, stride = (
        getattr(workload, name).astype(np.float64) for name in ("batch", "out_y", "out_x", "stride")
    )
    channels = (workload.in_channels // workload.groups).astype(np.float64)
    in_x = workload.in_x.astype(np.float64)
    span_y, span_x = (
        np.minimum((taps - 1) * workload.dilation + 1, size).astype(np.float64)
        for taps, size in ((workload.filter_y, workload.in_y), (workload.filter_x, workload.in_x))
    )
    return Shapes(
        pixels=batch * out_y * out_x,
        filters=(workload.out_channels // workload.groups).astype(np.float64),
        window=channels * workload.filter_y * workload.filter_x,
        image=channels * workload.in_y * in_x,
        row=channels * in_x,
        span_y=span_y,
        span_x=span_x,
        column_words=channels * span_y,
        stride=stride,
        out_y=out_y,
        out_x=out_x,
        batch=batch,
        unique=batch * channels * used_y * used_x,
        unique_columns=used_x,
        repeated=batch * channels * hits_y * hits_x,
    )


def stationary_traffic(
    shapes: Shapes,
    dataflow: str,
    rows: FloatArray,
    columns: FloatArray,
    capacity: tuple[FloatArray, FloatArray, FloatArray],
    sum_weight: FloatArray,
) -> Traffic:
    """Traffic of `ws` and `is`.

    Args:
        shapes: of the layers, broadcasting with the rest.
        dataflow: `ws` or `is`.
        rows, columns: R and C.
        capacity: Ci, Cf (words) and Co (accumulators) for one group.
        sum_weight: bytes of a partial sum written and read, over those of a word.
    """
    is_ws = dataflow == "ws"
    stream, across = (shapes.pixels, shapes.filters) if is_ws else (shapes.filters, shapes.pixels)
    used_rows = np.minimum(rows, shapes.window)
    n_row_blocks, n_column_blocks = np.ceil(shapes.window / rows), np.ceil(across / columns)
    inputs, held = _input_tile(shapes, capacity[0])
    kept_filters = np.floor(capacity[1] / shapes.window)
    weight_words = shapes.filters * shapes.window
    if is_ws:
        still = _Tiles(_blocks(across, kept_filters, columns), weight_words)
        moving = _Tiles(_stretches(stream, held, used_rows), inputs)
    else:
        still = _Tiles(_blocks(across, held, columns), inputs)
        moving = _Tiles(_stretches(stream, kept_filters, used_rows), weight_words)
    # partial sums spill: always possible
    best_still = np.ones_like(still.n)
    best_moving = np.where(moving.n == 1.0, 1.0, n_column_blocks)
    best_sums = (n_row_blocks - 1.0) * shapes.pixels * shapes.filters
    best_loads = np.ones_like(best_still)
    best = still.words + best_moving * moving.words + best_sums * sum_weight
    stretches = []
    for k in COLUMN_BLOCKS:
        longest = np.where(n_row_blocks == 1.0, stream, np.floor(capacity[2] / np.minimum(k * columns, across)))
        if k > 1:  # a stretch is streamed anew for each column block: its slice of the window must stay
            longest = np.minimum(longest, np.floor(capacity[0 if is_ws else 1] / used_rows))
        stretches.append(_stretches(stream, longest, used_rows))
    for n_still, n_moving, loads in _orders(still, moving, n_column_blocks, stretches):
        n_still = np.where(still.n == 1.0, 1.0, n_still)
        n_moving = np.where(moving.n == 1.0, 1.0, n_moving)
        words = n_still * still.words + n_moving * moving.words
        better = (words < best) & np.isfinite(loads)
        best = np.where(better, words, best)
        best_still, best_moving = np.where(better, n_still, best_still), np.where(better, n_moving, best_moving)
        best_sums, best_loads = np.where(better, 0.0, best_sums), np.where(better, loads, best_loads)
    still_words, moving_words = best_still * still.words, best_moving * moving.words
    if is_ws:
        return Traffic(moving_words, still_words, best_sums, best_loads)
    return Traffic(still_words, moving_words, best_sums, best_loads)


def output_stationary_traffic(
    shapes: Shapes, rows: FloatArray, columns: FloatArray, capacity: tuple[FloatArray, FloatArray, FloatArray]
) -> Traffic:
    """Traffic of `os`; arguments as `stationary_traffic`."""
    inputs, held = _input_tile(shapes, capacity[0])
    weight_words = shapes.filters * shapes.window
    n_inputs = _blocks(shapes.pixels, held, rows)
    n_weights = _blocks(shapes.filters, np.floor(capacity[1] / shapes.window), columns)
    column_blocks, row_blocks = np.ceil(shapes.filters / columns), np.ceil(shapes.pixels / rows)
    best_inputs, best_weights = column_blocks, np.broadcast_to(row_blocks, inputs.shape)
    best = best_inputs * inputs + best_weights * weight_words
    one = np.ones_like(best)
    # an operand read once stays in tiles; the other is read once per tile if a fold's share of it fits, else per fold
    for times_inputs, times_weights in (
        (np.where(np.isfinite(n_inputs), n_weights, column_blocks), np.where(np.isfinite(n_weights), 1.0, np.inf)),
        (np.where(np.isfinite(n_inputs), 1.0, np.inf), np.where(np.isfinite(n_weights), n_inputs, row_blocks)),
    ):
        words = times_inputs * inputs + times_weights * weight_words
        better = words < best
        best = np.where(better, words, best)
        best_inputs = np.where(better, times_inputs, best_inputs)
        best_weights = np.where(better, times_weights, best_weights)
    return Traffic(best_inputs * inputs, best_weights * weight_words, np.zeros_like(best), one)


def _orders(
    still: _Tiles, moving: _Tiles, n_column_blocks: FloatArray, stretches: list[FloatArray]
) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """Times that the stationary and the streamed operand are read, and loads of the array; infinite if impossible."""
    column_fits = np.isfinite(still.n)
    once = np.where(column_fits, 1.0, np.inf)
    both = np.maximum(stretches[0], moving.n)
    tiles = np.where(np.isfinite(both), moving.n, 1.0)
    yield once, n_column_blocks, stretches[0]
    yield once, still.n, both
    # a column's weights are kept while the stretches of a tile pass, or the tile is a stretch
    nested = np.where(column_fits, tiles * np.ceil(both / tiles), both)
    yield np.where(column_fits, moving.n, both), np.ones_like(both), nested
    for k, n in zip(COLUMN_BLOCKS, stretches, strict=True):
        yield n, np.ceil(n_column_blocks / k), n


def _input_tile(shapes: Shapes, capacity: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Words of one pass over the inputs, and pixels whose windows fit together."""
    whole = shapes.unique <= capacity
    images = np.floor(capacity / shapes.image)
    tall = np.floor((capacity / shapes.row - shapes.span_y) / shapes.stride) + 1.0
    wide = np.floor((capacity / shapes.column_words - shapes.span_x) / shapes.stride) + 1.0
    wide = np.clip(wide, 0.0, shapes.out_x)
    held = np.where(tall >= 1.0, np.minimum(tall, shapes.out_y) * shapes.out_x, wide)
    held = np.where(images >= 1.0, images * shapes.out_y * shapes.out_x, held)
    held = np.where(whole, shapes.pixels, np.minimum(held, shapes.pixels))
    n_strips = np.ceil(shapes.out_x / np.maximum(wide, 1.0))
    shared = (n_strips - 1.0) * np.maximum(shapes.span_x - shapes.stride, 0.0)
    strips = shapes.unique * (1.0 + shared / shapes.unique_columns)
    words = np.where(wide >= 1.0, np.minimum(strips, shapes.repeated), shapes.repeated)
    return np.where(whole | (tall >= 1.0) | (images >= 1.0), shapes.unique, words), held


def _blocks(size: FloatArray, held: FloatArray, side: FloatArray) -> FloatArray:
    """Tiles of a dimension across the array's side, cut between its folds."""
    per_tile = np.floor(held / side)
    n = np.ceil(np.ceil(size / side) / np.maximum(per_tile, 1.0))
    return np.where(held >= size, 1.0, np.where(per_tile >= 1.0, n, np.inf))


def _stretches(size: FloatArray, held: FloatArray, used_rows: FloatArray) -> FloatArray:
    """Even stretches of the streamed dimension, none shorter than the rows in use (unless it is short as a whole)."""
    n = np.ceil(size / np.maximum(held, 1.0))
    allowed = (held >= 1.0) & ((n == 1.0) | (np.floor(size / n) >= used_rows))
    return np.where(allowed, n, np.inf)


def _touched(out: IntArray, taps: IntArray, size: IntArray, workload: Workload) -> tuple[FloatArray, FloatArray]:
    """Along one axis: pixels that some window uses, and pairs of a window and a tap that fall on a pixel, not padding.

    Positions o stride + k dilation of two pairs coincide if they differ by (d/g, -s/g), g their common divisor; so the
    distinct ones are all pairs less those that have such a successor.
    """
    divisor = np.gcd(workload.stride, workload.dilation)
    step_out, step_tap = workload.dilation // divisor, workload.stride // divisor
    distinct = out * taps - np.maximum(out - step_out, 0) * np.maximum(taps - step_tap, 0)
    reach = (out - 1) * workload.stride + (taps - 1) * workload.dilation + 1
    before = np.maximum(reach - size, 0) // 2
    hits = np.zeros(len(out))
    for tap in range(int(taps.max(initial=0))):
        at = tap * workload.dilation
        first = np.clip(-((at - before) // workload.stride), 0, out)
        end = np.clip(-((at - before - size) // workload.stride), 0, out)
        hits += np.where(tap < taps, end - first, 0)
    hits = np.maximum(hits, 1.0)
    return np.minimum(np.minimum(distinct, size), hits), hits
