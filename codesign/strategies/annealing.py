"""Simulated annealing on the scalar of `codesign.strategies.scalar`, with reheating.

Neighbours of the current candidate are proposed, and their results are taken one after the other: a better one becomes
the current candidate, a worse one with probability exp(-(worse - current) / temperature), a failed one never. The
temperature falls by the factor `cooling` with each result. Once below `lowest_temperature` it is set back, and the
search goes on from the best candidate so far. Source: Kirkpatrick et al. 1983; Metropolis et al. 1953.

With several objectives there are `CHAINS` current candidates, each in one direction of the losses; a neighbour is one
of any of them by chance, and every chain considers every result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codesign.strategies.population import Population
from codesign.strategies.scalar import Scalar, spread_directions
from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options, require, tunable
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

ARCHIVE = 32
"""Best candidates kept, from which a round starts."""
CHAINS = 8
"""Directions followed if there are several objectives."""


@dataclass(frozen=True, slots=True)
class AnnealingOptions:
    """Options of `Annealing`.

    Attributes:
        initial_temperature: in units of the scalar loss, which lies in 0..1 for feasible candidates.
        cooling: factor on the temperature for each result.
        lowest_temperature: below it a new round begins.
        step_size: decisions changed at once, at most: each neighbour draws its own number from 1 to this.
        warm_up: results of candidates drawn at random before the first round.
    """

    initial_temperature: float = tunable(0.1, 0.02, 0.05, 0.1, 0.3)
    cooling: float = tunable(0.98, 0.9, 0.95, 0.98, 0.99)
    lowest_temperature: float = tunable(0.001, 0.0005, 0.002, 0.01)
    step_size: int = tunable(2, 1, 2, 4)
    warm_up: int = tunable(16, 4, 16, 48)

    def __post_init__(self) -> None:
        highest, lowest = self.initial_temperature, self.lowest_temperature
        require(math.isfinite(highest) and highest > 0, "initial_temperature", highest, "a number above 0")
        require(0 < self.cooling < 1, "cooling", self.cooling, "a number between 0 and 1")
        require(0 < lowest <= highest, "lowest_temperature", lowest, "a number above 0, at most initial_temperature")
        require(self.step_size >= 1, "step_size", self.step_size, "a number from 1")
        require(self.warm_up >= 1, "warm_up", self.warm_up, "a number from 1")


class Annealing(Strategy):
    """Rounds of cooling, each a walk that ever fewer losses may worsen.

    Args:
        space: where candidates come from; it mutates them.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        options: see `AnnealingOptions`.
    """

    Options = AnnealingOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(AnnealingOptions, options)
        self._state = SearchState("annealing", space, n_objectives, seed)  # its population is the archive
        self._scalar = Scalar(n_objectives)
        self._directions = spread_directions(CHAINS, n_objectives)
        self._current = Population.empty(len(space.choices), n_objectives)  # one per direction once a round has begun
        self._temperature = self.options.initial_temperature
        self._n_told = 0

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        if len(self._current) == 0:
            return self._state.propose(self._state.sample(n), lambda codes: self._state.sample(len(codes)))
        chains = self._state.rng.integers(0, len(self._directions), size=n)
        neighbours = self._state.mutate(self._current.codes[chains])
        n_steps = self._state.rng.integers(1, self.options.step_size + 1, size=n)
        for done in range(1, self.options.step_size):
            neighbours[n_steps > done] = self._state.mutate(neighbours[n_steps > done])
        return self._state.propose(neighbours, self._state.mutate)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`."""
        told = self._state.newcomers(codes, losses, violations)
        self._scalar.learn(told.losses, told.violations)
        self._state.population = self._state.without_twins(self._state.population.plus(told)).best(ARCHIVE)
        self._n_told += len(codes)
        if len(self._current) == 0:
            if self._n_told >= self.options.warm_up and len(self._state.population):
                self._begin_round()
            return
        self._consider(told)
        self._temperature *= self.options.cooling ** len(codes)
        if self._temperature < self.options.lowest_temperature:
            self._begin_round()

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return {
            **self._state.state_dict(),
            "scalar": self._scalar.state_dict(),
            "current": self._current.state_dict(),
            "temperature": self._temperature,
            "n_told": self._n_told,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)
        self._scalar.load_state_dict(state["scalar"])
        self._current = Population.from_state_dict(state["current"])
        self._temperature = state["temperature"]
        self._n_told = state["n_told"]

    def _begin_round(self) -> None:
        """From the best candidate in each direction, hot."""
        archive = self._state.population
        self._current = archive.take(self._values(archive).argmin(axis=1))
        self._temperature = self.options.initial_temperature

    def _consider(self, told: Population) -> None:
        """Metropolis, result by result: each takes the place of a chain's current candidate, or not."""
        here, there = np.diagonal(self._values(self._current)).copy(), self._values(told)
        taken = np.full(len(here), -1)
        for row in range(len(told)):
            chance = np.exp(np.minimum(0.0, (here - there[:, row]) / self._temperature))
            is_taken = self._state.rng.random(len(here)) < chance
            here[is_taken], taken[is_taken] = there[is_taken, row], row
        rows = np.where(taken < 0, np.arange(len(here)), len(here) + taken)
        self._current = self._current.plus(told).take(rows)

    def _values(self, population: Population) -> FloatArray:
        """Scalar losses in each chain's direction, shape (chains, p)."""
        return self._scalar.value(population.losses, population.violations, self._directions[:, None, :])
