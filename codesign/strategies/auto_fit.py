"""From the results of `Auto` to what its models are made of: which results count, and a fit of each unknown loss."""

from __future__ import annotations

import numpy as np

from codesign.pareto import crowded_places, is_nondominated
from codesign.strategies.auto_belief import VIOLATION, WAITING, targets
from codesign.strategies.auto_ledger import Ledger
from codesign.strategies.auto_model import Fit, fit, most_telling
from codesign.strategies.auto_pool import Insight, Scale
from search_spaces.ops import IntArray

ROWS = 1_000
"""Results that the models rest on at most."""
PARENTS = 200
"""Candidates whose surroundings are searched at most."""
FEWEST_PARENTS = 30
ABOVE_ALL = 2.0
"""A level that no violation reaches: it is learned as 0 or 1."""


def fit_all(
    ledger: Ledger,
    insight: Insight,
    scale: Scale,
    unknown: list[int],
    levels: dict[int, float],
    old: dict[int, Fit],
) -> dict[int, Fit]:
    """A fit of each unknown loss, and of the violations if some were not foreseen.

    Args:
        ledger: the results.
        insight: what is known of codes.
        scale: of the features.
        unknown: objectives that only evaluations tell.
        levels: where each loss stops to matter; the median of the results where it is not said.
        old: the last fits, to begin from.
    """
    fits = {}
    for column in [*unknown, *([VIOLATION] if is_surprised(ledger, insight) else [])]:
        losses = targets(ledger, column)
        rows = np.flatnonzero(np.isfinite(losses))
        if len(rows) == 0:
            continue
        rows = rows[most_telling(losses[rows], ROWS)]
        features = scale(insight(ledger.codes[rows]))
        level = ABOVE_ALL if column == VIOLATION else levels.get(column, float(np.median(losses[rows])))
        start = old[column].parameters if column in old else None
        fits[column] = fit(features, losses[rows], scale.trend, level, start)
    return fits


def is_surprised(ledger: Ledger, insight: Insight) -> bool:
    """Whether candidates failed or violated a budget that nothing had foreseen, and no loss tells why."""
    over = ledger.violations > 0
    with np.errstate(invalid="ignore"):
        is_explained = (ledger.losses[over] > insight.limits).any(axis=1)
    unexplained = ledger.codes[over][~is_explained]
    return bool(len(unexplained)) and bool(insight.is_allowed(unexplained).any())


def rows_to_learn(ledger: Ledger) -> IntArray:
    """Numbers of the candidates that models begin with: those with results, and the latest at work."""
    told = np.flatnonzero(ledger.is_told)
    if len(told) > ROWS:
        places = crowded_places(np.nan_to_num(ledger.losses[told], nan=np.inf), ledger.violations[told])
        told = np.sort(told[most_telling(places.astype(np.float64), ROWS)])
    return np.concatenate([told, np.flatnonzero(~ledger.is_told)[-WAITING:]])


def best_codes(ledger: Ledger) -> IntArray:
    """Codes of the best results, from whose surroundings a pool is drawn, shape (k, d)."""
    told = np.flatnonzero(ledger.is_told & np.isfinite(ledger.violations))
    feasible = told[ledger.violations[told] == 0]
    if len(feasible) == 0:
        nearest = told[np.argsort(ledger.violations[told], kind="stable")[: PARENTS // 4]]
        return np.asarray(ledger.codes[nearest])
    places = crowded_places(ledger.losses[feasible])
    n_front = int(is_nondominated(ledger.losses[feasible]).sum())
    best = np.argsort(places, kind="stable")[: min(PARENTS, max(n_front, FEWEST_PARENTS))]
    return np.asarray(ledger.codes[feasible[best]])
