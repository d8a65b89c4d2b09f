"""The trials of a search as an in-memory Optuna study, and as data from which the same study can be built again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseGASampler, BaseSampler, RandomSampler
from optuna.trial import Trial, TrialState, create_trial

from codesign.strategies.strategy import FloatArray, StateDict, pack, unpack
from search_spaces.ops import IntArray
from search_spaces.space import Choice, SearchSpace

_CONSTRAINT = "violation"


class Status(IntEnum):
    """How far a record is."""

    OPEN = 0
    TOLD = 1
    DROPPED = 2  # given up: samplers do not see it


_STATES = {Status.OPEN: TrialState.RUNNING, Status.TOLD: TrialState.COMPLETE, Status.DROPPED: TrialState.FAIL}


@dataclass(slots=True)
class Record:
    """One trial.

    Attributes:
        code: shape (d,).
        status: how far it is.
        losses: shape (m,), NaN where not measured.
        violation: finite; that of a failed candidate lies above all seen before.
        overtaken: how many later trials were told while this one was open.
        attributes: what a sampler wrote down about it.
    """

    code: IntArray
    losses: FloatArray
    status: Status = Status.OPEN
    violation: float = 0.0
    overtaken: int = 0
    attributes: dict[str, object] = field(default_factory=dict)


class History:
    """Trials in order of their numbers.

    Samplers see a violation as a trial's one constraint, from the first positive one on (some of them cost more once
    there are constraints, and want them for all trials or none). Optuna knows no missing value: a loss that was not
    measured becomes the median of the first ones that were. Both decisions, once taken, hold for all trials: the study
    is then built anew.
    """

    def __init__(self, space: SearchSpace, n_objectives: int, sampler: BaseSampler) -> None:
        self._n_objectives = n_objectives
        self._n_decisions = len(space.choices)
        self._columns = [i for i, choice in enumerate(space.choices) if len(choice.options) > 1]
        self._distributions = {f"x{i:04d}": _distribution(space.choices[i]) for i in self._columns}
        self._genetic = sampler if isinstance(sampler, BaseGASampler) else None
        self._idle = RandomSampler(seed=0)
        self.records: list[Record] = []
        self._is_constrained = False
        self._typical: FloatArray | None = None
        self._largest_violation = 0.0
        self._build({})

    def draw(self, sampler: BaseSampler) -> int:
        """A new open trial whose code the sampler chose; returns its number."""
        self._study.sampler = sampler
        with _quiet():
            number = self._study.ask(self._distributions).number
        self._study.sampler = self._idle
        frozen = self._storage.get_trial(self._trial_id(number))
        code = np.zeros(self._n_decisions, dtype=np.int64)
        code[self._columns] = [frozen.params[name] for name in self._distributions]
        self._append(code, number)
        return number

    def open(self, code: IntArray) -> int:
        """A new open trial with a given code, shape (d,); returns its number."""
        number = len(self.records)
        self._study.add_trial(self._frozen(Record(code, np.full(self._n_objectives, np.nan))))
        if self._genetic is not None:  # else the trial would be in no generation and never a parent
            self._genetic.get_trial_generation(self._study, self._storage.get_trial(self._trial_id(number)))
        self._append(code, number)
        return number

    def prepare(self, losses: FloatArray, violations: FloatArray) -> None:
        """Take this class's two decisions if results that are about to be told, (n, m) and (n,), call for them."""
        measured = np.isfinite(losses).all(axis=1)
        is_constrained = self._is_constrained or bool((violations > 0).any())
        typical = self._typical
        if typical is None and measured.any():
            typical = np.median(losses[measured], axis=0)
        if is_constrained == self._is_constrained and typical is self._typical:
            return
        self._is_constrained, self._typical = is_constrained, typical
        self._build(self._study_attributes())

    def finish(self, number: int, losses: FloatArray, violation: float) -> None:
        """Tell an open trial its result; the violation may be infinite."""
        if np.isfinite(violation):
            self._largest_violation = max(self._largest_violation, violation)
        else:
            violation = 1.0 + self._largest_violation
        self._close(number, losses, violation)

    def repeat(self, number: int, known: int) -> None:
        """Tell an open trial the result of an earlier one of an equal candidate."""
        self._close(number, self.records[known].losses, self.records[known].violation)

    def drop(self, number: int) -> None:
        """Give an open trial up."""
        self.records[number].status = Status.DROPPED
        self._study.tell(number, state=TrialState.FAIL)

    def state_dict(self) -> StateDict:
        """JSON-able."""
        records = self.records
        n, d, m = len(records), self._n_decisions, self._n_objectives
        return {
            "codes": pack(np.array([record.code for record in records], dtype=np.int64).reshape(n, d)),
            "losses": pack(np.array([record.losses for record in records], dtype=np.float64).reshape(n, m)),
            "status": pack(np.array([record.status for record in records], dtype=np.int8)),
            "violations": pack(np.array([record.violation for record in records], dtype=np.float64)),
            "overtaken": pack(np.array([record.overtaken for record in records], dtype=np.int64)),
            "attributes": [record.attributes for record in records],
            "study_attributes": self._study_attributes(),
            "is_constrained": self._is_constrained,
            "typical": None if self._typical is None else self._typical.tolist(),
            "largest_violation": self._largest_violation,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        columns = [unpack(state[name]) for name in ("codes", "losses", "status", "violations", "overtaken")]
        self.records = [
            Record(code, losses, Status(int(status)), float(violation), int(overtaken), dict(attributes))
            for code, losses, status, violation, overtaken, attributes in zip(
                *columns, state["attributes"], strict=True
            )
        ]
        self._is_constrained = state["is_constrained"]
        self._typical = None if state["typical"] is None else np.array(state["typical"])
        self._largest_violation = state["largest_violation"]
        self._build(state["study_attributes"])

    def _close(self, number: int, losses: FloatArray, violation: float) -> None:
        record = self.records[number]
        record.losses, record.violation, record.status = losses.copy(), violation, Status.TOLD
        if self._is_constrained:
            Trial(self._study, self._trial_id(number)).set_constraint(_CONSTRAINT, violation)
        self._study.tell(number, self._values(record))

    def _append(self, code: IntArray, number: int) -> None:
        attributes = self._storage.get_trial(self._trial_id(number)).system_attrs
        # A sampler's note of the parameters it chose is of use to other processes alone.
        kept = {key: value for key, value in attributes.items() if "relative_params" not in key}
        self.records.append(Record(code, np.full(self._n_objectives, np.nan), attributes=kept))

    def _build(self, study_attributes: dict[str, object]) -> None:
        self._storage = optuna.storages.InMemoryStorage()
        with _quiet():
            self._study = optuna.create_study(
                storage=self._storage, sampler=self._idle, directions=["minimize"] * self._n_objectives
            )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        for key, value in study_attributes.items():
            self._storage.set_study_system_attr(self._study_id, key, value)  # type: ignore[arg-type]
        for record in self.records:
            self._study.add_trial(self._frozen(record))

    def _frozen(self, record: Record) -> optuna.trial.FrozenTrial:
        is_told = record.status is Status.TOLD
        return create_trial(
            state=_STATES[record.status],
            values=self._values(record) if is_told else None,
            params=dict(zip(self._distributions, record.code[self._columns].tolist(), strict=True)),
            distributions=self._distributions,
            system_attrs=dict(record.attributes),
            constraints={_CONSTRAINT: record.violation} if is_told and self._is_constrained else None,
        )

    def _values(self, record: Record) -> list[float]:
        typical = np.zeros(self._n_objectives) if self._typical is None else self._typical
        values: list[float] = np.where(np.isfinite(record.losses), record.losses, typical).tolist()
        return values

    def _study_attributes(self) -> dict[str, object]:
        return dict(self._storage.get_study_system_attrs(self._study_id))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _distribution(choice: Choice) -> BaseDistribution:
    """Three or more rising or falling numbers have an order that means something; other options are categories."""
    n = len(choice.options)
    numbers = [option for option in choice.options if not isinstance(option, str)]
    if len(numbers) == n >= 3 and numbers in (sorted(numbers), sorted(numbers, reverse=True)):
        return IntDistribution(0, n - 1)
    return CategoricalDistribution(tuple(range(n)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's notes of what it does, such as that a study was made or has converged."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(level, optuna.logging.ERROR))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
