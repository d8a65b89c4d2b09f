"""Search strategies on FBNet's space of 9^22 = 9.8e20 networks, with measured latency and a stated accuracy.

    python benchmarks/large_space.py --latency fbnet_latency.parquet --device lat_raspi4

The latency of a network is the sum of a part for each layer's block, fitted by ridge regression to 80 % of the table's
rows (columns `b0` ... `b21` with the block of each layer, 0 to 8, and one column a device); the error on the other rows
is printed. From then on the model is the exact and known cost. The accuracy is made up: formula and reasons are in
`codesign/compare_chain.py`. Each seed draws another landscape, and its exact front follows from dynamic programming.

Strategies see noisy errors one by one and, if they ask (`foresight`), the cost of any network; they are scored by the
noise-free errors of what they visited: normalised hypervolume as in `nb201.py` (1 is the exact front; the median error
is that of 20,000 random networks), median over seeds.

Exit status 0; 2 for a wrong input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from nb201 import check_folders, chosen, numbers, show_progress

from codesign.compare import Task
from codesign.compare_cells import read_columns
from codesign.compare_chain import FBNET, ChainCost, ChainForesight, ChainLosses, ChainSpace, Landscape, exact_front
from codesign.compare_race import race
from codesign.compare_report import curve_counts, median_curves, scores_csv, standings, standings_text
from codesign.compare_score import Score
from codesign.compare_svg import race_svg
from codesign.errors import DataError, InputError
from codesign.trial import FloatArray
from search_spaces.ops import IntArray

LAYERS = 22
FITTED = 0.8
RANDOM = 20_000
STRATEGIES = "auto,nsga2,local-search,evolution,random"


def command_line() -> argparse.ArgumentParser:
    """The options."""
    result = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument("--latency", type=Path, required=True, help="Parquet or CSV file, one network a row")
    result.add_argument("--device", default="lat_raspi4", help="its latency column")
    result.add_argument("--evaluations", default="50,100,200,500,1000", help="budgets")
    result.add_argument("--seeds", type=int, default=10, help="landscapes, each searched once by every strategy")
    result.add_argument("--strategies", default=STRATEGIES, help="options behind colons: nsga2:population_size=32")
    result.add_argument("--jobs", type=int, default=2, help="processes")
    result.add_argument("--plot", type=Path, help="write the curves as SVG")
    result.add_argument("--csv", type=Path, help="write every run's scores")
    return result


def fit_cost(path: Path, device: str) -> tuple[ChainCost, str]:
    """The cost model of a device, and what to say of its error on rows that it has not seen. Raises InputError."""
    layers = [f"b{number}" for number in range(LAYERS)]
    columns = read_columns(path, [*layers, device])
    costs = columns[device]
    whole = np.isfinite(np.stack(list(columns.values()))).all(axis=0)
    codes: IntArray = np.stack([columns[name][whole] for name in layers], axis=1).astype(np.int64)
    costs = costs[whole]
    if len(codes) < 2 * LAYERS * len(FBNET):
        raise DataError(f"{path}: {len(codes)} whole rows are too few to fit {LAYERS * len(FBNET)} parts")
    if codes.min() < 0 or codes.max() >= len(FBNET):
        raise DataError(f"{path}: a block is none of 0 to {len(FBNET) - 1}")
    order = np.random.default_rng(0).permutation(len(codes))
    seen, held_out = np.split(order, [int(FITTED * len(order))])
    cost = ChainCost.fitted(codes[seen], costs[seen], len(FBNET))
    off = np.abs(cost(codes[held_out]) / costs[held_out] - 1)
    text = f"median error {100 * np.median(off):.3g} %, 95 % within {100 * np.quantile(off, 0.95):.3g} %"
    return cost, f"{text}, on {len(held_out):,} networks held out"


def make_task(space: ChainSpace, cost: ChainCost, name: str, seed: int) -> tuple[Task, FloatArray]:
    """The task of one landscape, and its exact front."""
    landscape = Landscape.drawn(space, seed)
    front = exact_front(landscape, cost)[1]
    truth = ChainLosses(landscape, cost, noisy=False)
    sample = truth(space.sample(RANDOM, np.random.default_rng([seed, 1])))
    return Task(
        name=name,
        space=space,
        n_objectives=2,
        evaluate=ChainLosses(landscape, cost, noisy=True),
        score=Score.of_table(sample, front),
        foresight=ChainForesight(space, cost),
        truth=truth,
        salt=seed,
    ), front


def run(arguments: argparse.Namespace) -> None:
    """Race and print. Raises InputError."""
    budgets = numbers(arguments.evaluations, "--evaluations")
    if min(arguments.seeds, arguments.jobs) < 1:
        raise InputError("--seeds and --jobs are numbers from 1")
    strategies = chosen(arguments.strategies)
    check_folders(arguments.plot, arguments.csv)
    space = ChainSpace(LAYERS)
    cost, fit = fit_cost(arguments.latency, arguments.device)
    print(f"{space.size:.2g} networks; {arguments.device} as a sum over layers: {fit}")
    made = [make_task(space, cost, arguments.device, seed) for seed in range(arguments.seeds)]
    for task, front in made[:1]:
        low, high = front[[0, -1]]
        print(
            f"exact front of seed {task.salt}: {len(front):,} members, error {high[0]:.2f} to {low[0]:.2f} %, cost "
            f"{low[1]:.3g} to {high[1]:.3g}"
        )
    outcomes = race(
        [task for task, _ in made],
        strategies,
        evaluations=budgets[-1],
        seeds=[0],
        jobs=arguments.jobs,
        progress=show_progress,
    )
    print(f"\nnormalised hypervolume, median of {arguments.seeds} landscapes")
    print(standings_text(standings(outcomes, budgets), budgets))
    if arguments.csv:
        arguments.csv.write_text(scores_csv(outcomes, budgets), encoding="utf-8")
    if arguments.plot:
        every = curve_counts(budgets)
        named = {name: curve for (name, _), curve in median_curves(outcomes, every).items()}
        title = f"Search among {space.size:.1g} networks, {arguments.device}: median of {arguments.seeds} landscapes"
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
