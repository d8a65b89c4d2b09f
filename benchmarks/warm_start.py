"""What earlier tasks save: evaluations to 95 % and 99 % of the best hypervolume, with and without a warm start.

    python benchmarks/warm_start.py --table cells.parquet --tasks c10_val:lat_raspi4,c100_val:lat_gold_6226
    python benchmarks/warm_start.py --table cells.parquet --latency lat_raspi4,lat_eyeriss,lat_gold_6226

A task is an accuracy and a cost of NAS-Bench-201 cells (columns as in `benchmarks/nb201.py`). An earlier task has
another accuracy column of the tasks': of so many cells, drawn at random (`random:100`) or visited by the same strategy
on another cost (`search:100`), those accuracies are known, as from an earlier run. `reversed:100` and `shuffled:100`
are earlier tasks that mislead. Printed is the median over seeds of the number of evaluations after which the normalised
hypervolume (see `codesign.compare_score`) stays at or above the share, and what of it a warm start saved; a run that
does not get there counts as its whole budget, and ">" stands before a median that is one.

With `--latency`, the latency of each device is predicted for all cells from n measured ones and the other devices named
(`codesign.transfer`): Spearman and Kendall rank correlations over all cells, mean over seeds, for cells chosen by
`choose_cells` and at random, beside ridge regressions on operation counts and on the others' principal components.

Exit status 0; 2 for a wrong input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from codesign.compare import MakeStrategy, Outcome, Task, run_task
from codesign.compare_cells import CellProblem, CellTable, cell_problem, read_cells
from codesign.compare_race import named_strategy
from codesign.compare_table import Rows
from codesign.errors import InputError
from codesign.transfer import LatencyTransfer
from codesign.trial import FloatArray
from codesign.warm_start import Informed
from codesign.warm_start_model import kendall, learn
from search_spaces.nasbench201_cell import CONV_1X1, CONV_3X3, NONE, POOL, SKIP
from search_spaces.ops import IntArray

TASKS = (
    "c10_val:lat_raspi4,c10_val:lat_eyeriss,c10_val:lat_2080ti_1,"
    "c100_val:lat_raspi4,c100_val:lat_gold_6226,c100_val:lat_samsung_a50"
)
EARLIER = "random:100,random:500,search:100,reversed:100,shuffled:100"
SHARES = (0.95, 0.99)
READINGS = (10, 20, 50)
COLD = "none"
FLOOR_MS = 0.01
"""A reading below this is of a cell that computes nothing."""


def earlier_cells(
    kind: str, n: int, problem: CellProblem, other: CellProblem, make: MakeStrategy, seed: int
) -> tuple[IntArray, FloatArray]:
    """Rows of the earlier task's table that are known, shape (n,), and their errors.

    Raises:
        InputError: an unknown kind.
    """
    rng = np.random.default_rng([seed, 7])
    if kind == "search":
        outcome = run_task(other.task(), make, evaluations=n, seed=seed + 1_000)
        return Rows(problem.task().space.n_options, other.codes).find(outcome.codes), outcome.losses[:, 0]
    rows = rng.choice(len(other.codes), n, replace=False)
    errors = other.losses[rows, 0]
    if kind == "random":
        return rows, errors
    if kind == "reversed":
        return rows, -errors
    if kind == "shuffled":
        return rows, errors[rng.permutation(n)]
    raise InputError.about("--earlier", kind, ("random", "search", "reversed", "shuffled"))


def warmed(problem: CellProblem, rows: IntArray, errors: FloatArray, other: CellProblem) -> Task:
    """The task with what was learned of the error from some cells of another task."""
    task = problem.task()
    assert task.foresight is not None
    learned = learn(other.features[rows], errors, objective="error", source=other.name, counts=(), maximize=False)
    return replace(task, foresight=Informed(task.foresight, ((0, learned),)))


def evaluations_to(outcome: Outcome, share: float) -> float:
    """After how many evaluations the score is at or above a share; infinite if it never is. Scores never fall."""
    there = np.flatnonzero(outcome.scores >= share)
    return float(there[0] + 1) if len(there) else float("inf")


def counts_of(arguments: argparse.Namespace) -> list[tuple[str, int]]:
    """Kinds and sizes of earlier tasks."""
    found = []
    for text in arguments.earlier.split(","):
        kind, _, n = text.partition(":")
        if not n.isdigit() or int(n) < 10:
            raise InputError.about("--earlier", text, "kind:cells, 10 cells at least, separated by commas")
        found.append((kind, int(n)))
    return found


def pairs_of(text: str) -> list[tuple[str, str]]:
    """Accuracy and cost of each task."""
    found = [tuple(pair.split(":")) for pair in text.split(",")]
    if any(len(pair) != 2 for pair in found):
        raise InputError.about("--tasks", text, "accuracy:cost pairs, separated by commas")
    return [(pair[0], pair[1]) for pair in found]


def compare(arguments: argparse.Namespace) -> None:
    """Race with and without earlier tasks, and print. Raises InputError."""
    pairs = pairs_of(arguments.tasks)
    accuracies = list(dict.fromkeys(accuracy for accuracy, _ in pairs))
    costs = list(dict.fromkeys(cost for _, cost in pairs))
    if len(accuracies) < 2 or len(costs) < 2:
        raise InputError("--tasks: an earlier task has another accuracy and another cost; name two of each")
    table = read_cells(arguments.table, [*accuracies, *costs])
    make = named_strategy(arguments.strategy)
    kinds = counts_of(arguments)
    totals: dict[tuple[str, float], list[float]] = {}
    for accuracy, cost in pairs:
        problem = cell_problem(table, accuracy, cost)
        other = cell_problem(table, next(a for a in accuracies if a != accuracy), next(c for c in costs if c != cost))
        names = [COLD, *(f"{kind}:{n}" for kind, n in kinds)]
        reached: dict[str, list[list[float]]] = {name: [] for name in names}
        for seed in range(arguments.seeds):
            tasks = {COLD: problem.task()}
            for kind, n in kinds:
                rows, errors = earlier_cells(kind, n, problem, other, make, seed)
                tasks[f"{kind}:{n}"] = warmed(problem, rows, errors, other)
            for name, task in tasks.items():
                outcome = run_task(task, make, evaluations=arguments.evaluations, seed=seed, name=name)
                reached[name].append([evaluations_to(outcome, share) for share in SHARES])
            print(f"\r{problem.name}: seed {seed + 1} of {arguments.seeds} ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        print(f"\n{problem.name}; earlier: {other.name}")
        for name in names:
            medians = np.median(np.minimum(reached[name], arguments.evaluations), axis=0)
            for share, median in zip(SHARES, medians.tolist(), strict=True):
                totals.setdefault((name, share), []).append(median)
        print(savings_text(names, {key: values[-1] for key, values in totals.items()}, arguments.evaluations))
    print(f"\nmean of {len(pairs)} tasks, median of {arguments.seeds} seeds, strategy {arguments.strategy}")
    print(savings_text(names, {key: float(np.mean(v)) for key, v in totals.items()}, arguments.evaluations))


def savings_text(names: Sequence[str], found: dict[tuple[str, float], float], budget: int) -> str:
    """A table: per earlier task the evaluations to each share and what part of those without one is saved."""
    lines = [f"{'earlier cells':<16}" + "".join(f"{f'to {share:.0%}':>10}{'saved':>8}" for share in SHARES)]
    for name in names:
        line = f"{name:<16}"
        for share in SHARES:
            n, cold = found[name, share], found[COLD, share]
            line += f"{('>' if n >= budget else '') + format(n, '.0f'):>10}"
            line += f"{'' if name == COLD else format(1 - n / cold, '.0%'):>8}"
        lines.append(line)
    return "\n".join(lines)


# --- latency of a new device


def operation_counts(codes: IntArray) -> tuple[FloatArray, FloatArray]:
    """How often each operation stands in a cell, and how often where the output depends on it, each of shape (n, 4).

    Runtimes that compile a graph drop what its output does not need, but not what happens to be fed with zeros.
    """
    is_there = codes != NONE
    from_2 = is_there[:, 5]
    from_1 = is_there[:, 4] | (is_there[:, 2] & from_2)
    always = np.ones(len(codes), dtype=np.bool_)
    is_needed = np.stack([from_1, from_2, from_2, always, always, always], axis=1)
    operations = (SKIP, CONV_1X1, CONV_3X3, POOL)
    every = np.stack([(codes == op).sum(axis=1) for op in operations], axis=1).astype(np.float64)
    needed = np.stack([((codes == op) & is_needed).sum(axis=1) for op in operations], axis=1).astype(np.float64)
    return every, needed


def ridge(columns: FloatArray, cells: IntArray, values: FloatArray) -> FloatArray:
    """Ridge regression for all rows from some; the penalty has the least leave-one-out error."""
    x = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    center = values.mean()
    best, error = np.zeros(len(x)), np.inf
    for penalty in 10.0 ** np.arange(-3, 3):
        inverse = np.linalg.inv(x[cells].T @ x[cells] + penalty * np.eye(x.shape[1]))
        hat = x[cells] @ inverse @ x[cells].T + 1 / len(cells)
        slopes = inverse @ x[cells].T @ (values - center)
        left_out = (values - center - x[cells] @ slopes) / np.maximum(1 - np.diag(hat), 1e-3)
        if np.square(left_out).mean() < error:
            best, error = center + x @ slopes, float(np.square(left_out).mean())
    return best


def spearman(first: FloatArray, second: FloatArray) -> float:
    """Rank correlation, ties sharing their mean rank."""
    ranks = [mean_ranks(values) for values in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def mean_ranks(values: FloatArray) -> FloatArray:
    """The place of each value, ties sharing their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle: FloatArray = np.cumsum(counts) - counts / 2
    return middle[place]


