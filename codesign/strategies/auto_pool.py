"""Candidates to choose from: the whole of a small space, else what draws, moves and crosses of the front generate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.strategies.foresight import Foreseen, Foresight
from codesign.strategies.strategy import BoolArray, FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

LISTED = 40_000
"""A space of at most so many codes is listed whole."""
SCALED = 2_000
"""Random candidates of a larger space by which features are put to scale."""
RANGE = 4.0
"""Standard deviations that a feature's range counts at most, so that a rare one does not outweigh the others."""


def row_keys(codes: IntArray) -> list[bytes]:
    """What tells rows apart, one for each."""
    small = np.ascontiguousarray(codes, dtype=np.int32)
    return [row.tobytes() for row in small]


def all_codes(space: SearchSpace) -> IntArray:
    """Every candidate of a small space once, canonical, shape (n, d)."""
    index = np.unravel_index(np.arange(space.size), tuple(space.n_options.tolist()))
    codes = np.stack(index, axis=1).astype(np.int64)
    return distinct(space.canonical(codes[space.valid(codes)]))


def distinct(codes: IntArray) -> IntArray:
    """Each row once, in order of first appearance."""
    if len(codes) == 0:
        return codes
    small = np.ascontiguousarray(codes, dtype=np.int32)
    rows = small.view(np.dtype((np.void, small.dtype.itemsize * small.shape[1])))[:, 0]
    return codes[np.sort(np.unique(rows, return_index=True)[1])]


class Insight:
    """What is known of codes: through a foresight, or from the space's features alone.

    Args:
        space: the candidates'.
        n_objectives: number of losses.
        foresight: of the run, if there is one.
    """

    def __init__(self, space: SearchSpace, n_objectives: int, foresight: Foresight | None) -> None:
        self._space = space
        self._m = n_objectives
        self._foresight = foresight

    def __call__(self, codes: IntArray) -> Foreseen:
        """See `Foresight`."""
        if self._foresight is not None:
            return self._foresight(codes)
        n = len(codes)
        none = np.full((n, self._m), np.nan)
        return Foreseen(none, np.zeros(n), self._space.features(codes), np.zeros((n, 0)))

    def is_allowed(self, codes: IntArray) -> BoolArray:
        """Which codes no known budget forbids, shape (n,)."""
        return np.asarray(~(self(codes).violations > 0))

    @property
    def limits(self) -> FloatArray:
        """See `Foresight.limits`."""
        return np.full(self._m, np.inf) if self._foresight is None else self._foresight.limits

    @property
    def prior_of(self) -> tuple[int, ...]:
        """See `Foresight.prior_of`."""
        return () if self._foresight is None else self._foresight.prior_of


@dataclass(frozen=True)
class Scale:
    """Puts features to mean 0 and variance 1 (rare ones below), without those that never vary; priors follow behind.

    Attributes:
        mean, deviation: shape (k + p,), of all columns.
        used: which columns vary, shape (k + p,).
        n_priors: how many of the used columns, the last ones, are priors.
    """

    mean: FloatArray
    deviation: FloatArray
    used: BoolArray
    n_priors: int

    @property
    def trend(self) -> FloatArray:
        """How much the slope of each feature counts, shape (d,): each prior's as much as those of all features."""
        n = max(1, int(self.used.sum()))
        return np.asarray(np.where(np.arange(n) < n - self.n_priors, 1.0, np.sqrt(n)))

    @classmethod
    def of(cls, seen: Foreseen) -> Scale:
        """The scale on which these candidates are standardised."""
        columns = np.hstack([seen.features, seen.priors])
        mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        deviation = np.maximum(deviation, np.ptp(columns, axis=0) / RANGE)
        used = deviation > 1e-9 * np.maximum(1.0, np.abs(mean))
        return cls(mean, np.where(used, deviation, 1.0), used, int(used[seen.features.shape[1] :].sum()))

    def __call__(self, seen: Foreseen) -> FloatArray:
        """Standardised features, shape (n, d); d is at least 1."""
        joined = np.hstack([seen.features, seen.priors]) if seen.priors.shape[1] else seen.features
        columns = (np.ascontiguousarray(joined) - self.mean) / self.deviation
        return columns[:, self.used] if self.used.any() else np.zeros((len(columns), 1))


