"""What a run knows of candidates before it evaluates them, for strategies that ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from codesign.joint import JointSpace
from codesign.objectives import Objectives
from codesign.strategies.foresight import Foreseen, Foresight
from codesign.trial import Evaluator, FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace


class Prior(Protocol):
    """An estimate of one metric of candidates that was learned elsewhere."""

    @property
    def metric(self) -> str:
        """Which metric it estimates."""
        ...

    def __call__(self, features: FloatArray, known: Mapping[str, FloatArray]) -> FloatArray:
        """Estimates, shape (n,), finite, on any scale that grows with the metric.

        Args:
            features: of the networks, or of the designs where there are none: `SearchSpace.features`, shape (n, k).
            known: the metrics that the run computes for free, each of shape (n,).
        """
        ...


class RunForesight(Foresight):
    """Knows the free metrics of a run: counts and simulated costs, or what a table lists as known.

    Args:
        space: the candidates'.
        objectives: of the run.
        free: evaluators whose metrics cost nothing to compute, vectorised over candidates.
        priors: estimates of the objectives' other metrics.
    """

    def __init__(
        self, space: SearchSpace, objectives: Objectives, free: Sequence[Evaluator], priors: Sequence[Prior] = ()
    ) -> None:
        self._space = space
        self._objectives = objectives
        self._free = tuple(free)
        listed = [objective.metric for objective in objectives.objectives]
        self._priors = tuple(prior for prior in priors if prior.metric in listed)
        self._prior_of = tuple(listed.index(prior.metric) for prior in self._priors)

    @property
    def limits(self) -> FloatArray:
        """See `Foresight.limits`."""
        limits = np.full(self._objectives.n, np.inf)
        for column, objective in enumerate(self._objectives.objectives):
            for budget in self._objectives.budgets:
                if budget.metric == objective.metric and budget.upper is not objective.maximize:
                    limits[column] = min(limits[column], -budget.limit if objective.maximize else budget.limit)
        return limits

    @property
    def prior_of(self) -> tuple[int, ...]:
        """See `Foresight.prior_of`."""
        return self._prior_of

    def __call__(self, codes: IntArray) -> Foreseen:
        """See `Foresight.__call__`."""
        metrics: dict[str, FloatArray] = {}
        failed = np.zeros(len(codes), dtype=np.bool_)
        for evaluator in self._free:
            evaluation = evaluator.evaluate(codes)
            failed |= np.array([bool(error) for error in evaluation.errors], dtype=np.bool_)
            metrics |= evaluation.metrics
        for values in metrics.values():
            failed |= ~np.isfinite(values)
        losses = self._objectives.losses(metrics) if metrics else np.full((len(codes), self._objectives.n), np.nan)
        violations = self._objectives.violations(metrics) if metrics else np.zeros(len(codes))
        columns = [self._features(codes)]
        columns += [_on_log_scale(values)[:, None] for name, values in metrics.items() if "@" not in name]
        signs = [-1.0 if self._objectives.objectives[of].maximize else 1.0 for of in self._prior_of]
        described = self._network_features(codes, columns[0]) if self._priors else columns[0]
        priors = [sign * prior(described, metrics) for sign, prior in zip(signs, self._priors, strict=True)]
        return Foreseen(
            losses=losses,
            violations=np.where(failed, np.inf, violations),
            features=np.hstack(columns),
            priors=np.stack(priors, axis=1) if priors else np.zeros((len(codes), 0)),
        )

    def _features(self, codes: IntArray) -> FloatArray:
        """Of the network alone where accelerators are costed for free: what remains unknown is not about them."""
        if self._free and isinstance(self._space, JointSpace):
            return self._space.network.features(self._space.split(codes)[0])
        return self._space.features(codes)

    def _network_features(self, codes: IntArray, features: FloatArray) -> FloatArray:
        """Of the networks alone: an earlier run had other accelerators, or none."""
        if self._free or not isinstance(self._space, JointSpace):
            return features
        return self._space.network.features(self._space.split(codes)[0])


def _on_log_scale(values: FloatArray) -> FloatArray:
    """A metric as a feature: its logarithm where it has one, finite everywhere."""
    finite = np.where(np.isfinite(values), values, 0.0)
    return np.sign(finite) * np.log1p(np.abs(finite))
