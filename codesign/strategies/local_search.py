"""Pareto local search: one step away from every trade-off found so far.

Source: Paquete, Chiarandini and Stützle 2004, "Pareto Local Optimum Sets in the Biobjective Traveling Salesman Problem"
(an archive of non-dominated candidates whose neighbours are explored). Departures:

- Neighbours are drawn, not listed: a neighbourhood of a network has hundreds of members, each perhaps a training.
- Members are taken in turn, those whose neighbours were drawn least often first and of these the least crowded, so that
  no region of the front is left behind.
- With a probability a child mixes two members before it moves, which joins what two regions found.
- With one objective there is no front to walk along: the archive holds the best candidates met, and the neighbours of
  the best one are drawn first; once they are all known, those of the next best. So a local optimum ends nothing, as it
  would a hill climber without restarts.
- The search begins with random candidates, and while nothing is feasible the archive holds the smallest violations.
- With `pool` above 1, half of the neighbours are chosen from so many times as many: those by which a model of losses
  (kernel ridge regression on how much two candidates differ) expects the front to move most. It costs about 10 ms
  a proposal at 1,000 results, so it pays where an evaluation does not take microseconds or the best front is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.pareto import is_nondominated
from codesign.strategies.front_model import promising
from codesign.strategies.population import Population
from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import (
    FloatArray,
    StateDict,
    Strategy,
    make_options,
    pack,
    require,
    tunable,
    unpack,
)
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

DRAWS = 32
"""Neighbours drawn of a member before all of them count as known; one objective alone."""
EXHAUSTED = -1
"""In place of how often a member's neighbours were drawn: all of them are known."""
MODELLED = 1_500
"""Results that the model learns from, the latest: its cost grows with their square."""


@dataclass(frozen=True, slots=True)
class LocalSearchOptions:
    """Options of `ParetoLocalSearch`.

    Attributes:
        start: how many candidates are drawn at random first.
        crossover_probability: how often a child mixes two members before it moves; with one objective none does.
        capacity: members of the archive at most; the crowded ones give way.
        pool: neighbours drawn for each one that is proposed; 1 takes them as they come.
    """

    start: int = tunable(24, 8, 24, 64)
    crossover_probability: float = tunable(0.3, 0.0, 0.3, 0.6)
    capacity: int = 400
    pool: int = 1

    def __post_init__(self) -> None:
        require(self.start >= 1, "start", self.start, "a number from 1")
        require(self.capacity >= 1, "capacity", self.capacity, "a number from 1")
        require(self.pool >= 1, "pool", self.pool, "a number from 1")
        crossover = self.crossover_probability
        require(0 <= crossover <= 1, "crossover_probability", crossover, "a number from 0 to 1")


