"""Who proposed a trial, and what a model said of it beforehand: what a study notes for the honesty meter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.objectives import Objectives
from codesign.strategies.strategy import DrawsAtRandom, Forecasts, Strategy
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]

SHADOW = "shadow"
"""Origin of a trial that the study drew at random itself."""
RANDOM = "random"
"""Origin of a trial that the strategy drew at random."""
_STREAM = 0x5AD0


@dataclass(frozen=True, slots=True)
class Source:
    """Where a study's proposals come from: its strategy, or draws that the strategy has no say in.

    Attributes:
        ask: gives n codes, shape (n, d).
        is_shadow: whether they are draws.
    """

    ask: Callable[[int], IntArray]
    is_shadow: bool = False

    def origin(self, strategy: Strategy) -> str:
        """What the next proposals are, see `Notes`."""
        if self.is_shadow:
            return SHADOW
        return RANDOM if isinstance(strategy, DrawsAtRandom) and strategy.draws_at_random else ""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A share of the trials that is drawn at random, evenly spread over a run.

    What is drawn depends on the seed and on how far the run has come alone, so a run that is resumed draws the same.

    Attributes:
        share: of the trials, 0 to below 1.
        seed: of the draws.
    """

    share: float = 0.0
    seed: int = 0

    def n_due(self, n_asked: int, wanted: int) -> int:
        """How many of the `wanted` trials after the first `n_asked` are drawn."""
        return int((n_asked + wanted) * self.share + 1e-9) - int(n_asked * self.share + 1e-9)

    def source(self, space: SearchSpace, n_asked: int) -> Source:
        """Draws from the space's own distribution, for the trials after the first `n_asked`."""
        rng = np.random.default_rng([self.seed, _STREAM, n_asked])
        return Source(lambda n: space.sample(n, rng), is_shadow=True)


@dataclass(frozen=True, slots=True)
class Noted:
    """What is noted of n proposals that were looked at together.

    Attributes:
        n: how many.
        origin: of all of them.
        losses: forecasts, shape (n, m), NaN where there is none; None where there is none at all.
    """

    n: int
    origin: str
    losses: FloatArray | None

    @classmethod
    def of(cls, strategy: Strategy, origin: str, codes: IntArray, is_within: NDArray[np.bool_], m: int) -> Noted:
        """Ask the strategy for its forecast of those proposals that will be evaluated.

        Raises:
            ValueError: the forecast has another shape than the losses.
        """
        if not isinstance(strategy, Forecasts) or not is_within.any():
            return cls(len(codes), origin, None)
        forecast = strategy.forecast(codes[is_within])
        if forecast is None:
            return cls(len(codes), origin, None)
        expected = (int(is_within.sum()), m)
        if np.shape(forecast) != expected:
            raise ValueError(f"the strategy's forecast has shape {np.shape(forecast)}, expected {expected}")
        losses = np.full((len(codes), m), np.nan)
        losses[is_within] = forecast
        return cls(len(codes), origin, losses)


def forecast_metrics(noted: Sequence[Noted], objectives: Objectives, known: Collection[str]) -> dict[str, FloatArray]:
    """Forecasts of the metrics that only an evaluation tells, in the metrics' own sign, shape (n,) each.

    Args:
        noted: of consecutive proposals, n in all.
        objectives: of the study.
        known: metrics that are known before the evaluation, which need no forecast.
    """
    if all(part.losses is None for part in noted):
        return {}
    m = objectives.n
    losses = np.concatenate([np.full((part.n, m), np.nan) if part.losses is None else part.losses for part in noted])
    return {
        objective.metric: -losses[:, column] if objective.maximize else losses[:, column]
        for column, objective in enumerate(objectives.objectives)
        if objective.metric not in known and np.isfinite(losses[:, column]).any()
    }


def origins_of(noted: Sequence[Noted]) -> list[str]:
    """The origin of each proposal; empty if the strategy chose all."""
    if not any(part.origin for part in noted):
        return []
    return [part.origin for part in noted for _ in range(part.n)]
