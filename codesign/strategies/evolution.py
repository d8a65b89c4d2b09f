"""Regularised (ageing) evolution.

Source: Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", Algorithm 1. Beyond the
paper:

- Several objectives: the winner of a tournament has the better rank, then the larger crowding distance.
- Budgets: feasible candidates die by age alone. Places they leave free go to the infeasible ones with the smallest
  violations, so that a hail of candidates over budget does not age the good ones out. Failed ones never enter.
- Batches: candidates told together have one age; if only a part of them fits, it is the best part.
- Optional crossover before the mutation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options, require, tunable
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace


@dataclass(frozen=True, slots=True)
class EvolutionOptions:
    """Options of `RegularizedEvolution`.

    Attributes:
        population_size: how many candidates may become parents, the youngest (P in the paper, there 100). So many
            are drawn at random first.
        sample_size: members of a tournament (S in the paper, there 25).
        crossover_probability: how often a child has two parents; the paper has mutation alone.
    """

    population_size: int = tunable(24, 8, 16, 32, 64)
    sample_size: int = tunable(6, 2, 4, 8, 16)
    crossover_probability: float = tunable(0.0, 0.0, 0.5)

    def __post_init__(self) -> None:
        require(self.population_size >= 1, "population_size", self.population_size, "a number from 1")
        require(self.sample_size >= 1, "sample_size", self.sample_size, "a number from 1")
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

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        if len(self._state.population) < self.options.population_size:
            codes = self._state.sample(n)
        else:
            codes = self._state.mutate(self._parents(n))
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
        parents = self._state.winners(n, self.options.sample_size)
        if self.options.crossover_probability > 0:
            crossed = self._state.rng.random(n) < self.options.crossover_probability
            mates = self._state.winners(int(crossed.sum()), self.options.sample_size)
            parents[crossed] = self._state.cross(parents[crossed], mates)
        return parents
