"""Ant colony optimisation over independent choices: one pheromone value for each option of each decision.

An ant walks `depth` of the decisions, in an order of its own, and takes the others over from one of the elite; without
an elite or with the full depth it decides everything. At each decision it takes the option with the most pheromone
(with probability `greediness`, the pseudo-random proportional rule), else draws one in proportion to the pheromone.

When an iteration's ants have come back, pheromone evaporates and the best lay new: the iteration's best ant and the
elite ants, those of the best candidates so far, each less than the one before it. Pheromone so stays a distribution
over the options, and is kept above `FLOOR` of the uniform one: no option is ever lost for good. With several objectives
there are `COLONIES` colonies, each with pheromone and an elite of its own in one direction of the losses
(`codesign.strategies.scalar`); an ant belongs to one of them by chance, and all of them learn from every ant.

Sources: Dorigo and Gambardella 1997 (ant colony system: greediness), Blum and Dorigo 2004 (hyper-cube framework:
normalised pheromone), Stuetzle and Hoos 2000 (MAX-MIN ant system: the floor). ArchGym's agent of this family names the
same hyper-parameters: ants, evaporation, greediness, depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.strategies.population import Population
from codesign.strategies.scalar import Scalar, spread_directions
from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options, pack, require, tunable, unpack
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

COLONIES = 8
"""Directions followed if there are several objectives."""
FLOOR = 0.05
"""Lowest pheromone of an option, relative to a uniform distribution."""


@dataclass(frozen=True, slots=True)
class AntColonyOptions:
    """Options of `AntColony`.

    Attributes:
        ants: results in an iteration. The first iteration is drawn at random.
        evaporation: share of the pheromone that is replaced after an iteration.
        greediness: how often an ant takes the option with the most pheromone without drawing.
        elite: how many of the best candidates so far lay pheromone beside the iteration's best ant.
        depth: share of the decisions that an ant makes itself; at least one.
    """

    ants: int = tunable(16, 4, 8, 16, 32)
    evaporation: float = tunable(0.2, 0.05, 0.1, 0.2, 0.4)
    greediness: float = tunable(0.2, 0.0, 0.2, 0.5, 0.8)
    elite: int = tunable(4, 1, 4, 8)
    depth: float = tunable(0.5, 0.25, 0.5, 1.0)

    def __post_init__(self) -> None:
        require(self.ants >= 1, "ants", self.ants, "a number from 1")
        require(0 < self.evaporation <= 1, "evaporation", self.evaporation, "a number above 0, at most 1")
        require(0 <= self.greediness <= 1, "greediness", self.greediness, "a number from 0 to 1")
        require(self.elite >= 0, "elite", self.elite, "a number from 0")
        require(0 < self.depth <= 1, "depth", self.depth, "a number above 0, at most 1")


class AntColony(Strategy):
    """Ants that lay pheromone on options.

    Args:
        space: where candidates come from.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        options: see `AntColonyOptions`.
    """

    Options = AntColonyOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(AntColonyOptions, options)
        self._state = SearchState("ant-colony", space, n_objectives, seed)  # its population: every colony's elite
        self._scalar = Scalar(n_objectives)
        self._directions = spread_directions(COLONIES, n_objectives)
        self._ants = Population.empty(len(space.choices), n_objectives)  # those that have come back
        self._n_back = 0
        self._uniform = _uniform(space.n_options)
        self._pheromone = np.repeat(self._uniform[None], len(self._directions), axis=0)  # (colonies, d, options)
        self._n_iterations = 0

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        if n == 0 or self._n_iterations == 0:
            return self._state.propose(self._state.sample(n), lambda codes: self._state.sample(len(codes)))
        return self._state.propose(self._walk(n), self._state.mutate)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`."""
        back = self._state.newcomers(codes, losses, violations)
        self._scalar.learn(back.losses, back.violations)
        self._ants = self._ants.plus(back)
        self._n_back += len(codes)  # an ant that failed is back, and lays nothing
        if self._n_back < self.options.ants or len(self._ants) + len(self._state.population) == 0:
            return
        everyone = self._state.without_twins(self._state.population.plus(self._ants))
        elites = self._orders(everyone)[:, : self.options.elite]
        best_ants = self._orders(self._ants)[:, :1]
        for colony, (elite, best_ant) in enumerate(zip(elites, best_ants, strict=True)):
            self._lay(colony, everyone.take(elite), self._ants.take(best_ant))
        self._state.population = everyone.take(np.unique(elites))
        self._ants, self._n_back = self._ants.first(0), 0
        self._n_iterations += 1

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return {
            **self._state.state_dict(),
            "scalar": self._scalar.state_dict(),
            "ants": self._ants.state_dict(),
            "n_back": self._n_back,
            "pheromone": pack(self._pheromone),
            "n_iterations": self._n_iterations,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)
        self._scalar.load_state_dict(state["scalar"])
        self._ants = Population.from_state_dict(state["ants"])
        self._n_back = state["n_back"]
        self._pheromone = unpack(state["pheromone"])
        self._n_iterations = state["n_iterations"]

    def _walk(self, n: int) -> IntArray:
        """Candidates that ants decide on, shape (n, d)."""
        rng, elite = self._state.rng, self._state.population
        colony = rng.integers(0, len(self._directions), size=n)
        pheromone = self._pheromone[colony]
        n_own = max(1, round(self.options.depth * pheromone.shape[1]))
        drawn = (rng.random((*pheromone.shape[:2], 1)) >= pheromone.cumsum(axis=2)).sum(axis=2)
        drawn = np.minimum(drawn, self._state.space.n_options - 1)  # the last sum may lie just below 1
        is_greedy = rng.random(drawn.shape) < self.options.greediness
        codes: IntArray = np.where(is_greedy, pheromone.argmax(axis=2), drawn)
        if len(elite) and n_own < codes.shape[1]:
            ranked = self._orders(elite)[:, : self.options.elite]
            leader = elite.codes[ranked[colony, rng.integers(0, ranked.shape[1], size=n)]]
            taken_over = rng.random(codes.shape).argsort(axis=1) >= n_own
            codes = np.where(taken_over, leader, codes)
        return codes

    def _orders(self, population: Population) -> IntArray:
        """Rows from the best in a colony's direction to the worst, shape (colonies, p)."""
        values = self._scalar.value(population.losses, population.violations, self._directions[:, None, :])
        return np.argsort(values, axis=1, kind="stable")

    def _lay(self, colony: int, elite: Population, best_ant: Population) -> None:
        """Evaporation, and the pheromone of the iteration's best ant and of the elite, the better the more."""
        layers = best_ant.plus(elite)
        shares = np.arange(len(layers), 0, -1, dtype=np.float64)
        shares[: len(best_ant)] = len(elite) or 1  # the best ant lays as much as the best of the elite
        shares /= shares.sum()
        old, laid = self._pheromone[colony], np.zeros_like(self._uniform)
        for code, share in zip(layers.codes, shares.tolist(), strict=True):
            laid[np.arange(len(code)), code] += share
        mixed = (1 - self.options.evaporation) * old + self.options.evaporation * laid
        mixed = np.where(self._uniform > 0, np.maximum(mixed, FLOOR * self._uniform), 0.0)
        self._pheromone[colony] = mixed / mixed.sum(axis=1, keepdims=True)


def _uniform(n_options: IntArray) -> FloatArray:
    """Shape (d, largest number of options); options that a decision lacks have 0."""
    exists = np.arange(int(n_options.max(initial=1))) < n_options[:, None]
    return np.where(exists, 1.0 / n_options[:, None], 0.0)
