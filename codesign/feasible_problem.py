"""The budgets of a job that can be checked before its run, with what computes them for any batch of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from codesign.assemble import Parts
from codesign.cost import CostEvaluator, Target
from codesign.cost_only import CostOnly, Simulated
from codesign.design_space import DesignEvaluator
from codesign.expressions import Budget
from codesign.guard import guarded
from codesign.joint import JointSpace
from codesign.trial import Evaluator, FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace
from simulators.accelerator import Columns, Field
from simulators.report import CostReport
from simulators.simulator import Simulator
from simulators.workload import Workload

BoolArray = NDArray[np.bool_]

_SMALLEST_SCALE = 1e-12
"""Stands for |limit| where a limit is zero, so that an excess stays finite."""


@dataclass(frozen=True)
class Problem:
    """Budgets on free metrics over a space.

    Attributes:
        space: the candidates.
        budgets: k budgets on metrics that are arithmetic.
        unchecked: budgets on metrics that only training or measuring tells.
        evaluators: compute the metrics of `budgets`.
        cost: counts and simulated costs of networks, if the job has them.
    """

    space: SearchSpace
    budgets: tuple[Budget, ...]
    unchecked: tuple[Budget, ...]
    evaluators: tuple[Evaluator, ...]
    cost: CostEvaluator | None

    def values(self, codes: IntArray) -> FloatArray:
        """The budgets' metrics of candidates, shape (n, k); a row of NaN for a candidate that cannot work."""
        metrics: dict[str, FloatArray] = {}
        failed = np.zeros(len(codes), dtype=np.bool_)
        for evaluator in self.evaluators:
            evaluation = guarded(evaluator, codes)
            failed |= np.array([bool(error) for error in evaluation.errors], dtype=np.bool_)
            metrics |= {name: np.asarray(column, dtype=np.float64) for name, column in evaluation.metrics.items()}
        for column in metrics.values():
            failed |= ~np.isfinite(column)
        values = np.stack([metrics[budget.metric] for budget in self.budgets], axis=1)
        values[failed] = np.nan
        return values

    @property
    def limits(self) -> FloatArray:
        """Shape (k,)."""
        return np.array([budget.limit for budget in self.budgets])

    @property
    def is_upper(self) -> BoolArray:
        """Shape (k,), True for upper limits."""
        return np.array([budget.upper for budget in self.budgets], dtype=np.bool_)

    def meets(self, values: FloatArray) -> BoolArray:
        """Which budgets candidates keep, shape (n, k); none for those that cannot work."""
        with np.errstate(invalid="ignore"):
            return np.where(self.is_upper, values <= self.limits, values >= self.limits)

    def excess(self, values: FloatArray) -> FloatArray:
        """How far candidates are outside each budget relative to its limit, shape (n, k); inf if they cannot work."""
        signed = np.where(self.is_upper, values - self.limits, self.limits - values)
        relative = np.maximum(signed, 0.0) / np.maximum(np.abs(self.limits), _SMALLEST_SCALE)
        return np.where(np.isnan(relative), np.inf, relative)


def problem_of(parts: Parts) -> Problem:
    """What of a job's budgets can be checked beforehand. Nothing beside their own metrics is computed."""
    screens = parts.evaluator.screens if isinstance(parts.evaluator, CostOnly) else parts.screens
    free = [screen for screen in screens if getattr(screen, "is_free", isinstance(screen, DesignEvaluator))]
    budgets = parts.objectives.budgets
    named = {budget.metric for budget in budgets}
    chosen: list[Evaluator] = []
    cost: CostEvaluator | None = None
    for evaluator in free:
        own = [name for name in evaluator.metrics if name in named]
        if not own:
            continue
        if isinstance(evaluator, Simulated):  # a candidate that the others cannot tell of fails, budgets or not
            cost = _narrowed(evaluator.cost, own)
            evaluator = Simulated(cost, evaluator.others)
        chosen.append(evaluator)
    known = {name for evaluator in chosen for name in evaluator.metrics}
    return Problem(
        space=parts.space,
        budgets=tuple(budget for budget in budgets if budget.metric in known),
        unchecked=tuple(budget for budget in budgets if budget.metric not in known),
        evaluators=tuple(chosen),
        cost=cost,
    )


@dataclass(frozen=True)
class _Narrow(Simulator):
    """A simulator that reports some of its metrics: those that it computes on demand cost nothing then."""

    simulator: Simulator
    metrics: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The simulator's."""
        return self.simulator.id

    @property
    def fields(self) -> tuple[Field, ...]:
        """The simulator's."""
        return self.simulator.fields

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """The simulator's report without the other metrics."""
        report = self.simulator.simulate(workload, accelerators, paired=paired)
        columns = {name: report.columns[name] for name in self.metrics if name in report.columns}
        own = {name: report.per_accelerator[name] for name in self.metrics if name in report.per_accelerator}
        return CostReport(columns, own, report.uncounted)


def full_simulator(simulator: Simulator) -> Simulator:
    """The simulator itself, with what it declares of its metrics, behind one that was narrowed."""
    return simulator.simulator if isinstance(simulator, _Narrow) else simulator


def _narrowed(cost: CostEvaluator, wanted: Sequence[str]) -> CostEvaluator:
    """The evaluator with the wanted simulated metrics alone; searched targets must stay, for the space has them."""
    searched = cost.space.accelerators if isinstance(cost.space, JointSpace) else {}
    targets: dict[str, Target] = {}
    for name, target in cost.targets.items():
        metrics = tuple(metric for metric in target.simulator.metrics if f"{metric}@{name}" in wanted)
        if metrics or name in searched:
            targets[name] = replace(target, simulator=_Narrow(target.simulator, metrics))
    return replace(cost, targets=targets)
