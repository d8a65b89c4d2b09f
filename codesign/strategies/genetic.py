"""A genetic algorithm in generations: tournaments, uniform crossover, mutation of each decision, elitism.

What ArchGym's agent of this family does (population, generations, mutation rate), with the parts that it lacks: every
candidate is a valid code of the space, the best survive, and failed ones are never parents. Source: Goldberg 1989, with
the ranks and crowding of Deb et al. 2002 in place of a fitness. Unlike `nsga2`, parents live for one generation, the
elite apart.

A generation is complete when as many results as it has places besides the elite were told, in whatever batches; more
than that compete for the places.
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign.strategies.population import Population
from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options, require, tunable
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace


@dataclass(frozen=True, slots=True)
class GeneticOptions:
    """Options of `Genetic`.

    Attributes:
        population_size: members of a generation; the first is drawn at random.
        tournament_size: members of a tournament, of which the best becomes a parent.
        crossover_probability: how often a child has two parents.
        mutation_probability: how often each decision of a child changes.
        elite_share: share of a generation that is taken over from the one before, the best of it.
    """

    population_size: int = tunable(24, 8, 16, 32, 64)
    tournament_size: int = tunable(3, 2, 3, 5)
    crossover_probability: float = tunable(0.8, 0.4, 0.8, 1.0)
    mutation_probability: float = tunable(0.1, 0.01, 0.05, 0.1, 0.2)
    elite_share: float = tunable(0.2, 0.05, 0.2, 0.5)

    def __post_init__(self) -> None:
        require(self.population_size >= 2, "population_size", self.population_size, "a number from 2")
        require(self.tournament_size >= 1, "tournament_size", self.tournament_size, "a number from 1")
        crossover, mutation = self.crossover_probability, self.mutation_probability
        require(0 <= crossover <= 1, "crossover_probability", crossover, "a number from 0 to 1")
        require(0 <= mutation <= 1, "mutation_probability", mutation, "a number from 0 to 1")
        require(0 <= self.elite_share < 1, "elite_share", self.elite_share, "a number from 0 to below 1")

    @property
    def n_elite(self) -> int:
        """Members taken over from one generation to the next; one place at least is left for children."""
        return min(round(self.elite_share * self.population_size), self.population_size - 1)


class Genetic(Strategy):
    """Generations of candidates, each bred from the one before.

    Args:
        space: where candidates come from; it mutates and crosses them.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        options: see `GeneticOptions`.
    """

    Options = GeneticOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(GeneticOptions, options)
        self._state = SearchState("genetic", space, n_objectives, seed)
        self._children = Population.empty(len(space.choices), n_objectives)

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        is_warm = len(self._state.population) >= self.options.population_size
        codes = self._breed(n) if is_warm else self._state.sample(n)
        return self._state.propose(codes, self._state.mutate)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`."""
        self._children = self._state.without_twins(
            self._children.plus(self._state.newcomers(codes, losses, violations))
        )
        size, parents = self.options.population_size, self._state.population
        elite = parents.best(self.options.n_elite)
        if len(self._children) >= size - len(elite):
            joined = self._state.without_twins(elite.plus(self._children.best(size - len(elite))))
            missing = size - len(joined)  # a child that equals one of the elite leaves a place
            self._state.population = (
                joined if missing == 0 else self._state.without_twins(joined.plus(parents)).best(size)
            )
            self._children = self._children.first(0)

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return {**self._state.state_dict(), "children": self._children.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)
        self._children = Population.from_state_dict(state["children"])

    def _breed(self, n: int) -> IntArray:
        """Children of the present generation, shape (n, d)."""
        state, options = self._state, self.options
        children = state.winners(n, options.tournament_size)
        crossed = state.rng.random(n) < options.crossover_probability
        children[crossed] = state.cross(children[crossed], state.winners(int(crossed.sum()), options.tournament_size))
        return state.mutate_each(children, options.mutation_probability)
