"""What `Auto` believes of the candidates of a pool: known losses as they are, unknown ones from models."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from codesign.pareto import is_nondominated
from codesign.strategies.auto_ledger import Ledger
from codesign.strategies.auto_model import Bend, Fit, Model
from codesign.strategies.auto_pool import Insight, Pool, Scale
from codesign.strategies.strategy import FloatArray, StateDict, pack, unpack
from search_spaces.ops import IntArray

VIOLATION = -1
"""Stands for the violation among the numbers of objectives."""
MARGIN = 0.1
"""How far behind the front the reference point lies, as a share of the front's range."""
THINNED = 2_000
"""About so many random candidates tell the median."""
WAITING = 64
"""Candidates at work that count as evaluated, the latest."""
LEAST_CHANCE = 0.02
"""Predicted chance of being feasible below which it is not taken at its word."""


@dataclass
class Base:
    """What models and pool are made from: enough to make them again, bit for bit.

    Attributes:
        fits: of each modelled loss, by objective.
        parents: shape (k, d), the codes whose surroundings a generated pool holds.
        seed: of that pool.
        rows: numbers of the candidates that the models began with.
        appended: numbers of those that were added since, in order.
        n_fitted: results at the last fit.
        n_pooled: results when the pool was made.
    """

    fits: dict[int, Fit]
    parents: IntArray
    seed: int
    rows: IntArray
    appended: list[int] = field(default_factory=list)
    n_fitted: int = 0
    n_pooled: int = 0

    def state_dict(self) -> StateDict:
        """JSON-able."""
        return {
            "fits": [[number, _packed_fit(fitted)] for number, fitted in sorted(self.fits.items())],
            "parents": pack(self.parents),
            "seed": self.seed,
            "rows": pack(self.rows),
            "appended": self.appended.copy(),
            "n_fitted": self.n_fitted,
            "n_pooled": self.n_pooled,
        }

    @classmethod
    def from_state_dict(cls, state: StateDict) -> Base:
        """The base that `state_dict` was taken of."""
        return cls(
            {number: _unpacked_fit(fitted) for number, fitted in state["fits"]},
            unpack(state["parents"]),
            state["seed"],
            unpack(state["rows"]),
            list(state["appended"]),
            state["n_fitted"],
            state["n_pooled"],
        )


def _packed_fit(fitted: Fit) -> StateDict:
    numbers = [fitted.bend.level, fitted.bend.width, fitted.center, fitted.scale, fitted.skill]
    return {"numbers": pack(np.array(numbers)), "parameters": pack(fitted.parameters)}


