"""Compares search strategies on tasks whose truth is known: what does each find per evaluation, and at what price?

    task = table_task("c10 on a phone", space, codes, losses, Score.of_table(losses), known=(1,))
    outcome = run_task(task, MyStrategy, evaluations=200, seed=0)
    outcome.at(100)   # the score of the first 100 candidates

A run is what a study does, without its store: a strategy is asked, candidates that it has seen are passed over, those
over a known budget are told back unmeasured, the others are evaluated and told. Workers are simulated (see
`codesign.clock`). The order of a run is the order in which candidates were asked for: with a budget of N evaluations
the first N would have been asked for, and all of them would have come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature

import numpy as np

from codesign.clock import drive_clock
from codesign.compare_score import Curve
from codesign.strategies.foresight import Foresight
from codesign.strategies.strategy import Strategy
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

PROPOSALS_PER_EVALUATION = 4
"""Proposals that count, new ones and repeated ones, for each evaluation of the budget."""
MAX_OVER_BUDGET = 5_000
"""New candidates in a row that are over a known budget, after which a search counts as exhausted."""
PATIENCE = 16
"""Proposals in a row that bring nothing new, after which a worker waits for the results that are under way."""
MAX_BLOCK = 256
"""Candidates proposed and screened together while budgets reject most of them."""

Evaluate = Callable[[IntArray], FloatArray]
"""Losses of candidates, shapes (n, d) and (n, m)."""
Duration = Callable[[IntArray], FloatArray]
"""Mean duration of evaluations, shapes (n, d) and (n,), in any unit."""


MakeStrategy = Callable[..., Strategy]
"""Builds a strategy from a space, the number of objectives and a seed: a class, or a function that also sets options.
One that names `foresight` is given it."""


def same_time(codes: IntArray) -> FloatArray:
    """Every evaluation takes 1."""
    return np.ones(len(codes))


@dataclass(frozen=True)
class Task:
    """A search problem whose truth is known.

    Attributes:
        name: in tables.
        space: the candidates.
        n_objectives: losses of each.
        evaluate: the losses, all minimised; what a strategy learns.
        score: of the losses visited.
        foresight: what is known before an evaluation, for strategies that ask; None if nothing is. Candidates that it
            finds over a budget are never evaluated.
        duration: mean duration of an evaluation, for simulated workers.
        spread: standard deviation of the logarithm of a duration about that mean.
        truth: the losses that the score is of, where evaluations are noisy; None if they are not.
        salt: added to the seed of a run, for tasks that are one problem drawn several times.
    """

    name: str
    space: SearchSpace
    n_objectives: int
    evaluate: Evaluate
    score: Curve
    foresight: Foresight | None = None
    duration: Duration = same_time
    spread: float = 0.0
    truth: Evaluate | None = None
    salt: int = 0


@dataclass(frozen=True)
class Outcome:
    """One run of one strategy on one task, in the order of asking; n candidates were evaluated.

    Attributes:
        task, strategy, seed, workers: whose; the seed with the task's salt.
        codes: shape (n, d).
        losses: shape (n, m), the true ones.
        scores: shape (n,), after each candidate.
        n_proposals: shape (n,), proposals used when each was found, itself and repeated ones included.
        n_screened: shape (n,), candidates that were proposed and found over a known budget when each was found.
        cpu_s: shape (n,), CPU time of asking for and telling each, what was passed over on the way to it included.
        ended: shape (n,), simulated time at which its result arrived.
        set_up_s: CPU time of building the strategy.
        n_infeasible: evaluated candidates that a known budget forbids; 0 unless screening is broken.
    """

    task: str
    strategy: str
    seed: int
    workers: int
    codes: IntArray
    losses: FloatArray
    scores: FloatArray
    n_proposals: IntArray
    n_screened: IntArray
    cpu_s: FloatArray
    ended: FloatArray
    set_up_s: float
    n_infeasible: int = 0

    def n_counted(self, evaluations: int) -> int:
        """Candidates that count within a budget: the first ones, among the proposals that the budget allows."""
        allowed = self.n_proposals[:evaluations] <= PROPOSALS_PER_EVALUATION * evaluations
        return int(allowed.sum())

    def at(self, evaluations: int) -> float:
        """The score with a budget of so many evaluations; NaN if nothing was evaluated."""
        n = self.n_counted(evaluations)
        return float(self.scores[n - 1]) if n else float("nan")

    def ms_per_candidate(self, first: int = 0, last: int | None = None) -> float:
        """Mean CPU time of ask and tell, ms, over candidates `first` to `last` (exclusive); NaN if there are none."""
        chosen = self.cpu_s[first:last]
        return float(1e3 * chosen.mean()) if len(chosen) else float("nan")


def run_task(
    task: Task, make: MakeStrategy, *, evaluations: int, seed: int, name: str = "", workers: int = 1
) -> Outcome:
    """Run one strategy on one task.

    Args:
        task: the problem.
        make: builds the strategy from the space, the number of objectives and the seed; one whose signature has
            `foresight` (a class, or a `NamedStrategy`) is given the task's.
        evaluations: distinct candidates to evaluate; fewer if the strategy stops finding new ones.
        seed: of the strategy, and with workers of the durations.
        name: of the strategy, in tables.
        workers: evaluations under way at once, on a simulated clock; a worker that is free asks at once.
    """
    options = {"foresight": task.foresight} if task.foresight is not None and takes_foresight(make) else {}
    seed += task.salt
    began = time.process_time()
    search = _Search(task, make(task.space, task.n_objectives, seed, **options), evaluations)
    set_up_s = time.process_time() - began
    shifts = drive_clock(search.ask, search.tell, lambda number: _draw(task, search.codes[number], seed), workers)
    codes = np.array(search.codes, dtype=np.int64).reshape(len(search.codes), len(task.space.choices))
    losses = (task.truth or task.evaluate)(codes)
    ended = np.zeros(len(codes))
    ended[[shift.work for shift in shifts]] = [shift.ended for shift in shifts]
    n_infeasible = 0
    if task.foresight is not None and len(codes):
        n_infeasible = int((task.foresight(codes).violations > 0).sum())
    return Outcome(
        task=task.name,
        strategy=name,
        seed=seed,
        workers=workers,
        codes=codes,
        losses=losses,
        scores=task.score(losses) if len(codes) else np.zeros(0),
        n_proposals=np.array(search.n_proposals, dtype=np.int64),
        n_screened=np.array(search.n_screened, dtype=np.int64),
        cpu_s=np.array(search.cpu_s),
        ended=ended,
        set_up_s=set_up_s,
        n_infeasible=n_infeasible,
    )


def _draw(task: Task, code: IntArray, seed: int) -> float:
    """How long an evaluation takes: log-normal, the same for a candidate whichever strategy proposes it, and when."""
    deviate = np.random.default_rng([seed, *code.tolist()]).standard_normal() if task.spread else 0.0
    mean = float(task.duration(code[None])[0])
    return mean * float(np.exp(task.spread * deviate - task.spread**2 / 2))


def takes_foresight(make: MakeStrategy) -> bool:
    """Whether a strategy, by its constructor's signature or its own word, wants to be told what is known."""
    said = getattr(make, "takes_foresight", None)
    return bool(said) if said is not None else "foresight" in signature(make).parameters