@dataclass(frozen=True)
class Pool:
    """Candidates with what is known of them.

    Attributes:
        codes: shape (p, d), canonical, each once.
        losses: shape (p, m), NaN where only an evaluation tells.
        violations: shape (p,), of known budgets; 0 where none forbids the candidate.
        priors: shape (p, q), estimates of unknown losses from elsewhere.
        features: shape (u, k), standardised: the distinct descriptions.
        described: shape (p,), row of `features` of each candidate.
        n_random: so many candidates, the first ones, were not chosen for being good.
        row_of: place of each candidate, by its key.
    """

    codes: IntArray
    losses: FloatArray
    violations: FloatArray
    priors: FloatArray
    features: FloatArray
    described: IntArray
    n_random: int
    row_of: dict[bytes, int]

    @property
    def is_allowed(self) -> BoolArray:
        """Which candidates no known budget forbids, shape (p,)."""
        return np.asarray(self.violations == 0)

    @property
    def known(self) -> list[int]:
        """The losses that are known of whatever can work."""
        working = np.isfinite(self.violations)
        return np.flatnonzero(np.isfinite(self.losses[working]).all(axis=0) & working.any()).tolist()


def describe(codes: IntArray, seen: Foreseen, scale: Scale | None, n_random: int) -> tuple[Pool, Scale]:
    """A pool of the given candidates, of whom this is known, on a scale or on their own."""
    scale = scale or Scale.of(seen)
    features = np.ascontiguousarray(scale(seen).round(9)) + 0.0
    rows = features.view(np.dtype((np.void, features.dtype.itemsize * features.shape[1])))[:, 0]
    _, first, described = np.unique(rows, return_index=True, return_inverse=True)
    keys = {key: row for row, key in enumerate(row_keys(codes))}
    violations = np.where(np.isnan(seen.violations), np.inf, np.maximum(seen.violations, 0.0))
    pool = Pool(codes, seen.losses, violations, seen.priors, features[first], described, n_random, keys)
    return pool, scale


def generate(
    space: SearchSpace, parents: IntArray, size: int, insight: Insight, seed: int
) -> tuple[IntArray, Foreseen, int]:
    """Candidates of a large space: a quarter random, the others moved from and crossed between parents.

    Args:
        space: where they come from.
        parents: shape (k, d), the candidates whose surroundings are searched.
        size: about how many.
        insight: what is known of codes; moves that a known budget forbids are left out while others are found.
        seed: of the draws.

    Returns:
        The candidates, shape (n, d), what is known of them, and how many of them, the first ones, are random.
    """
    rng = np.random.default_rng(seed)
    random = _valid(space, space.sample(size // 4 if len(parents) else size, rng))
    parts = [random]
    if len(parents):
        n_moved = size - size // 4
        chosen = parents[rng.integers(0, len(parents), n_moved)]
        mates = parents[rng.integers(0, len(parents), n_moved)]
        is_crossed = rng.random(n_moved) < 0.4
        chosen[is_crossed] = space.crossover(chosen[is_crossed], mates[is_crossed], rng)
        n_steps = np.where(is_crossed, rng.integers(0, 3, n_moved), 1 + rng.geometric(0.6, n_moved) - 1)
        for step in range(min(int(n_steps.max(initial=0)), len(space.choices))):
            rows = n_steps > step
            chosen[rows] = space.mutate(chosen[rows], rng)
        parts.append(_valid(space, chosen))
    random = distinct(random)
    everyone = distinct(np.vstack(parts))
    seen = insight(everyone)
    kept = ~(seen.violations > 0)
    if not kept[len(random) :].any():
        return everyone, seen, len(random)
    kept[: len(random)] |= not kept[: len(random)].any()
    n_random = int(kept[: len(random)].sum())
    if kept.all():
        return everyone, seen, n_random
    rest = Foreseen(seen.losses[kept], seen.violations[kept], seen.features[kept], seen.priors[kept])
    return everyone[kept], rest, n_random


def _valid(space: SearchSpace, codes: IntArray) -> IntArray:
    return space.canonical(codes[space.valid(codes)])
