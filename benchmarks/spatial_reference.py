"""Holds the spatial model against a table of ZigZag runs: `python benchmarks/spatial_reference.py TABLE.csv`.

The table has one layer on one accelerator per row, with the mapping that ZigZag 3.9.1 chose and all its figures; the
accelerators are in a JSON file, `zigzag_accelerators.json` beside the table unless `--accelerators` names another.

First, the cost of the table's own mappings: rows whose word accesses are all equal, and how far each figure is off.
Then the mapper, on the same layer, accelerator, spatial mapping and objective: ours over theirs, and CPU seconds a
search. `--rate` measures mappings evaluated per CPU second. Exit status 0: every row's accesses and figures are equal
(figures to 1e-6) and every mapping found is at least as good; 1: not so; 2: a file cannot be read.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from simulators.mapping import parse_mapping
from simulators.spatial_evaluate import BLOCK, NestCosts, evaluate
from simulators.spatial_hierarchy import DIRECTIONS, OPERANDS, Hierarchy, load_zigzag_accelerators
from simulators.spatial_mapper import THOROUGH, objective_of, search_mappings
from simulators.spatial_nest import Layers, Nests, default_unrolling, layers_of, nests_of
from simulators.workload import FloatArray, Workload

Row = Mapping[str, str]

REQUIRED = (
    "kind", "gemm_m", "gemm_n", "gemm_k", "out_channels", "in_channels", "out_h", "out_w", "filter_h", "filter_w",
    "stride", "accelerator", "objective", "spatial_mapping", "temporal_mapping", "word_accesses",
)  # fmt: skip
FIGURES = (
    "energy_total", "mac_energy", "mem_energy", "latency_compute", "latency_with_onload", "latency_total",
    "ideal_cycles", "ideal_temporal_cycles", "spatial_util", "total_util",
)  # fmt: skip
EQUAL = 1e-6
AT_LEAST = 1.0 + 1e-9


def read_table(path: Path) -> list[Row]:
    """The rows. Raises ValueError with one message if that is impossible."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows: list[Row] = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read: {reason}") from error
    missing = [name for name in (*REQUIRED, *FIGURES) if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing")
    if not rows:
        raise ValueError(f"{path}: no rows")
    return rows


def layer_of(row: Row) -> Layers:
    """The layer of a row: 8-bit words, 16-bit sums, 8-bit outputs, batch 1 and no padding."""
    kind = row["kind"]
    if kind == "gemm":
        columns = {"batch": row["gemm_m"], "out_channels": row["gemm_n"], "in_channels": row["gemm_k"]}
    elif kind in ("conv", "dw"):
        names = {"out_y": "out_h", "out_x": "out_w", "filter_y": "filter_h", "filter_x": "filter_w", "stride": "stride"}
        columns = {name: row[column] for name, column in names.items()}
        channels = row["out_channels"] or row["in_channels"]
        columns["out_channels"] = channels
        columns["in_channels"] = channels if kind == "dw" else row["in_channels"]
        columns["groups"] = channels if kind == "dw" else "1"
    else:
        raise ValueError(f"column 'kind': {kind!r} is not one of conv, dw, gemm")
    try:
        return layers_of(Workload.from_layers(**{name: int(value) for name, value in columns.items()}))
    except ValueError as error:
        raise ValueError(f"{row.get('layer', kind)}: {error}") from error


def figures_of(costs: NestCosts) -> dict[str, float]:
    """The table's figures of one nest."""
    latency = costs.latency
    compute, ideal = float(latency.compute_cycles[0]), float(latency.ideal_cycles[0])
    total = float(latency.total_cycles[0])
    memory = sum(float(levels[:, 0].sum()) for levels in costs.accesses.memory_pj.values())
    return {
        "energy_total": float(costs.energy_pj[0]),
        "mac_energy": float(costs.accesses.mac_pj[0]),
        "mem_energy": memory,
        "latency_compute": compute,
        "latency_with_onload": compute + float(latency.onload_cycles[0]),
        "latency_total": total,
        "ideal_cycles": ideal,
        "ideal_temporal_cycles": float(latency.temporal_cycles[0]),
        "spatial_util": ideal / float(latency.temporal_cycles[0]),
        "total_util": ideal / total,
    }


def accesses_equal(costs: NestCosts, row: Row) -> bool:
    """Whether every operand has the table's accesses at every level in every direction."""
    expected = json.loads(row["word_accesses"])
    return all(
        costs.accesses.words[op][level, way, 0] == counts[name]
        for op in OPERANDS
        for level, counts in enumerate(expected[op])
        for way, name in enumerate(DIRECTIONS)
    )


def compare_costs(rows: Sequence[Row], accelerators: Mapping[str, Hierarchy]) -> bool:
    """Print how the cost of the table's own mappings agrees; true if it does everywhere."""
    n_equal, off = 0, {name: np.zeros(len(rows)) for name in FIGURES}
    per_level = np.zeros(len(rows))
    for i, row in enumerate(rows):
        hierarchy = _accelerator(row, accelerators)
        mapping = parse_mapping(row["spatial_mapping"], row["temporal_mapping"])
        costs = evaluate(nests_of(layer_of(row), hierarchy, [mapping]), hierarchy)
        n_equal += accesses_equal(costs, row)
        for name, value in figures_of(costs).items():
            off[name][i] = abs(value - float(row[name])) / max(abs(float(row[name])), 1e-12)
        if row.get("mem_energy_per_level"):
            for op, levels in json.loads(row["mem_energy_per_level"]).items():
                error = np.abs(costs.accesses.memory_pj[op][:, 0] - levels) / np.maximum(np.abs(levels), 1e-12)
                per_level[i] = max(per_level[i], error.max())
    off["mem_energy_per_level"] = per_level
    print(f"rows {len(rows)}, equal {n_equal} (word accesses of every operand, level and direction)")
    for name, errors in off.items():
        print(f"{name:22} equal {int((errors <= EQUAL).sum()):4}   within 1 % {int((errors <= 0.01).sum()):4}   "
              f"worst {100 * errors.max():.2g} %")  # fmt: skip
    return n_equal == len(rows) and all((errors <= EQUAL).all() for errors in off.values())


def compare_searches(rows: Sequence[Row], accelerators: Mapping[str, Hierarchy]) -> bool:
    """Print how good the mapper's mappings are; true if all are at least as good as the table's."""
    ratios, seconds, theirs = np.zeros(len(rows)), np.zeros(len(rows)), np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        hierarchy, layer = _accelerator(row, accelerators), layer_of(row)
        objective = next(name for name in ("latency", "energy", "edp") if name == row["objective"].lower())
        start = time.process_time()
        found = search_mappings(layer, hierarchy, default_unrolling(layer, hierarchy), objective, THOROUGH)
        seconds[i] = time.process_time() - start
        latency, energy = float(row["latency_total"]), float(row["energy_total"])
        reference = {"latency": latency, "energy": energy, "edp": latency * energy}[objective]
        ratios[i] = float(objective_of(found.costs, objective)[0]) / reference
        theirs[i] = float(row.get("sim_cpu_s") or "nan")
    groups = {"all": np.ones(len(rows), dtype=bool)}
    for column in ("objective", "kind", "accelerator"):
        for value in sorted({row[column] for row in rows}):
            groups[f"{column} {value}"] = np.array([row[column] == value for row in rows])
    print(f"{'mapper':28} rows  ours/theirs: median   worst    best   at least as good   CPU s ours  theirs")
    for name, some in groups.items():
        good, part = int((ratios[some] <= AT_LEAST).sum()), ratios[some]
        share, ours, reference = good / some.sum(), seconds[some].mean(), theirs[some].mean()
        print(f"{name:28} {some.sum():4} {np.median(part):21.4f} {part.max():7.4f} {part.min():7.4f} "
              f"{good:10} = {share:5.1%} {ours:12.3f} {reference:7.2f}")  # fmt: skip
    return bool((ratios <= AT_LEAST).all())


def evaluation_rate(rows: Sequence[Row], accelerators: Mapping[str, Hierarchy], seconds: float = 0.2) -> None:
    """Print mappings evaluated per CPU second: each row's mapping in blocks, on one core."""
    rates = []
    for row in rows[:: max(1, len(rows) // 16)]:
        hierarchy = _accelerator(row, accelerators)
        mapping = parse_mapping(row["spatial_mapping"], row["temporal_mapping"])
        one = nests_of(layer_of(row), hierarchy, [mapping])
        block = replace(
            one,
            loop_dims=np.repeat(one.loop_dims, BLOCK, axis=1),
            loop_sizes=np.repeat(one.loop_sizes, BLOCK, axis=1),
            bounds={op: np.repeat(bounds, BLOCK, axis=1) for op, bounds in one.bounds.items()},
        )
        rates.append(_rate(block, hierarchy, seconds))
    values: FloatArray = np.array(rates)
    print(f"rate: {np.median(values):.3g} mappings per CPU second on one core (lowest {values.min():.3g}, "
          f"highest {values.max():.3g} of {len(values)} rows)")  # fmt: skip


def _rate(block: Nests, hierarchy: Hierarchy, seconds: float) -> float:
    evaluate(block, hierarchy)
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        evaluate(block, hierarchy)
        done += len(block)
    return done / (time.process_time() - start)


def _accelerator(row: Row, accelerators: Mapping[str, Hierarchy]) -> Hierarchy:
    if row["accelerator"] not in accelerators:
        raise ValueError(f"accelerator {row['accelerator']!r} is not one of {', '.join(accelerators)}")
    return accelerators[row["accelerator"]]


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Hold the spatial model against a table of ZigZag runs.")
    parser.add_argument("table", type=Path)
    parser.add_argument("--accelerators", type=Path, help="JSON file; zigzag_accelerators.json beside the table")
    parser.add_argument("--rate", action="store_true", help="measure mappings evaluated per CPU second")
    parser.add_argument("--no-search", action="store_true", help="leave out the mapper")
    options = parser.parse_args(arguments)
    try:
        rows = read_table(options.table)
        accelerators = load_zigzag_accelerators(
            options.accelerators or options.table.parent / "zigzag_accelerators.json"
        )
        is_equal = compare_costs(rows, accelerators)
        if options.rate:
            evaluation_rate(rows, accelerators)
        is_good = True if options.no_search else compare_searches(rows, accelerators)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if is_equal and is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
