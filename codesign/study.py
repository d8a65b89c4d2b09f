"""A study: a strategy, objectives and a store. It asks, records and tells; drivers are small loops around it.

Work goes in rounds of `batch` candidates. A round is asked for once all rounds but the last `in_flight` have been told,
and rounds are told in order, each just before the ask that needs it. So what the strategy knows when it proposes a
candidate depends on the job alone, never on which worker was quicker: the ledger is the same under every driver, and
after any kill the run goes on as if nothing had happened.

Candidates are canonical, so equal ones have equal keys; one that the study has seen is not proposed again. Cheap
metrics are computed first: a candidate over a budget is recorded, told, and never evaluated further.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np

from codesign.honesty_shadow import Noted, Shadow, Source, forecast_metrics, origins_of
from codesign.objectives import Objectives
from codesign.screening import Screened, screen
from codesign.store import Finished, NewTrials, Outcome, Progress, Store
from codesign.strategies.strategy import Strategy
from codesign.trial import Evaluation, Evaluator, FloatArray, State
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

MAX_STALE_ASKS = 200
"""Asks in a row that bring nothing new, after which the space counts as exhausted."""
MAX_OVER_BUDGET = 20_000
"""New candidates in a row that are over a budget, after which the search counts as exhausted."""
MAX_MEASURED_OVER_BUDGET = 100
"""New candidates in a row that were measured (converted and timed) just to be found over a budget."""
MAX_BLOCK = 256
"""Candidates proposed and screened together while budgets reject most of them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Candidates to evaluate: trial numbers, codes of shape (n, d) and evaluation keys."""

    numbers: tuple[int, ...]
    codes: IntArray
    keys: tuple[str, ...]


@dataclass
class _Round:
    numbers: list[int]
    codes: IntArray  # shape (len(numbers), d)
    losses: dict[int, FloatArray] = field(default_factory=dict)
    violations: dict[int, float] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        return len(self.violations) == len(self.numbers)


class Study:
    """One search: what was asked, what came back, what is next.

    Args:
        space: the candidates.
        strategy: proposes them; its state is restored from the store if the study has one.
        objectives: metrics to losses and violations.
        store: where everything is kept.
        study_id: which study of the store.
        evaluator: gives the metrics that cost time.
        screens: cheap evaluators, cheapest first; each sees only candidates that are within the budgets so far.
        folder: the run's folder, which artifact paths are relative to.
        trials: how many candidates to evaluate in full.
        batch: candidates asked for at a time.
        in_flight: rounds under way at once.
        shadow: which of the trials are drawn at random, past the strategy; it is told of them like of any other.
    """

    def __init__(
        self,
        space: SearchSpace,
        strategy: Strategy,
        objectives: Objectives,
        store: Store,
        study_id: int,
        evaluator: Evaluator,
        screens: Sequence[Evaluator] = (),
        *,
        folder: Path = Path(),
        trials: int,
        batch: int = 1,
        in_flight: int = 1,
        shadow: Shadow = Shadow(),  # noqa: B008  frozen
    ) -> None:
        self.space = space
        self.objectives = objectives
        self.store = store
        self.id = study_id
        self.trials = trials
        self._strategy = strategy
        self._evaluator = evaluator
        self._screens = tuple(screens)
        self._folder = folder.absolute()
        self.batch = batch
        self._in_flight = in_flight
        self._shadow = shadow
        self._rounds: dict[int, _Round] = {}
        self._round_of: dict[int, int] = {}
        self._cheap: dict[int, dict[str, float]] = {}
        self._eval_key: dict[int, str] = {}
        self._codes: dict[int, IntArray] = {}
        self._running: dict[
            str, list[int]
        ] = {}  # evaluation key -> the trial at work on it, then those that wait for it
        self._to_hand_out: list[int] = []
        self._listeners: list[Callable[[FloatArray, FloatArray], None]] = []
        self._restore()

    # --- what drivers use

    @property
    def is_done(self) -> bool:
        """Every trial is finished, or no new candidate can be found."""
        return self.is_asked_out and not any(not round_.is_finished for round_ in self._rounds.values())

    @property
    def is_asked_out(self) -> bool:
        """No more candidates will be proposed."""
        return self._n_asked >= self.trials or self.is_exhausted

    @property
    def n_finished(self) -> int:
        """Trials evaluated in full, failed ones included."""
        return self._n_asked - sum(len(r.numbers) - len(r.violations) for r in self._rounds.values())

    @property
    def n_asked(self) -> int:
        """Trials asked for so far, finished or not."""
        return self._n_asked

    @property
    def n_proposed(self) -> int:
        """Trials in the ledger, those over a cheap budget included."""
        return self._n_proposed

    def ask(self, limit: int | None = None) -> Batch | None:
        """Candidates to evaluate now, at most `limit`; None if there are none until something finishes, or at all."""
        while not self._to_hand_out:
            if self.is_asked_out or not self._tell_rounds_due():
                return None
            self._ask_round()
        taken = self._to_hand_out[: limit or self.batch]
        del self._to_hand_out[: len(taken)]
        codes = np.stack([self._codes[number] for number in taken])
        return Batch(tuple(taken), codes, tuple(self._eval_key[number] for number in taken))

    def finish(self, numbers: Sequence[int], evaluation: Evaluation) -> None:
        """Record what was found; durable when this returns. Trials that wait for an equal evaluation finish with it."""
        rows: list[tuple[int, int, bool]] = []  # trial, row of the evaluation, reused?
        for row, number in enumerate(numbers):
            if number not in self._round_of or number in self._rounds[self._round_of[number]].violations:
                continue  # a worker reported a trial twice
            waiting = self._running.pop(self._eval_key[number], [number])
            rows.extend((trial, row, trial != number) for trial in [number, *(t for t in waiting if t != number)])
        outcomes = self._outcomes_to_keep(numbers, evaluation)
        for reused in (False, True):
            chosen = [(trial, row) for trial, row, is_reused in rows if is_reused is reused]
            if chosen:
                self._record([t for t, _ in chosen], [r for _, r in chosen], evaluation, reused, outcomes)

    def release(self, numbers: Sequence[int]) -> None:
        """Give candidates back that were handed out but will not be evaluated now; they are handed out again."""
        self._to_hand_out = sorted({*self._to_hand_out, *numbers})

    # --- asking

    def _tell_rounds_due(self) -> bool:
        """Tell the rounds that the next ask must know of; False if one of them still runs."""
        while self._rounds_asked - self._rounds_told >= self._in_flight:
            round_ = self._rounds[self._rounds_told]
            if not round_.is_finished:
                return False
            losses = np.array([round_.losses[number] for number in round_.numbers])
            violations = np.array([round_.violations[number] for number in round_.numbers])
            self._strategy.tell(round_.codes, losses, violations)
            self._forget(self._rounds_told)
            self._rounds_told += 1
        return True

    def _forget(self, index: int) -> None:
        for number in self._rounds.pop(index).numbers:
            for table in (self._round_of, self._cheap, self._eval_key, self._codes):
                table.pop(number, None)

    def _ask_round(self) -> None:
        """Propose one round and save it with everything that led to it."""
        wanted = min(self.batch, self.trials - self._n_asked)
        found, noted = self._propose_round(wanted)
        codes = found.codes
        within = np.flatnonzero(found.violations == 0)
        self.is_exhausted = len(within) < wanted
        index = self._rounds_asked
        first = self._n_proposed
        rounds = np.full(len(codes), -1)
        rounds[within] = index
        if len(within):
            numbers = [first + int(i) for i in within]
            self._rounds[index] = _Round(numbers, codes[within])
            self._rounds_asked += 1
            self._n_asked += len(within)
            eval_keys = self._evaluation_keys(codes[within])
            for number, row, eval_key in zip(numbers, within, eval_keys, strict=True):
                self._round_of[number] = index
                self._eval_key[number] = eval_key
                self._codes[number] = codes[row]
                self._cheap[number] = {name: float(values[row]) for name, values in found.metrics.items()}
        self._n_proposed += len(codes)
        self.store.record(
            self.id,
            new=NewTrials(
                first_number=first,
                rounds=rounds.tolist(),
                states=[_screened_state(violation) for violation in found.violations.tolist()],
                keys=found.keys,
                codes=codes.tolist(),
                genotypes=[self.space.decode(code) for code in codes],
                violations=np.where(found.violations == 0, np.nan, found.violations),
                errors=found.errors,
                metrics=found.metrics,
                forecasts=forecast_metrics(noted, self.objectives, found.metrics),
                origins=origins_of(noted),
            ),
            progress=self._progress(),
        )
        if len(within):
            self._start(numbers)

    def _propose_round(self, wanted: int) -> tuple[Screened, list[Noted]]:
        """New candidates of one round: those that are drawn past the strategy, then the strategy's."""
        parts: list[Screened] = []
        noted: list[Noted] = []
        n_drawn = self._shadow.n_due(self._n_asked, wanted)
        if n_drawn:
            self._propose(n_drawn, self._shadow.source(self.space, self._n_asked), parts, noted)
            wanted -= sum(int((part.violations == 0).sum()) for part in parts)
        if wanted:
            self._propose(wanted, Source(self._strategy.ask), parts, noted)
        return Screened.joined(parts, len(self.space.choices)), noted

    def _propose(self, wanted: int, source: Source, parts: list[Screened], noted: list[Noted]) -> None:
        """New candidates until `wanted` are within the cheap budgets, and those that are not, added to the lists."""
        n_within = stale = rejected = measured = 0
        block_size = wanted
        while (
            n_within < wanted
            and stale < MAX_STALE_ASKS
            and rejected < MAX_OVER_BUDGET
            and measured < MAX_MEASURED_OVER_BUDGET
        ):
            origin = source.origin(self._strategy)
            codes, keys = self._fresh(source.ask(block_size))
            if len(codes) == 0:
                stale += 1
                continue
            part = screen(self._screens, self.objectives, codes, keys, wanted - n_within)
            self._seen.difference_update(keys[len(part) :])  # those behind the last one wanted were not looked at
            over = part.violations > 0
            noted.append(Noted.of(self._strategy, origin, part.codes, ~over, self.objectives.n))
            if over.any():
                losses = self.objectives.losses({name: values[over] for name, values in part.metrics.items()})
                losses[np.isinf(part.violations[over])] = np.nan
                self._strategy.tell(part.codes[over], losses, part.violations[over])
            n_new = int((~over).sum())
            n_within += n_new
            stale = 0
            rejected = 0 if n_new else rejected + len(part)
            measured = 0 if n_new else measured + part.n_measured
            missing = max(1, wanted - n_within)
            block_size = missing if n_new == len(over) else min(max(2 * block_size, missing), max(MAX_BLOCK, missing))
            parts.append(part)

    def _fresh(self, proposed: IntArray) -> tuple[IntArray, list[str]]:
        """The proposals that are valid and new, canonical, with their keys."""
        codes = self.space.canonical(proposed[self.space.valid(proposed)])
        rows: list[int] = []
        keys: list[str] = []
        for row, key in enumerate(candidate_keys(codes)):
            if key not in self._seen:
                self._seen.add(key)
                rows.append(row)
                keys.append(key)
        return codes[rows], keys

    def _evaluation_keys(self, codes: IntArray) -> list[str]:
        """What decides each candidate's outcome; the candidate itself where outcomes are not kept."""
        return self._evaluator.keys(codes) if self._evaluator.fingerprint else candidate_keys(codes)

    def _start(self, numbers: Sequence[int]) -> None:
        """Hand trials out, except those whose evaluation is known or under way."""
        fresh: dict[str, int] = {}
        for number in numbers:
            key = self._eval_key[number]
            if key in self._running:
                self._running[key].append(number)
            else:
                self._running[key] = [number]
                fresh[key] = number
        known = self.store.outcomes(self._evaluator.fingerprint, list(fresh)) if self._evaluator.fingerprint else {}
        for key, number in fresh.items():
            artifacts = self._evaluator.adopt(known[key].artifacts, key) if key in known else None
            if artifacts is not None:
                outcome = known[key]
                waiting = self._running.pop(key)
                metrics = {n: np.full(1, outcome.metrics.get(n, np.nan)) for n in self._evaluator.metrics}
                evaluation = Evaluation(metrics, [""], [artifacts])
                self._record(waiting, [0] * len(waiting), evaluation, True, {})
            else:
                self._to_hand_out.append(number)

    # --- recording

    def _outcomes_to_keep(self, numbers: Sequence[int], evaluation: Evaluation) -> dict[str, Outcome]:
        if not self._evaluator.fingerprint:
            return {}
        keep: dict[str, Outcome] = {}
        for row, number in enumerate(numbers):
            values = {name: float(column[row]) for name, column in evaluation.metrics.items()}
            is_whole = not evaluation.errors[row] and not any(np.isnan(value) for value in values.values())
            if number in self._eval_key and is_whole and not values.get("stopped_early"):
                files = evaluation.artifacts[row] if evaluation.artifacts else {}
                artifacts = {kind: str(self._folder / path) for kind, path in files.items()}
                keep[self._eval_key[number]] = Outcome(values, artifacts)
        return keep

    def _record(
        self,
        numbers: list[int],
        rows: list[int],
        evaluation: Evaluation,
        is_reused: bool,
        outcomes: Mapping[str, Outcome],
    ) -> None:
        metrics = {name: np.asarray(column, dtype=np.float64)[rows] for name, column in evaluation.metrics.items()}
        errors = [evaluation.errors[row] for row in rows]
        for i in np.flatnonzero(~np.all([np.isfinite(column) for column in metrics.values()], axis=0)).tolist():
            errors[i] = errors[i] or _nan_reason(metrics, i)
        known = dict(metrics)
        for name in {name for number in numbers for name in self._cheap[number]}:
            known[name] = np.array([self._cheap[number].get(name, np.nan) for number in numbers])
        failed = np.array([bool(error) for error in errors])
        losses = self.objectives.losses(known)
        violations = np.where(failed, np.inf, self.objectives.violations(known))
        losses[failed] = np.nan
        self.store.record(
            self.id,
            finished=Finished(
                numbers=numbers,
                states=[State.FAILED if error else State.MEASURED for error in errors],
                violations=violations,
                errors=errors,
                metrics=metrics,
                artifacts=[evaluation.artifacts[row] if evaluation.artifacts else {} for row in rows],
                is_reused=is_reused,
            ),
            outcomes=(self._evaluator.fingerprint, outcomes) if outcomes else None,
        )
        for i, number in enumerate(numbers):
            round_ = self._rounds[self._round_of[number]]
            round_.losses[number] = losses[i]
            round_.violations[number] = float(violations[i])
        for listener in self._listeners:
            listener(losses, violations)

    def on_result(self, listener: Callable[[FloatArray, FloatArray], None]) -> None:
        """Call `listener(losses, violations)`, shapes (n, m) and (n,), whenever results were recorded."""
        self._listeners.append(listener)

    # --- state

    def _progress(self) -> Progress:
        state = json.dumps(self._strategy.state_dict(), separators=(",", ":"))
        return Progress(
            self._n_proposed, self._n_asked, self._rounds_asked, self._rounds_told, self.is_exhausted, state
        )

    def _restore(self) -> None:
        progress = self.store.progress(self.id)
        self._n_proposed = progress.n_proposed
        self._n_asked = progress.n_asked
        self._rounds_asked = progress.rounds_asked
        self._rounds_told = progress.rounds_told
        self.is_exhausted = progress.is_exhausted
        self._seen = set(self.store.keys(self.id))
        if progress.strategy_state:
            self._strategy.load_state_dict(json.loads(progress.strategy_state))
        self._restore_rounds()

    def _restore_rounds(self) -> None:
        """Bring back the rounds that were asked for but not told: their results, and the trials that still run."""
        open_rows = self.store.open_rounds(self.id, self._rounds_told)
        if not open_rows:
            return
        names = self.store.metric_names(self.id)
        trials = {trial.number: trial for trial in self.store.trials(self.id, [row.number for row in open_rows])}
        unfinished: list[int] = []
        for index in sorted({row.round for row in open_rows}):
            rows = [row for row in open_rows if row.round == index]
            numbers = [row.number for row in rows]
            codes = np.array([row.code for row in rows], dtype=np.int64)
            round_ = self._rounds[index] = _Round(numbers, codes)
            for number, code, key in zip(numbers, codes, self._evaluation_keys(codes), strict=True):
                trial = trials[number]
                self._codes[number] = code
                self._round_of[number] = index
                self._eval_key[number] = key
                self._cheap[number] = dict(trial.metrics)
                if trial.state is State.RUNNING:
                    unfinished.append(number)
                    continue
                values = {name: np.array([trial.metrics.get(name, np.nan)]) for name in names}
                losses = self.objectives.losses(values)[0]
                round_.losses[number] = np.full_like(losses, np.nan) if trial.state is State.FAILED else losses
                round_.violations[number] = trial.violation
        self._start(unfinished)


def candidate_keys(codes: IntArray) -> list[str]:
    """A short text for each row, shape (n, d), equal for equal rows alone (128-bit BLAKE2)."""
    contiguous = np.ascontiguousarray(codes, dtype=np.int64)
    return [blake2b(row.tobytes(), digest_size=16).hexdigest() for row in contiguous]


def _screened_state(violation: float) -> State:
    if violation == 0:
        return State.RUNNING
    return State.FAILED if np.isinf(violation) else State.MEASURED


def _nan_reason(metrics: Mapping[str, FloatArray], row: int) -> str:
    missing = [name for name, values in metrics.items() if not np.isfinite(values[row])]
    return f"the evaluation gave no finite {', '.join(missing)}" if missing else ""
