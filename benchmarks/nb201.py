"""Search strategies on tables of NAS-Bench-201 cells with measured cost: what is found per training, and at what price.

    python benchmarks/nb201.py --table cells.parquet --accuracy c10_val --cost lat_raspi4
    python benchmarks/nb201.py --table cells.parquet --tasks c10_val:lat_raspi4,c100_val:lat_gold_6226 --workers 8

Printed is the median over seeds of the normalised hypervolume (see `codesign.compare_score`: 1 is the exact front), per
task, then the mean over tasks; `ms` is the CPU time of ask and tell for a candidate, `ms late` that of the last 50
before 500, `proposals` how many were needed for a new candidate. A strategy sees the costs of all cells beforehand if
it asks for them (`foresight`), and accuracies one by one. Every cell is a candidate of its own.

With `--workers 8` each strategy also runs with eight asynchronous workers on a simulated clock. A training takes a
log-normal time about a mean that is 20 % fixed and 80 % proportional to the cell's multiply-accumulates (sigma 0.25,
drawn per cell and seed). The score at N is then that of the first N cells asked for.

Exit status 0; 2 for a wrong input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from codesign.compare_cells import cell_problem, read_cells
from codesign.compare_race import NamedStrategy, named_strategy, race
from codesign.compare_report import (
    curve_counts,
    losses_text,
    mean_standings,
    median_curves,
    scores_csv,
    standings,
    standings_text,
)
from codesign.compare_svg import race_svg
from codesign.errors import InputError

EVALUATIONS = "25,50,100,200,500,1000"
STRATEGIES = "auto,nsga2,local-search,evolution,random,optuna-nsga2,optuna-tpe"


def parser(text: str, evaluations: str, strategies: str) -> argparse.ArgumentParser:
    """Options that benchmarks on tables of cells share.

    Args:
        text: what the benchmark is, its first line.
        evaluations, strategies: their defaults.
    """
    result = argparse.ArgumentParser(
        description=text.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument("--table", type=Path, required=True, help="Parquet or CSV file, one cell a row")
    result.add_argument("--accuracy", action="append", default=[], help="a column to maximise; with --cost, may repeat")
    result.add_argument("--cost", action="append", default=[], help="a column to minimise; may repeat")
    result.add_argument("--tasks", default="", help="accuracy:cost pairs, separated by commas")
    result.add_argument("--best", type=float, help="the highest possible accuracy; default: 1 for fractions, else 100")
    result.add_argument("--evaluations", default=evaluations, help="budgets")
    result.add_argument("--seeds", type=int, default=20, help="runs of each strategy on each task: seeds 0, 1, ...")
    result.add_argument("--strategies", default=strategies, help="options behind colons: evolution:sample_size=4")
    result.add_argument("--jobs", type=int, default=2, help="processes")
    return result


def command_line() -> argparse.ArgumentParser:
    """All options."""
    result = parser(__doc__ or "", EVALUATIONS, STRATEGIES)
    result.add_argument("--workers", type=int, default=1, help="also run with so many simulated asynchronous workers")
    result.add_argument("--plot", type=Path, help="write the curves as SVG")
    result.add_argument("--csv", type=Path, help="write every run's scores")
    return result


def numbers(text: str, option: str) -> list[int]:
    """Ascending positive whole numbers from a list with commas."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1:
        raise InputError.about(option, text, "whole numbers from 1, separated by commas")
    return found


def pairs(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """Accuracy and cost of each task, from `--tasks` and from every combination of `--accuracy` and `--cost`."""
    found = [tuple(pair.split(":")) for pair in arguments.tasks.split(",") if pair]
    for pair in found:
        if len(pair) != 2:
            raise InputError.about("--tasks", ":".join(pair), "accuracy:cost pairs, separated by commas")
    accuracies, costs = (
        [name for text in texts for name in text.split(",")] for texts in (arguments.accuracy, arguments.cost)
    )
    result = [(pair[0], pair[1]) for pair in found] + [(accuracy, cost) for accuracy in accuracies for cost in costs]
    if not result or bool(accuracies) != bool(costs):
        raise InputError("name --accuracy and --cost, or --tasks accuracy:cost")
    return list(dict.fromkeys(result))


def chosen(text: str) -> dict[str, NamedStrategy]:
    """The strategies of a list with commas, by the names given."""
    found = {name.strip(): named_strategy(name.strip()) for name in text.split(",") if name.strip()}
    if not found:
        raise InputError("--strategies: name at least one")
    return found


def check_folders(*files: Path | None) -> None:
    """Files that are written at the end of a long run need their folders now."""
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise InputError(f"{file}: there is no folder {str(file.absolute().parent)!r}")


def show_progress(done: int, total: int, left_s: float) -> None:
    """One line on stderr that is written over."""
    end = "\n" if done == total else ""
    print(f"\r{done}/{total} runs, {left_s / 60:.1f} min left   ", end=end, file=sys.stderr, flush=True)


def run(arguments: argparse.Namespace) -> None:
    """Race and print. Raises InputError."""
    budgets = numbers(arguments.evaluations, "--evaluations")
    if min(arguments.seeds, arguments.workers, arguments.jobs) < 1:
        raise InputError("--seeds, --workers and --jobs are numbers from 1")
    strategies = chosen(arguments.strategies)
    check_folders(arguments.plot, arguments.csv)
    columns = pairs(arguments)
    table = read_cells(arguments.table, [name for pair in columns for name in pair])
    problems = [cell_problem(table, *pair, arguments.best) for pair in columns]
    for problem in problems:
        dropped = f", {problem.n_dropped:,} rows without a value left out" if problem.n_dropped else ""
        print(
            f"{problem.name}: {len(problem.codes):,} cells{dropped}; exact front {problem.score.n_front} members, "
            f"normalised hypervolume {problem.score.full:.4f}; errors count from {problem.best:g}"
        )
    outcomes = race(
        [problem.task() for problem in problems],
        strategies,
        evaluations=budgets[-1],
        seeds=range(arguments.seeds),
        workers=sorted({1, arguments.workers}),
        jobs=arguments.jobs,
        progress=show_progress,
    )
    found = standings(outcomes, budgets)
    means = mean_standings(found)
    for workers in sorted({1, arguments.workers}):
        suffix = f", {workers} workers" if workers > 1 else ""
        for name in [problem.name for problem in problems]:
            print(f"\n{name}{suffix}: median of {arguments.seeds} seeds")
            print(standings_text([one for one in found if (one.task, one.workers) == (name, workers)], budgets))
        if len(problems) > 1:
            print(f"\nmean of {len(problems)} tasks{suffix}")
            print(standings_text([one for one in means if one.workers == workers], budgets))
    if arguments.workers > 1:
        print(f"\nlost against one worker, mean of {len(problems)} tasks (simulated clock)")
        print(losses_text(means, budgets))
    if arguments.csv:
        arguments.csv.write_text(scores_csv(outcomes, budgets), encoding="utf-8")
    if arguments.plot:
        every = curve_counts(budgets)
        curves = median_curves([one for one in outcomes if one.workers == arguments.workers], every)
        title = f"Search on NAS-Bench-201 cells: mean of {len(problems)} tasks, median of {arguments.seeds} seeds"
        named = {name: curve for (name, _), curve in curves.items()}
        arguments.plot.write_text(race_svg(named, every, title, "normalised hypervolume", budgets), encoding="utf-8")


def main() -> int:
    """The exit status."""
    try:
        run(command_line().parse_args())
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