@dataclass
class _Search:
    """Asks a strategy for candidates that are new and within known budgets, as a study does, and keeps count."""

    task: Task
    strategy: Strategy
    evaluations: int
    codes: list[IntArray] = field(default_factory=list)
    n_proposals: list[int] = field(default_factory=list)
    n_screened: list[int] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)
    _proposed: int = 0
    _screened: int = 0
    _n_told: int = 0
    _spent: float = 0.0  # CPU time in the strategy since the last new candidate was found

    def ask(self) -> int | None:
        """The number of a new candidate to evaluate; None if the budget is spent, or nothing new is found now."""
        if len(self.codes) >= self.evaluations or (found := self._next()) is None:
            return None
        self.codes.append(found)
        self.n_proposals.append(self._proposed)
        self.n_screened.append(self._screened)
        self.cpu_s.append(self._spent)
        self._spent = 0.0
        return len(self.codes) - 1

    def tell(self, number: int) -> None:
        """Evaluate a candidate and tell the strategy."""
        code = self.codes[number][None]
        losses = self.task.evaluate(code)
        began = time.process_time()
        self.strategy.tell(code, losses, np.zeros(1))
        self.cpu_s[number] += time.process_time() - began
        self._n_told += 1

    def _next(self) -> IntArray | None:
        """The next candidate to evaluate, shape (d,)."""
        block, stale, rejected = 1, 0, 0
        while self._proposed < PROPOSALS_PER_EVALUATION * self.evaluations and rejected < MAX_OVER_BUDGET:
            if stale >= PATIENCE and self._n_told < len(self.codes):
                return None  # it may have another idea once it has learned what is under way
            began = time.process_time()
            proposed = self.strategy.ask(block)
            self._spent += time.process_time() - began
            codes = self._fresh(proposed)
            if len(codes) == 0:
                stale += 1
                continue
            n_over = self._screen(codes)
            self._seen.difference_update(code.tobytes() for code in codes[n_over + 1 :])  # they were not looked at
            if n_over < len(codes):
                self._proposed += 1
                found: IntArray = codes[n_over]
                return found
            stale, rejected, block = 0, rejected + n_over, min(2 * block, MAX_BLOCK)
        return None

    def _fresh(self, proposed: IntArray) -> IntArray:
        """Valid, new, canonical; what is left out counts as proposed."""
        codes: IntArray = self.task.space.canonical(proposed[self.task.space.valid(proposed)])
        rows: list[int] = []
        for row, code in enumerate(codes):
            if (key := code.tobytes()) not in self._seen:
                self._seen.add(key)
                rows.append(row)
        self._proposed += len(proposed) - len(rows)
        return codes[rows]

    def _screen(self, codes: IntArray) -> int:
        """How many come before the first that is within the known budgets; they are told back unmeasured."""
        if self.task.foresight is None:
            return 0
        foreseen = self.task.foresight(codes)
        within = np.flatnonzero(foreseen.violations == 0)
        n_over = int(within[0]) if len(within) else len(codes)
        if n_over:
            violations = foreseen.violations[:n_over]
            losses = np.where(np.isinf(violations)[:, None], np.nan, foreseen.losses[:n_over])
            began = time.process_time()
            self.strategy.tell(codes[:n_over], losses, violations)
            self._spent += time.process_time() - began
            self._screened += n_over
        return n_over
