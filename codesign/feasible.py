"""Budgets before the run: is there a candidate that keeps them, and if not, which of them must give way?

A small space is listed. Of a large one some candidates are drawn; if none of them is within the budgets, they are
descended from; meanwhile bounds may prove that there is none at all. What is left is unknown, with an interval.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from codesign.assemble import Parts
from codesign.errors import BudgetError
from codesign.feasible_bounds import Bounds, bounds_of
from codesign.feasible_problem import Problem, problem_of
from codesign.feasible_relax import best_with_others, conflicts, factors, relaxation, together
from codesign.feasible_result import Bound, Feasibility, Method, Verdict
from codesign.feasible_search import (
    MOST_LISTED,
    Progress,
    Score,
    Seen,
    descend,
    look_at_all,
    look_at_some,
)
from codesign.feasible_share import exact_interval
from codesign.feasible_text import note, number_text, refusal
from codesign.trial import FloatArray

SECONDS = 20.0
"""A space is listed to find out if that takes no longer, and descents end after so long."""
SECONDS_FOR_SHARE = 2.0
"""A space is listed to tell the exact share within its budgets if that takes no longer."""
_FIRST, _AT_ONCE, _DRAWN = 1_024, 4_096, 20_000
_GENERATION, _GENERATIONS = 512, 40
_FAR = 1e12


def require_feasible(
    parts: Parts, seed: int, *, seconds: float = SECONDS, progress: Progress = lambda text: None
) -> str:
    """Refuse a job whose budgets no candidate keeps.

    Args:
        parts: of the job.
        seed: of everything that is drawn.
        seconds: see `SECONDS`.
        progress: is told of work that lasts.

    Returns:
        A note for the start of the run; "" if the job has no budgets.

    Raises:
        BudgetError: it is proven that there is none; or none was found, candidates would be trained, and the job does
            not say `search.unproven_budgets: try`. A run that only computes costs goes on, for its strategy may find
            what this look did not.
    """
    found = find_feasible(parts, seed, seconds=seconds, progress=progress)
    refuse(parts, found)
    return note(found)


def refuse(parts: Parts, found: Feasibility) -> None:
    """Raise the BudgetError of `require_feasible` if what was found asks for it."""
    is_tried = parts.job.search.unproven_budgets == "try" or not parts.is_costly
    if found.verdict is Verdict.PROVEN or (found.verdict is Verdict.UNKNOWN and found.budgets and not is_tried):
        raise BudgetError(refusal(found))


def find_feasible(
    parts: Parts, seed: int, *, seconds: float = SECONDS, progress: Progress = lambda text: None
) -> Feasibility:
    """Find out whether a candidate keeps the budgets that are arithmetic; see `require_feasible` for the arguments."""
    return look_into(problem_of(parts), seed, seconds=seconds, progress=progress)


def look_into(
    problem: Problem, seed: int, *, seconds: float = SECONDS, progress: Progress = lambda text: None
) -> Feasibility:
    """What `find_feasible` finds, of a problem."""
    began = time.monotonic()
    if not problem.budgets:
        verdict = Verdict.UNKNOWN if problem.unchecked else Verdict.FEASIBLE
        return Feasibility(verdict, Method.NONE, (), problem.unchecked, problem.space.size)
    look = _Look(problem, np.random.default_rng(seed), began + seconds, progress)
    return replace(look.find(), seconds=time.monotonic() - began)


@dataclass(frozen=True)
class _Look:
    """One look at a problem."""

    problem: Problem
    rng: np.random.Generator
    deadline: float
    progress: Progress

    def find(self) -> Feasibility:
        """The cheapest way to an answer, then dearer ones."""
        problem = self.problem
        if problem.space.size <= _FIRST:
            listed = look_at_all(problem, math.inf, self.progress)
            assert listed is not None, "without a deadline all are looked at"
            return self._of_listed(listed)
        drawn = look_at_some(problem, _FIRST // 2, self.rng)
        began = time.monotonic()
        drawn = drawn.join(look_at_some(problem, _FIRST // 2, self.rng))
        seconds_to_list = (time.monotonic() - began) * problem.space.size / (_FIRST // 2)
        can_be_listed = problem.space.size <= MOST_LISTED and time.monotonic() + seconds_to_list < self.deadline
        if can_be_listed and seconds_to_list <= SECONDS_FOR_SHARE:
            listed = look_at_all(problem, self.deadline, self.progress)
            if listed is not None:
                return self._of_listed(listed)
        if problem.meets(drawn.values).all(axis=1).any():
            return self._within(Method.SAMPLED, drawn, drawn)
        bounds = bounds_of(problem)
        if bounds is not None and not problem.meets(bounds.values).all(axis=1).any():
            listed = look_at_all(problem, self.deadline, self.progress) if can_be_listed else None
            return self._of_bounds(bounds, drawn) if listed is None else self._of_listed(listed)
        seen = drawn.join(self._descend(lambda values: problem.excess(values).sum(axis=1), drawn))
        if problem.meets(seen.values).all(axis=1).any():
            return self._within(Method.SAMPLED, drawn, seen)
        if can_be_listed:
            listed = look_at_all(problem, self.deadline, self.progress)
            if listed is not None:
                return self._of_listed(listed)
        return self._unknown(bounds, drawn, seen)

    def _of_listed(self, listed: Seen) -> Feasibility:
        if self.problem.meets(listed.values).all(axis=1).any():
            return self._within(Method.LISTED, listed, listed)
        return self._without(Verdict.PROVEN, Method.LISTED, listed, listed, listed.values, conflict_rows=listed.values)

    def _of_bounds(self, bounds: Bounds, drawn: Seen) -> Feasibility:
        seen = self._approach(drawn, bounds.values)
        found = self._without(Verdict.PROVEN, Method.BOUNDS, drawn, seen, bounds.values, conflict_rows=bounds.values)
        said = []
        for j, budget in enumerate(self.problem.budgets):
            value = float(bounds.values[:, j].min() if budget.upper else bounds.values[:, j].max())
            if math.isfinite(value):
                said.append(Bound(budget, value, f"{bounds.reasons[j]} {number_text(value)}"))
        return replace(found, bounds=tuple(said))

    def _unknown(self, bounds: Bounds | None, drawn: Seen, seen: Seen) -> Feasibility:
        problem = self.problem
        seen = self._approach(seen, seen.values)
        if problem.meets(seen.values).all(axis=1).any():
            return self._within(Method.SAMPLED, drawn, seen)
        while len(drawn) < _DRAWN and time.monotonic() < self.deadline:
            more = look_at_some(problem, min(_AT_ONCE, _DRAWN - len(drawn)), self.rng)
            drawn, seen = drawn.join(more), seen.join(more)
            if problem.meets(more.values).all(axis=1).any():
                return self._within(Method.SAMPLED, drawn, seen)
        proven = None if bounds is None else bounds.values
        return self._without(Verdict.UNKNOWN, Method.SAMPLED, drawn, seen, proven, conflict_rows=seen.values)

    # --- going downhill

    def _descend(self, score: Score, start: Seen) -> Seen:
        return descend(self.problem, score, start, self.rng, _GENERATION, _GENERATIONS, self.deadline)

    def _approach(self, seen: Seen, conflict_rows: FloatArray) -> Seen:
        """Candidates as near as can be found: each budget on its own, others kept, and all conflicting ones at once."""
        problem = self.problem
        scores = [self._others_first(j) for j in range(len(problem.budgets))]
        columns = sorted({j for conflict in conflicts(problem.meets(conflict_rows)) for j in conflict})
        if len(columns) > 1:
            scores.append(lambda values: np.minimum(factors(problem, values, columns), _FAR) - 1)
        for score in scores:
            seen = seen.join(self._descend(score, seen))
        return seen

    def _others_first(self, column: int) -> Score:
        """Falls with the violation of all other budgets, and where they are kept with this one's metric."""

        def score(values: FloatArray) -> FloatArray:
            excess = self.problem.excess(values)
            others = excess.sum(axis=1) - np.where(np.isfinite(excess[:, column]), excess[:, column], 0.0)
            return np.where(others > 0, _FAR * (1 + others), np.minimum(excess[:, column], _FAR))

        return score

    # --- results

    def _within(self, method: Method, drawn: Seen, seen: Seen) -> Feasibility:
        problem = self.problem
        row = int(np.flatnonzero(problem.meets(seen.values).all(axis=1))[0])
        n_within = int(problem.meets(drawn.values).all(axis=1).sum())
        share = n_within / len(drawn)
        return Feasibility(
            Verdict.FEASIBLE,
            method,
            problem.budgets,
            problem.unchecked,
            problem.space.size,
            n_seen=len(seen),
            n_drawn=len(drawn),
            n_within=n_within,
            interval=(share, share) if method is Method.LISTED else exact_interval(n_within, len(drawn)),
            n_candidates=len(drawn) if method is Method.LISTED else None,
            witness=problem.space.decode(problem.space.canonical(seen.codes[row][None])[0]),
            witness_metrics={b.metric: float(v) for b, v in zip(problem.budgets, seen.values[row], strict=True)},
        )

    def _without(
        self,
        verdict: Verdict,
        method: Method,
        drawn: Seen,
        seen: Seen,
        proven: FloatArray | None,
        conflict_rows: FloatArray,
    ) -> Feasibility:
        problem = self.problem
        found = conflicts(problem.meets(conflict_rows))
        columns = sorted({j for conflict in found for j in conflict})
        nearest = {b.text: _nearest(problem, seen.values, j) for j, b in enumerate(problem.budgets)}
        is_listed = method is Method.LISTED
        return Feasibility(
            verdict,
            method,
            problem.budgets,
            problem.unchecked,
            problem.space.size,
            n_seen=len(seen),
            n_drawn=len(drawn),
            interval=(0.0, 0.0) if verdict is Verdict.PROVEN else exact_interval(0, len(drawn)),
            n_candidates=len(drawn) if is_listed else None,
            nearest=nearest,
            conflicts=tuple(tuple(problem.budgets[j] for j in conflict) for conflict in found),
            relaxations=tuple(relaxation(problem, j, seen.values, proven) for j in range(len(problem.budgets))),
            together=together(problem, seen.values, columns),
        )


def _nearest(problem: Problem, values: FloatArray, column: int) -> float:
    """The best figure of a budget's metric among candidates that work; NaN if none does."""
    alone = replace(problem, budgets=(problem.budgets[column],))
    return best_with_others(alone, values[:, [column]], 0)
