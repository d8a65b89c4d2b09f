"""Holds the memory models against a table of simulator runs: `python benchmarks/dram_reference.py TABLE.csv`.

The columns tell which simulator the table is of: one with `page_policy` and `total_time_ns` holds DRAMSys runs (a
controller on a trace per row, the columns in `KNOBS` and `FIGURES`); one with `device_config` and `row_buf_policy`
holds DRAMsim3 runs and is passed on to `dramsim3_reference.py`. Traces are looked up as `dramsys_NAME.stl`, then
`NAME.stl`.

Per figure, for each trace and over all: rows, how many are equal to the digits printed (two decimals), the median and
the worst relative error. Exit status 0: every row is equal; 1: some differ; 2: something cannot be read.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.accelerator import Columns, columns
from simulators.dram import Dram
from simulators.dram_device import DramDevice, device_from_dramsys
from simulators.dram_trace import Trace, read_trace

KNOBS = tuple(spec.name for spec in Dram.fields)
FIGURES = ("energy_pj", "avg_power_mw", "total_time_ns", "avg_bw_gbps")
SPACE: dict[str, list[int | str]] = {
    "page_policy": ["Open", "OpenAdaptive", "Closed", "ClosedAdaptive"],
    "scheduler": ["Fifo", "FrFcfsGrp", "FrFcfs"],
    "scheduler_buffer": ["Bankwise", "ReadWrite", "Shared"],
    "request_buffer_size": [1, 2, 4, 8, 16, 32, 64, 128],
    "resp_queue": ["Fifo", "Reorder"],
    "refresh_policy": ["NoRefresh", "AllBank"],
    "refresh_max_postponed": [1, 2, 4, 8],
    "refresh_max_pulledin": [1, 2, 4, 8],
    "arbiter": ["Simple", "Fifo", "Reorder"],
    "max_active_transactions": [1, 2, 4, 8, 16, 32, 64, 128],
}

Floats = NDArray[np.float64]
Rows = list[dict[str, str]]


def read_table(path: Path) -> Rows:
    """The rows of a CSV file. Raises ValueError with one message if there are none."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{key: value or "" for key, value in row.items()} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read: {reason}") from error
    if not rows:
        raise ValueError(f"{path}: no rows")
    return rows


def read_device(path: Path) -> DramDevice:
    """The device of a file with DRAMSys's inputs: objects `memspec`, `address_mapping` and `fixed`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        device = device_from_dramsys(data["memspec"], data["address_mapping"])
        trace_clock = float(data.get("fixed", {}).get("trace_clk_mhz", device.clock_mhz))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is not a file of DRAMSys inputs: {error}") from error
    if trace_clock != device.clock_mhz:
        raise ValueError(f"{path}: trace_clk_mhz {trace_clock:g} is not the memory clock of {device.clock_mhz:g} MHz")
    return device


def find_trace(folder: Path, name: str) -> Trace:
    """The trace of that name."""
    for path in (folder / f"dramsys_{name}.stl", folder / f"{name}.stl"):
        if path.is_file():
            return read_trace(path)
    raise ValueError(f"{folder}: there is neither dramsys_{name}.stl nor {name}.stl")


def designs_of(rows: Rows) -> Columns:
    """The controllers of the rows; raises ValueError if a knob is missing or has a value that is not allowed."""
    for name in (*KNOBS, *FIGURES, "trace"):
        if name not in rows[0]:
            raise ValueError(f"the table lacks column {name!r}")
    kinds = {spec.name: int if spec.kind == "int" else str for spec in Dram.fields}
    return columns(Dram.fields, [{name: kinds[name](row[name]) for name in KNOBS} for row in rows])


def figures_of(model: Dram, designs: Columns) -> dict[str, Floats]:
    """The model's figures under the table's names: bandwidth in Gb/s."""
    metrics = model.evaluate(designs).metrics
    return {
        "energy_pj": metrics["energy_pj"],
        "avg_power_mw": metrics["power_mw"],
        "total_time_ns": metrics["latency_ns"],
        "avg_bw_gbps": 8 * metrics["bandwidth_gb_per_s"],
    }


def random_designs(n_designs: int, seed: int = 0) -> Columns:
    """Controllers drawn uniformly from DRAMGym's space."""
    rng = np.random.default_rng(seed)
    return {name: np.array(options)[rng.integers(0, len(options), n_designs)] for name, options in SPACE.items()}


