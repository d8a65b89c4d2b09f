"""NSGA-II with constrained domination, for integer choices.

Source: Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", sections III (sorting,
crowding, main loop) and VI (constraints). Departures:

- Choices are not real numbers: uniform crossover and resetting mutation instead of SBX and polynomial mutation.
- Survivors are chosen at every tell, from the population and what was told: a tell of `population_size` candidates is
  a generation of the paper, a tell of one its steady-state form.
- Of equal candidates one survives; failed ones never enter the population.
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options, require, tunable
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace


@dataclass(frozen=True, slots=True)
class Nsga2Options:
    """Options of `Nsga2`.

    Attributes:
        population_size: how many candidates survive (the paper has 100). So many are drawn at random first.
        crossover_probability: how often a child has two parents.
        mutation_probability: how often each decision changes; None means once per candidate on average (1 / d).
    """

    population_size: int = tunable(24, 8, 16, 32, 64)
    crossover_probability: float = tunable(0.9, 0.5, 0.7, 0.9)
    mutation_probability: float | None = tunable(None, None, 0.05, 0.2)

    def __post_init__(self) -> None:
        require(self.population_size >= 2, "population_size", self.population_size, "a number from 2")
        crossover, mutation = self.crossover_probability, self.mutation_probability
        require(0 <= crossover <= 1, "crossover_probability", crossover, "a number from 0 to 1")
        require(mutation is None or 0 <= mutation <= 1, "mutation_probability", mutation, "a number from 0 to 1")


class Nsga2(Strategy):
    """Elitist sorting by dominance and crowding.

    Args:
        space: where candidates come from; it mutates and crosses them.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        options: see `Nsga2Options`.
    """

    Options = Nsga2Options

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(Nsga2Options, options)
        self._state = SearchState("nsga2", space, n_objectives, seed)

    @property
    def draws_at_random(self) -> bool:
        """See `DrawsAtRandom`."""
        return len(self._state.population) < self.options.population_size

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        codes = self._state.sample(n) if self.draws_at_random else self._children(n)
        return self._state.propose(codes, self._state.mutate)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`."""
        everyone = self._state.without_twins(self._state.learn(codes, losses, violations))
        self._state.population = everyone.best(self.options.population_size)

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return self._state.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)

    def _children(self, n: int) -> IntArray:
        """Binary tournaments, crossover, mutation, shape (n, d)."""
        state = self._state
        children = state.winners(n, 2)
        crossed = state.rng.random(n) < self.options.crossover_probability
        children[crossed] = state.cross(children[crossed], state.winners(int(crossed.sum()), 2))
        probability = self.options.mutation_probability
        return state.mutate_each(children, 1 / children.shape[1] if probability is None else probability)
