"""A systolic array as it could be built: latency, traffic, energy and area, without SCALE-Sim's habits.

A layer is a product of E pixels (times the batch), F filters and a window of W words per group, unrolled as in
`systolic`: (Sr, Sc, T) is (E, F, W) for os, (W, F, E) for ws, (W, E, F) for is; fr = ceil(Sr/R), fc = ceil(Sc/C).

Compute cycles. PEs have a second register for the next stationary operand (ws, is) or the last results (os), which
shift through while this fold computes. A fold of r x c PEs therefore follows the last one after max(T, r) cycles, and
the partial row block, of r' = Sr - (fr - 1) R rows, goes first:

    ws, is   r' + fc max(T, r') + (fr - 1) fc max(T, R) - max(0, r' - T) + r + c - 2      r = min(R, Sr), c = min(C, Sc)
    os            fc max(T, r') + (fr - 1) fc max(T, R) - max(0, r - T) + 2 r + c - 2

that is: the first load, the folds, and the way of the last result across the array; in os it then shifts out. G groups
run one after another without a gap (fc becomes G fc). If a group leaves room in the array, p = min(R // Sr, C // Sc)
groups share a fold along its diagonal (a row carries one stream, so they cannot share rows): G // p folds of p Sr x
p Sc and, first, one of the rest; unless that takes longer, as it may for a few groups of a short T.

Padding is computed on and costs no DRAM reads; batch is part of E; dilation spreads the windows.

DRAM: `systolic_traffic`, half of each double-buffered scratchpad being the working tile; compute is the same for all.

    latency = fill / B + max(compute, (bytes - fill - drain) / B) + drain / B          B: bytes per cycle

where fill is what a full fold needs to begin (its stationary operand and one streamed vector; os: one vector of each),
and drain what leaves last (one vector of results; os: a fold's). Stalls are latency - compute.

Scratchpad words, with `loads` of the chosen order: ifmap E W fc (is: E W loads), filter os W F fr, ws W F loads, is
W F fc; ofmap written E F (os) or E F fr. Energy and area: `systolic_energy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from simulators.accelerator import Columns
from simulators.energy import accumulator_bits
from simulators.systolic_energy import energy_rates, output_words, systolic_area_mm2
from simulators.systolic_traffic import Shapes, layer_shapes, output_stationary_traffic, stationary_traffic
from simulators.workload import FloatArray, IntArray, Workload

BLOCK = 8_192  # elements worked on at once: temporaries that stay in a core's cache

COLUMNS = (
    "latency_ms", "latency_cycles", "stall_cycles", "sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes",
    "dram_ifmap_reads", "dram_filter_reads", "dram_ofmap_writes", "dram_bytes", "energy_uj",
)  # fmt: skip
"""Quantities of a layer. Words, where a name ends in reads or writes; `dram_bytes` has partial sums both ways."""

PER_ACCELERATOR = ("pes", "scratchpad_kib", "area_mm2")

UNCOUNTED = (
    "static power; clock tree, control and the interconnect between scratchpads and array",
    "DRAM latency, refresh and row misses: bandwidth alone",
    "ops that are not matrix products: pooling, element-wise, normalisation, activation",
)

Report = tuple[dict[str, FloatArray], dict[str, FloatArray], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Folds:
    """How a layer is folded onto an array; float64 arrays of one shape.

    Attributes:
        cycles: compute cycles of all groups.
        row_blocks, column_blocks: fr and fc of a group.
        packed: groups that share a fold, p.
        first_words: words that a full fold needs before it begins.
        last_words: words of output that leave last.
    """

    cycles: FloatArray
    row_blocks: FloatArray
    column_blocks: FloatArray
    packed: FloatArray
    first_words: FloatArray
    last_words: FloatArray


def physical_report(workload: Workload, accelerators: Columns, *, paired: bool = False) -> Report:
    """Cost of every layer on every array.

    Args:
        workload: L layers.
        accelerators: columns rows, columns, dataflow, clock_ghz, ifmap_kib, filter_kib, ofmap_kib and, optionally,
            dram_bytes_per_cycle (unlimited if absent), tech_nm (45), pe_bits (8) and dram_kind (ddr3); shape (A,) each.
        paired: layer i runs on accelerator i alone; L == A.

    Returns:
        `COLUMNS`, of shape (L, A), or (L,) when paired; `PER_ACCELERATOR`, of shape (A,); what is left out.

    Raises:
        ValueError: a technology outside those of the energy tables.
    """
    n_layers, n_accelerators = len(workload), len(accelerators["rows"])
    shapes = layer_shapes(workload)
    bits, groups = workload.bits.astype(np.float64), workload.groups.astype(np.float64)
    macs, outputs = workload.macs.astype(np.float64), output_words(workload)
    widths, which = np.unique(workload.bits, return_inverse=True)
    rates = energy_rates(workload.bits[None, :] if paired else widths[:, None], accelerators)
    clock_ghz = accelerators["clock_ghz"].astype(np.float64)
    numbers = _numbers(accelerators)
    shape = (n_layers,) if paired else (n_layers, n_accelerators)
    results = {name: np.empty(shape) for name in COLUMNS}
    for dataflow, at, on in _parts(accelerators["dataflow"], n_layers, paired):
        part = at if paired else np.ix_(at, on)
        layer = at if paired else at[:, None]
        block = _Block(
            shapes=Shapes(**{f.name: getattr(shapes, f.name)[layer] for f in fields(Shapes)}),
            bits=bits[layer],
            groups=groups[layer],
            outputs=outputs[layer],
            **{name: values[on] for name, values in numbers.items()},
        )
        costs = _block_costs(block, dataflow)
        kind = (0, on) if len(rates.mac) == 1 else (which[at][:, None], on[None, :])
        costs["energy_uj"] = rates.total_uj(kind, macs[layer], block.outputs, costs)
        costs["latency_ms"] = costs["latency_cycles"] / (clock_ghz[on] * 1e6)
        for name in COLUMNS:
            results[name][part] = costs[name]
    scratchpads = sum(accelerators[name].astype(np.float64) for name in ("ifmap_kib", "filter_kib", "ofmap_kib"))
    alone = {
        "pes": np.asarray(numbers["rows"] * numbers["columns"]),
        "scratchpad_kib": np.asarray(scratchpads),
        "area_mm2": systolic_area_mm2(accelerators),
    }
    return results, alone, UNCOUNTED


def fold_layer(shapes: Shapes, groups: FloatArray, rows: FloatArray, columns: FloatArray, dataflow: str) -> Folds:
    """Folds and compute cycles of layers on arrays, all arguments broadcast together; see the module's equations."""
    space_rows, space_columns, time = {
        "os": (shapes.pixels, shapes.filters, shapes.window),
        "ws": (shapes.window, shapes.filters, shapes.pixels),
        "is": (shapes.window, shapes.pixels, shapes.filters),
    }[dataflow]
    row_blocks, column_blocks = np.ceil(space_rows / rows), np.ceil(space_columns / columns)
    last_rows, last_columns = np.minimum(rows, space_rows), np.minimum(columns, space_columns)
    n_first, first_rows = groups * column_blocks, space_rows - (row_blocks - 1.0) * rows
    n_then = n_first * (row_blocks - 1.0)
    cycles = _fold_cycles(n_first, first_rows, n_then, rows, last_rows, last_columns, time, dataflow)
    packed = np.ones_like(cycles)
    if (groups > 1.0).any():
        room = np.minimum(np.minimum(np.floor(rows / space_rows), np.floor(columns / space_columns)), groups)
        room = np.maximum(room, 1.0)
        rest, wide = groups % room, (room * space_rows, room * space_columns)
        first_rows = np.where(rest > 0.0, rest, room) * space_rows
        together = _fold_cycles(rest > 0.0, first_rows, groups // room, wide[0], *wide, time, dataflow)
        is_packed = (room > 1.0) & (together < cycles)  # a few short groups are quicker one by one
        cycles, packed = np.where(is_packed, together, cycles), np.where(is_packed, room, packed)
        last_rows, last_columns = last_rows * packed, last_columns * packed
    if dataflow == "os":
        first_words, last_words = last_rows + last_columns, last_rows * last_columns / packed
    else:
        first_words, last_words = last_rows * last_columns / packed + last_rows, last_columns
    return Folds(cycles, row_blocks, column_blocks, packed, first_words, last_words)


def _fold_cycles(
    n_first: FloatArray | NDArray[np.bool_],
    first_rows: FloatArray,
    n_then: FloatArray,
    then_rows: FloatArray,
    last_rows: FloatArray,
    last_columns: FloatArray,
    time: FloatArray,
    dataflow: str,
) -> FloatArray:
    """Cycles of some folds of few rows, then some of many, the last of them as large as any."""
    cycles = n_first * np.maximum(time, first_rows) + n_then * np.maximum(time, then_rows) + last_columns - 2.0
    if dataflow == "os":
        return np.asarray(cycles + 2.0 * last_rows - np.maximum(last_rows - time, 0.0))
    return np.asarray(cycles + last_rows + first_rows - np.maximum(first_rows - time, 0.0))


@dataclass(frozen=True, slots=True)
class _Block:
    """Some layers on some accelerators of one dataflow: arrays that broadcast together."""

    shapes: Shapes
    bits: FloatArray
    groups: FloatArray
    outputs: FloatArray
    rows: FloatArray
    columns: FloatArray
    ifmap_bytes: FloatArray
    filter_bytes: FloatArray
    ofmap_bytes: FloatArray
    dram_bytes_per_cycle: FloatArray


def _block_costs(block: _Block, dataflow: str) -> dict[str, FloatArray]:
    """All columns but energy and milliseconds."""
    shapes, rows, columns, groups = block.shapes, block.rows, block.columns, block.groups
    word, total = block.bits / 8.0, accumulator_bits(block.bits) / 8.0
    folds = fold_layer(shapes, groups, rows, columns, dataflow)
    capacity = (
        block.ifmap_bytes / (2.0 * word * folds.packed),
        block.filter_bytes / (2.0 * word * folds.packed),
        block.ofmap_bytes / (2.0 * total * folds.packed),
    )
    if dataflow == "os":
        traffic = output_stationary_traffic(shapes, rows, columns, capacity)
    else:
        traffic = stationary_traffic(shapes, dataflow, rows, columns, capacity, 2.0 * total / word)
    inputs, weights, sums = (groups * words for words in (traffic.inputs, traffic.weights, traffic.sums))
    windows, all_weights = groups * shapes.pixels * shapes.window, groups * shapes.filters * shapes.window
    dram_bytes = (inputs + weights + block.outputs) * word + 2.0 * sums * total
    fill = np.minimum(folds.first_words, inputs + weights) * word / block.dram_bytes_per_cycle
    drain = np.minimum(folds.last_words, block.outputs) * word / block.dram_bytes_per_cycle
    memory = dram_bytes / block.dram_bytes_per_cycle - fill - drain
    latency = fill + np.maximum(folds.cycles, memory) + drain
    by_columns, by_rows = folds.column_blocks, folds.row_blocks
    return {
        "latency_cycles": latency,
        "stall_cycles": latency - folds.cycles,
        "sram_ifmap_reads": windows * (traffic.loads if dataflow == "is" else by_columns),
        "sram_filter_reads": all_weights * {"os": by_rows, "ws": traffic.loads, "is": by_columns}[dataflow],
        "sram_ofmap_writes": block.outputs * (1.0 if dataflow == "os" else by_rows),
        "dram_ifmap_reads": inputs,
        "dram_filter_reads": weights,
        "dram_ofmap_writes": block.outputs + sums,
        "dram_bytes": dram_bytes,
    }


def _numbers(accelerators: Columns) -> dict[str, FloatArray]:
    numbers = {name: accelerators[name].astype(np.float64) for name in ("rows", "columns")}
    for name in ("ifmap", "filter", "ofmap"):
        numbers[f"{name}_bytes"] = accelerators[f"{name}_kib"].astype(np.float64) * 1024.0
    if "dram_bytes_per_cycle" in accelerators:
        numbers["dram_bytes_per_cycle"] = accelerators["dram_bytes_per_cycle"].astype(np.float64)
    else:
        numbers["dram_bytes_per_cycle"] = np.full(len(accelerators["rows"]), np.inf)
    return numbers


def _parts(dataflows: NDArray[np.generic], n_layers: int, paired: bool) -> Iterator[tuple[str, IntArray, IntArray]]:
    """Dataflow, layers and accelerators of each block; the same indices twice when paired."""
    for dataflow in np.unique(dataflows):
        chosen = np.flatnonzero(dataflows == dataflow)
        for start in range(0, len(chosen), BLOCK):
            on = chosen[start : start + BLOCK]
            if paired:
                yield str(dataflow), on, on
                continue
            step = max(BLOCK // len(on), 1)
            for first in range(0, n_layers, step):
                yield str(dataflow), np.arange(first, min(first + step, n_layers)), on
