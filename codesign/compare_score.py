"""How good a search was where the truth is known: normalised hypervolume over a table, and regret under a budget.

The hypervolume score is the one of the published curves on NAS-Bench-201 with measured latency: an error e and one cost
c, both minimised, over a whole table.

    e' = (e - e_min) / (e_med - e_min)          e_min, e_med: lowest and median error of the table
    c' = ln(c / c_lo) / ln(c_ref / c_lo)        c_lo: cost of the cheapest member of the exact front with e < e_med
                                                c_ref: 1.1 times the cost of the most accurate candidate
    score = hypervolume of what was visited / hypervolume of the exact front, both to the reference point (1, 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from codesign.errors import DataError
from codesign.pareto import hypervolume, hypervolume_curve, is_nondominated
from codesign.trial import FloatArray

REACH = 1.1
"""How far the reference point lies behind the cost of the most accurate candidate."""
_CORNER = np.ones(2)


class Curve(Protocol):
    """Turns what a search visited into a score after every candidate."""

    def __call__(self, losses: FloatArray) -> FloatArray:
        """The score after 1, 2, ... n candidates.

        Args:
            losses: shape (n, m), in the order in which the candidates were visited.

        Returns:
            Shape (n,).
        """
        ...


@dataclass(frozen=True, slots=True)
class Score(Curve):
    """Normalised hypervolume of errors and costs; 1 where the exact front was found.

    Attributes:
        error_low, error_median: lowest and median error of the table.
        cost_low: of the cheapest member of the exact front whose error is below the median.
        cost_best: of the most accurate candidate; of several the cheapest.
        cost_floor: the smallest positive cost of the table. A cost of 0 has no logarithm and counts as this.
        full: hypervolume of the exact front in normalised losses.
        n_front: members of the exact front, equal ones counted each.
    """

    error_low: float
    error_median: float
    cost_low: float
    cost_best: float
    cost_floor: float
    full: float
    n_front: int

    @classmethod
    def of_table(cls, losses: FloatArray, front: FloatArray | None = None) -> Score:
        """The score that belongs to a table.

        Args:
            losses: shape (n, 2), error and cost of every candidate of the table, or, for a space too large to list, of
                a large sample, from which the median error is taken.
            front: shape (f, 2), the exact front, or the best one known; None takes it from the losses.

        Raises:
            DataError: no candidate, a value that is not finite, a negative cost, or a table in which a score has no
                meaning: half of the candidates are equally accurate, or no candidate costs anything.
        """
        losses = np.asarray(losses, dtype=np.float64)
        everyone = losses if front is None else np.concatenate([losses, np.asarray(front, dtype=np.float64)])
        if len(losses) == 0 or not np.isfinite(everyone).all():
            raise DataError("a score needs at least one candidate, and finite errors and costs for all of them")
        if (everyone[:, 1] < 0).any():
            raise DataError(f"a cost is negative ({everyone[:, 1].min():g}); costs are compared by their logarithms")
        if not (everyone[:, 1] > 0).any():
            raise DataError("every cost is 0; there is no trade-off to score")
        members = everyone[is_nondominated(everyone)]
        error_low, error_median = float(everyone[:, 0].min()), float(np.median(losses[:, 0]))
        if not error_low < error_median:
            raise DataError(f"half of the candidates share the lowest error {error_low:g}; that leaves no trade-off")
        cost_floor = float(everyone[everyone[:, 1] > 0, 1].min())
        cost_low = max(float(members[members[:, 0] < error_median, 1].min()), cost_floor)
        cost_best = max(float(members[np.argmin(members[:, 0]), 1]), cost_floor)
        score = cls(error_low, error_median, cost_low, cost_best, cost_floor, np.nan, len(members))
        full = hypervolume(score.normalised(members), _CORNER)
        return cls(error_low, error_median, cost_low, cost_best, cost_floor, full, len(members))

    def normalised(self, losses: FloatArray) -> FloatArray:
        """Normalised losses e' and c', shape (n, 2) as given."""
        error, cost = np.asarray(losses, dtype=np.float64).T
        relative = np.log(np.maximum(cost, self.cost_floor) / self.cost_low)
        return np.stack(
            [
                (error - self.error_low) / (self.error_median - self.error_low),
                relative / np.log(REACH * self.cost_best / self.cost_low),
            ],
            axis=1,
        )

    def __call__(self, losses: FloatArray) -> FloatArray:
        """See `Curve.__call__`; rises to 1."""
        return hypervolume_curve(self.normalised(losses), _CORNER) / self.full

    def limit(self, fraction: float) -> float:
        """A cost budget: so far along the front's range, from its cheapest useful member to the most accurate one."""
        return self.cost_low + fraction * (self.cost_best - self.cost_low)


@dataclass(frozen=True, slots=True)
class Regret(Curve):
    """How much more error the best visited candidate has than the best that there is; one loss; falls to 0.

    Attributes:
        lowest: the lowest error within the budget.
    """

    lowest: float

    def __call__(self, losses: FloatArray) -> FloatArray:
        """See `Curve.__call__`."""
        return np.asarray(np.minimum.accumulate(losses[:, 0]) - self.lowest)