def _unpacked_fit(state: StateDict) -> Fit:
    level, width, center, scale, skill = unpack(state["numbers"]).tolist()
    return Fit(Bend(level, width), center, scale, unpack(state["parameters"]), skill)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Expected losses of a pool, on the scale on which hypervolume is counted.

    Attributes:
        mean, deviation: shape (p, m); the deviation is 0 where a loss is known.
        front: non-dominated results, and expectations of what is at work, shape (k, m).
        reference: shape (m,).
        chance: of meeting the budgets that cannot be foreseen, shape (p,).
    """

    mean: FloatArray
    deviation: FloatArray
    front: FloatArray
    reference: FloatArray
    chance: FloatArray


class Belief:
    """Models over a pool.

    Args:
        insight: what is known of codes.
        scale: of the features.
        ledger: the results, which may grow.
        pool: candidates to choose from.
        base: fits and rows; rows appended here are noted in it.
    """

    def __init__(self, insight: Insight, scale: Scale, ledger: Ledger, pool: Pool, base: Base) -> None:
        self.pool = pool
        self._insight = insight
        self._scale = scale
        self._ledger = ledger
        self._base = base
        self.known = pool.known
        working = pool.losses[np.isfinite(pool.violations)]
        self._is_log = [bool((column > 0).all()) and i in self.known for i, column in enumerate(working.T)]
        rows = self._features(base.rows)
        self._models = {number: Model(fitted, scale.trend, pool.features, rows) for number, fitted in base.fits.items()}
        appended, base.appended = base.appended, []
        self._held = set(base.rows.tolist())
        self.hold(np.array(appended, dtype=np.int64))

    def _features(self, numbers: IntArray) -> FloatArray:
        return self._scale(self._insight(self._ledger.codes[numbers]))

    def hold(self, numbers: IntArray) -> None:
        """Let the models know of candidates, one at a time and each once; their results may follow later."""
        new = np.array([number for number in numbers.tolist() if number not in self._held], dtype=np.int64)
        if len(new) == 0:
            return
        for number, row in zip(new.tolist(), self._features(new), strict=True):
            for model in self._models.values():
                model.append(row)
            self._held.add(number)
            self._base.appended.append(number)

    def _results(self, number: int) -> FloatArray:
        """What was told of the models' rows, NaN where nothing was, shape (n,)."""
        rows = np.concatenate([self._base.rows, np.array(self._base.appended, dtype=np.int64)])
        return np.asarray(targets(self._ledger, number)[rows])

    def scaled(self, losses: FloatArray) -> FloatArray:
        """Losses on the scale on which hypervolume is counted, shape (n, m): known ones logarithmic, others bent."""
        columns = []
        for column, values in enumerate(losses.T):
            if self._is_log[column]:
                values = np.log(np.maximum(values, np.finfo(np.float64).tiny))
            elif column in self._models:
                values = self._base.fits[column].bend(values)
            columns.append(values)
        return np.stack(columns, axis=1)

    @property
    def modelled(self) -> list[int]:
        """Objectives that have a model."""
        return [column for column in self._models if column != VIOLATION]

    def expected(self) -> FloatArray:
        """Expected losses of the pool's random candidates as they would be told, shape (r, m)."""
        rows = self.pool.described[: self.pool.n_random]
        losses = np.array(self.pool.losses[: self.pool.n_random])
        for column in self.modelled:
            bent = self._models[column].over_pool(self._results(column))[0]
            losses[:, column] = self._base.fits[column].bend.straighten(bent[rows])
        return losses

    def forecast(self, codes: IntArray) -> FloatArray:
        """Expected losses of any canonical codes as they would be told, shape (n, m)."""
        seen = self._insight(codes)
        losses = np.array(seen.losses, dtype=np.float64)
        features = self._scale(seen)
        for column, fitted in self._base.fits.items():
            if column != VIOLATION:
                bent = self._models[column].at(features, self._results(column))
                losses[:, column] = fitted.bend.straighten(bent)
        return losses

    def outlook(self) -> Outlook:
        """The pool as the models see it now."""
        mean = self.scaled(self.pool.losses)
        deviation = np.zeros_like(mean)
        chance = np.ones(len(mean))
        for column, model in self._models.items():
            center, spread = model.over_pool(self._results(column))
            if column == VIOLATION:
                chance = np.clip(1.0 - center, LEAST_CHANCE, 1.0)[self.pool.described]
            else:
                mean[:, column] = center[self.pool.described]
                deviation[:, column] = spread[self.pool.described]
        told = self.scaled(self._ledger.losses[self._ledger.is_feasible])
        reference = self._reference(mean, told)
        waiting = np.flatnonzero(~self._ledger.is_told)[-WAITING:]
        if len(waiting):
            told = np.vstack([told, self.scaled(self.forecast(self._ledger.codes[waiting]))])
        return Outlook(mean, deviation, told[is_nondominated(told)], reference, chance)

    def _reference(self, mean: FloatArray, told: FloatArray) -> FloatArray:
        """Where the hypervolume ends, shape (m,).

        An unknown loss counts up to that of a median random candidate within the known budgets if something else is
        known: a cheap candidate that is no better is no trade-off. Everything else ends a little behind the front, or
        behind the candidate that is expected to be best, if that lies farther out.
        """
        m = mean.shape[1]
        random = np.flatnonzero(self.pool.is_allowed[: self.pool.n_random])
        random = random if len(random) else np.arange(self.pool.n_random)
        random = random[:: max(1, len(random) // THINNED)]
        reference = np.full(m, np.inf)
        unknown = [column for column in range(m) if column not in self.known]
        for column in unknown:
            if column in self._models and (self.known or m == 1):
                reference[column] = np.median(mean[random, column])
        inside = told[(told < reference).all(axis=1)]
        inside = inside[is_nondominated(inside)] if len(inside) else inside
        allowed = mean if self.pool.is_allowed.all() or not self.pool.is_allowed.any() else mean[self.pool.is_allowed]
        best = [allowed[allowed[:, column].argmin()] for column in unknown]
        ends = np.vstack([inside, *best]) if unknown else allowed[is_nondominated(allowed)]
        for column in np.flatnonzero(np.isinf(reference)).tolist():
            low, high = ends[:, column].min(), ends[:, column].max()
            if high <= low:
                low, high = allowed[:, column].min(), max(high, float(np.median(allowed[:, column])))
            reference[column] = high + MARGIN * (high - low) + (high <= low)
        return self._limited(reference)

    def _limited(self, reference: FloatArray) -> FloatArray:
        """No farther out than the budgets allow."""
        limits = self._insight.limits
        finite = np.isfinite(limits)
        bounded = self.scaled(np.where(finite, limits, 1.0)[None])[0]
        return np.where(finite, np.minimum(reference, bounded), reference)


def targets(ledger: Ledger, number: int) -> FloatArray:
    """What a model learns of every candidate of a ledger, NaN where nothing, shape (n,)."""
    if number == VIOLATION:
        return np.where(ledger.is_told, (~ledger.is_feasible).astype(np.float64), np.nan)
    losses = ledger.losses[:, number]
    return np.where(np.isfinite(losses) & np.isfinite(ledger.violations), losses, np.nan)
