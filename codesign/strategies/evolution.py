"""Regularised (ageing) evolution.

Source: Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", Algorithm 1. Beyond the
paper:

- Several objectives: the winner of a tournament has the best rank, and between members of a front chance decides (the
  larger crowding distance would always prefer the two ends). Or, with `scalarization: hypervolume`, it pushes the
  hypervolume furthest in a direction drawn for the tournament (Golovin and Zhang 2020).
- The first candidates that come from parents do not wait for a full population.
- Budgets: feasible candidates die by age alone. Places they leave free go to the infeasible ones with the smallest
  violations, so that a hail of candidates over budget does not age the good ones out. Failed ones never enter.
- Batches: candidates told together have one age; if only a part of them fits, it is the best part.
- Optional crossover before the mutation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options, require, tunable
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

SCALARIZATIONS = ("rank", "hypervolume")


@dataclass(frozen=True, slots=True)
class EvolutionOptions:
    """Options of `RegularizedEvolution`.

    Attributes:
        population_size: how many candidates may become parents, the youngest (P in the paper, there 100).
        sample_size: members of a tournament (S in the paper, there 25).
        crossover_probability: how often a child has two parents; the paper has mutation alone.
        start: how many candidates are drawn at random first; at most `population_size`.
        scalarization: what wins a tournament between several objectives, `rank` or `hypervolume`.
    """

    population_size: int = tunable(50, 8, 16, 32, 64)
    sample_size: int = tunable(12, 2, 4, 8, 16)
    crossover_probability: float = tunable(0.0, 0.0, 0.5)
    start: int = 24
    scalarization: Literal["rank", "hypervolume"] = "rank"

    def __post_init__(self) -> None:
        require(self.population_size >= 1, "population_size", self.population_size, "a number from 1")
        require(self.sample_size >= 1, "sample_size", self.sample_size, "a number from 1")
        require(self.start >= 1, "start", self.start, "a number from 1")
        require(self.scalarization in SCALARIZATIONS, "scalarization", self.scalarization, "rank or hypervolume")
        probability = self.crossover_probability
        require(0 <= probability <= 1, "crossover_probability", probability, "a number from 0 to 1")


class RegularizedEvolution(Strategy):
    """Tournament, mutation, and death by age.

    Args:
        space: where candidates come from; it mutates and crosses them.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        options: see `EvolutionOptions`.
    """

    Options = EvolutionOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(EvolutionOptions, options)
        self._state = SearchState("evolution", space, n_objectives, seed)

    @property
    def draws_at_random(self) -> bool:
        """See `DrawsAtRandom`."""
        return len(self._state.population) < min(self.options.start, self.options.population_size)

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        codes = self._state.sample(n) if self.draws_at_random else self._state.mutate(self._parents(n))
        return self._state.propose(codes, self._state.mutate)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`."""
        everyone = self._state.learn(codes, losses, violations)
        n_kept = min(len(everyone), self.options.population_size)
        age = np.where(everyone.violations > 0, 0, -everyone.born)  # negative for feasible ones: they come first
        order = np.lexsort((everyone.places, age))
        self._state.population = everyone.take(np.sort(order[:n_kept]))

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return self._state.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)

    def _parents(self, n: int) -> IntArray:
        """What is to be mutated: winners, or crosses of two winners, shape (n, d)."""
        size, by = self.options.sample_size, self.options.scalarization
        parents = self._state.front_winners(n, size, by)
        if self.options.crossover_probability > 0:
            crossed = self._state.rng.random(n) < self.options.crossover_probability
            mates = self._state.front_winners(int(crossed.sum()), size, by)
            parents[crossed] = self._state.cross(parents[crossed], mates)
        return parents
