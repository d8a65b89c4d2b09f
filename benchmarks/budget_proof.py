"""Budgets before the run: verdict, how it was reached, and how long that took, for jobs of every kind.

    python benchmarks/budget_proof.py [--seed 0] [--messages]

The jobs are given here; nothing is trained and nothing is written.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from codesign.assemble import assemble
from codesign.feasible import find_feasible
from codesign.feasible_result import Feasibility, Verdict
from codesign.feasible_text import lines
from codesign.job import parse_job
from codesign.units import size_text

CELLS: dict[str, object] = {
    "name": "nasbench201",
    "space": {"type": "nasbench201"},
    "targets": {"edge": {"type": "systolic", "preset": "edge-16x16"}},
    "objectives": {"maximize": "accuracy", "minimize": "latency_ms@edge"},
}
DIGITS: dict[str, object] = {
    "name": "digits",
    "space": {"type": "nasnet", "blocks": 3, "cells": 1, "channels": [1, 2, 4, 8]},
    "targets": {"edge": {"type": "systolic", "preset": "edge-16x16"}},
    "objectives": {"maximize": "accuracy", "minimize": "latency_ms@edge"},
}
PAIRS: dict[str, object] = {
    "name": "cells-and-arrays",
    "space": {"type": "nasnet", "blocks": 1, "cells": 1, "channels": 16, "operations": ["sep3x3", "conv1x1"]},
    "targets": {
        "edge": {
            "type": "systolic",
            "preset": "edge-sizing",
            "search": {"rows": [4, 8, 12, 16, 24, 32, 48], "columns": [4, 8, 12, 16, 24, 32, 48]},
        }
    },
    "objectives": {"maximize": "params", "minimize": ["latency_ms@edge", "area_mm2@edge"]},
    "evaluate": "cost",
}
WIDE: dict[str, object] = PAIRS | {
    "name": "nasnet-and-arrays",
    "space": {"type": "nasnet", "blocks": 5, "cells": 2, "channels": [8, 16, 32]},
    "targets": {"edge": {"type": "systolic", "preset": "edge-16x16", "search": True}},
}
CELLS_AND_ARRAYS: dict[str, object] = CELLS | {
    "name": "nasbench201-arrays",
    "targets": {"edge": {"type": "systolic", "preset": "edge-16x16", "search": True}},
}
JOBS: tuple[tuple[dict[str, object], tuple[str, ...]], ...] = (
    (CELLS, ("params <= 0.4M", "latency_ms@edge <= 1")),
    (CELLS, ("params <= 0.1M", "macs <= 20M")),
    (CELLS, ("params >= 1M", "latency_ms@edge <= 0.5")),
    (DIGITS, ("params <= 60k", "latency_ms@edge <= 0.1")),
    (DIGITS, ("params <= 60k", "latency_ms@edge <= 0.005")),
    (DIGITS, ("params <= 100", "latency_ms@edge <= 0.1")),
    (DIGITS, ("params <= 60k", "latency_ms@edge <= 0.001")),
    (DIGITS, ("params >= 900k", "latency_ms@edge <= 0.1")),
    (PAIRS, ("latency_ms@edge <= 0.02", "area_mm2@edge <= 2")),
    (PAIRS, ("latency_ms@edge <= 0.012", "area_mm2@edge <= 1.15")),
    (CELLS_AND_ARRAYS, ("latency_ms@edge <= 0.1", "area_mm2@edge <= 0.4")),
    (CELLS_AND_ARRAYS, ("latency_ms@edge <= 0.02", "area_mm2@edge <= 0.25")),
    (WIDE, ("latency_ms@edge <= 0.005", "params <= 60k")),
    (WIDE, ("latency_ms@edge <= 0.02", "area_mm2@edge <= 0.2")),
)


def main() -> int:
    """Print the table; exit status 1 if a budget was called infeasible and a candidate that keeps it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--messages", action="store_true", help="print all that is known of each job")
    arguments = parser.parse_args()
    print(f"{'job':<20}{'candidates':>11}  {'budgets':<50}{'verdict':<19}{'by':<9}{'looked at':>10}{'seconds':>9}")
    wrong = 0
    for base, budgets in JOBS:
        parts = assemble(parse_job({**base, "budgets": list(budgets)}), Path("unused"), Path())
        began = time.perf_counter()
        found = find_feasible(parts, arguments.seed)
        seconds = time.perf_counter() - began
        print(
            f"{base['name']:<20}{size_text(parts.space.size):>11}  {', '.join(budgets):<50}{found.verdict.value:<19}"
            f"{found.method.value:<9}{found.n_seen:>10,}{seconds:>9.2f}"
        )
        for line in lines(found)[2:] if arguments.messages else _short(found):
            print(f"    {line}")
        wrong += not _is_sound(found)
    return 1 if wrong else 0


def _short(found: Feasibility) -> list[str]:
    known = lines(found)
    if found.verdict is Verdict.FEASIBLE:
        return [line for line in known if line.startswith("share")]
    return [line for line in known if line.startswith(("conflict", "instead", "all that"))]


def _is_sound(found: Feasibility) -> bool:
    """Whether every relaxation that is known is no better than what is proven."""
    return all(
        not item.text or item.least != item.least or (item.value >= item.least) is item.budget.upper
        or item.value == item.least
        for item in found.relaxations
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
