"""Holds the systolic model against a table of SCALE-Sim runs: `python benchmarks/systolic_reference.py TABLE.csv`.

The table has one layer on one array per row, as SCALE-Sim 3.0.0 reports it (`bw_mode` CALC: bandwidth has no limit).
Layer sizes are taken from the layer itself, not from derived columns. The first line printed is `rows N, equal M`: rows
of which every figure in `REQUIRED` is equal (to the digits that are printed, for fractions). Then, per column, how many
are equal, and the median and worst relative error; then rates. Exit status 0: every row is equal; 1: some differ; 2:
the table cannot be read.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.networks import load_network
from simulators.scalesim_costs import scalesim_rows
from simulators.scalesim_events import limited, scalesim_report
from simulators.scalesim_layer import BANDWIDTH, layer_numbers
from simulators.systolic import DATAFLOWS, Systolic, output_size
from simulators.workload import FloatArray, Workload

CONV = ("ifmap_h", "ifmap_w", "filter_h", "filter_w", "channels", "num_filters", "stride")
GEMM = ("gemm_m", "gemm_n", "gemm_k")
ARRAY = {
    "rows": "array_rows", "columns": "array_cols", "ifmap_kib": "sram_ifmap_kb", "filter_kib": "sram_filter_kb",
    "ofmap_kib": "sram_ofmap_kb",
}  # fmt: skip
GIVEN = ("kind", *CONV, *GEMM, *ARRAY.values(), "dataflow", "bw_mode", "bw_words_per_cycle", "sim_cpu_s")
REQUIRED = (
    "total_cycles", "stall_cycles", "overall_util_pct", "mapping_eff_pct", "compute_util_pct", "sram_ifmap_reads",
    "sram_filter_reads", "sram_ofmap_writes", "dram_ifmap_reads", "dram_filter_reads", "dram_ofmap_writes",
)  # fmt: skip
OPTIONAL = ("total_cycles_incl_prefetch", *(
    f"avg_{name}_{memory}_bw" for memory in ("sram", "dram") for name in ("ifmap", "filter", "ofmap")
), *(
    f"{memory}_{name}_{end}" for memory in ("sram", "dram") for name in ("ifmap", "filter", "ofmap")
    for end in ("start", "stop")
))  # fmt: skip
"""Columns that are compared where the table has them."""

Table = dict[str, list[str]]
Arrays = dict[str, NDArray[np.generic]]


def read_table(path: Path) -> Table:
    """The columns as text. Raises ValueError with one message if that is impossible."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read: {reason}") from error
    present = reader.fieldnames or ()
    missing = [name for name in (*GIVEN, *REQUIRED) if name not in present]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; needed are {', '.join((*GIVEN, *REQUIRED))}")
    if not rows:
        raise ValueError(f"{path}: no rows")
    return {name: [row[name] or "" for row in rows] for name in present}


def layers(table: Table) -> Workload:
    """One layer per row: a convolution on a padded input, or a product M x K times K x N."""
    _refuse_unknown(table, "kind", ("conv", "gemm"))
    is_gemm = np.array(table["kind"]) == "gemm"
    height, width, filter_y, filter_x, channels, filters, stride = (numbers(table, name, ~is_gemm) for name in CONV)
    m, n, k = (numbers(table, name, is_gemm) for name in GEMM)
    return Workload.from_layers(
        out_y=np.where(is_gemm, m, output_size(height, filter_y, stride)),
        out_x=np.where(is_gemm, 1, output_size(width, filter_x, stride)),
        in_y=np.where(is_gemm, m, height),
        in_x=np.where(is_gemm, 1, width),
        filter_y=filter_y,
        filter_x=filter_x,
        stride=stride,
        in_channels=np.where(is_gemm, k, channels),
        out_channels=np.where(is_gemm, n, filters),
    )


def arrays(table: Table) -> Arrays:
    """One array per row, as the simulator takes them."""
    _refuse_unknown(table, "dataflow", DATAFLOWS)
    _refuse_unknown(table, "bw_mode", ("CALC", "USER"))
    n_rows = len(table["kind"])
    values: Arrays = {f.name: np.full(n_rows, f.default) for f in Systolic.fields}
    values |= {field: numbers(table, column) for field, column in ARRAY.items()}
    values["dataflow"] = np.array(table["dataflow"])
    values["bandwidth"] = np.where(np.array(table["bw_mode"]) == "USER", "limited", "unlimited")
    values["dram_bytes_per_cycle"] = numbers(table, "bw_words_per_cycle").astype(np.float64)
    return values


