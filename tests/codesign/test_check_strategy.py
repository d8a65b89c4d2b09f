"""The conformance kit must find what is wrong: strategies that each break one promise."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from codesign.strategies.evolution import RegularizedEvolution
from codesign.strategies.random import Random
from codesign.strategies.strategy import FloatArray, StateDict
from codesign.testing.strategies import MixedSpace, check_strategy
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace


class WrongDtype(Random):
    def ask(self, n: int) -> IntArray:
        return super().ask(n).astype(np.int32)


class WrongCount(Random):
    def ask(self, n: int) -> IntArray:
        return super().ask(max(n, 1))


class Invalid(Random):
    def ask(self, n: int) -> IntArray:
        return super().ask(n) + 1


class Global(Random):
    def ask(self, n: int) -> IntArray:
        np.random.rand()
        return super().ask(n)


class GlobalPython(Random):
    def ask(self, n: int) -> IntArray:
        random.random()
        return super().ask(n)


class Unseeded(Random):
    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        super().__init__(space, n_objectives, np.random.SeedSequence().entropy)  # type: ignore[arg-type]


class OneSeed(Random):
    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        super().__init__(space, n_objectives, 0)


class Forgetful(RegularizedEvolution):
    """Its state lacks the random generator's."""

    def load_state_dict(self, state: StateDict) -> None:
        rng = np.random.default_rng(0).bit_generator.state
        super().load_state_dict({**state, "rng": rng})


class Lossy(RegularizedEvolution):
    """Its state lacks the population."""

    def load_state_dict(self, state: StateDict) -> None:
        fresh = RegularizedEvolution(self._state.space, state["n_objectives"], 0).state_dict()
        super().load_state_dict({**state, "population": fresh["population"]})


class Overwriting(Random):
    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        super().tell(codes, losses, violations)
        losses[np.isnan(losses)] = 0.0


class Sharing(Random):
    """Hands out its own buffer, so a caller that writes into it changes the next proposals."""

    def __init__(self, space: SearchSpace, n_objectives: int, seed: int, **options: object) -> None:
        super().__init__(space, n_objectives, seed)
        self._first: IntArray | None = None

    def ask(self, n: int) -> IntArray:
        codes = super().ask(n)
        if n == 0:
            return codes
        if self._first is None:
            self._first = codes[:1]
        codes[:1] = self._first
        self._first = codes[:1]
        return codes

    def state_dict(self) -> StateDict:
        return {**super().state_dict(), "first": None if self._first is None else self._first.tolist()}

    def load_state_dict(self, state: StateDict) -> None:
        super().load_state_dict(state)
        self._first = None if state["first"] is None else np.array(state["first"])


class NeedsAsk(Random):
    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        if np.isnan(losses).any():
            raise ValueError("a loss is missing")
        super().tell(codes, losses, violations)


class Stuck(Random):
    """Proposes the same few candidates for ever."""

    def ask(self, n: int) -> IntArray:
        codes = super().ask(n)
        codes[:, -1] = 0
        return codes


class Trusting(Random):
    def load_state_dict(self, state: StateDict) -> None:
        own = self.state_dict()
        super().load_state_dict({**state, "n_options": own["n_options"], "n_objectives": own["n_objectives"]})


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (WrongDtype, "int64"),
        (WrongCount, "shape"),
        (Invalid, "invalid code"),
        (Global, "global random state was used: numpy"),
        (GlobalPython, "global random state was used: random"),
        (Unseeded, "same seed and calls differ"),
        (OneSeed, "seeds 0 and 1"),
        (Forgetful, "saved differently"),
        (Lossy, "saved differently"),
        (Overwriting, "changed its arguments"),
        (Sharing, "differ"),
        (Stuck, "asks found"),
        (Trusting, "without a StoreError"),
    ],
)
def test_broken_strategies_are_found(broken: Any, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_strategy(broken, n_objectives=(2,), n_calls=60)


def test_errors_of_a_strategy_come_through() -> None:
    with pytest.raises(ValueError, match="a loss is missing"):
        check_strategy(NeedsAsk, n_objectives=(2,))


def test_a_space_of_the_kit_reads_what_it_writes() -> None:
    space = MixedSpace()
    codes = space.sample(50, np.random.default_rng(0))
    np.testing.assert_array_equal([space.encode(space.decode(code)) for code in codes], codes)
