"""A lottery ticket: one agent with one hyper-parameter setting and one seed, searching a design problem.

Every ticket gets the same number of evaluations of distinct candidates; what an agent proposes again costs nothing and
is not told again, as in a run. A ticket is a pure function of the problem and of itself, so tickets may be carried out
anywhere and in any order.

Source: Krishnan et al. 2023 ("ArchGym", ISCA), the hyper-parameter lottery: an agent's result is a distribution over
its settings, never the one run that came out best.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.assemble import Parts, assemble
from codesign.errors import InputError
from codesign.feasible import require_feasible
from codesign.guard import guarded
from codesign.lottery_job import Lottery, Ticket
from codesign.objectives import Objectives
from codesign.plugins import make
from codesign.registry import lookup
from codesign.strategies.strategy import Strategy
from codesign.trial import Evaluator, FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

MAX_STALE_ASKS = 200
"""Asks in a row without a new candidate after which a ticket ends early."""
_PROBES = 8

Finish = Callable[[Ticket, "Outcome | str"], None]
"""Takes a ticket with its outcome, or with the reason why there is none."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched and how candidates are judged; it travels to the workers.

    Attributes:
        space: where candidates come from.
        objectives: what makes one better than another.
        evaluators: their metrics together are a candidate's.
    """

    space: SearchSpace
    objectives: Objectives
    evaluators: tuple[Evaluator, ...]

    def judge(self, codes: IntArray) -> tuple[FloatArray, FloatArray]:
        """Losses, shape (n, m), and violations, shape (n,): infinite where an evaluation failed."""
        metrics: dict[str, FloatArray] = {}
        failed = np.zeros(len(codes), dtype=np.bool_)
        for evaluator in self.evaluators:
            found = guarded(evaluator, codes)
            metrics |= {name: np.asarray(values, dtype=np.float64) for name, values in found.metrics.items()}
            failed |= np.array([bool(error) for error in found.errors], dtype=np.bool_)
        for name in self.objectives.needed_metrics:
            failed |= ~np.isfinite(metrics[name])
        losses = self.objectives.losses(metrics)
        violations = self.objectives.violations(metrics)
        losses[failed], violations[failed] = np.nan, np.inf
        return losses, violations

    def fingerprint(self) -> str:
        """Equal for equal problems: from the choices, the objectives and what a few candidates are judged to be."""
        codes = self.space.canonical(self.space.sample(_PROBES, np.random.default_rng(0)))
        losses, violations = self.judge(codes)
        content = [
            [[choice.name, *map(str, choice.options)] for choice in self.space.choices],
            [str(objective) for objective in self.objectives.objectives],
            [budget.text for budget in self.objectives.budgets],
            [f"{value:.9g}" for value in (*losses.ravel(), *violations)],
        ]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a ticket found.

    Attributes:
        losses: shape (n, m), in order of evaluation; NaN where not measured.
        violations: shape (n,): 0 for a feasible candidate, infinite for a failed one.
        strategy_seconds: spent in the agent.
        evaluation_seconds: spent evaluating.
    """

    losses: FloatArray
    violations: FloatArray
    strategy_seconds: float
    evaluation_seconds: float


def make_problem(lottery: Lottery, folder: Path, job_folder: Path) -> tuple[Problem, Parts]:
    """Check a lottery's problem and put it together.

    Args:
        lottery: the lottery.
        folder: where results will lie.
        job_folder: where the lottery file lies.

    Raises:
        InputError: anything about the problem is wrong, or it trains networks.
    """
    try:
        parts = assemble(lottery.job(), folder, job_folder)
        if hasattr(parts.evaluator, "start"):
            raise InputError("evaluate: a lottery makes thousands of evaluations and trains nothing; use cost")
        require_feasible(parts, lottery.seed)
    except InputError as error:
        text = str(error)
        raise InputError(
            text if text.startswith(("problem", "unknown key in problem")) else f"problem: {text}"
        ) from error
    return Problem(parts.space, parts.objectives, (*parts.screens, parts.evaluator)), parts


def run_ticket(problem: Problem, ticket: Ticket) -> Outcome:
    """Search with one agent until its evaluations are used up, or until it finds nothing new."""
    space, m = problem.space, problem.objectives.n
    plugin = lookup("strategies", ticket.strategy)
    strategy: Strategy = make(plugin, f"agents.{ticket.agent}", space, m, ticket.seed, **ticket.options)
    seen: set[bytes] = set()
    losses, violations = [np.zeros((0, m))], [np.zeros(0)]
    stale, evaluation_seconds, began = 0, 0.0, time.perf_counter()
    while len(seen) < ticket.evaluations and stale < MAX_STALE_ASKS:
        proposed = strategy.ask(min(ticket.batch, ticket.evaluations - len(seen)))
        codes = _unseen(space.canonical(proposed[space.valid(proposed)]), seen)
        if len(codes) == 0:
            stale += 1
            continue
        stale, before = 0, time.perf_counter()
        found = problem.judge(codes)
        evaluation_seconds += time.perf_counter() - before
        strategy.tell(codes, *found)
        losses.append(found[0])
        violations.append(found[1])
    strategy_seconds = time.perf_counter() - began - evaluation_seconds
    return Outcome(np.concatenate(losses), np.concatenate(violations), strategy_seconds, evaluation_seconds)


def attempt_ticket(problem: Problem, ticket: Ticket) -> Outcome | str:
    """`run_ticket`, or the reason why it crashed: a faulty agent must not cost the others their results."""
    try:
        return run_ticket(problem, ticket)
    except Exception as error:  # noqa: BLE001  the ticket's border: the reason is reported at the end
        return f"{type(error).__name__}: {error}".strip()


def draw_serial(problem: Problem, tickets: Iterable[Ticket], finish: Finish) -> None:
    """Carry tickets out one after the other; `finish` is called after each."""
    for ticket in tickets:
        finish(ticket, attempt_ticket(problem, ticket))


def _unseen(codes: IntArray, seen: set[bytes]) -> IntArray:
    """The rows that are new, each once; they are seen from now on."""
    rows = []
    for row, key in enumerate(np.ascontiguousarray(codes)):
        if key.tobytes() not in seen:
            seen.add(key.tobytes())
            rows.append(row)
    return codes[rows]
