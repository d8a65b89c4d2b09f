"""A blind random walk: each candidate is a few decisions away from the one before.

It learns nothing; what it shows is how far neighbourhoods alone carry a search. With restart probability 1 it is
random search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options, pack, require, tunable, unpack
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace


@dataclass(frozen=True, slots=True)
class RandomWalkOptions:
    """Options of `RandomWalk`.

    Attributes:
        step_size: decisions changed from one candidate to the next (one of them may change back).
        restart_probability: how often the walk goes on from a candidate drawn at random instead.
    """

    step_size: int = tunable(1, 1, 2, 3, 4)
    restart_probability: float = tunable(0.05, 0.0, 0.02, 0.05, 0.1, 0.2)

    def __post_init__(self) -> None:
        require(self.step_size >= 1, "step_size", self.step_size, "a number from 1")
        probability = self.restart_probability
        require(0 <= probability <= 1, "restart_probability", probability, "a number from 0 to 1")


class RandomWalk(Strategy):
    """Walks through the space without looking at results.

    Args:
        space: where candidates come from; it mutates them.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        options: see `RandomWalkOptions`.
    """

    Options = RandomWalkOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(RandomWalkOptions, options)
        self._state = SearchState("random-walk", space, n_objectives, seed)
        self._here = np.zeros((0, len(space.choices)), dtype=np.int64)  # one row once the walk has begun

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`; the next n points of the walk."""
        if n == 0:
            return self._state.sample(0)
        points = []
        for _ in range(n):
            if len(self._here) == 0 or self._state.rng.random() < self.options.restart_probability:
                point = self._state.sample(1)
            else:
                point = self._here
                for _ in range(self.options.step_size):
                    point = self._state.mutate(point)
            self._here = self._state.propose(point, self._state.mutate)
            points.append(self._here)
        return np.concatenate(points)

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`; only remembers which candidates are known."""
        self._state.note(codes, losses, violations)

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return {**self._state.state_dict(), "here": pack(self._here)}

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)
        self._here = unpack(state["here"])
