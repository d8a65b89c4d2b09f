"""The honesty meter: what a run's own trials say of its strategy.

How well its model ranked candidates it had not seen, how often an evaluation moved the front, and whether random search
would have done as well at equal cost.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.assemble import Parts
from codesign.honesty_draw import draw_runs, is_cheap
from codesign.honesty_random import (
    FEWEST_DRAWS,
    FEWEST_RUNS,
    Comparison,
    Curve,
    compare_draws,
    compare_runs,
    on_fair_scale,
)
from codesign.honesty_ranks import RankCorrelation, rank_correlation
from codesign.pareto import default_reference, hypervolume_curve
from codesign.run import Run
from codesign.store import VIOLATION
from codesign.trial import FloatArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_STREAM = 0xFA1
PARTS_OF_A_RUN = 3
"""The share of improvements is told of a run's thirds."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a model's forecasts of one metric ranked what came out.

    Attributes:
        metric: its name.
        overall: over all trials with a forecast and a result that the strategy did not know.
        later: over the later half of them.
        drawn: over those that were drawn at random, which the model did not choose.
    """

    metric: str
    overall: RankCorrelation
    later: RankCorrelation
    drawn: RankCorrelation


@dataclass(frozen=True, slots=True)
class Improvement:
    """How often an evaluation enlarged the hypervolume of the feasible front.

    Attributes:
        n_evaluations: trials evaluated in full, failed ones included.
        n_improved: those that improved the front.
        thirds: the share of improvements in each third of the evaluations; empty for fewer than three.
        last: number of the last trial that improved the front; -1 for none.
    """

    n_evaluations: int
    n_improved: int
    thirds: tuple[float, ...]
    last: int


@dataclass(frozen=True, slots=True)
class Honesty:
    """What the meter reads.

    Attributes:
        rankings: one per metric that the strategy's model forecast.
        improvement: how the front came about.
        comparison: with random search; None where there is none.
        why_not: why there is no comparison, "" if there is one.
        n_drawn: trials drawn at random.
    """

    rankings: tuple[Ranking, ...]
    improvement: Improvement
    comparison: Comparison | None
    why_not: str
    n_drawn: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; figures that are not finite are None."""
        content: dict[str, Any] = {
            "rankings": [asdict(ranking) for ranking in self.rankings],
            "improvement": asdict(self.improvement),
            "n_drawn": self.n_drawn,
            "random_search": None,
            "why_not_compared": self.why_not,
        }
        if self.comparison is not None:
            found = self.comparison
            verdict = {"beats_random": found.beats_random, "is_worse": found.is_worse, "ratio": found.ratio}
            content["random_search"] = verdict | to_plain(found)
        finite: dict[str, Any] = _finite(content)
        return finite


@dataclass(frozen=True, slots=True, eq=False)
class _Evaluated:
    """A run's trials that were evaluated in full, in order.

    Attributes:
        numbers: shape (n,).
        is_reused: whether the result was found earlier, shape (n,).
        is_drawn: whether the trial was drawn at random, shape (n,).
        losses: shape (n, m), NaN where one failed or is over a budget.
        metrics: of the objectives, as measured, shape (n,).
    """

    numbers: IntArray
    is_reused: BoolArray
    is_drawn: BoolArray
    losses: FloatArray
    metrics: dict[str, FloatArray]

    @classmethod
    def of(cls, run: Run, parts: Parts) -> _Evaluated:
        names = [objective.metric for objective in parts.objectives.objectives]
        columns = run.store.columns(run.study_id, names)
        numbers, is_reused = run.store.evaluated(run.study_id)
        known = numbers < len(columns[VIOLATION])  # a run under way may have grown between the two
        numbers, is_reused = numbers[known], is_reused[known]
        metrics = {name: columns[name][numbers] for name in names}
        losses = parts.objectives.losses(metrics)
        losses[~(columns[VIOLATION][numbers] == 0) | ~np.isfinite(losses).all(axis=1)] = np.nan
        return cls(numbers, is_reused, np.isin(numbers, run.store.notes.drawn(run.study_id)), losses, metrics)


def honesty_of(run: Run, parts: Parts) -> Honesty:
    """Read the meter; the run may be under way. Evaluates nothing: see `compare_with_random`."""
    trials = _Evaluated.of(run, parts)
    comparison, why_not = _comparison(run, parts, trials)
    return Honesty(_rankings(run, trials), improvement_of(trials.losses, trials.numbers), comparison, why_not,
                   int(trials.is_drawn.sum()))  # fmt: skip


