"""Holds the SRAM model against a table of CACTI runs: `python benchmarks/sram_reference.py TABLE.csv`.

The table has one memory per row: the columns in `INPUTS` and `OUTPUTS`, as CACTI 7 reports them. Two comparisons: with
the model as it ships, and with each row's size taken out of the model's grid, so that its figures are interpolated from
the sizes on either side, as any size off the grid has them. Exit status 0: every output of every row is within 10 % of
the model as it ships; 1: some are not; 2: the table cannot be read.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.sram import SramCost, sram, sram_range

INPUTS = ("size_bytes", "block_bytes", "tech_nm", "rw_ports", "read_ports", "write_ports")
OUTPUTS = tuple(f.name for f in fields(SramCost))
TOLERANCE = 0.1

Numbers = dict[str, NDArray[np.float64]]


def read_table(path: Path) -> Numbers:
    """The columns as numbers. Raises ValueError with one message if that is impossible."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read: {reason}") from error
    missing = [name for name in (*INPUTS, *OUTPUTS) if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; needed are {', '.join((*INPUTS, *OUTPUTS))}")
    if not rows:
        raise ValueError(f"{path}: no rows")
    return {name: np.array([float(row[name]) for row in rows]) for name in (*INPUTS, *OUTPUTS)}


def model(table: Numbers, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The model's outputs for the table's memories, of other sizes: shape (outputs, rows)."""
    cost = sram(sizes, *(table[name] for name in INPUTS[1:]))
    return np.array([getattr(cost, name) for name in OUTPUTS])


def interpolated(table: Numbers) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Outputs from the grid sizes on either side of each row's own, and the rows that have both."""
    grid = np.array(sram_range().size_bytes, dtype=np.float64)
    at = np.searchsorted(grid, table["size_bytes"])
    low, high = grid[np.maximum(at - 1, 0)], grid[np.minimum(at + (grid[at] == table["size_bytes"]), len(grid) - 1)]
    found = np.full((len(OUTPUTS), len(at)), np.nan)
    for i in range(len(at)):
        row = {name: values[i : i + 1] for name, values in table.items()}
        try:
            ends = [np.log(model(row, sizes[i : i + 1])[:, 0]) for sizes in (low, high)]
        except ValueError:  # no memory of the size below can be built with this word
            continue
        share = np.log(row["size_bytes"][0] / low[i]) / np.log(high[i] / low[i])
        found[:, i] = np.exp((1 - share) * ends[0] + share * ends[1])
    has_both = ~np.isnan(found[0])
    return found[:, has_both], has_both


def report(title: str, found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    """Print errors per output; returns whether all are within the tolerance."""
    print(f"{title}: rows {found.shape[1]}")
    errors = np.abs(found / expected - 1.0)
    for name, error in zip(OUTPUTS, errors, strict=True):
        within = int((error <= TOLERANCE).sum())
        print(
            f"  {name:16s} within {TOLERANCE:.0%}: {within} of {len(error)}; "
            f"median {np.median(error):.2%}, worst {error.max():.2%}"
        )
    return bool((errors <= TOLERANCE).all())


def rate(n_memories: int = 200_000) -> float:
    """Memories per CPU second, of sizes off the grid."""
    sizes = np.random.default_rng(0).uniform(2048, 2**21, n_memories)
    sram(sizes[:1])
    start = time.process_time()
    sram(sizes, 16, 45)
    return n_memories / (time.process_time() - start)


def main(arguments: list[str]) -> int:
    """The command line: one argument, the table."""
    parser = argparse.ArgumentParser(description="compare the SRAM model with a table of CACTI 7 runs")
    parser.add_argument("table", type=Path, metavar="TABLE.csv")
    options = parser.parse_args(arguments)
    try:
        table = read_table(options.table)
        expected = np.array([table[name] for name in OUTPUTS])
        is_within = report("as shipped", model(table, table["size_bytes"]), expected)
        found, has_both = interpolated(table)
        report("own size left out", found, expected[:, has_both])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{rate():.3g} memories per CPU second on one core")
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