def sampled_kendall(first: FloatArray, second: FloatArray) -> float:
    """Kendall's tau-b over 2,000 rows, evenly spread."""
    rows = np.linspace(0, len(first) - 1, 2_000).astype(int) if len(first) > 2_000 else np.arange(len(first))
    return kendall(first[rows], second[rows])


def predict_latency(arguments: argparse.Namespace) -> None:
    """Print the table of `--latency`. Raises InputError."""
    devices = arguments.latency.split(",")
    table = read_cells(arguments.table, devices)
    print(f"{'device':<18}{'cells':>6}  {'method':<18}{'Spearman':>9}{'lowest':>8}{'Kendall':>9}")
    for device in devices:
        others = [name for name in devices if name != device]
        report_device(table, device, others, arguments.seeds)


def report_device(table: CellTable, device: str, others: Sequence[str], seeds: int) -> None:
    """One device: predictions before any reading and from n readings, by each method."""
    true = np.maximum(table.columns[device], FLOOR_MS)
    every, needed = operation_counts(table.codes)
    others_ms = np.stack([table.columns[name] for name in others], axis=1) if others else None
    transfer = LatencyTransfer([every, needed], others_ms)
    weight = every @ np.array([0.0, 1.0, 9.0, 0.0])  # multiply-accumulates of the convolutions, up to a factor
    show(device, 0, "transfer", [transfer.order_unread(weight)], true)
    for n in READINGS:
        chosen = {
            "transfer": lambda rng, n=n: transfer.choose_cells(n, rng),
            "transfer, random": lambda rng, n=n: rng.choice(len(true), n, replace=False),
        }
        for name, choose in chosen.items():
            show(device, n, name, [fitted(transfer, choose, true, seed) for seed in range(seeds)], true)
        cells = [np.random.default_rng(seed).choice(len(true), n, replace=False) for seed in range(seeds)]
        show(device, n, "ridge, counts", [ridge(every, rows, np.log(true[rows])) for rows in cells], true)
        if others_ms is not None:
            logs = np.log(np.maximum(others_ms, FLOOR_MS))
            logs = (logs - logs.mean(axis=0)) / logs.std(axis=0)
            left, sizes, _ = np.linalg.svd(logs, full_matrices=False)
            scores = (left * sizes)[:, :3]
            show(device, n, "ridge, components", [ridge(scores, rows, np.log(true[rows])) for rows in cells], true)


