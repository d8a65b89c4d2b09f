"""Random searches beside a run whose evaluations are arithmetic or look-ups: made outside its ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from codesign.assemble import Parts
from codesign.cost_only import CostOnly
from codesign.guard import guarded
from codesign.honesty_random import FEWEST_RUNS, FloatArray
from codesign.objectives import Objectives
from codesign.trial import Evaluator
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

MAX_RUNS = 200
MAX_EVALUATIONS = 200_000
"""Of all random runs together; where it is less than `FEWEST_RUNS` runs, single draws are made instead."""
MAX_DRAWS = 10_000
SECONDS = 1.0
"""Time for evaluating; what is done by then is compared with."""
_BLOCK = 1_024
_STALE_DRAWS = 2_000
"""Draws in a row that bring nothing new, after which the space counts as exhausted."""
_STREAM = 0x0D1CE


def is_cheap(parts: Parts) -> bool:
    """Whether a run may evaluate as many candidates again without asking: its evaluator is `cost` or `is_instant`."""
    screens = parts.evaluator.screens if isinstance(parts.evaluator, CostOnly) else parts.screens
    if any(hasattr(screen, "intervals") for screen in screens):  # it measures on this machine
        return False
    given = {name for part in (*parts.screens, parts.evaluator) for name in part.metrics}
    if not given.issuperset(parts.objectives.needed_metrics):
        return False
    return isinstance(parts.evaluator, CostOnly) or bool(getattr(parts.evaluator, "is_instant", False))


@dataclass(frozen=True, slots=True)
class RandomRuns:
    """Losses of random searches.

    Attributes:
        runs: those that came to an end: shape (n, m) each, NaN where a candidate failed or is over a budget.
        draws: all draws that were evaluated, in order, whatever run they belong to; shape (r, m).
    """

    runs: tuple[FloatArray, ...]
    draws: FloatArray


def draw_runs(parts: Parts, n: int, seed: int, clock: Callable[[], float] = monotonic) -> RandomRuns:
    """As many random searches of `n` evaluations as there is time for, screened by the budgets like the run itself.

    Args:
        parts: of the run; see `is_cheap`.
        n: evaluations of each, at least 1; fewer where the space has no more.
        seed: of the draws.
        clock: in seconds; what is drawn does not depend on it, only how much of it.
    """
    judge = _Judge(parts.space, parts.objectives, parts.screens, parts.evaluator)
    n_runs = min(MAX_RUNS, MAX_EVALUATIONS // n)
    n_runs, n_each = (n_runs, n) if n_runs >= FEWEST_RUNS else (1, min(n, MAX_DRAWS))
    until = clock() + SECONDS
    runs: list[list[FloatArray]] = [[]]
    seen: set[bytes] = set()
    n_stale = 0
    for key in judge.draw(np.random.default_rng([seed, _STREAM]), lambda: clock() > until):
        n_stale = n_stale + 1 if key in seen else 0
        if key not in seen:
            seen.add(key)
            losses = judge.known[key]
            if losses is not None:
                runs[-1].append(losses)
        if len(runs[-1]) == n_each or n_stale == _STALE_DRAWS:  # or the space has no more
            if len(runs) == n_runs:
                runs.append([])
                break
            seen, n_stale = set(), 0
            runs.append([])
    m = parts.objectives.n
    arrays = [np.array(losses, dtype=np.float64).reshape(len(losses), m) for losses in runs]
    return RandomRuns(tuple(arrays[:-1]) if n_each == n else (), np.concatenate(arrays))


@dataclass(frozen=True, slots=True)
class _Judge:
    """Evaluates candidates, each once."""

    space: SearchSpace
    objectives: Objectives
    screens: Sequence[Evaluator]
    evaluator: Evaluator
    known: dict[bytes, FloatArray | None] = field(default_factory=dict)
    """Losses by code; None for a candidate over a cheap budget, which takes no evaluation."""

    def draw(self, rng: np.random.Generator, is_late: Callable[[], bool]) -> Iterator[bytes]:
        """Random candidates without end, as their keys; `known` has their losses. Ends when it is late."""
        block = 1  # grows: one evaluation may take long
        while not is_late():
            codes = self.space.sample(block, rng)
            codes = np.ascontiguousarray(self.space.canonical(codes[self.space.valid(codes)]))
            keys = [code.tobytes() for code in codes]
            unknown = {key: row for row, key in enumerate(keys) if key not in self.known}
            if unknown:
                self._evaluate(list(unknown), codes[list(unknown.values())])
            yield from keys
            block = min(2 * block, _BLOCK)

    def _evaluate(self, keys: list[bytes], codes: IntArray) -> None:
        metrics: dict[str, FloatArray] = {}
        rows = np.arange(len(codes))
        for part in (*self.screens, self.evaluator):
            found = guarded(part, codes[rows])
            metrics |= found.metrics
            failed = np.array([bool(error) for error in found.errors], dtype=np.bool_)
            for name in part.metrics:
                failed |= ~np.isfinite(metrics[name])
            violations = np.where(failed, np.inf, self.objectives.violations(metrics))
            is_last = part is self.evaluator
            losses = np.where((violations > 0)[:, None], np.nan, self.objectives.losses(metrics))
            stays = np.ones(len(rows), dtype=np.bool_) if is_last else violations == 0
            for row in rows[~stays].tolist():
                self.known[keys[row]] = None
            rows, losses = rows[stays], losses[stays]
            metrics = {name: values[stays] for name, values in metrics.items()}
            if len(rows) == 0:
                return
        for row, loss in zip(rows.tolist(), losses, strict=True):
            self.known[keys[row]] = loss
