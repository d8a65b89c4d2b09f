"""DRAM traffic against explicit loops: every order is run word by word over scratchpads that may not overflow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.systolic_physical import physical_report
from simulators.systolic_traffic import layer_shapes, output_stationary_traffic, stationary_traffic
from simulators.workload import Workload

SUM_WEIGHT = 8.0  # bytes of a 32-bit sum, written and read, over those of an 8-bit word

Word = tuple[int, int]


class Pad:
    """A scratchpad that the loops manage: what is kept stays until something else is."""

    def __init__(self, capacity: int, everything: set[Word]) -> None:
        self.capacity, self.kept, self.fetched = capacity, set[Word](), 0
        self.holds_all = len(everything) <= capacity

    def need(self, words: set[Word], keep: bool) -> bool:
        """Read words, from DRAM if they are not kept; False if they are to be kept and do not fit."""
        missing = words - self.kept
        self.fetched += len(missing)
        if self.holds_all:
            self.kept |= missing
        else:  # what streams through replaces what was there
            self.kept = words if keep else set()
        return self.holds_all or len(self.kept) <= self.capacity


def cut(size: int, n: int) -> list[range]:
    """Even pieces."""
    edges = [size * i // n for i in range(n + 1)]
    return [range(a, b) for a, b in pairwise(edges)]


def by(size: int, side: int) -> list[range]:
    """Pieces of one length, the last one shorter."""
    return [range(i, min(i + side, size)) for i in range(0, size, side)]


def block(rows: range, columns: range) -> set[Word]:
    return set(product(rows, columns))


def weight_stationary(
    pixels: int, filters: int, window: int, rows: int, columns: int, capacity: tuple[int, int, int]
) -> Iterator[float]:
    """Words moved by every program that fits: inputs, weights and weighted sums."""
    everything = range(window)
    folds_r, folds_c = by(window, rows), by(filters, columns)
    inputs_all, weights_all = block(range(pixels), everything), block(range(filters), everything)

    def pads() -> tuple[Pad, Pad]:
        return Pad(capacity[0], inputs_all), Pad(capacity[1], weights_all)

    def sums_fit(stretch: range, n_columns: int) -> bool:
        return len(folds_r) == 1 or len(stretch) * n_columns <= capacity[2]

    inputs, weights = pads()
    for c, r in product(folds_c, folds_r):  # partial sums spill
        weights.need(block(c, r), keep=False)
        inputs.need(block(range(pixels), r), keep=False)
    yield inputs.fetched + weights.fetched + SUM_WEIGHT * (len(folds_r) - 1) * pixels * filters
    for n in range(1, pixels + 1):
        stretches = cut(pixels, n)
        if n > 1 and min(map(len, stretches)) < min(rows, window):
            continue
        longest = max(stretches, key=len)
        for k in (1, 2, 4, 8):  # outputs of k column blocks stay
            inputs, weights = pads()
            groups = [folds_c[i : i + k] for i in range(0, len(folds_c), k)]
            fits = sums_fit(longest, min(k * columns, filters)) or (k == 1 and len(folds_r) == 1)
            for group, stretch, r in product(groups, stretches, folds_r):
                for c in group:
                    weights.need(block(c, r), keep=False)
                    fits = inputs.need(block(stretch, r), keep=len(group) > 1) and fits
            if fits:
                yield inputs.fetched + weights.fetched
        if not sums_fit(longest, min(columns, filters)):
            continue
        inputs, weights = pads()
        fits = True
        for c, stretch in product(folds_c, stretches):  # a column block's weights stay
            fits = weights.need(block(c, everything), keep=True) and fits
            inputs.need(block(stretch, everything), keep=False)
        if fits:
            yield inputs.fetched + weights.fetched
        for k in range(1, len(folds_c) + 1):  # several column blocks' weights stay, and each stretch's inputs
            inputs, weights = pads()
            tiles = [range(i[0].start, i[-1].stop) for i in (folds_c[j : j + k] for j in range(0, len(folds_c), k))]
            fits = True
            for tile, stretch in product(tiles, stretches):
                fits = weights.need(block(tile, everything), keep=True) and fits
                fits = inputs.need(block(stretch, everything), keep=True) and fits
            if fits:
                yield inputs.fetched + weights.fetched
        yield from input_tiles(pixels, filters, window, rows, columns, capacity, n)


def input_tiles(
    pixels: int, filters: int, window: int, rows: int, columns: int, capacity: tuple[int, int, int], n: int
) -> Iterator[float]:
    """A tile of inputs stays, weights pass by; within the tile, the sums of n stretches of all pixels."""
    everything = range(window)
    for m in range(1, n + 1):
        tiles = cut(pixels, m)
        if m > 1 and min(map(len, tiles)) < min(rows, window):
            continue
        inputs = Pad(capacity[0], block(range(pixels), everything))
        weights = Pad(capacity[1], block(range(filters), everything))
        fits = m == n or columns_fit(capacity[1], filters, columns, window)
        for tile in tiles:
            fits = inputs.need(block(tile, everything), keep=True) and fits
            for c in by(filters, columns):
                weights.need(block(c, everything), keep=False)
        if fits:
            yield inputs.fetched + weights.fetched


def columns_fit(capacity: int, filters: int, columns: int, window: int) -> bool:
    return min(filters, columns) * window <= capacity


def output_stationary(
    pixels: int, filters: int, window: int, rows: int, columns: int, capacity: tuple[int, int, int]
) -> Iterator[float]:
    """As `weight_stationary`; the sums are in the PEs."""
    everything = range(window)
    folds_r, folds_c = by(pixels, rows), by(filters, columns)
    inputs_all, weights_all = block(range(pixels), everything), block(range(filters), everything)
    for keep_inputs, keep_weights in product((False, True), repeat=2):
        for outer_is_rows, k in product((False, True), range(1, max(len(folds_r), len(folds_c)) + 1)):
            inputs, weights = Pad(capacity[0], inputs_all), Pad(capacity[1], weights_all)
            outer, inner = (folds_r, folds_c) if outer_is_rows else (folds_c, folds_r)
            fits = True
            for tile in (outer[i : i + k] for i in range(0, len(outer), k)):
                for b in inner:
                    for a in tile:
                        r, c = (a, b) if outer_is_rows else (b, a)
                        stays = range(tile[0].start, tile[-1].stop)
                        kept_r, kept_c = (stays, c) if outer_is_rows else (r, stays)
                        fits = inputs.need(block(kept_r if keep_inputs else r, everything), keep_inputs) and fits
                        fits = weights.need(block(kept_c if keep_weights else c, everything), keep_weights) and fits
            if fits:
                yield inputs.fetched + weights.fetched


SIZE, SIDE, ROOM = st.integers(1, 9), st.integers(1, 4), st.integers(0, 60)


@settings(max_examples=60, deadline=None)
@given(SIZE, SIZE, SIZE, SIDE, SIDE, st.tuples(ROOM, ROOM, ROOM))
def test_the_best_order_is_the_best_of_all_programs(
    pixels: int, filters: int, window: int, rows: int, columns: int, capacity: tuple[int, int, int]
) -> None:
    layer = Workload.from_layers(out_y=pixels, out_channels=filters, in_channels=window)
    sides, rooms = (np.array([rows]), np.array([columns])), tuple(np.array([float(c)]) for c in capacity)
    numbers = pixels, filters, window, rows, columns, capacity
    for dataflow, programs in (("ws", weight_stationary(*numbers)), ("os", output_stationary(*numbers))):
        if dataflow == "os":
            traffic = output_stationary_traffic(layer_shapes(layer), *sides, (rooms[0], rooms[1], rooms[2]))
        else:
            traffic = stationary_traffic(
                layer_shapes(layer), "ws", *sides, (rooms[0], rooms[1], rooms[2]), np.array([SUM_WEIGHT])
            )
        words = float((traffic.inputs + traffic.weights + SUM_WEIGHT * traffic.sums)[0])
        assert words == min(programs), dataflow


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_input_stationary_is_weight_stationary_with_the_operands_exchanged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n, k = rng.integers(1, 60, (3, 30))
    ifmap, weight, ofmap = rng.integers(0, 3, (3, 20))
    designs = {
        "rows": rng.integers(1, 12, 20), "columns": rng.integers(1, 12, 20), "clock_ghz": np.ones(20),
        "ofmap_kib": ofmap, "dram_bytes_per_cycle": rng.uniform(0.5, 20, 20),
    }  # fmt: skip
    here, _, _ = physical_report(
        Workload.from_layers(out_y=m, out_channels=n, in_channels=k),
        designs | {"dataflow": np.full(20, "ws"), "ifmap_kib": ifmap, "filter_kib": weight},
    )
    there, _, _ = physical_report(
        Workload.from_layers(out_y=n, out_channels=m, in_channels=k),
        designs | {"dataflow": np.full(20, "is"), "ifmap_kib": weight, "filter_kib": ifmap},
    )
    exchanged = {"ifmap": "filter", "filter": "ifmap"}
    for name, values in here.items():
        if name == "energy_uj":  # the scratchpads' lines serve other edges of the array
            continue
        operand = next((part for part in exchanged if part in name), "")
        np.testing.assert_allclose(there[name.replace(operand, exchanged.get(operand, ""))], values, err_msg=name)
