"""The most accurate NAS-Bench-201 cell within a latency budget: how far from the true optimum after N trainings?

    python benchmarks/constrained.py --table cells.parquet --tasks c10_val:lat_raspi4,c100_val:lat_gold_6226

For each task three budgets are set at 25, 50 and 75 % of the front's range of cost: at c_lo + f (c_best - c_lo), where
c_lo is the cost of the cheapest member of the exact front whose error is below the table's median, and c_best that of
the most accurate cell. The cost is known beforehand: a candidate over the budget is told back unmeasured, is never
trained and does not count (columns `screened`: such proposals for each training; `infeasible`: such trainings, 0).
Strategies see one loss, the error. Printed is the regret in accuracy points (of a fraction: in hundredths), over tasks,
budgets and seeds; `exact` is the share of runs that found the true optimum.

Exit status 0; 1 if a cell over the budget was trained; 2 for a wrong input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from nb201 import chosen, numbers, pairs, parser, show_progress

from codesign.compare import Outcome
from codesign.compare_cells import cell_problem, read_cells
from codesign.compare_race import race
from codesign.errors import InputError

FRACTIONS = "0.25,0.5,0.75"
EVALUATIONS = "50,100,200"
STRATEGIES = "auto,local-search,evolution,random"


def command_line() -> argparse.ArgumentParser:
    """The options of `nb201.py` but workers and the plot, and the budgets."""
    result = parser(__doc__ or "", EVALUATIONS, STRATEGIES)
    result.add_argument("--fractions", default=FRACTIONS, help="budgets, as fractions of the front's range of cost")
    return result


def fractions(text: str) -> list[float]:
    """Fractions from a list with commas."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= fraction <= 1 for fraction in found):
        raise InputError.about("--fractions", text, "numbers from 0 to 1, separated by commas")
    return found


def results_text(outcomes: Sequence[Outcome], budgets: Sequence[int], unit: dict[str, float]) -> str:
    """A row for each strategy: mean and median regret and share of exact optima at each budget."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.strategy, []).append(outcome)
    width = max(12, *(len(name) for name in groups)) + 2
    head = "".join(f"{f'{kind} {n}':>12}" for kind in ("mean", "median", "exact") for n in budgets)
    lines = [f"{'strategy':<{width}}{head}{'screened':>10}{'infeasible':>12}{'ms':>8}{'runs':>6}"]
    for name, runs in groups.items():
        regrets = np.array([[unit[run.task] * run.at(budget) for budget in budgets] for run in runs])
        cells = "".join(f"{value:>12.3f}" for value in (*regrets.mean(axis=0), *np.median(regrets, axis=0)))
        cells += "".join(f"{100 * share:>10.0f} %" for share in (regrets <= 0).mean(axis=0))
        screened = np.mean([run.n_screened[-1] / len(run.codes) for run in runs])
        infeasible = sum(run.n_infeasible for run in runs)
        ms = np.mean([run.ms_per_candidate() for run in runs])
        lines.append(f"{name:<{width}}{cells}{screened:>10.2f}{infeasible:>12}{ms:>8.2f}{len(runs):>6}")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Race and print; returns the number of trainings over a budget. Raises InputError."""
    budgets = numbers(arguments.evaluations, "--evaluations")
    shares = fractions(arguments.fractions)
    if min(arguments.seeds, arguments.jobs) < 1:
        raise InputError("--seeds and --jobs are numbers from 1")
    strategies = chosen(arguments.strategies)
    columns = pairs(arguments)
    table = read_cells(arguments.table, [name for pair in columns for name in pair])
    tasks, unit = [], {}
    for pair in columns:
        problem = cell_problem(table, *pair, arguments.best)
        for share in shares:
            task = problem.budgeted_task(share)
            n_within = int((problem.losses[:, 1] <= problem.score.limit(share)).sum())
            print(f"{task.name}: {n_within:,} of {len(problem.codes):,} cells")
            tasks.append(task)
            unit[task.name] = 100.0 / problem.best
    outcomes = race(
        tasks,
        strategies,
        evaluations=budgets[-1],
        seeds=range(arguments.seeds),
        jobs=arguments.jobs,
        progress=show_progress,
    )
    by_share = {task.name: shares[number % len(shares)] for number, task in enumerate(tasks)}
    for share in shares:
        print(f"\nbudget at {100 * share:g} %: regret in accuracy points")
        print(results_text([one for one in outcomes if by_share[one.task] == share], budgets, unit))
    print(f"\nall budgets, {len(columns)} tasks x {len(shares)} budgets x {arguments.seeds} seeds")
    print(results_text(outcomes, budgets, unit))
    return sum(outcome.n_infeasible for outcome in outcomes)


def main() -> int:
    """The exit status."""
    try:
        return 1 if run(command_line().parse_args()) else 0
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
