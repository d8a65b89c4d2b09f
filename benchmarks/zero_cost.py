"""Zero-cost scores of NAS-Bench-201 cells against published ones, against accuracy, and as a prior of a search.

    python benchmarks/zero_cost.py --table cells.parquet --scores published.parquet --data CIFAR
    python benchmarks/zero_cost.py ... --cells 300 --keep scored.csv --tasks c10_val:lat_raspi4 --seeds 10

`published.parquet` has a row per cell with columns `idx` (as in the table), `dataset` (`c10` is used) and one per
score; `CIFAR` is a folder with `train.parquet` and `test.parquet`. So many cells, drawn at random, are scored on one
batch. First table: Spearman's correlation of our score with the published one, Spearman's and Kendall's with the
accuracy for ours and the published one over the same cells, and the processor seconds of a score (median, largest).

Second table, per task: the median over seeds of the normalised hypervolume (see `codesign.compare_score`) that `auto`
reaches with no prior, with a prior of each score and with one of each of `--both`; for each seed the prior is learned
from `--candidates` of the scored cells. `saved` is what share of the evaluations the median curve with a prior needs
less to reach what that without one reaches in so many; below 0 it needs more, and `<` says it did not get there.
With `--plain` models see the choices of a cell and its counts, as in a space that says nothing more of its candidates.

Exit status 0; 2 for a wrong input.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign.compare import Task, run_task
from codesign.compare_cells import CellProblem, cell_problem, cell_space, read_cells, read_columns
from codesign.compare_race import named_strategy
from codesign.data.dataset import Dataset, Split
from codesign.data.image_parquet import ImageParquet
from codesign.data.split import SplitOptions
from codesign.errors import DataError, InputError, TrialError
from codesign.honesty_ranks import rank_correlation
from codesign.trial import FloatArray
from codesign.warm_start import Informed
from codesign.warm_start_model import learn
from codesign.zero_cost import SCORES, draw_batch
from codesign.zero_cost_torch import score_candidate
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

DATA_SET = "c10"
IMAGES = 2_000
"""Images of the data set that the batch is drawn from."""
BUDGETS = (25, 50, 100)
TASKS = "c10_val:lat_raspi4,c10_val:lat_eyeriss"
NONE = "none"


@dataclass(frozen=True)
class Scored:
    """Cells with their scores, ours and the published ones.

    Attributes:
        rows: shape (n,), of the table.
        ours, published: by name, shape (n,), NaN where there is none.
        seconds: by name, shape (n,), of the processor.
    """

    rows: IntArray
    ours: dict[str, FloatArray]
    published: dict[str, FloatArray]
    seconds: dict[str, FloatArray]


def read_published(path: Path, names: Sequence[str], table_idx: FloatArray) -> tuple[IntArray, dict[str, FloatArray]]:
    """Rows of the table that have published scores, and the scores by name. Raises DataError and InputError."""
    import pyarrow.parquet as parquet

    found = read_columns(path, ["idx", *names])
    sets: Any = parquet.read_table(path, columns=["dataset"])["dataset"].to_numpy()
    of_set = sets == DATA_SET
    if not of_set.any():
        raise DataError(f"{path}: no row of data set {DATA_SET!r}")
    place = {int(idx): row for row, idx in enumerate(table_idx)}
    try:
        rows = np.array([place[int(idx)] for idx in found["idx"][of_set]], dtype=np.int64)
    except KeyError as error:
        raise DataError(f"{path}: idx {error} is not in the table") from error
    return rows, {name: found[name][of_set] for name in names}


def read_images(folder: Path) -> Dataset:
    """A part of the data set."""
    split = SplitOptions(limit=IMAGES, test_limit=100)
    return ImageParquet(folder / "train.parquet", folder / "test.parquet", split=split).load()


def kept_scores(path: Path | None) -> dict[tuple[int, str], tuple[float, float]]:
    """Score and seconds by row of the table and name, from an earlier run."""
    if path is None or not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {(int(row), name): (float(value), float(s)) for row, name, value, s in csv.reader(file)}


def score_cells(
    codes: IntArray, rows: IntArray, names: Sequence[str], data: Dataset, batch: Split, seed: int, keep: Path | None
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Our scores and their seconds, by name, shape (n,); a line of progress."""
    space = cell_space()
    known = kept_scores(keep)
    for done, row in enumerate(rows.tolist()):
        for name in names:
            if (row, name) in known:
                continue
            began = time.process_time()
            try:
                value = score_candidate(lambda row=row: space.build(codes[row]), data, batch, [name], seed)[name]  # type: ignore[misc]
            except TrialError:
                value = np.nan
            known[row, name] = value, time.process_time() - began
            if keep is not None:
                with keep.open("a", newline="") as file:
                    csv.writer(file).writerow([row, name, *known[row, name]])
        print(f"\rscored {done + 1} of {len(rows)} cells ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    both = {name: np.array([known[row, name] for row in rows.tolist()]) for name in names}
    return {name: pair[:, 0] for name, pair in both.items()}, {name: pair[:, 1] for name, pair in both.items()}


def print_scores(scored: Scored, accuracy: FloatArray) -> None:
    """The first table. Accuracies of the scored cells, shape (n,)."""
    print(f"{'':<12}{'with the':>11}{'accuracy, ours':>18}{'published':>18}{'s / cell':>18}")
    print(f"{'score':<12}{'published':>11}{'rho':>9}{'tau':>9}{'rho':>9}{'tau':>9}{'median':>9}{'most':>9}{'cells':>7}")
    for name, ours in scored.ours.items():
        published = scored.published[name]
        there = np.isfinite(ours) & np.isfinite(published)
        same = rank_correlation(ours[there], published[there])
        mine, theirs = (rank_correlation(values[there], accuracy[there]) for values in (ours, published))
        line = f"{name:<12}{same.rho:>11.3f}{mine.rho:>9.3f}{mine.tau:>9.3f}{theirs.rho:>9.3f}{theirs.tau:>9.3f}"
        seconds = scored.seconds[name]
        print(f"{line}{np.median(seconds):>9.2f}{seconds.max():>9.2f}{there.sum():>7}", flush=True)


def with_priors(problem: CellProblem, scored: Scored, names: Sequence[str], n: int, seed: int) -> Task:
    """The task with a prior of the error from each of some scores, learned from n of the scored cells."""
    task = problem.task()
    if not names:
        return task
    assert task.foresight is not None
    models = []
    for name in names:
        there = np.flatnonzero(np.isfinite(scored.ours[name]))
        chosen = np.random.default_rng([seed, 11]).choice(there, min(n, len(there)), replace=False)
        columns, values = problem.features[scored.rows[chosen]], -scored.ours[name][chosen]
        models.append((0, learn(columns, values, objective="error", source=name, counts=(), maximize=False)))
    return replace(task, foresight=Informed(task.foresight, tuple(models)))


def reached_after(curve: FloatArray, score: float) -> float:
    """After how many evaluations a curve is at or above a score; infinite if it never is."""
    there = np.flatnonzero(curve >= score)
    return float(there[0] + 1) if len(there) else float("inf")


def compare(problem: CellProblem, scored: Scored, arguments: argparse.Namespace) -> dict[str, FloatArray]:
    """Median curves of `auto` by the names of its priors."""
    make = named_strategy(arguments.strategy)
    both = [name for name in arguments.both.split(",") if name]
    priors = {NONE: [], **{name: [name] for name in both}, **({" + ".join(both): both} if len(both) > 1 else {})}
    curves: dict[str, list[FloatArray]] = {name: [] for name in priors}
    for seed in range(arguments.seeds):
        for name, names in priors.items():
            task = with_priors(problem, scored, names, arguments.candidates, seed)
            curves[name].append(run_task(task, make, evaluations=BUDGETS[-1], seed=seed, name=name).scores)
        print(f"\r{problem.name}: seed {seed + 1} of {arguments.seeds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: np.median(found, axis=0) for name, found in curves.items()}


def print_curves(title: str, curves: dict[str, FloatArray]) -> None:
    """The second table."""
    print(f"\n{title}")
    print(f"{'prior':<16}" + "".join(f"{f'at {n}':>9}{'saved':>8}" for n in BUDGETS))
    cold = curves[NONE]
    for name, curve in curves.items():
        line = f"{name:<16}"
        for n in BUDGETS:
            saved = 1 - reached_after(curve, cold[n - 1]) / n
            text = "" if name == NONE else (f"<{1 - BUDGETS[-1] / n:.0%}" if np.isinf(saved) else f"{saved:.0%}")
            line += f"{curve[n - 1]:>9.3f}{text:>8}"
        print(line, flush=True)


def run(arguments: argparse.Namespace) -> None:
    """Score, compare and print. Raises InputError."""
    names = arguments.names.split(",")
    for name in [*names, *(name for name in arguments.both.split(",") if name)]:
        if name not in SCORES:
            raise InputError.about("--names", name, SCORES)
    pairs = [pair.split(":") for pair in arguments.tasks.split(",") if pair]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError.about("--tasks", arguments.tasks, "accuracy:cost pairs, separated by commas")
    wanted = {"idx", arguments.accuracy, *(name for pair in pairs for name in pair)}
    table = read_cells(arguments.table, sorted(wanted))
    rows, published = read_published(arguments.scores, names, table.columns["idx"])
    chosen = np.sort(np.random.default_rng(arguments.seed).permutation(len(rows))[: arguments.cells])
    data = read_images(arguments.data)
    batch = draw_batch(data.train, arguments.batch_size, arguments.seed)
    ours, seconds = score_cells(table.codes, rows[chosen], names, data, batch, arguments.seed, arguments.keep)
    scored = Scored(rows[chosen], ours, {name: values[chosen] for name, values in published.items()}, seconds)
    print(f"{len(chosen)} cells, {len(batch)} images")
    print_scores(scored, table.columns[arguments.accuracy][scored.rows])
    for accuracy, cost in pairs:
        problem = cell_problem(table, accuracy, cost)
        if problem.n_dropped:
            raise DataError(f"{problem.name}: {problem.n_dropped} rows lack a value; the scored cells are told by row")
        if arguments.plain:
            plain = SearchSpace.features(cell_space(), problem.codes)
            problem = replace(problem, features=np.hstack([plain, problem.features[:, -2:]]))
        title = f"{problem.name}: median of {arguments.seeds} seeds, {arguments.candidates} cells scored"
        print_curves(title, compare(problem, scored, arguments))


def parser() -> argparse.ArgumentParser:
    """The options."""
    assert __doc__ is not None
    result = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument("--table", type=Path, required=True, help="Parquet or CSV file, one cell a row")
    result.add_argument("--scores", type=Path, required=True, help="Parquet file of published scores")
    result.add_argument("--data", type=Path, required=True, help="folder with train.parquet and test.parquet")
    result.add_argument("--accuracy", default="c10_val", help="column of the first table")
    result.add_argument("--cells", type=int, default=100, help="to score, of those with published scores")
    result.add_argument("--names", default=",".join(SCORES), help="scores, separated by commas")
    result.add_argument("--batch-size", type=int, default=32)
    result.add_argument("--seed", type=int, default=0, help="of cells, images and weights")
    result.add_argument("--keep", type=Path, help="CSV file of scores, added to and read again; same seed and batch")
    result.add_argument("--tasks", default=TASKS, help="accuracy:cost pairs, separated by commas; empty for none")
    result.add_argument("--both", default="synflow,nwot", help="scores to make priors of")
    result.add_argument("--candidates", type=int, default=75, help="scored cells that a prior is learned from")
    result.add_argument("--plain", action="store_true", help="describe cells by their choices and counts alone")
    result.add_argument("--strategy", default="auto")
    result.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ... of the searches")
    return result


def main() -> int:
    """The exit status."""
    arguments = parser().parse_args()
    try:
        if min(arguments.seeds, arguments.cells, arguments.candidates) < 1:
            raise InputError("--seeds, --cells and --candidates are numbers from 1")
        run(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
