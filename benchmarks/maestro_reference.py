"""Holds the dataflow model against a table of MAESTRO runs: `python benchmarks/maestro_reference.py TABLE.csv`.

The table has one layer on one accelerator per row: the columns in `REQUIRED`, and MAESTRO's own outputs by their names
in `OUTPUTS`, as the snapshot of August 2022 prints them (six significant digits). `dataflow_id` names a dataflow of a
JSON file, by default `maestro_dataflows.json` beside the table. Rows of one mapping file on one accelerator must stand
in the file's order: in its column of energy, MAESTRO adds the L1 accesses of the layer before.

Prints a line per output: rows, rows equal to the printed digits, median and worst relative error; then the speed. Exit
status 0: all equal; 1: some differ; 2: the table cannot be read.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.dataflow import TENSORS, activity_energy_nj, analyse, area_and_power, layer_table
from simulators.dataflow_reuse import COLUMNS

EXTENTS = ("K", "C", "R", "S", "Y", "X", "stride_y", "stride_x")
HARDWARE = ("num_pes", "noc_bw", "offchip_bw")
REQUIRED = ("mapping_file", "type", "dataflow_id", *EXTENTS, *HARDWARE)
OUTPUTS = (*COLUMNS, "macs_per_cycle", "noc_bw_req", "energy_nj", "area", "power")

TYPES = {"CONV": False, "DSCONV": True}

MAESTRO_SECONDS = 0.0033  # a layer, process start included

Table = dict[str, list[str]]
FloatArray = NDArray[np.float64]


def read_table(path: Path) -> Table:
    """The table as text, by column. Raises ValueError with one message if that is impossible."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read: {reason}") from error
    names = reader.fieldnames or ()
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; needed are {', '.join(REQUIRED)}")
    if not rows:
        raise ValueError(f"{path}: no rows")
    return {name: [row[name] or "" for row in rows] for name in names}


def read_dataflows(path: Path) -> dict[str, str]:
    """Directives by id. Raises ValueError with one message if that is impossible."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read: {reason}") from error
    if not isinstance(data, dict) or not all(isinstance(text, str) for text in data.values()):
        raise ValueError(f"{path}: must hold directives by id")
    return data


def numbers(table: Table, name: str) -> FloatArray:
    """A column of numbers."""
    try:
        return np.array([float(text) for text in table[name]])
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def layers_of(table: Table) -> NDArray[np.int64]:
    """One layer per row."""
    unknown = sorted(set(table["type"]) - set(TYPES))
    if unknown:
        raise ValueError(f"column 'type': {unknown[0]!r} is not one of {', '.join(TYPES)}")
    is_depthwise = np.array([TYPES[name] for name in table["type"]])
    k, c, r, s, y, x, stride_y, stride_x = (numbers(table, name) for name in EXTENTS)
    return layer_table(k, c, r, s, y, x, stride_y, stride_x, is_depthwise)


def predict(table: Table, dataflows: dict[str, str]) -> dict[str, FloatArray]:
    """The outputs of every row."""
    ids = np.array(table["dataflow_id"])
    unknown = sorted(set(table["dataflow_id"]) - set(dataflows))
    if unknown:
        raise ValueError(f"column 'dataflow_id': {unknown[0]!r} is not one of {', '.join(dataflows)}")
    layers = layers_of(table)
    hardware = np.stack([numbers(table, name).astype(np.int64) for name in HARDWARE], axis=1)
    found = {name: np.empty(len(ids)) for name in COLUMNS}
    for flow in np.unique(ids):
        rows = np.flatnonzero(ids == flow)
        for name, values in analyse(dataflows[str(flow)], layers[rows], hardware[rows], paired=True).items():
            found[name][rows] = values
    pes, noc = hardware[:, 0], hardware[:, 1]
    area, power = area_and_power(pes, noc, found["l1_bytes_req"], found["l2_bytes_req"])
    is_flat = np.array(["Cluster" not in dataflows[str(flow)] for flow in ids])
    l1 = np.asarray(sum(found[f"{tensor}_l1_{way}"] for tensor in TENSORS for way in ("read", "write")))
    return found | {
        "macs_per_cycle": found["num_macs"] / found["runtime_cycles"],
        "noc_bw_req": found["peak_bw_req"],
        "energy_nj": activity_energy_nj(found, np.where(is_flat, l1, _of_layer_before(table, hardware, l1))),
        "area": area,
        "power": power,
    }


def _of_layer_before(table: Table, hardware: NDArray[np.int64], values: FloatArray) -> FloatArray:
    """The value of the row before in the same mapping file on the same accelerator, 0 for the first."""
    before = np.zeros(len(values))
    last: dict[tuple[object, ...], float] = {}
    for i, file in enumerate(table["mapping_file"]):
        run = (file, *hardware[i])
        before[i] = last.get(run, 0.0)
        last[run] = float(values[i])
    return before


def count_equal(values: FloatArray, printed: FloatArray) -> int:
    """How many values are printed so, in full or to six significant digits."""
    return sum(v == p or float(f"{v:.6g}") == p for v, p in zip(values, printed, strict=True))


def rate(table: Table, dataflows: dict[str, str], seconds: float = 2.0) -> float:
    """Layers x accelerators per CPU second: the table's layers on random accelerators, dataflow by dataflow."""
    rng = np.random.default_rng(0)
    ids = np.array(table["dataflow_id"])
    layers = layers_of(table)
    hardware = np.stack([rng.integers(64, 2049, 20), rng.integers(16, 513, 20), rng.integers(4, 129, 20)], axis=1)
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        for flow in np.unique(ids):
            some = layers[ids == flow]
            analyse(dataflows[str(flow)], some, hardware)
            done += len(some) * len(hardware)
    return done / (time.process_time() - start)


def compare(path: Path, dataflow_path: Path) -> int:
    """Print the comparison; returns the exit status."""
    table, dataflows = read_table(path), read_dataflows(dataflow_path)
    found = predict(table, dataflows)
    n_rows = len(table["type"])
    print(f"rows {n_rows}")
    print(f"{'column':22s} {'equal':>11s} {'median error':>13s} {'worst error':>12s}")
    are_equal = True
    for name in OUTPUTS:
        if name not in table:
            continue
        printed = numbers(table, name)
        error = np.abs(found[name] - printed) / np.maximum(np.abs(printed), 1e-12)
        n_equal = count_equal(found[name], printed)
        are_equal = are_equal and n_equal == n_rows
        print(f"{name:22s} {n_equal:5d}/{n_rows:<5d} {np.median(error):13.2g} {error.max():12.2g}")
    speed = rate(table, dataflows)
    print(f"{speed:.3g} layers x accelerators per CPU second on one core, {speed * MAESTRO_SECONDS:.0f} times MAESTRO")
    return 0 if are_equal else 1


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="compare the dataflow model with a table of MAESTRO runs")
    parser.add_argument("table", type=Path)
    parser.add_argument("--dataflows", type=Path, help="JSON file; default: maestro_dataflows.json beside the table")
    given = parser.parse_args(arguments)
    try:
        return compare(given.table, given.dataflows or given.table.parent / "maestro_dataflows.json")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
