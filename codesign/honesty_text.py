"""The honesty meter in plain words, for the terminal and the report."""

from __future__ import annotations

import math

from codesign.honesty import Honesty, Improvement, Ranking
from codesign.honesty_random import LEVEL, Comparison
from codesign.honesty_ranks import FEWEST_PAIRS, RankCorrelation
from codesign.objectives import Objective
from codesign.units import reading


def lines(honesty: Honesty, objectives: tuple[Objective, ...]) -> list[str]:
    """The verdict, the improvements and the forecasts, a sentence or two each."""
    told = [verdict(honesty, objectives), improvement_text(honesty.improvement)]
    return told + [ranking_text(ranking) for ranking in honesty.rankings]


def verdict(honesty: Honesty, objectives: tuple[Objective, ...]) -> str:
    """Whether the run beat random search, by how much, and how sure that is."""
    found = honesty.comparison
    if found is None:
        return f"not compared with random search: {honesty.why_not}"
    if found.own <= 0 and found.random <= 0:
        return "did NOT beat random search: neither found a candidate within the budgets"
    head = "beat random search" if found.beats_random else "did NOT beat random search"
    if found.is_worse:
        head += ", it was worse"
    told = _beside_runs(found, objectives) if found.kind == "runs" else _beside_draws(found, objectives)
    return f"{head}: {told}"


def improvement_text(improvement: Improvement) -> str:
    """How often an evaluation improved the front, and when last."""
    n, k = improvement.n_evaluations, improvement.n_improved
    if k == 0:
        return f"improved the front: none of {n:,} evaluation{'' if n == 1 else 's'}"
    by_thirds = ""
    if improvement.thirds:
        by_thirds = f"; by thirds of the run {', '.join(_percent(share) for share in improvement.thirds)}"
    share = f"{_percent(k / n)}{by_thirds}"
    return f"improved the front: {k:,} of {n:,} evaluations ({share}), last by trial {improvement.last}"


def ranking_text(ranking: Ranking) -> str:
    """How well the model ranked candidates before it saw their results."""
    name, overall = reading(ranking.metric).title, ranking.overall
    if overall.n < FEWEST_PAIRS:
        return f"forecasts of {name}: {overall.n} with a result; it takes {FEWEST_PAIRS} to rate them"
    if math.isnan(overall.tau):
        return f"forecasts of {name}: cannot be rated, all forecasts or all results are equal"
    told = (
        f"forecasts of {name}: rank correlation {overall.tau:.2f} {_interval(overall.tau_low, overall.tau_high)} "
        f"(Kendall; Spearman {overall.rho:.2f} {_interval(overall.rho_low, overall.rho_high)}) over {overall.n:,} "
        f"candidates before their results{_chance(overall)}"
    )
    for label, part in (("later half", ranking.later), ("drawn at random", ranking.drawn)):
        if part.n >= FEWEST_PAIRS and not math.isnan(part.tau):
            told += f"; {label} {part.tau:.2f} {_interval(part.tau_low, part.tau_high)}{_chance(part)}"
    return told


def _chance(found: RankCorrelation) -> str:
    if found.is_better_than_chance:
        return ""
    return ", WORSE than chance" if found.tau_high < 0 else ", no better than chance"


def _beside_runs(found: Comparison, objectives: tuple[Objective, ...]) -> str:
    better = round((1 - found.p) * (1 + found.n_random))  # random runs that it was better than
    share = 100 * better / found.n_random
    told = f"{_against(found, objectives, 'the median of random searches')} at {found.n_evaluations:,} evaluations each"
    asked = "" if found.beats_random else f"; to beat it takes {100 * (1 - LEVEL):.0f} %"
    return f"{told} (better than {_floor(share)} % of {found.n_random:,} random runs{asked})"


def _beside_draws(found: Comparison, objectives: tuple[Objective, ...]) -> str:
    estimate = _against(found, objectives, "what random search is estimated to reach")
    told = f"{estimate} in {found.n_evaluations:,} evaluations{_estimate_interval(found, objectives)}"
    alike = f"its evaluations are not better than the {found.n_random:,} random ones beyond chance (p = {found.p:.2g})"
    if found.p <= LEVEL:
        alike = f"its evaluations are better than the {found.n_random:,} random ones (p = {found.p:.2g})"
    beyond = f"; beyond {found.n_random:,} draws the estimate is extrapolated" if found.is_extrapolated else ""
    return f"{told}; {alike}{beyond}"


def _against(found: Comparison, objectives: tuple[Objective, ...], whose: str) -> str:
    """The search's result beside random search's: best values of one objective, hypervolumes of several."""
    if len(objectives) == 1:
        name = reading(objectives[0].metric)
        own, random = (_best(found, volume, objectives[0]) for volume in (found.own, found.random))
        beside = f"against {name.text(random)}, {whose}," if found.random > 0 else f"while {whose} is none"
        return (
            f"best {name.title} {name.text(own)} {beside}"
            if found.own > 0
            else (f"no candidate within the budgets {beside}")
        )
    if math.isinf(found.ratio):
        return f"{whose} is no candidate within the budgets"
    return f"hypervolume {ratio_text(found.ratio)} times {whose}"


def _estimate_interval(found: Comparison, objectives: tuple[Objective, ...]) -> str:
    if not found.random > 0 or not found.own > 0:
        return ""
    if len(objectives) == 1:
        ends = sorted(_best(found, volume, objectives[0]) for volume in (found.random_low, found.random_high))
        name = reading(objectives[0].metric)
        return f" (95 %: {name.text(ends[0])} to {name.text(ends[1])})"
    low = found.own / found.random_high
    high = f"{ratio_text(found.own / found.random_low)}" if found.random_low > 0 else "any"
    return f" (95 %: {ratio_text(low)} to {high})"


def _best(found: Comparison, volume: float, objective: Objective) -> float:
    """The value of a single objective that a hypervolume stands for."""
    loss = float(found.reference[0]) - volume
    return -loss if objective.maximize else loss


def ratio_text(ratio: float) -> str:
    """Near 1 with as many digits as tell it from 1: 1.23, 1.004, 0.9993."""
    away = abs(ratio - 1)
    digits = min(6, max(2, -math.floor(math.log10(away)))) if away > 0 else 2
    return f"{ratio:.{digits}f}"


def _interval(low: float, high: float) -> str:
    return f"[{low:.2f}, {high:.2f}]"


def _percent(share: float) -> str:
    percent = 100 * share
    return (
        f"{percent:.0f} %"
        if percent >= 10 or percent == 0
        else f"{percent:.1f} %"
        if percent >= 1
        else f"{percent:.2g} %"
    )


def _floor(percent: float) -> str:
    """Never rounded up to 100."""
    return f"{math.floor(percent * 10 + 1e-6) / 10:g}"
