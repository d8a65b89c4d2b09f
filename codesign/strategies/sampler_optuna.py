"""Any of Optuna's samplers as a strategy.

Each candidate is drawn by a new sampler whose seed follows from the search's seed and the number of draws so far;
everything else it needs is in the study's trials and attributes. A draw is so a function of seed, history and position,
and a restored search goes on exactly as the unbroken one.

Feasible candidates, those over budget and failed ones reach the samplers as Optuna's constraints (see `History`).
A draw that is known already is told to the study with its known result, so that the sampler moves on; after a few such
draws the last one is mutated until it is new. A trial that is never told is given up once enough later ones were, lest
it count as running for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from optuna.samplers import BaseSampler

from codesign.strategies.history_optuna import History, Status
from codesign.strategies.make_sampler_optuna import make_sampler
from codesign.strategies.novelty import Memory, renew
from codesign.strategies.strategy import (
    SETTINGS,
    FloatArray,
    StateDict,
    Strategy,
    check_header,
    check_told,
    header,
    make_options,
)
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

_DRAWS = 2
"""Draws for one candidate before a known one is mutated."""
_PATIENCE = 64
"""Later trials told before one that was not is given up."""
_TPE_SETTINGS = tuple(
    {"n_startup_trials": startup, "n_ei_candidates": candidates, "multivariate": multivariate}
    for startup in (5, 10, 20, 40)
    for candidates in (12, 24, 48)
    for multivariate in (False, True)
)
"""What a sweep tries: the options of the default sampler."""


@dataclass(frozen=True, slots=True)
class OptunaOptions:
    """Options of `OptunaSampler`.

    Attributes:
        sampler: tpe, random, nsga2, nsga3, gp, qmc or brute_force.
        sampler_options: arguments of the sampler, such as `{n_startup_trials: 20}` for tpe; see `SAMPLERS`.
    """

    sampler: str = "tpe"
    sampler_options: Mapping[str, bool | int | float | str] = field(
        default_factory=dict, metadata={SETTINGS: _TPE_SETTINGS}
    )

    def __post_init__(self) -> None:
        make_sampler(self.sampler, self.sampler_options, seed=0, sequence_seed=0)


class OptunaSampler(Strategy):
    """Draws candidates with a sampler of Optuna, in memory.

    Args:
        space: where candidates come from.
        n_objectives: number of losses told for each.
        seed: all randomness follows from it.
        options: see `OptunaOptions`.
    """

    Options = OptunaOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(OptunaOptions, options)
        self._space = space
        self._n_objectives = n_objectives
        self._seed = seed
        self._n_draws = 0
        self._memory = Memory(space)
        self._open: dict[int, int] = {}  # key of a candidate -> number of the trial that is open for it
        self._told: dict[int, int] = {}  # key of a candidate -> number of the latest trial told for it
        self._history = History(space, n_objectives, self._sampler())

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        codes = [self._candidate() for _ in range(n)] if self._space.size > 1 else []
        return np.array(codes) if codes else np.zeros((n, len(self._space.choices)), dtype=np.int64)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`."""
        told = check_told(self._space, self._n_objectives, codes, losses, violations)
        if self._space.size == 1:
            return
        keys = self._memory.keys(told.codes)
        self._memory.add(keys, told=True)
        self._history.prepare(told.losses, told.violations)
        for row, key in enumerate(keys):
            was_asked = key in self._open
            number = self._open.pop(key) if was_asked else self._history.open(told.codes[row])
            self._history.finish(number, told.losses[row], float(told.violations[row]))
            self._told[key] = number
            if was_asked:
                self._give_up_before(number)

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return {
            **self._header(),
            "seed": self._seed,
            "n_draws": self._n_draws,
            "memory": self._memory.state_dict(),
            "history": self._history.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        check_header(state, self._header())
        self._seed = state["seed"]
        self._n_draws = state["n_draws"]
        self._memory.load_state_dict(state["memory"])
        self._history.load_state_dict(state["history"])
        records = self._history.records
        codes = np.array([record.code for record in records]).reshape(len(records), len(self._space.choices))
        numbers = np.flatnonzero(self._space.valid(codes))
        keyed = list(zip(self._memory.keys(codes[numbers]), numbers.tolist(), strict=True))
        self._open = {key: i for key, i in keyed if records[i].status is Status.OPEN}
        self._told = {key: i for key, i in keyed if records[i].status is Status.TOLD}

    def _header(self) -> StateDict:
        return header(f"optuna {self.options.sampler}", self._space, self._n_objectives)

    def _sampler(self) -> BaseSampler:
        seed = int(np.random.SeedSequence([self._seed, self._n_draws]).generate_state(1)[0])
        return make_sampler(self.options.sampler, self.options.sampler_options, seed, self._seed)

    def _candidate(self) -> IntArray:
        """A new candidate as far as one can be found, shape (d,); it is open now, unless it repeats."""
        code: IntArray
        for _ in range(_DRAWS):
            number = self._history.draw(self._sampler())
            self._n_draws += 1
            code = self._history.records[number].code
            if self._is_new(number, code):
                self._memory.add(self._memory.keys(code[None]), told=False)
                return code
        rng = np.random.default_rng([self._seed, self._n_draws])
        codes = renew(code[None], self._space, self._memory, rng, lambda codes: self._space.mutate(codes, rng))
        code = codes[0]
        key = self._memory.keys(code[None])[0]
        if key not in self._open and key not in self._told:
            self._open[key] = self._history.open(code)
        return code

    def _is_new(self, number: int, code: IntArray) -> bool:
        """Whether a drawn candidate is valid and new; if not, its trial is closed with what is known of it."""
        if not self._space.valid(code[None])[0]:
            unknown = np.full(self._n_objectives, np.nan)
            self._history.prepare(unknown[None], np.array([np.inf]))
            self._history.finish(number, unknown, np.inf)
            return False
        key = self._memory.keys(code[None])[0]
        if key in self._open:
            self._history.drop(number)
        elif key in self._told:
            self._history.repeat(number, self._told[key])
        else:
            self._open[key] = number
            return True
        return False

    def _give_up_before(self, number: int) -> None:
        for key, earlier in list(self._open.items()):
            record = self._history.records[earlier]
            if earlier < number:
                record.overtaken += 1
                if record.overtaken >= _PATIENCE:
                    self._history.drop(earlier)
                    del self._open[key]
