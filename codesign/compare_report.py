"""Outcomes of a race as tables: the median over seeds on every task, then the mean over tasks."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.compare import Outcome
from codesign.trial import FloatArray

LATE = (450, 500)
"""Candidates whose CPU time is reported apart: the last 50 before 500, when a model has much to learn from."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one strategy did on one task, or on the mean of several.

    Attributes:
        strategy, task, workers: whose; the task is "mean" for a mean of several.
        scores: shape (budgets,), median over seeds.
        spread: shape (budgets,), half of the distance between the quartiles over seeds, mean over tasks.
        n_evaluated: median number of candidates evaluated.
        ms: CPU time of ask and tell for a candidate, mean.
        late_ms: the same over the candidates of `LATE`; NaN if runs are shorter.
        proposals: for each candidate evaluated, mean.
        n_seeds: runs.
    """

    strategy: str
    task: str
    workers: int
    scores: FloatArray
    spread: FloatArray
    n_evaluated: float
    ms: float
    late_ms: float
    proposals: float
    n_seeds: int


def standings(outcomes: Sequence[Outcome], budgets: Sequence[int]) -> list[Standing]:
    """One for each number of workers, task and strategy, in the order of the outcomes."""
    groups: dict[tuple[int, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.workers, outcome.task, outcome.strategy), []).append(outcome)
    result: list[Standing] = []
    for (workers, task, strategy), runs in groups.items():
        scores = np.array([[run.at(budget) for budget in budgets] for run in runs])
        quartiles = np.quantile(scores, (0.25, 0.75), axis=0)
        late = [run.ms_per_candidate(*LATE) for run in runs if len(run.cpu_s) >= LATE[1]]
        result.append(
            Standing(
                strategy=strategy,
                task=task,
                workers=workers,
                scores=np.median(scores, axis=0),
                spread=(quartiles[1] - quartiles[0]) / 2,
                n_evaluated=float(np.median([len(run.codes) for run in runs])),
                ms=float(np.mean([run.ms_per_candidate() for run in runs])),
                late_ms=float(np.mean(late)) if late else float("nan"),
                proposals=float(np.mean([run.n_proposals[-1] / len(run.codes) for run in runs if len(run.codes)])),
                n_seeds=len(runs),
            )
        )
    return result


def mean_standings(found: Sequence[Standing]) -> list[Standing]:
    """The mean over tasks of each strategy, for each number of workers."""
    groups: dict[tuple[int, str], list[Standing]] = {}
    for standing in found:
        groups.setdefault((standing.workers, standing.strategy), []).append(standing)
    return [
        Standing(
            strategy=strategy,
            task="mean",
            workers=workers,
            scores=np.mean([standing.scores for standing in group], axis=0),
            spread=np.mean([standing.spread for standing in group], axis=0),
            n_evaluated=float(np.mean([standing.n_evaluated for standing in group])),
            ms=float(np.mean([standing.ms for standing in group])),
            late_ms=float(np.mean([standing.late_ms for standing in group])),
            proposals=float(np.mean([standing.proposals for standing in group])),
            n_seeds=min(standing.n_seeds for standing in group),
        )
        for (workers, strategy), group in groups.items()
    ]


def standings_text(found: Sequence[Standing], budgets: Sequence[int]) -> str:
    """A table, best first at the middle budget."""
    middle = len(budgets) // 2
    width = max(12, *(len(standing.strategy) for standing in found)) + 2
    head = "".join(f"{budget:>9,}" for budget in budgets)
    lines = [f"{'strategy':<{width}}{head}{'ms':>9}{'ms late':>9}{'proposals':>11}{'seeds':>7}"]
    for standing in sorted(found, key=lambda one: -np.nan_to_num(one.scores[middle], nan=-np.inf)):
        scores = "".join(f"{score:>9.4f}" for score in standing.scores)
        late = f"{standing.late_ms:>9.2f}" if np.isfinite(standing.late_ms) else f"{'':>9}"
        lines.append(
            f"{standing.strategy:<{width}}{scores}{standing.ms:>9.2f}{late}{standing.proposals:>11.2f}{standing.n_seeds:>7}"
        )
    return "\n".join(lines)


def losses_text(found: Sequence[Standing], budgets: Sequence[int]) -> str:
    """By how much each strategy with several workers falls behind itself with one."""
    alone = {(standing.task, standing.strategy): standing for standing in found if standing.workers == 1}
    width = max(12, *(len(standing.strategy) for standing in found)) + 2
    lines = [f"{'strategy':<{width}}{'workers':>8}" + "".join(f"{budget:>9,}" for budget in budgets)]
    for standing in found:
        if standing.workers > 1:
            lost = alone[standing.task, standing.strategy].scores - standing.scores
            lines.append(f"{standing.strategy:<{width}}{standing.workers:>8}" + "".join(f"{x:>+9.4f}" for x in lost))
    return "\n".join(lines)


def scores_csv(outcomes: Sequence[Outcome], budgets: Sequence[int]) -> str:
    """One line for each run and budget."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("task", "strategy", "workers", "seed", "evaluations", "score", "evaluated", "ms_per_candidate"))
    for run in outcomes:
        for budget in budgets:
            row = (run.task, run.strategy, run.workers, run.seed, budget, f"{run.at(budget):.6f}")
            writer.writerow((*row, run.n_counted(budget), f"{run.ms_per_candidate(0, budget):.4f}"))
    return stream.getvalue()


def curve_counts(budgets: Sequence[int], first: int = 10, growth: float = 1.08) -> list[int]:
    """Numbers of evaluations to draw a curve through: the budgets, and steps of equal ratio up to the last."""
    steps = int(np.log(max(1.0, budgets[-1] / first)) / np.log(growth))
    return sorted({*budgets, *(round(first * growth**step) for step in range(steps + 1) if first <= budgets[-1])})


def median_curves(outcomes: Sequence[Outcome], evaluations: Sequence[int]) -> Mapping[tuple[str, int], FloatArray]:
    """Mean over tasks of the median over seeds, by strategy and number of workers, at numbers of evaluations."""
    means = mean_standings(standings(outcomes, evaluations))
    return {(standing.strategy, standing.workers): standing.scores for standing in means}
