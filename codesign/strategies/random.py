"""Random search: the baseline, and all that a small space needs."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.strategies.search_state import SearchState
from codesign.strategies.strategy import FloatArray, StateDict, Strategy, make_options
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace


@dataclass(frozen=True, slots=True)
class RandomOptions:
    """Random search has no options."""


class Random(Strategy):
    """Draws from the space's own distribution, without the candidates drawn or told lately.

    Args:
        space: where candidates come from.
        n_objectives: number of losses told for each.
        seed: of the random generator.
        options: none.
    """

    Options = RandomOptions

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        self.options = make_options(RandomOptions, options)
        self._state = SearchState("random", space, n_objectives, seed)

    @property
    def draws_at_random(self) -> bool:
        """See `DrawsAtRandom`."""
        return True

    def ask(self, n: int) -> IntArray:
        """See `Strategy.ask`."""
        return self._state.propose(self._state.sample(n), lambda codes: self._state.sample(len(codes)))

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """See `Strategy.tell`; only remembers which candidates are known."""
        self._state.learn(codes, losses, violations)

    def state_dict(self) -> StateDict:
        """See `Strategy.state_dict`."""
        return self._state.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """See `Strategy.load_state_dict`."""
        self._state.load_state_dict(state)
