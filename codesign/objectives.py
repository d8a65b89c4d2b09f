"""From named metrics to what a strategy sees: losses to minimise and a violation of the budgets.

Signs are flipped here, once; everything behind this border minimises.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import InputError
from codesign.expressions import Budget

FloatArray = NDArray[np.float64]

_SMALLEST_SCALE = 1e-12
"""Stands for |limit| where a limit is zero, so that its excess stays finite."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to minimise or, with `maximize`, to maximise."""

    metric: str
    maximize: bool = False

    def __str__(self) -> str:
        return f"{'maximize' if self.maximize else 'minimize'} {self.metric}"


@dataclass(frozen=True, slots=True)
class Objectives:
    """What a search is after.

    Attributes:
        objectives: at least one, each on another metric.
        budgets: limits that a candidate must keep.

    Raises:
        InputError: there is no objective, or two are on one metric.
    """

    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...] = ()

    def __post_init__(self) -> None:
        names = [objective.metric for objective in self.objectives]
        if not names:
            raise InputError("objectives: none is given; name at least one metric to minimize or maximize")
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"objectives: {name!r} is named more than once; name each metric once")

    @property
    def n(self) -> int:
        """Number of objectives."""
        return len(self.objectives)

    @property
    def needed_metrics(self) -> tuple[str, ...]:
        """Metrics of the objectives, then of the budgets, each once."""
        names = [objective.metric for objective in self.objectives] + [budget.metric for budget in self.budgets]
        return tuple(dict.fromkeys(names))

    def check_metrics(self, known: Collection[str]) -> None:
        """Raise InputError, with the nearest valid name, if an objective or budget is on none of the known metrics."""
        named = [("objectives", objective.metric) for objective in self.objectives]
        named += [("budgets", budget.metric) for budget in self.budgets]
        for key, metric in named:
            if metric not in known:
                raise InputError.about(key, metric, sorted(known))

    def losses(self, metrics: Mapping[str, FloatArray]) -> FloatArray:
        """Losses to minimise.

        Args:
            metrics: by name, each of shape (n,).

        Returns:
            Shape (n, m), one column per objective; a maximised metric has its sign flipped. NaN stays NaN, and a
            metric that is not in `metrics` (not measured yet) is NaN; `check_metrics` finds misspelt ones.
        """
        losses = np.full((_n_rows(metrics), self.n), np.nan)
        for column, objective in enumerate(self.objectives):
            if objective.metric in metrics:
                values = np.asarray(metrics[objective.metric], dtype=np.float64)
                losses[:, column] = -values if objective.maximize else values
        return losses

    def violations(self, metrics: Mapping[str, FloatArray], names: Collection[str] | None = None) -> FloatArray:
        """How far each candidate is outside the budgets.

        Args:
            metrics: by name, each of shape (n,).
            names: count only the budgets on these metrics; None counts all.

        Returns:
            Shape (n,), 0 where every budget is kept: the sum over the budgets of the excess relative to the limit,
            max(0, value - limit) / |limit| for an upper one. A budget on a metric that is not in `metrics` (not
            measured yet) adds 0; NaN for a metric that is there gives infinity.
        """
        total = np.zeros(_n_rows(metrics))
        for budget in self.budgets:
            if budget.metric not in metrics or (names is not None and budget.metric not in names):
                continue
            values = np.asarray(metrics[budget.metric], dtype=np.float64)
            excess = values - budget.limit if budget.upper else budget.limit - values
            relative = np.maximum(excess, 0.0) / max(abs(budget.limit), _SMALLEST_SCALE)
            total += np.where(np.isnan(values), np.inf, relative)
        return total


def _n_rows(metrics: Mapping[str, FloatArray]) -> int:
    return len(next(iter(metrics.values()))) if metrics else 0
