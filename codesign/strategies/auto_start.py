"""The first candidates, before anything was learned: spread out, and not wasteful of what is known to cost."""

from __future__ import annotations

import numpy as np

from codesign.strategies.auto_pool import Pool
from codesign.strategies.strategy import FloatArray
from search_spaces.ops import IntArray

SHORT = 1_024
"""Candidates compared at most."""
TOP = 0.1
"""Share of the candidates of a like cost from which one is taken."""


def first_candidates(pool: Pool, n: int, rng: np.random.Generator) -> IntArray:
    """Rows of a pool to evaluate first, in order, shape (k,), k at most n.

    With a known cost, one candidate for each of n levels of it: of those of a like cost one with much capacity, far
    from the others. Capacity is what costs: features count by their correlation with the logarithm of the cost, since
    whatever is paid for is there to make the result better; estimates from elsewhere count instead where there are any.
    Without a known cost, candidates far from each other.

    Args:
        pool: what to choose from.
        n: how many.
        rng: breaks ties and thins out large pools.
    """
    rows = np.flatnonzero(pool.is_allowed)
    rows = rows if len(rows) else np.arange(len(pool.codes))
    cost = known_cost(pool.losses[rows])
    features = pool.features[pool.described[rows]]
    if cost is None:
        chosen = rng.permutation(len(rows))[:SHORT]
        return rows[chosen[_far_apart([features[chosen]] * n)]]
    estimates = pool.priors[rows]
    if estimates.shape[1]:
        spread = estimates.std(axis=0)
        capacity = -(estimates / np.where(spread > 0, spread, 1.0)).sum(axis=1)
    else:
        capacity = features @ _correlation(features, cost)
    order = np.argsort(cost, kind="stable")
    levels = np.array_split(order, n)
    groups = []
    for level in levels:
        if len(level):
            best = level[np.argsort(-capacity[level], kind="stable")[: max(4, int(TOP * len(level)))]]
            groups.append(best[rng.permutation(len(best))[: SHORT // 4]])
    groups = [groups[i] for i in rng.permutation(len(groups))]
    picks = _far_apart([features[group] for group in groups])
    return np.array([rows[group[pick]] for group, pick in zip(groups, picks, strict=True)], dtype=np.int64)


def known_cost(losses: FloatArray) -> FloatArray | None:
    """The known losses of each row as one number: mean of their standardised logarithms; None if none is known."""
    known = losses[:, np.isfinite(losses).all(axis=0)] if len(losses) else losses[:, :0]
    if known.shape[1] == 0:
        return None
    columns = []
    for column in known.T:
        values = np.log(column) if (column > 0).all() else column
        columns.append((values - values.mean()) / (values.std() or 1.0))
    return np.asarray(np.mean(columns, axis=0))


def _correlation(features: FloatArray, cost: FloatArray) -> FloatArray:
    centered = features - features.mean(axis=0)
    spread = features.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return np.asarray(centered.T @ (cost - cost.mean()) / len(cost) / spread / (cost.std() or 1.0))


def _far_apart(groups: list[FloatArray]) -> list[int]:
    """One row of each group in turn, the one farthest from all taken before; in the first group the first."""
    taken: list[int] = []
    points: list[FloatArray] = []
    for group in groups:
        if not points:
            pick = 0
        else:
            nearest = np.min([np.square(group - point).sum(axis=1) for point in points], axis=0)
            pick = int(nearest.argmax())
        taken.append(pick)
        points.append(group[pick])
    return taken