class ParetoLocalSearch(Strategy):
    """Explores the neighbours of an archive of non-dominated candidates.

    Args:
        space: where candidates come from; its mutation is the neighbourhood.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        options: see `LocalSearchOptions`.
    """

    Options = LocalSearchOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(LocalSearchOptions, options)
        self._state = SearchState("local-search", space, n_objectives, seed)
        self._n_told = 0
        self._drawn = np.zeros(0, dtype=np.int64)  # how often each member's neighbours were drawn
        numbers = [all(isinstance(option, int | float) for option in choice.options) for choice in space.choices]
        self._spans = np.where(numbers, space.n_options - 1, 0).astype(np.float64)
        self._results = Population.empty(len(space.choices), n_objectives)  # the latest, for the model

    @property
    def draws_at_random(self) -> bool:
        """See `DrawsAtRandom`."""
        return self._n_told < self.options.start or len(self._state.population) == 0

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        codes = self._state.sample(n) if self.draws_at_random else self._next(n)
        return self._state.propose(codes, self._state.mutate)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`."""
        known = dict(zip(self._state.keys(self._state.population.codes), self._drawn.tolist(), strict=True))
        newcomers = self._state.newcomers(codes, losses, violations)
        if self.options.pool > 1:
            results = self._state.without_twins(self._results.plus(newcomers))
            self._results = results.take(np.arange(max(0, len(results) - MODELLED), len(results)))
        everyone = self._state.without_twins(self._state.population.plus(newcomers))
        self._n_told += len(codes)
        self._state.population = self._archive(everyone)
        keys = self._state.keys(self._state.population.codes)
        self._drawn = np.array([known.get(key, 0) for key in keys], dtype=np.int64)

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        own = {"n_told": self._n_told, "drawn": pack(self._drawn), "results": self._results.state_dict()}
        return {**self._state.state_dict(), **own}

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)
        self._n_told = state["n_told"]
        self._drawn = unpack(state["drawn"])
        self._results = Population.from_state_dict(state["results"])

    def _archive(self, everyone: Population) -> Population:
        """The first front, or the best for one objective; while nothing is feasible the smallest violations."""
        feasible = everyone.take(np.flatnonzero(everyone.violations == 0))
        if len(feasible) == 0:
            return everyone.best(self.options.start)
        if feasible.losses.shape[1] == 1:
            return feasible.best(self.options.capacity)
        first = feasible.take(np.flatnonzero(is_nondominated(feasible.losses)))
        return first.best(self.options.capacity)

    def _next(self, n: int) -> IntArray:
        """Neighbours, half of them chosen by the model where there is one, shape (n, d)."""
        measured = np.isfinite(self._results.losses).all(axis=1)
        feasible = measured & (self._results.violations == 0)
        n_chosen = (n + 1) // 2 if self.options.pool > 1 and feasible.any() else 0
        if n_chosen == 0:
            return self._neighbours(n)
        pool = self._state.space.canonical(self._neighbours(n_chosen * self.options.pool))
        keys = self._state.keys(pool)
        fresh = self._state.unknown(keys) & self._state.space.valid(pool)
        pool = pool[fresh]
        chosen = pool[promising(pool, self._results.take(np.flatnonzero(measured)), n_chosen, self._spans)]
        return np.concatenate([chosen, self._neighbours(n - len(chosen))])

    def _neighbours(self, n: int) -> IntArray:
        """Children of the members whose turn it is, shape (n, d)."""
        state, members = self._state, self._state.population
        if members.losses.shape[1] == 1:
            return self._neighbours_of_the_best(n)
        parents = np.empty(n, dtype=np.int64)
        for i in range(n):
            parents[i] = np.lexsort((members.places, self._drawn))[0]
            self._drawn[parents[i]] += 1
        children = members.codes[parents]
        crossed = state.rng.random(n) < self.options.crossover_probability
        mates = members.codes[state.rng.integers(0, len(members), int(crossed.sum()))]
        children[crossed] = state.cross(children[crossed], mates)
        return state.mutate(children)

    def _neighbours_of_the_best(self, n: int) -> IntArray:
        """Unknown neighbours of the best member that has some, then of the next, shape (n, d)."""
        state, members = self._state, self._state.population
        found = np.zeros((0, members.codes.shape[1]), dtype=np.int64)
        best_first = np.argsort(members.places, kind="stable")
        for row in best_first[self._drawn[best_first] != EXHAUSTED]:
            drawn = state.mutate(np.repeat(members.codes[[row]], n + DRAWS, axis=0))
            drawn = drawn[state.space.valid(drawn)]
            fresh = drawn[state.unknown(state.keys(np.concatenate([found, drawn])))[len(found) :]]
            self._drawn[row] = EXHAUSTED if len(fresh) == 0 else self._drawn[row] + len(fresh)
            found = np.concatenate([found, fresh[: n - len(found)]])
            if len(found) == n:
                return found
        missing = n - len(found)  # every neighbour is known: further away
        return np.concatenate([found, state.mutate(members.codes[state.rng.integers(0, len(members), missing)])])
