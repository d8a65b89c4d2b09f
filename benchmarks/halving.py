"""What early stopping on fronts saves: `python benchmarks/halving.py --table FILE --accuracy COL --low COL --cost COL`.

Cells of a NAS-Bench-201 table are proposed one by one. Each gets a short training first, whose accuracy is the column
`--low`; `codesign.rungs` decides on it and on the known cost which ones get the whole training, whose accuracy is
`--accuracy`. The unit is one whole training; a short one costs `--low-cost-share` on top, for its accuracy in the table
is of a training of its own. Printed is the normalised hypervolume of the cells that were trained in full within so many
units, median over the seeds, with early stopping and without. `--accuracy`, `--low` and `--cost` may be given several
times: the n-th of each belong together, and the mean over these tasks is printed last.
Exit status 0: for every strategy early stopping found more at the largest budget but one; 1: not; 2: wrong input.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.compare_cells import CellProblem, CellTable, cell_problem, cell_space, read_cells
from codesign.compare_race import named_strategy
from codesign.errors import CodesignError, InputError
from codesign.rungs import Rungs
from codesign.trial import FloatArray
from search_spaces.nasbench201_cell import OPERATIONS

PATIENCE = 4
"""Proposals for each new cell before a strategy counts as at its end."""


@dataclass(frozen=True)
class Halving:
    """One setting: who proposes, one of how many goes on (0: all), and what a short training costs."""

    strategy: str
    reduction: float
    share: float


def search(problem: CellProblem, low: FloatArray, how: Halving, seed: int, units: list[int]) -> list[float]:
    """The score at each number of units; `low` is the error after the short training, shape (n,)."""
    strategy = named_strategy(how.strategy)(cell_space(), 2, seed)
    radix = len(OPERATIONS) ** np.arange(problem.codes.shape[1])
    row_of = dict(zip((problem.codes @ radix).tolist(), range(len(problem.codes)), strict=True))
    rungs = Rungs(1, 2, how.reduction) if how.reduction else None
    spent, n_asked, seen = 0.0, 0, set[int]()
    trained: list[int] = []
    paid: list[float] = []
    while spent < units[-1] and n_asked < PATIENCE * (len(seen) + 100):
        code = strategy.ask(1)
        n_asked += 1
        row = row_of[int(code[0] @ radix)]
        is_known = row in seen
        seen.add(row)
        losses = problem.losses[row]
        at_rung = np.array([low[row], losses[1]])
        goes_on = rungs is None or rungs.decide(row, 1, at_rung, 0.0)
        if not is_known:
            spent += (how.share if rungs else 0.0) + float(goes_on)
            if goes_on:
                trained.append(row)
                paid.append(spent)
        strategy.tell(code, (losses if goes_on else at_rung)[None], np.zeros(1))
    curve = problem.score(problem.losses[trained])
    counts = np.searchsorted(np.array(paid), np.array(units) + 1e-9)
    return [float(curve[count - 1]) if count else 0.0 for count in counts]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="Parquet or CSV, one cell a row")
    for name, what in (("accuracy", "after the whole training"), ("low", "after the short one"), ("cost", "known")):
        parser.add_argument(f"--{name}", action="append", required=True, help=f"column, {what}")
    parser.add_argument("--low-cost-share", type=float, default=0.06, help="cost of a short training over a whole one")
    parser.add_argument("--best", type=float, help="highest accuracy there could be; default: 1 or 100")
    parser.add_argument("--units", default="50,100,200,500", help="budgets in whole trainings")
    parser.add_argument("--reduction", type=float, default=3.0, help="one of so many is trained in full")
    parser.add_argument("--strategies", default="random,local-search", help="who proposes, comma-separated")
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args(arguments)
    try:
        if not len(given.accuracy) == len(given.low) == len(given.cost):
            raise InputError("--accuracy, --low and --cost: give each equally often, the n-th of each belong together")
        table = read_cells(given.table, [*given.accuracy, *given.low, *given.cost])
        tasks = [_task(table, *names, given.best) for names in zip(given.accuracy, given.low, given.cost, strict=True)]
        units = sorted(int(text) for text in given.units.split(","))
        print(f"{'':<34}" + "".join(f"{unit:>8}" for unit in units))
        gains = []
        for name in given.strategies.split(","):
            means = []
            for reduction in (0.0, given.reduction):
                how = Halving(name, reduction, given.low_cost_share)
                runs = [[search(*task, how, seed, units) for seed in range(given.seeds)] for task in tasks]
                means.append(np.median(runs, axis=1).mean(axis=0))
                label = f"{name}, one in {reduction:g} in full" if reduction else f"{name}, all in full"
                print(f"{label:<34}" + "".join(f"{value:8.3f}" for value in means[-1]), flush=True)
            gains.append((means[1] - means[0])[max(0, len(units) - 2)])
    except CodesignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if min(gains) > 0 else 1


def _task(table: CellTable, accuracy: str, low: str, cost: str, best: float | None) -> tuple[CellProblem, FloatArray]:
    """A problem and the errors of its cells after the short training; a cell without one counts as of no accuracy."""
    problem = cell_problem(table, accuracy, cost, best)
    kept = np.isfinite(table.columns[accuracy]) & np.isfinite(table.columns[cost])
    return problem, np.nan_to_num(problem.best - table.columns[low][kept], nan=problem.best)


if __name__ == "__main__":
    sys.exit(main())