def compare_with_random(run: Run, parts: Parts) -> None:
    """Search at random beside a run where that costs next to nothing, and keep how the run compares."""
    if not is_cheap(parts):
        return
    own = _Evaluated.of(run, parts).losses
    held = _held(run)
    if len(own) < FEWEST_DRAWS or (held is not None and held.n_evaluations == len(own)):
        return
    drawn = draw_runs(parts, len(own), run.job.search.seed)
    if len(drawn.runs) >= FEWEST_RUNS:
        own, *runs = on_fair_scale(own, *drawn.runs)
        found = compare_runs(own, runs, _found_out(parts))
    elif len(drawn.draws) >= FEWEST_DRAWS:
        rng = np.random.default_rng([run.job.search.seed, _STREAM])
        own, draws = on_fair_scale(own, drawn.draws)
        found = compare_draws(own, draws, own, rng, _found_out(parts))
    else:
        return
    run.store.notes.keep_comparison(run.study_id, json.dumps(_finite(to_plain(found)), allow_nan=False))


def improvement_of(losses: FloatArray, numbers: IntArray) -> Improvement:
    """How a front came about.

    Args:
        losses: of the evaluations in order, shape (n, m); NaN where one failed or is over a budget.
        numbers: their trial numbers, shape (n,).
    """
    n = len(losses)
    grew = np.diff(hypervolume_curve(losses, default_reference(losses)), prepend=0.0) > 0
    thirds = [float(part.mean()) for part in np.array_split(grew, PARTS_OF_A_RUN)] if n >= PARTS_OF_A_RUN else []
    last = int(numbers[np.flatnonzero(grew)[-1]]) if grew.any() else -1
    return Improvement(n, int(grew.sum()), tuple(thirds), last)


def _rankings(run: Run, trials: _Evaluated) -> tuple[Ranking, ...]:
    found: list[Ranking] = []
    for metric, (numbers, forecasts) in run.store.notes.forecasts(run.study_id).items():
        if metric not in trials.metrics:
            continue
        outcomes = trials.metrics[metric]
        rows = np.flatnonzero(np.isin(trials.numbers, numbers) & np.isfinite(outcomes) & ~_is_repeat(trials, metric))
        said = forecasts[np.searchsorted(numbers, trials.numbers[rows])]
        out, is_drawn = outcomes[rows], trials.is_drawn[rows]
        half = len(rows) // 2
        overall, later = rank_correlation(said, out), rank_correlation(said[half:], out[half:])
        found.append(Ranking(metric, overall, later, rank_correlation(said[is_drawn], out[is_drawn])))
    return tuple(found)


def _is_repeat(trials: _Evaluated, metric: str) -> BoolArray:
    """Trials whose result an earlier trial of the run had shown: to forecast it is no art."""
    values = trials.metrics[metric]
    first = np.zeros(len(values), dtype=np.bool_)
    first[np.unique(values, return_index=True)[1]] = True
    return trials.is_reused & ~first


def _comparison(run: Run, parts: Parts, trials: _Evaluated) -> tuple[Comparison | None, str]:
    held = _held(run)
    n = len(trials.losses)
    if held is not None and held.n_evaluations == n:
        return held, ""
    if n < FEWEST_DRAWS:
        return None, f"only {n} evaluation{'s' if n != 1 else ''}; it takes {FEWEST_DRAWS}"
    if is_cheap(parts):
        return None, "random searches are made when the run ends"
    n_drawn = int(trials.is_drawn.sum())
    if n_drawn < FEWEST_DRAWS:
        return (
            None,
            f"not enough random trials to compare with ({n_drawn}, it takes {FEWEST_DRAWS}); set search.shadow: 0.1",
        )
    if n - n_drawn < FEWEST_DRAWS:
        return None, f"{n_drawn:,} of the {n:,} trials were drawn at random: this was random search so far"
    rng = np.random.default_rng([run.job.search.seed, _STREAM])
    losses = on_fair_scale(trials.losses)[0]
    drawn, others = losses[trials.is_drawn], losses[~trials.is_drawn]
    return compare_draws(losses, drawn, others, rng, _found_out(parts)), ""


def _found_out(parts: Parts) -> list[bool]:
    """Which objectives only an evaluation tells."""
    known = {name for screen in parts.screens for name in screen.metrics}
    return [objective.metric not in known for objective in parts.objectives.objectives]


def _held(run: Run) -> Comparison | None:
    """The comparison that was kept with the run, of as many evaluations as it had then."""
    text = run.store.notes.comparison(run.study_id)
    return from_plain(json.loads(text)) if text else None


def to_plain(comparison: Comparison) -> dict[str, Any]:
    """A comparison as lists and numbers."""
    plain: dict[str, Any] = asdict(comparison)
    plain["reference"] = comparison.reference.tolist()
    plain["curve"] = {item.name: getattr(comparison.curve, item.name).tolist() for item in fields(Curve)}
    return plain


def from_plain(plain: dict[str, Any]) -> Comparison:
    """What `to_plain` was given; None stands for NaN."""
    curve = {name: np.array(values, dtype=np.float64) for name, values in plain["curve"].items()}
    counts = curve.pop("counts").astype(np.int64)
    arrays: dict[str, Any] = {"reference": np.array(plain["reference"]), "curve": Curve(counts, **curve)}
    return Comparison(**(plain | arrays))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
