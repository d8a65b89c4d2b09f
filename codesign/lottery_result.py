"""What a lottery says: for each agent the distribution of what its tickets found, in one score.

With one objective a ticket's score is its best feasible value. With several it is the hypervolume of its front as a
share of the hypervolume of all tickets together, from one reference point: a tenth of the range behind the worst
feasible loss of all. A ticket without a feasible candidate has no score; in quantiles it counts as worst.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from codesign.lottery import Outcome
from codesign.lottery_job import Ticket
from codesign.objectives import Objectives
from codesign.pareto import default_reference, hypervolume, hypervolume_curve
from codesign.trial import FloatArray
from codesign.units import reading
from search_spaces.ops import IntArray

HYPERVOLUME = "hypervolume share"
"""Name of the score where there are several objectives."""
RANDOM = "random"
"""The strategy that the others must beat."""
CURVE_POINTS = 60
"""Numbers of evaluations at which an agent's progress is told."""


@dataclass(frozen=True, slots=True)
class AgentResult:
    """An agent's distribution. Figures are NaN where no ticket (or random search) has a score.

    Attributes:
        agent: its name.
        n_settings: different hyper-parameter settings.
        scores: one for each ticket, NaN where none was found.
        best: of all tickets, as are the next five.
        worst: the worst score.
        quartiles: first (the better one), median, third.
        iqr: distance of the quartiles.
        spread: |best - worst| / |best|, as ArchGym reports it.
        behind: |best - best of all agents| / |best of all agents|.
        beats_random: share of the settings whose median ticket is better than the median ticket of random search.
        strategy_seconds: mean time of a ticket spent in the agent.
        best_options: the setting of the best ticket.
        curve: median score of the tickets after so many evaluations, see `Result.steps`.
    """

    agent: str
    n_settings: int
    scores: tuple[float, ...]
    best: float
    worst: float
    quartiles: tuple[float, float, float]
    iqr: float
    spread: float
    behind: float
    beats_random: float
    strategy_seconds: float
    best_options: Mapping[str, Any]
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A lottery's outcome.

    Attributes:
        score: its name, with unit and direction, for people.
        metric: the metric behind it; "" for a hypervolume.
        maximize: whether more is better.
        steps: numbers of evaluations at which curves are told.
        agents: from the best median to the worst.
    """

    score: str
    metric: str
    maximize: bool
    steps: tuple[int, ...]
    agents: tuple[AgentResult, ...]

    def text(self, value: float) -> str:
        """A score for people."""
        if not math.isfinite(value):
            return "–"
        return f"{value:.5g}" if self.metric else f"{value:.4f}"

    def to_json(self) -> str:
        """Everything, as strict JSON: null where there is no figure."""
        return json.dumps(_plain(asdict(self)), indent=2, allow_nan=False)


def summarise(objectives: Objectives, tickets: Sequence[Ticket], outcomes: Sequence[Outcome]) -> Result:
    """The result of tickets and what they found.

    Args:
        objectives: of the problem.
        tickets: at least one.
        outcomes: one for each ticket.
    """
    n = max(ticket.evaluations for ticket in tickets)
    steps = np.unique(np.geomspace(1, n, CURVE_POINTS).round().astype(int))
    scores = _scores(objectives, outcomes, steps)  # (tickets, steps)
    maximize = objectives.n > 1 or objectives.objectives[0].maximize
    costs = np.where(np.isnan(scores), np.inf, -scores if maximize else scores)  # smaller is better, inf is nothing
    random = np.array([ticket.strategy == RANDOM for ticket in tickets])
    baseline = _quantiles(costs[random, -1])[1] if random.any() else math.nan
    ceiling = float(costs[:, -1].min())
    agents = []
    for agent in dict.fromkeys(ticket.agent for ticket in tickets):
        rows = np.array([row for row, ticket in enumerate(tickets) if ticket.agent == agent])
        seconds = float(np.mean([outcomes[row].strategy_seconds for row in rows]))
        own = [tickets[row] for row in rows]
        agents.append(_agent(own, costs[rows], -1 if maximize else 1, baseline, ceiling, seconds))
    agents.sort(key=lambda found: [_cost(v, maximize) for v in (found.quartiles[1], found.quartiles[0], found.best)])
    metric = objectives.objectives[0].metric if objectives.n == 1 else ""
    named = reading(metric).label if metric else HYPERVOLUME
    return Result(named, metric, maximize, tuple(steps.tolist()), tuple(agents))


def _agent(
    tickets: list[Ticket], costs: FloatArray, sign: int, baseline: float, ceiling: float, seconds: float
) -> AgentResult:
    """Figures of one agent; costs of shape (tickets, steps), infinite where there is no score."""
    last = costs[:, -1]
    found = last[np.isfinite(last)]
    best, worst = (float(found.min()), float(found.max())) if len(found) else (math.nan, math.nan)
    quartiles = _quantiles(last)
    settings = np.array([ticket.setting for ticket in tickets])
    medians = np.array([_quantiles(last[settings == setting])[1] for setting in np.unique(settings)])
    is_baseline = tickets[0].strategy == RANDOM
    beats = math.nan if math.isnan(baseline) or is_baseline else float((medians < baseline).mean())
    curve = [_quantiles(column)[1] for column in costs.T]
    return AgentResult(
        agent=tickets[0].agent,
        n_settings=len(medians),
        scores=tuple(_signed(value, sign) for value in last.tolist()),
        best=_signed(best, sign),
        worst=_signed(worst, sign),
        quartiles=(_signed(quartiles[0], sign), _signed(quartiles[1], sign), _signed(quartiles[2], sign)),
        iqr=quartiles[2] - quartiles[0] if np.isfinite(quartiles).all() else math.nan,
        spread=_relative(worst, best),
        behind=_relative(best, ceiling),
        beats_random=beats,
        strategy_seconds=seconds,
        best_options=dict(tickets[int(last.argmin())].options),
        curve=tuple(_signed(value, sign) for value in curve),
    )


def _scores(objectives: Objectives, outcomes: Sequence[Outcome], steps: IntArray) -> FloatArray:
    """Score of each ticket after so many evaluations, shape (tickets, steps); NaN for none."""
    feasible = [np.where((found.violations == 0)[:, None], found.losses, np.nan) for found in outcomes]
    every = np.concatenate(feasible)
    reference = default_reference(every)
    total = hypervolume(every, reference) if objectives.n > 1 else 1.0
    scores = np.full((len(feasible), len(steps)), np.nan)
    for row, losses in enumerate(feasible):
        if len(losses) == 0:
            continue
        if objectives.n == 1:
            lowest = np.minimum.accumulate(np.where(np.isnan(losses[:, 0]), np.inf, losses[:, 0]))
            curve = -lowest if objectives.objectives[0].maximize else lowest
        else:
            curve = hypervolume_curve(losses, reference) / (total or 1.0)
        found = np.logical_or.accumulate(np.isfinite(losses).all(axis=1))
        scores[row] = np.where(found, curve, np.nan)[np.minimum(steps, len(losses)) - 1]
    return scores


def _quantiles(costs: FloatArray) -> tuple[float, float, float]:
    """Quartiles of costs of which some may be infinite (linear interpolation would make NaN of two infinities)."""
    ordered = np.sort(costs)
    result = []
    for share in (0.25, 0.5, 0.75):
        place = share * (len(ordered) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        result.append(float(low if low == high else low + (place % 1.0) * (high - low)))
    return result[0], result[1], result[2]


def _signed(value: float, sign: int) -> float:
    return sign * value if math.isfinite(value) else math.nan


def _relative(value: float, base: float) -> float:
    """|value - base| / |base|; NaN if it cannot be told."""
    if not (math.isfinite(value) and math.isfinite(base)):
        return math.nan
    return abs(value - base) / abs(base) if base else (0.0 if value == base else math.nan)


def _cost(score: float, maximize: bool) -> float:
    return math.inf if math.isnan(score) else (-score if maximize else score)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
