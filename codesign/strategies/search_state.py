"""What the population-based strategies keep between calls, saved and restored in one place."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from codesign.strategies.novelty import Memory, Redraw, renew
from codesign.strategies.population import Population
from codesign.strategies.strategy import FloatArray, StateDict, Told, check_header, check_told, header
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace


class SearchState:
    """A random generator, the memory of known candidates, and a population.

    Args:
        name: of the strategy, written into its saved state.
        space: where candidates come from.
        n_objectives: number of losses told for each.
        seed: of the random generator.
    """

    def __init__(self, name: str, space: SearchSpace, n_objectives: int, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.population = Population.empty(len(space.choices), n_objectives)
        self._name = name
        self._n_objectives = n_objectives
        self._memory = Memory(space)
        self._n_tells = 0

    def sample(self, n: int) -> IntArray:
        """`n` codes from the space's own distribution, shape (n, d)."""
        return self.space.sample(n, self.rng)

    def mutate(self, codes: IntArray) -> IntArray:
        """A copy with one decision of each row changed, shape (n, d)."""
        return self.space.mutate(codes, self.rng)

    def mutate_each(self, codes: IntArray, probability: float) -> IntArray:
        """A copy in which each decision changes with a probability, shape (n, d)."""
        codes = codes.copy()
        n_mutations = self.rng.binomial(codes.shape[1], probability, size=len(codes))
        for count in range(int(n_mutations.max(initial=0))):
            rows = n_mutations > count
            codes[rows] = self.mutate(codes[rows])
        return codes

    def cross(self, parents: IntArray, mates: IntArray) -> IntArray:
        """Children of two parents each, shape (n, d)."""
        return self.space.crossover(parents, mates, self.rng)

    def winners(self, n: int, size: int) -> IntArray:
        """Codes of the winners of `n` tournaments among `size` members, shape (n, d)."""
        return self.population.codes[self.population.tournament(n, size, self.rng)]

    def front_winners(self, n: int, size: int, by: Literal["rank", "hypervolume"]) -> IntArray:
        """The same without crowding: by rank alone, or by hypervolume in a random direction."""
        draw = self.population.rank_tournament if by == "rank" else self.population.hypervolume_tournament
        return self.population.codes[draw(n, size, self.rng)]

    def propose(self, codes: IntArray, redraw: Redraw) -> IntArray:
        """Proposals with invalid and known rows redrawn, see `renew`."""
        return renew(codes, self.space, self._memory, self.rng, redraw)

    def learn(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> Population:
        """Remember results; returns the population with them, from which the caller chooses the new one."""
        return self.population.join(self.note(codes, losses, violations), born=self._n_tells)

    def newcomers(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> Population:
        """Remember results; returns those that did not fail, as a population of their own."""
        told = self.note(codes, losses, violations)
        return Population.empty(codes.shape[1], self._n_objectives).join(told, born=self._n_tells)

    def note(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> Told:
        """Remember which candidates are known; returns their results, checked."""
        told = check_told(self.space, self._n_objectives, codes, losses, violations)
        self._memory.add(self._memory.keys(told.codes), told=True)
        self._n_tells += 1
        return told

    def keys(self, codes: IntArray) -> list[int]:
        """A number for each row, shape (n, d), equal for equal candidates."""
        return self._memory.keys(codes)

    def unknown(self, keys: list[int]) -> NDArray[np.bool_]:
        """Which keys are of candidates neither proposed nor told lately, nor equal to an earlier one, shape (n,)."""
        return self._memory.is_new(keys)

    def without_twins(self, population: Population) -> Population:
        """Of equal candidates the newest alone."""
        keys = np.array(self._memory.keys(population.codes), dtype=np.uint64)[::-1]
        newest = len(keys) - 1 - np.unique(keys, return_index=True)[1]
        return population.take(np.sort(newest))

    def state_dict(self) -> StateDict:
        """JSON-able."""
        return {
            **header(self._name, self.space, self._n_objectives),
            "rng": self.rng.bit_generator.state,
            "memory": self._memory.state_dict(),
            "n_tells": self._n_tells,
            "population": self.population.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`; raises StoreError if it is of another search."""
        check_header(state, header(self._name, self.space, self._n_objectives))
        self.rng.bit_generator.state = state["rng"]
        self._memory.load_state_dict(state["memory"])
        self._n_tells = state["n_tells"]
        self.population = Population.from_state_dict(state["population"])
