"""What no candidate of a space can undercut, proven without listing the space.

A space states networks that none of its candidates is smaller than (`search_spaces.floor`). They are costed on every
accelerator of the job. Of each metric that is known to grow with the network the figure is a lower bound; metrics of
the accelerator alone are exact; and no accelerator is faster than all its PEs at work in every cycle. Since a
candidate is bounded by one network and one accelerator for all metrics together, budgets that no such pair keeps
jointly are proven to conflict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from codesign.cost import CostEvaluator, Target
from codesign.expressions import Budget
from codesign.feasible_problem import BoolArray, Problem, full_simulator
from codesign.joint import JointSpace
from codesign.lower import Lowered, lower
from codesign.trial import FloatArray
from search_spaces.floor import Floor
from search_spaces.ops import COLUMNS, IntArray, OpTable, OpTableBuilder
from search_spaces.space import Choice, Genotype, NetworkSpace
from simulators.accelerator import Columns, Value
from simulators.design import design_columns
from simulators.simulator import Simulator

MOST_CASES = 1_000_000
"""Pairs of a network and an accelerator that are kept apart; with more, each accelerator keeps the least of all."""
_MOST_ACCELERATORS = 1_000_000
_CELLS = 2_000_000  # layer x accelerator figures computed at once
_ROUNDING = 1e-12
"""A sum of another order may differ by so much relative to it; a bound gives way by as much."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of all candidates of a space.

    Attributes:
        values: shape (m, k): every candidate is, for at least one row, no better than that row in all k budgets'
            metrics. -inf (upper budgets) or inf (lower ones) where nothing is known.
        reasons: k phrases that say where a budget's bound comes from, to be followed by its figure.
    """

    values: FloatArray
    reasons: tuple[str, ...]


def bounds_of(problem: Problem) -> Bounds | None:
    """Bounds of a problem's metrics; None if it is not about networks, or nothing is known.

    A row of the result bounds a candidate's whole row; the rows together cover the space.
    """
    cost = problem.cost
    if cost is None:
        return None
    network = cost.space.network if isinstance(cost.space, JointSpace) else cost.space
    state = getattr(network, "floor", None)  # a space need not inherit what it does not use
    floor: Floor | None = state() if state is not None else None
    known = floor or Floor(OpTableBuilder(1).build(), "")
    table = known.table
    counted = CostEvaluator(_Listed(table), {}, cost.bits, cost.batch).evaluate(np.arange(table.n_candidates)[:, None])
    lowered = lower(table, cost.bits, cost.batch)
    blank = np.array([-np.inf if budget.upper else np.inf for budget in problem.budgets])
    values = np.tile(blank, (table.n_candidates, 1))
    reasons = [""] * len(problem.budgets)
    for j, budget in enumerate(problem.budgets):
        if budget.metric in counted and budget.upper and floor is not None:
            values[:, j] = counted[budget.metric]
            reasons[j] = f"{known.reason} already have"
    searched: list[tuple[list[int], FloatArray]] = []
    for name, target in cost.targets.items():
        columns = [j for j, budget in enumerate(problem.budgets) if budget.metric.endswith(f"@{name}")]
        knobs = (
            cost.space.accelerators[name].search
            if isinstance(cost.space, JointSpace) and (name in cost.space.accelerators)
            else {}
        )
        if not columns or math.prod(map(len, knobs.values())) > _MOST_ACCELERATORS:
            continue
        figures, said = _on_target(target, knobs, lowered, [problem.budgets[j] for j in columns], known.reason)
        for j, text in zip(columns, said, strict=True):
            reasons[j] = text
        if knobs:
            searched.append((columns, figures))
        else:
            values[:, columns] = figures[:, 0]
    values = _paired(values, searched, problem.is_upper)
    return Bounds(values, tuple(reasons)) if np.isfinite(values).any() else None


def _paired(values: FloatArray, searched: list[tuple[list[int], FloatArray]], is_upper: BoolArray) -> FloatArray:
    """Rows of networks, shape (r, k), joined with the accelerators of searched targets, each of shape (r, a, own k).

    Several searched targets choose their accelerators independently: of each but the largest the best figure of every
    metric stands for all.
    """
    searched = sorted(searched, key=lambda item: item[1].shape[1])
    for columns, figures in searched[:-1]:
        values[:, columns] = _best(figures, is_upper[columns], axis=1)
    if not searched:
        return values
    columns, figures = searched[-1]
    n_networks, n_accelerators = figures.shape[:2]
    if n_networks * n_accelerators > MOST_CASES:
        values, figures = _best(values, is_upper, axis=0)[None], _best(figures, is_upper[columns], axis=0)[None]
        n_networks = 1
    joined = np.repeat(values, n_accelerators, axis=0)
    joined[:, columns] = figures.reshape(n_networks * n_accelerators, len(columns))
    return joined


def _best(figures: FloatArray, is_upper: BoolArray, axis: int) -> FloatArray:
    """Least figures of upper budgets, greatest of lower ones; budgets are the last axis."""
    best: FloatArray = np.where(is_upper, figures.min(axis=axis), figures.max(axis=axis))
    return best


def _on_target(
    target: Target, knobs: Mapping[str, tuple[Value, ...]], lowered: Lowered, budgets: list[Budget], reason: str
) -> tuple[FloatArray, list[str]]:
    """Bounds of the budgets' metrics for every network on every accelerator, shape (r, a, k), and the reasons."""
    simulator = full_simulator(target.simulator)
    searched = {}
    if knobs:
        grid = np.meshgrid(*(np.arange(len(options)) for options in knobs.values()), indexing="ij")
        searched = {
            name: np.array(options)[index.ravel()] for (name, options), index in zip(knobs.items(), grid, strict=True)
        }
    accelerators = design_columns(simulator.fields, target.values, searched)
    n_accelerators = len(next(iter(accelerators.values())))
    counts = np.zeros((lowered.n_networks, len(lowered.workload)))
    counts[lowered.network, lowered.layer] = lowered.count
    figures = np.empty((lowered.n_networks, n_accelerators, len(budgets)))
    step = max(1, _CELLS // max(1, len(lowered.workload), lowered.n_networks))
    for start in range(0, n_accelerators, step):
        block = {name: column[start : start + step] for name, column in accelerators.items()}
        figures[:, start : start + step] = _block_figures(simulator, block, lowered, counts, budgets)
    several = "the best accelerator of the space" if knobs else ""
    own = _Report(simulator, {name: column[:1] for name, column in accelerators.items()}, lowered).exact
    reasons = []
    for budget in budgets:
        metric = budget.metric.partition("@")[0]
        if metric in own:
            reasons.append(f"{several or 'the accelerator'} has")
        else:
            verb = "take" if metric.startswith("latency") else "need"
            reasons.append(f"{reason} already {verb}" + (f", on {several}," if several else ""))
    return figures, reasons


class _Report:
    """A report of the distinct layers of the floor on some accelerators, with what is proven of its columns."""

    def __init__(self, simulator: Simulator, accelerators: Columns, lowered: Lowered) -> None:
        self.report = simulator.simulate(lowered.workload, accelerators)
        self.exact = self.report.per_accelerator
        self._growing: tuple[str, ...] = getattr(simulator, "monotone", simulator.metrics)
        where: Mapping[str, Value] = getattr(simulator, "monotone_where", {})
        self._is_growing = np.ones(len(next(iter(accelerators.values()))), dtype=np.bool_)
        for name, value in where.items():
            self._is_growing &= np.asarray(accelerators[name] == value)

    def grows(self, metric: str) -> BoolArray:
        """On which accelerators the metric is no smaller for a larger layer, shape (a,)."""
        return self._is_growing & (metric in self._growing and metric in self.report.columns)


def _block_figures(
    simulator: Simulator, accelerators: Columns, lowered: Lowered, counts: FloatArray, budgets: list[Budget]
) -> FloatArray:
    """Shape (r, a, k)."""
    found = _Report(simulator, accelerators, lowered)
    n_accelerators = len(next(iter(accelerators.values())))
    figures = np.empty((len(counts), n_accelerators, len(budgets)))
    for j, budget in enumerate(budgets):
        metric = budget.metric.partition("@")[0]
        if metric in found.exact:
            figures[:, :, j] = found.exact[metric]
            continue
        if not budget.upper:
            figures[:, :, j] = np.inf
            continue
        figures[:, :, j] = _peak_bound(metric, accelerators, found, lowered, counts)
        grows = found.grows(metric)
        if grows.any():
            totals = counts @ found.report.columns[metric][:, grows] * (1 - _ROUNDING)
            figures[:, grows, j] = np.maximum(figures[:, grows, j], totals)
    return figures


def _peak_bound(metric: str, accelerators: Columns, found: _Report, lowered: Lowered, counts: FloatArray) -> FloatArray:
    """The time that all multiply-accumulates take at the peak rate, shape (r, a); -inf for anything but a latency."""
    shape = (len(counts), len(next(iter(accelerators.values()))))
    clock_ghz = accelerators.get("clock_ghz")
    if metric not in ("latency_ms", "latency_cycles") or clock_ghz is None:
        return np.full(shape, -np.inf)
    gigahertz = np.asarray(clock_ghz, dtype=np.float64)
    macs_per_cycle = np.full(shape[1], np.inf)
    if "peak_gmacs_per_s" in found.exact:
        macs_per_cycle = found.exact["peak_gmacs_per_s"] / gigahertz
    elif "pes" in found.exact:  # one multiply-accumulate of a PE in a cycle; SCALE-Sim reports a cycle too few
        is_exact = np.asarray(accelerators.get("mode", np.array("")) != "scalesim")
        macs_per_cycle = np.where(is_exact, found.exact["pes"], np.inf)
    cycles = (counts @ lowered.workload.macs.astype(np.float64))[:, None] / macs_per_cycle * (1 - _ROUNDING)
    return np.asarray(cycles if metric == "latency_cycles" else cycles / (gigahertz * 1e6))


@dataclass(frozen=True, eq=False)
class _Listed(NetworkSpace):
    """The networks of a table as a space, so that they are costed as candidates are."""

    table: OpTable
    choices: tuple[Choice, ...] = field(default=())

    def decode(self, code: IntArray) -> Genotype:
        """Not for display."""
        return {}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """Not for input."""
        return np.zeros(1, dtype=np.int64)

    def build(self, code: IntArray) -> object:
        """Not for training."""
        raise TypeError("a floor's networks are costed, not built")

    def ops(self, codes: IntArray) -> OpTable:
        """The networks of the rows, in order; each may be asked for once."""
        place = np.full(self.table.n_candidates, -1)
        place[codes[:, 0]] = np.arange(len(codes))
        candidate = place[self.table.candidate]
        rows: NDArray[np.bool_] = candidate >= 0
        columns = {name: getattr(self.table, name)[rows] for name in COLUMNS}
        columns["candidate"] = candidate[rows]
        return OpTable(n_candidates=len(codes), labels=self.table.labels, **columns)
