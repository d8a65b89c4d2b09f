"""Holds the systolic model against a table of SCALE-Sim runs: `python benchmarks/systolic_reference.py TABLE.csv`.

The table has one layer on one array per row: the columns in `REQUIRED`, as SCALE-Sim 3.0.0 reports them. Layer sizes
are taken from the layer itself, not from derived columns. The first line printed is `rows N, equal M` for the compute
cycles (total_cycles - stall_cycles). Exit status 0: every row is equal; 1: some differ; 2: the table cannot be read.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.systolic import DATAFLOWS, Systolic, output_size
from simulators.workload import Workload

CONV = ("ifmap_h", "ifmap_w", "filter_h", "filter_w", "channels", "num_filters", "stride")
GEMM = ("gemm_m", "gemm_n", "gemm_k")
REQUIRED = (
    "kind", *CONV, *GEMM, "array_rows", "array_cols", "dataflow",
    "total_cycles", "stall_cycles", "mapping_eff_pct", "compute_util_pct", "sim_cpu_s",
)  # fmt: skip

Table = dict[str, list[str]]
Arrays = dict[str, NDArray[np.generic]]


def read_table(path: Path) -> Table:
    """The required columns as text. Raises ValueError with one message if that is impossible."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read: {reason}") from error
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; needed are {', '.join(REQUIRED)}")
    if not rows:
        raise ValueError(f"{path}: no rows")
    return {name: [row[name] or "" for row in rows] for name in REQUIRED}


def layers(table: Table) -> Workload:
    """One layer per row: a convolution on a padded input, or a product M x K times K x N."""
    _refuse_unknown(table, "kind", ("conv", "gemm"))
    is_gemm = np.array(table["kind"]) == "gemm"
    height, width, filter_y, filter_x, channels, filters, stride = (numbers(table, name, ~is_gemm) for name in CONV)
    m, n, k = (numbers(table, name, is_gemm) for name in GEMM)
    return Workload.from_layers(
        out_y=np.where(is_gemm, m, output_size(height, filter_y, stride)),
        out_x=np.where(is_gemm, 1, output_size(width, filter_x, stride)),
        filter_y=filter_y,
        filter_x=filter_x,
        stride=stride,
        in_channels=np.where(is_gemm, k, channels),
        out_channels=np.where(is_gemm, n, filters),
    )


def arrays(table: Table) -> Arrays:
    """One array per row, as the simulator takes them."""
    _refuse_unknown(table, "dataflow", DATAFLOWS)
    n_rows = len(table["kind"])
    values: Arrays = {f.name: np.full(n_rows, f.default) for f in Systolic.fields}
    everywhere = np.ones(n_rows, dtype=bool)
    values["rows"] = numbers(table, "array_rows", everywhere)
    values["columns"] = numbers(table, "array_cols", everywhere)
    values["dataflow"] = np.array(table["dataflow"])
    return values


def numbers(table: Table, name: str, where: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A column of whole numbers, 1 where it is not asked for."""
    try:
        return np.array([int(text) if asked else 1 for text, asked in zip(table[name], where, strict=True)])
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def fractions(table: Table, name: str) -> NDArray[np.float64]:
    """A column of numbers."""
    try:
        return np.array([float(text) for text in table[name]])
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def count_printed_equal(values: NDArray[np.float64], table: Table, name: str) -> int:
    """How many values agree with a column to the significant digits that it is printed with."""
    printed = fractions(table, name)
    digits = max(len(text.lstrip("-0.").replace(".", "")) for text in table[name])
    magnitude = np.floor(np.log10(np.maximum(np.abs(printed), 1e-300)))
    # a hair more than half a unit in the last place, for halves that were rounded the other way
    return int((np.abs(values - printed) <= 0.5001 * 10.0 ** (magnitude - digits + 1)).sum())


def closed_form_rate(workload: Workload, n_arrays: int = 20_000, seconds: float = 1.0) -> float:
    """Layer x design evaluations per CPU second: the table's layers on random arrays of 4 to 256 rows and columns."""
    rng = np.random.default_rng(0)
    designs: Arrays = {f.name: np.full(n_arrays, f.default) for f in Systolic.fields}
    designs["rows"], designs["columns"] = rng.integers(4, 257, size=(2, n_arrays))
    designs["dataflow"] = rng.choice(DATAFLOWS, n_arrays)
    some = workload.take(np.arange(len(workload))[:512])
    simulator = Systolic()
    evaluations, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        simulator.simulate(some, designs)
        evaluations += len(some) * n_arrays
    return evaluations / (time.process_time() - start)


def compare(path: Path) -> int:
    """Print the comparison; returns the exit status."""
    table = read_table(path)
    workload, designs = layers(table), arrays(table)
    simulator = Systolic()
    everywhere = np.ones(len(workload), dtype=bool)
    cycles = simulator.simulate(workload, designs, paired=True).columns["latency_cycles"]
    expected = numbers(table, "total_cycles", everywhere) - numbers(table, "stall_cycles", everywhere)
    utilisation = simulator.utilisation(workload, designs, paired=True)
    efficiency = count_printed_equal(100 * utilisation["mapping_efficiency"], table, "mapping_eff_pct")
    compute = count_printed_equal(100 * utilisation["compute_utilisation"], table, "compute_util_pct")
    n_rows, n_equal = len(workload), int((cycles == expected).sum())
    print(f"rows {n_rows}, equal {n_equal}")
    print(f"mapping efficiency: rows {n_rows}, equal {efficiency}")
    print(f"compute utilisation: rows {n_rows}, equal {compute}")
    reference_rate = n_rows / float(fractions(table, "sim_cpu_s").sum())
    rate = closed_form_rate(workload)
    print(f"closed form: {rate:.3g} layer x design evaluations per CPU second on one core")
    print(f"SCALE-Sim: {reference_rate:.3g} layers per CPU second; ratio {rate / reference_rate:.2g}")
    return 0 if n_equal == efficiency == compute == n_rows else 1


def _refuse_unknown(table: Table, name: str, allowed: tuple[str, ...]) -> None:
    unknown = sorted(set(table[name]) - set(allowed))
    if unknown:
        raise ValueError(f"column {name!r}: {unknown[0]!r} is not one of {', '.join(allowed)}")


def main(arguments: list[str]) -> int:
    """The command line: one argument, the table."""
    if len(arguments) != 1:
        print("usage: python benchmarks/systolic_reference.py TABLE.csv", file=sys.stderr)
        return 2
    try:
        return compare(Path(arguments[0]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
