"""Looking at candidates for the sake of budgets: all of them, a sample, or downhill from a sample."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codesign.feasible_problem import Problem
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

MOST_LISTED = 5_000_000
"""Codes that are listed at most: their numbers and metrics are held in memory."""
_INDEX_BLOCK = 65_536
_BLOCK = 4_096
_PATIENCE = 5

Progress = Callable[[str], None]
Score = Callable[[FloatArray], FloatArray]
"""From metrics, shape (n, k), to what descends, shape (n,); 0 or less: found."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Candidates that were looked at.

    Attributes:
        codes: shape (n, d).
        values: shape (n, k), the budgets' metrics.
    """

    codes: IntArray
    values: FloatArray

    def __len__(self) -> int:
        return len(self.codes)

    def join(self, other: Seen) -> Seen:
        """Both, in order."""
        return Seen(np.concatenate([self.codes, other.codes]), np.concatenate([self.values, other.values]))


def distinct_codes(space: SearchSpace) -> IntArray:
    """Every candidate of a small space once, canonical, shape (n, d), ordered as the codes are."""
    shape = tuple(space.n_options.tolist())
    if not shape:
        return np.zeros((1, 0), dtype=np.int64)
    kept: list[IntArray] = []
    for start in range(0, space.size, _INDEX_BLOCK):
        index = np.arange(start, min(start + _INDEX_BLOCK, space.size))
        codes = np.stack(np.unravel_index(index, shape), axis=1).astype(np.int64)
        codes = space.canonical(codes[space.valid(codes)])
        kept.append(np.unique(np.ravel_multi_index(tuple(codes.T), shape)))
    distinct = np.unique(np.concatenate(kept))
    return np.stack(np.unravel_index(distinct, shape), axis=1).astype(np.int64)


def look_at_all(problem: Problem, deadline: float, progress: Progress) -> Seen | None:
    """All candidates of a small space, each once; None if that lasts beyond the deadline (of `time.monotonic`)."""
    codes = distinct_codes(problem.space)
    values: list[FloatArray] = []
    told = time.monotonic()
    for start in range(0, len(codes), _BLOCK):
        if time.monotonic() > deadline:
            return None
        values.append(problem.values(codes[start : start + _BLOCK]))
        if time.monotonic() - told > 2:
            told = time.monotonic()
            progress(f"budgets: {min(start + _BLOCK, len(codes)):,} of {len(codes):,} candidates looked at")
    return Seen(codes, np.concatenate(values) if values else np.zeros((0, len(problem.budgets))))


def look_at_some(problem: Problem, n: int, rng: np.random.Generator) -> Seen:
    """`n` candidates as the space draws them."""
    codes = problem.space.sample(n, rng)
    return Seen(codes, problem.values(codes))


def descend(
    problem: Problem, score: Score, start: Seen, rng: np.random.Generator, n: int, generations: int, deadline: float
) -> Seen:
    """Candidates ever nearer: of each generation and its parents the best eighth has the next generation.

    Args:
        problem: the budgets.
        score: what is to fall; the search ends when it reaches 0.
        start: candidates to begin with.
        rng: draws mutations and partners.
        n: candidates of a generation.
        generations: at most so many; fewer if several in a row bring nothing nearer.
        deadline: of `time.monotonic`; no generation begins after it.

    Returns:
        The candidates of all generations, without those of `start`.
    """
    space = problem.space
    found = Seen(start.codes[:0], start.values[:0])
    parents, scores = _best(start, score, max(2, n // 8))
    since_better = 0
    for _ in range(generations):
        is_over = since_better == _PATIENCE or time.monotonic() > deadline
        if len(parents) == 0 or scores[0] <= 0 or is_over:
            break
        first, second = (parents.codes[rng.integers(0, len(parents), n)] for _ in range(2))
        is_crossed = rng.random(n) < 0.5
        first[is_crossed] = space.crossover(first[is_crossed], second[is_crossed], rng)
        codes = space.mutate(first, rng)
        codes = np.unique(space.canonical(codes[space.valid(codes)]), axis=0)
        born = Seen(codes, problem.values(codes))
        found = found.join(born)
        before = scores[0]
        parents, scores = _best(parents.join(born), score, max(2, n // 8))
        since_better = 0 if scores[0] < before else since_better + 1
    return found


def _best(seen: Seen, score: Score, n: int) -> tuple[Seen, FloatArray]:
    """The n candidates of least score, each once, and their scores, ascending."""
    _, first = np.unique(seen.codes, axis=0, return_index=True)
    scores = score(seen.values[first])
    order = np.argsort(scores, kind="stable")[:n]
    return Seen(seen.codes[first[order]], seen.values[first[order]]), scores[order]
