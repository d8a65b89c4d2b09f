"""Warm start: what earlier searches found out tells a new one where to look first.

A job's `warm_start` lists earlier runs (of other data, recipes, image sizes or devices), shared stores or tables over
the same networks. From each one a model of each objective that only an evaluation tells is learned when the run is
made, and saved in its folder; a strategy that asks for foresight is given their estimates as columns, and learns from
the run's own results what they are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.foresee import Prior
from codesign.job import Earlier
from codesign.objectives import Objectives
from codesign.strategies.foresight import Foreseen, Foresight
from codesign.trial import Evaluator, FloatArray
from codesign.warm_start_model import COUNTS, Learned, describe, learn
from codesign.warm_start_sources import Wanted, read_results
from search_spaces.ops import IntArray

ALONE = 3
"""Models of one objective that are columns of their own, those with most skill; the others are one column together."""


@dataclass(frozen=True)
class Together(Prior):
    """The mean of several models of one objective."""

    members: tuple[Learned, ...]

    @property
    def metric(self) -> str:
        """See `Prior`."""
        return self.members[0].objective

    def __call__(self, features: FloatArray, known: Mapping[str, FloatArray]) -> FloatArray:
        """See `Prior`."""
        return np.asarray(np.mean([member(features, known) for member in self.members], axis=0))


@dataclass(frozen=True)
class Informed(Foresight):
    """A foresight with estimates by models of the features that it gives, for tasks that are no jobs.

    Attributes:
        task: what is known otherwise; it has no priors of its own.
        models: learned from its features, each with the number of the loss that it estimates.
    """

    task: Foresight
    models: tuple[tuple[int, Learned], ...]

    @property
    def limits(self) -> FloatArray:
        """See `Foresight.limits`."""
        return self.task.limits

    @property
    def prior_of(self) -> tuple[int, ...]:
        """See `Foresight.prior_of`."""
        return tuple(number for number, _ in self.models)

    def __call__(self, codes: IntArray) -> Foreseen:
        """See `Foresight.__call__`."""
        seen = self.task(codes)
        return replace(seen, priors=np.stack([model(seen.features, {}) for _, model in self.models], axis=1))


def learn_all(
    entries: Sequence[Earlier], wanted: Wanted, objectives: Objectives, counter: Evaluator | None
) -> tuple[Learned, ...]:
    """Learn from every entry of a job's `warm_start`, in order.

    Args:
        entries: of the job.
        wanted: what the job could learn.
        objectives: of the job.
        counter: gives `COUNTS` of networks; None where nothing is counted.

    Raises:
        InputError: an entry cannot be used.
    """
    maximized = {objective.metric for objective in objectives.objectives if objective.maximize}
    counts = tuple(name for name in COUNTS if counter is not None and name in counter.metrics)
    found = []
    for place, entry in enumerate(entries):
        if entry.zero_cost is not None:
            continue  # networks are scored when the search begins
        for results in read_results(entry, f"warm_start.{place}", wanted):
            known = counter.evaluate(results.codes).metrics if counter is not None else {}
            columns = describe(wanted.space.features(results.codes), known, counts)
            found.append(
                learn(
                    columns,
                    results.values,
                    objective=results.objective,
                    source=results.source,
                    counts=counts,
                    maximize=results.objective in maximized,
                )
            )
    return tuple(found)


def priors_of(learned: Sequence[Learned]) -> tuple[Prior, ...]:
    """The columns that a strategy is given: of each objective the models with most skill, and the mean of the rest."""
    priors: list[Prior] = []
    for objective in dict.fromkeys(one.objective for one in learned):
        ranked = sorted((one for one in learned if one.objective == objective), key=lambda one: -one.skill)
        priors += ranked[:ALONE]
        if ranked[ALONE:]:
            priors.append(Together(tuple(ranked[ALONE:])))
    return tuple(priors)