def dram_rate(model: Dram, n_designs: int = 1000, repeats: int = 3) -> float:
    """Designs per CPU second in one batch of random controllers, the best of some repeats."""
    model.evaluate(random_designs(2))  # the compiled functions are loaded
    best = 0.0
    for seed in range(1, repeats + 1):
        designs = random_designs(n_designs, seed)
        start = time.process_time()
        model.evaluate(designs)
        best = max(best, n_designs / (time.process_time() - start))
    return best


def report(where: str, figures: dict[str, Floats], expected: dict[str, Floats]) -> bool:
    """Print a line per figure; returns whether every row is equal."""
    all_equal = True
    for name in FIGURES:
        error = np.abs(figures[name] - expected[name])
        n_equal = int((error <= 0.005 * (1 + 1e-6)).sum())
        relative = error / np.abs(expected[name])
        all_equal &= n_equal == len(error)
        print(
            f"{where:12} {name:14} rows {len(error):5}  exact {n_equal:5}  "
            f"median {np.median(relative):.2e}  worst {relative.max():.2e}"
        )
    return all_equal


def compare(rows: Rows, device: DramDevice, traces: Path, show_rate: bool) -> int:
    """Print the comparison; returns the exit status."""
    designs = designs_of(rows)
    try:
        expected = {name: np.array([float(row[name]) for row in rows]) for name in FIGURES}
    except ValueError as error:
        raise ValueError(f"the table has a figure that is no number: {error}") from error
    names = np.array([row["trace"] for row in rows])
    figures = {name: np.zeros(len(rows)) for name in FIGURES}
    models = {str(name): Dram(device, find_trace(traces, str(name))) for name in np.unique(names)}
    for name, model in models.items():
        here = names == name
        found = figures_of(model, {key: column[here] for key, column in designs.items()})
        for key in FIGURES:
            figures[key][here] = found[key]
        report(name, found, {key: column[here] for key, column in expected.items()})
    all_equal = report("all", figures, expected)
    if show_rate:
        for name, model in models.items():
            rate = dram_rate(model)
            print(f"rate {name:12} {rate:8.0f} designs per CPU second, {1e3 / rate:.3f} ms each")
    return 0 if all_equal else 1


def main(arguments: list[str]) -> int:
    """The command line; see the module's description."""
    parser = argparse.ArgumentParser(description="Compare a memory model with a table of simulator runs.")
    parser.add_argument("table", type=Path, help="CSV file of DRAMSys or DRAMsim3 runs")
    parser.add_argument("--traces", type=Path, help="folder of the traces (default: traces/ beside the table)")
    parser.add_argument("--inputs", type=Path, help="DRAMSys inputs (default: dramsys_fixed_inputs.json beside it)")
    parser.add_argument("--devices", type=Path, help="DRAMsim3 devices (default: dramsim3_devices.json beside it)")
    parser.add_argument("--rate", action="store_true", help="also measure designs per second")
    options = parser.parse_args(arguments)
    try:
        rows = read_table(options.table)
        if {"device_config", "row_buf_policy"} <= set(rows[0]):
            beside = options.table.parent
            traces, devices = options.traces or beside / "traces", options.devices or beside / "dramsim3_devices.json"
            passed_on = [str(options.table), "--traces", str(traces), "--devices", str(devices)]
            return int(import_module("dramsim3_reference").main(passed_on))
        if not {"page_policy", "total_time_ns"} <= set(rows[0]):
            raise ValueError(f"{options.table}: the columns are neither DRAMSys's nor DRAMsim3's")
        traces = options.traces or options.table.parent / "traces"
        device = read_device(options.inputs or options.table.parent / "dramsys_fixed_inputs.json")
        return compare(rows, device, traces, options.rate)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