def numbers(table: Table, name: str, where: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """A column of whole numbers, 1 where it is not asked for."""
    asked = np.ones(len(table[name]), dtype=bool) if where is None else where
    try:
        return np.array([int(text) if here else 1 for text, here in zip(table[name], asked, strict=True)])
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def fractions(table: Table, name: str) -> FloatArray:
    """A column of numbers."""
    try:
        return np.array([float(text) for text in table[name]])
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def figures(workload: Workload, designs: Arrays, *, with_optional: bool = True) -> dict[str, FloatArray]:
    """Figures that SCALE-Sim reports, under their names in the table, shape (N,) each."""
    simulator = Systolic()
    columns = simulator.simulate(workload, designs, paired=True).columns
    found = scalesim_report(layer_numbers(scalesim_rows(workload, designs))) if with_optional else {}
    found |= {name: columns[name] for name in REQUIRED if name in columns}
    found["total_cycles"] = columns["latency_cycles"]
    used = simulator.utilisation(workload, designs, paired=True)
    for name, metric in (
        ("overall_util_pct", "overall_utilisation"),
        ("mapping_eff_pct", "mapping_efficiency"),
        ("compute_util_pct", "compute_utilisation"),
    ):
        found[name] = 100 * used[metric]
    for name, words in (("ifmap", "ifmap_reads"), ("filter", "filter_reads"), ("ofmap", "ofmap_writes")):
        found[f"avg_{name}_sram_bw"] = columns[f"sram_{words}"] / np.maximum(found["total_cycles"], 1)
    return found


def printed_equal(values: FloatArray, table: Table, name: str) -> NDArray[np.bool_]:
    """Which values agree with a column to the significant digits that it is printed with."""
    printed = fractions(table, name)
    digits = max(len(text.lstrip("-0.").replace(".", "")) for text in table[name])
    magnitude = np.floor(np.log10(np.maximum(np.abs(printed), 1e-300)))
    # a hair more than half a unit in the last place, for halves that were rounded the other way
    is_fraction = any("." in text for text in table[name])
    tolerance = 0.5001 * 10.0 ** (magnitude - digits + 1) if is_fraction else 0.0
    return np.asarray(np.abs(values - printed) <= tolerance)


def rate(work: Callable[[], int], seconds: float = 1.0) -> float:
    """Units of work per CPU second; `work` does some and says how many."""
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        done += work()
    return done / (time.process_time() - start)


def closed_form_rate(workload: Workload, n_arrays: int = 20_000, seconds: float = 1.0) -> float:
    """Cycles of layer x design per CPU second: the layers on random arrays of 4 to 256 rows and columns."""
    rng = np.random.default_rng(0)
    designs: Arrays = {f.name: np.full(n_arrays, f.default) for f in Systolic.fields}
    designs["rows"], designs["columns"] = rng.integers(4, 257, size=(2, n_arrays))
    designs["dataflow"] = rng.choice(DATAFLOWS, n_arrays)
    some = workload.take(np.arange(len(workload))[:512])
    simulator = Systolic(["latency_cycles"])

    def work() -> int:
        return int(simulator.simulate(some, designs).columns["latency_cycles"].size)

    return rate(work, seconds)


def event_rate(workload: Workload, designs: Arrays, seconds: float = 1.0) -> float:
    """Layers per CPU second whose buffers are followed at a limited bandwidth, compiled beforehand."""
    rows = layer_numbers(scalesim_rows(workload, designs))
    rows = rows[rows[:, BANDWIDTH] > 0]
    if len(rows) == 0:
        return float("nan")
    limited(rows)
    return rate(lambda: len(limited(rows)), seconds)


def compare(path: Path) -> int:
    """Print the comparison; returns the exit status."""
    table = read_table(path)
    workload, designs = layers(table), arrays(table)
    optional = [name for name in OPTIONAL if name in table]
    found = figures(workload, designs, with_optional=bool(optional))
    names = (*REQUIRED, *optional)
    equal = {name: printed_equal(found[name], table, name) for name in names}
    is_equal = np.logical_and.reduce([equal[name] for name in REQUIRED])
    n_rows = len(workload)
    print(f"rows {n_rows}, equal {is_equal.sum()}")
    for name in names:
        expected = fractions(table, name)
        error = np.abs(found[name] - expected) / np.maximum(np.abs(expected), 1e-300)
        error = np.where(equal[name], 0.0, error)
        errors = f"relative error median {np.median(error):.2g}, worst {error.max():.2g}"
        print(f"{name}: rows {n_rows}, equal {equal[name].sum()}, {errors}")
    reference = n_rows / float(fractions(table, "sim_cpu_s").sum())
    plain = closed_form_rate(workload)
    resnet, _ = load_network("resnet18-224")
    events = event_rate(workload, designs)
    print(f"closed form: {plain:.3g} layer x design evaluations per CPU second on one core")
    designs_per_s = closed_form_rate(resnet) / len(resnet)
    print(f"closed form: {designs_per_s:.3g} ResNet-18 designs (12 distinct layers each) per CPU second")
    print(f"event model: {events:.3g} layers with limited bandwidth per CPU second")
    ratios = f"ratios {plain / reference:.2g} (closed form), {events / reference:.2g} (event model)"
    print(f"SCALE-Sim: {reference:.3g} layers per CPU second; {ratios}")
    return 0 if is_equal.all() else 1


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
