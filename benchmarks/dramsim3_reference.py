"""DRAMsim3's printed figures against those of `simulators.dramsim3`, and the rate of both.

    python benchmarks/dramsim3_reference.py TABLE.csv --traces FOLDER --devices DEVICES.json

The table has one row per device, trace and controller, with the columns of `KNOBS` and `FIGURES`; the trace of a row is
FOLDER/dramsim3_NAME.trace. A figure is equal if it is the same to the 10 digits printed.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.accelerator import columns
from simulators.dram_trace import read_trace
from simulators.dramsim3 import Dramsim3
from simulators.dramsim3_device import load_devices, make_device

CYCLES = 60_000  # of every row of the table
DIGITS = 10  # printed

SIZES = ("cmd_queue_size", "trans_queue_size")
KNOBS = ("row_buf_policy", "queue_structure", *SIZES, "address_mapping", "refresh_policy", "unified_queue")
FIGURES = {  # column of the table: metric
    "reads_done": "reads_done",
    "writes_done": "writes_done",
    "avg_read_latency_cycles": "read_latency_cycles",
    "bandwidth_gbps": "bandwidth_gb_per_s",
    "total_energy": "energy_pj",
    "avg_power": "power_mw",
    "activates": "activates",
    "read_row_hits": "read_row_hits",
    "write_row_hits": "write_row_hits",
    "refreshes": "refreshes",
}

Row = dict[str, str]


class Comparison:
    """Relative errors and equalities per column, CPU seconds and rows of all groups of rows."""

    def __init__(self) -> None:
        self.errors: dict[str, list[float]] = {name: [] for name in FIGURES}
        self.equal = dict.fromkeys(FIGURES, 0)
        self.seconds = 0.0
        self.n_rows = 0

    def add(self, rows: Sequence[Row], model: Dramsim3) -> None:
        """Simulate the rows of one device and trace."""
        records = [{name: int(r[name]) if name in SIZES else r[name] for name in KNOBS} for r in rows]
        designs = columns(model.fields, [r | {"unified_queue": str(r["unified_queue"]).lower()} for r in records])
        model.evaluate({name: column[:1] for name, column in designs.items()})  # compiles, or loads what was compiled
        start = time.process_time()
        metrics = model.evaluate(designs).metrics
        self.seconds += time.process_time() - start
        self.n_rows += len(rows)
        for name, metric in FIGURES.items():
            # the table's energy is in mW x cycles; where no read is answered its latency is 0 or absent
            ours = np.nan_to_num(metrics[metric]) / (model.device.tck_ns if metric == "energy_pj" else 1.0)
            self._compare(name, [r[name] for r in rows], ours)

    def _compare(self, name: str, texts: Sequence[str], ours: NDArray[np.float64]) -> None:
        for text, value in zip(texts, ours.tolist(), strict=True):
            known = float(text or 0)
            is_equal = float(f"{value:.{DIGITS}g}") == known
            self.equal[name] += is_equal
            self.errors[name].append(0.0 if is_equal else abs(value - known) / abs(known) if known else np.inf)

    def print(self) -> None:
        """The table of figures."""
        print(f"{'column':<26}{'rows':>6}{'equal':>7}{'median error':>14}{'worst error':>13}")
        for name, errors in self.errors.items():
            worst = np.array(errors)
            print(f"{name:<26}{len(worst):>6}{self.equal[name]:>7}{np.median(worst):>14.2g}{worst.max():>13.2g}")
        print(f"{self.n_rows / self.seconds:.0f} controllers per CPU second on one core, {CYCLES} cycles each")


def compare(table: Path, traces: Path, devices: Path) -> int:
    """Print the comparison; 0 if every figure is equal, else 1.

    Raises:
        ValueError: a file cannot be read, or a row is malformed.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(f"table: cannot read {str(table)!r}: {error.strerror}") from error
    needed = ("device_config", "trace", *KNOBS, *FIGURES)
    missing = [name for name in needed if not rows or name not in rows[0]]
    if missing:
        raise ValueError(f"table: column {missing[0]!r} is missing" if rows else "table: no rows")
    known = load_devices(devices)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["device_config"], row["trace"]), []).append(row)
    result = Comparison()
    for (device, trace), members in groups.items():
        if device not in known:
            raise ValueError(f"table: device {device!r} is not in {str(devices)!r}")
        model = Dramsim3(make_device(device, known[device]), read_trace(traces / f"dramsim3_{trace}.trace"), CYCLES)
        result.add(members, model)
    result.print()
    return 0 if all(n == result.n_rows for n in result.equal.values()) else 1


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", type=Path, help="CSV file of DRAMsim3's figures")
    parser.add_argument("--traces", type=Path, help="folder of the traces, dramsim3_NAME.trace; default: beside TABLE")
    parser.add_argument("--devices", type=Path, help="JSON file; default: dramsim3_devices.json beside TABLE")
    options = parser.parse_args(arguments)
    options.traces = options.traces or options.table.parent / "traces"
    options.devices = options.devices or options.table.parent / "dramsim3_devices.json"
    try:
        return compare(options.table, options.traces, options.devices)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