def fitted(
    transfer: LatencyTransfer, choose: Callable[[np.random.Generator], IntArray], true: FloatArray, seed: int
) -> FloatArray:
    """Predictions of all cells from those that are chosen."""
    cells = choose(np.random.default_rng(seed))
    return transfer.fit(cells, true[cells]).latency_ms


def show(device: str, n: int, method: str, predictions: Sequence[FloatArray], true: FloatArray) -> None:
    """One line."""
    rho = [spearman(predicted, true) for predicted in predictions]
    tau = [sampled_kendall(predicted, true) for predicted in predictions]
    print(f"{device:<18}{n:>6}  {method:<18}{np.mean(rho):>9.3f}{min(rho):>8.3f}{np.mean(tau):>9.3f}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The options."""
    assert __doc__ is not None
    result = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument("--table", type=Path, required=True, help="Parquet or CSV file, one cell a row")
    result.add_argument("--tasks", default=TASKS, help="accuracy:cost pairs, separated by commas")
    result.add_argument("--earlier", default=EARLIER, help="kind:cells of earlier tasks, separated by commas")
    result.add_argument("--evaluations", type=int, default=300, help="of each run")
    result.add_argument("--strategy", default="auto")
    result.add_argument("--seeds", type=int, default=10, help="seeds 0, 1, ...")
    result.add_argument("--latency", default="", help="columns of devices: predict each from few readings instead")
    return result


def main() -> int:
    """The exit status."""
    arguments = parser().parse_args()
    try:
        if arguments.seeds < 1 or arguments.evaluations < 1:
            raise InputError("--seeds and --evaluations are numbers from 1")
        predict_latency(arguments) if arguments.latency else compare(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
