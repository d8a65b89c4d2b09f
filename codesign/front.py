"""The Pareto front, asked again at no cost: of one run or over several, filtered, as of any moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.assemble import Parts
from codesign.errors import InputError
from codesign.expressions import Budget, Condition
from codesign.front_data import Counts, FrontTable, axes_of
from codesign.front_print import print_front
from codesign.objectives import Objective, Objectives
from codesign.pareto import is_nondominated
from codesign.run import Run
from codesign.store import VIOLATION, Final
from codesign.trial import FloatArray, Trial

__all__ = ["Counts", "FrontTable", "axes_of", "front_table", "fronts", "known_metrics", "print_front"]


def front_table(run: Run, parts: Parts, where: Condition | None = None, upto: int | None = None) -> FrontTable:
    """The front of one run; see `fronts`."""
    return fronts([(run, parts)], where, upto)


def fronts(runs: Sequence[tuple[Run, Parts]], where: Condition | None = None, upto: int | None = None) -> FrontTable:
    """The front over one or several runs: what no trial of any of them dominates. Each keeps its own run's budgets.

    Args:
        runs: at least one; all with the same objectives, in any order.
        where: only trials that meet this are considered, whether as members or as what dominates them.
        upto: only the first so many trials of each run are considered.

    Raises:
        InputError: the runs differ in their objectives, or the condition names a metric that none of them has.
    """
    if not runs:
        raise InputError("front: name at least one run")
    objectives = _shared_objectives(runs)
    known = known_metrics(runs)
    for name in where.metrics if where else ():
        if name not in known:
            raise InputError.about("--where", name, known)
    parts = [_candidates(run, objectives, where, upto) for run, _ in runs]
    losses = np.concatenate([part.losses for part in parts])
    on_front = is_nondominated(losses)
    starts = np.cumsum([0, *(len(part.losses) for part in parts)])
    members: list[tuple[str, Trial, dict[str, Final]]] = []
    for (run, _), part, start in zip(runs, parts, starts[:-1], strict=True):
        chosen = part.numbers[on_front[start : start + len(part.losses)]].tolist()
        finals = run.store.finals(run.study_id)
        members += [(str(run.folder), t, finals.get(t.number, {})) for t in run.store.trials(run.study_id, chosen)]
    order = np.lexsort(losses[on_front].T)
    budgets = {budget.text: budget for _, part in runs for budget in part.objectives.budgets}
    signs = np.array([-1.0 if objective.maximize else 1.0 for objective in objectives.objectives])
    needed = [*objectives.needed_metrics, *(budget.metric for budget in budgets.values())]
    return _table(
        [members[i] for i in order],
        objectives.objectives,
        tuple(budgets.values()),
        dict.fromkeys([*needed, *known]),
        sum((part.counts for part in parts), Counts()),
        losses * signs,
    )


def known_metrics(runs: Iterable[tuple[Run, Parts]]) -> list[str]:
    """Metrics that trials of these runs have or can have, each once."""
    names = (n for run, parts in runs for n in (*parts.metrics, *run.store.metric_names(run.study_id)))
    return [name for name in dict.fromkeys(names) if name != VIOLATION]


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """The trials of a run that may be on the front: numbers, shape (k,), and losses, shape (k, m)."""

    numbers: NDArray[np.int64]
    losses: FloatArray
    counts: Counts


def _candidates(run: Run, objectives: Objectives, where: Condition | None, upto: int | None) -> _Candidates:
    wanted = (*(objective.metric for objective in objectives.objectives), *(where.metrics if where else ()))
    found = run.store.columns(run.study_id, dict.fromkeys(wanted))
    columns = {name: values[:upto] for name, values in found.items()}
    violations = columns["violation"]
    feasible = violations == 0
    passes = where.evaluate(columns) if where else np.ones(len(violations), dtype=np.bool_)
    numbers = np.flatnonzero(feasible & passes)
    losses = objectives.losses(columns)[numbers]
    whole = ~np.isnan(losses).any(axis=1)
    counts = Counts(
        trials=len(violations),
        over_budget=int(((violations > 0) & np.isfinite(violations)).sum()),
        failed=int(np.isinf(violations).sum()),
        running=int(np.isnan(violations).sum()),
        filtered=int((feasible & ~passes).sum()),
    )
    return _Candidates(numbers[whole], losses[whole], counts)


def _shared_objectives(runs: Sequence[tuple[Run, Parts]]) -> Objectives:
    first_run, first = runs[0]
    for run, parts in runs[1:]:
        if set(parts.objectives.objectives) != set(first.objectives.objectives):
            raise InputError(
                "front: the runs have different objectives, so they share no front: "
                f"{_listed(first.objectives.objectives)} in {str(first_run.folder)!r}, "
                f"{_listed(parts.objectives.objectives)} in {str(run.folder)!r}"
            )
        _check_comparable(first_run, run, first.objectives)
    return first.objectives


def _check_comparable(first: Run, other: Run, objectives: Objectives) -> None:
    """Refuse to compare figures of different data, or of different devices under one name."""
    names = sorted({objective.metric.partition("@")[2] for objective in objectives.objectives} - {""})
    differing = [f"targets.{name}" for name in names if first.job.targets.get(name) != other.job.targets.get(name)]
    if first.job.data != other.job.data:
        differing.insert(0, "data")
    if differing:
        raise InputError(
            f"front: the runs differ in {differing[0]}, so their figures do not compare: {str(first.folder)!r} and "
            f"{str(other.folder)!r}"
        )


def _listed(objectives: Iterable[Objective]) -> str:
    return ", ".join(map(str, objectives))


def _table(
    members: Sequence[tuple[str, Trial, dict[str, Final]]],
    objectives: tuple[Objective, ...],
    budgets: tuple[Budget, ...],
    names: Iterable[str],
    counts: Counts,
    considered: FloatArray,
) -> FrontTable:
    final_names = {name for _, _, finals in members for name in finals}
    metrics = {n: np.array([trial.metrics.get(n, np.nan) for _, trial, _ in members], dtype=np.float64) for n in names}
    return FrontTable(
        objectives=objectives,
        budgets=budgets,
        runs=[run for run, _, _ in members],
        numbers=[trial.number for _, trial, _ in members],
        metrics=metrics,
        finals={
            name: [finals.get(name) for _, _, finals in members]
            for name in sorted(final_names, key=lambda name: (name in metrics, name))  # what is new comes first
        },
        genotypes=[trial.genotype for _, trial, _ in members],
        counts=counts,
        considered=considered,
    )
