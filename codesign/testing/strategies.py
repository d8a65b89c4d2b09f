"""Conformance kit for search strategies: what the study relies on, checked on small spaces.

    from codesign.testing.strategies import check_strategy

    def test_mine() -> None:
        check_strategy(MyStrategy)

Every failure is an AssertionError that says which promise was broken.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import StoreError
from codesign.strategies.strategy import Strategy
from search_spaces.ops import IntArray
from search_spaces.space import Choice, Genotype, SearchSpace

FloatArray = NDArray[np.float64]
Make = Callable[[SearchSpace, int, int], Strategy]
"""Builds a strategy from a space, the number of objectives and a seed."""

_STALE_ASKS = 200


class ListedSpace(SearchSpace):
    """A space of given choices, for tests.

    Args:
        choices: the decisions.
    """

    def __init__(self, *choices: Choice) -> None:
        self._choices = choices

    @property
    def choices(self) -> tuple[Choice, ...]:
        """See `SearchSpace.choices`."""
        return self._choices

    def decode(self, code: IntArray) -> Genotype:
        """Option by name of the choice."""
        return {choice.name: choice.options[int(i)] for choice, i in zip(self._choices, code, strict=True)}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """The code of options by name."""
        options = [[*choice.options] for choice in self._choices]
        indices = [listed.index(genotype[c.name]) for listed, c in zip(options, self._choices, strict=True)]  # type: ignore[arg-type]
        return np.array(indices, dtype=np.int64)


class MixedSpace(ListedSpace):
    """Numbers, names, a decision with one option, and a kernel that counts for convolutions alone."""

    def __init__(self) -> None:
        super().__init__(
            Choice("depth", (1, 2, 3, 4)),
            Choice("width", (8, 16, 24, 32, 48, 64)),
            Choice("op", ("conv", "pool", "skip")),
            Choice("stem", ("plain",)),
            Choice("kernel", (7, 5, 3)),
            Choice("rate", (0.1, 0.2, 0.05, 0.3)),
        )

    def canonical(self, codes: IntArray) -> IntArray:
        """The kernel of what is no convolution is the first."""
        result = codes.copy()
        result[result[:, 2] != 0, 4] = 0
        return result


class SortedSpace(ListedSpace):
    """Only codes whose first two decisions ascend are valid; crossover does not know it."""

    def __init__(self) -> None:
        super().__init__(*(Choice(name, tuple(range(6))) for name in ("low", "high", "other")))

    def valid(self, codes: IntArray) -> NDArray[np.bool_]:
        """Within the options, and ascending."""
        return np.asarray(super().valid(codes) & (codes[:, 0] <= codes[:, 1]))

    def canonical(self, codes: IntArray) -> IntArray:
        """Refuses invalid rows, as a space may."""
        if not self.valid(codes).all():
            raise ValueError("canonical was called on an invalid code")
        return codes.copy()

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """Uniform draws, put in order."""
        return self._ordered(super().sample(n, rng))

    def mutate(self, codes: IntArray, rng: np.random.Generator) -> IntArray:
        """One decision changed, then put in order."""
        return self._ordered(super().mutate(codes, rng))

    def _ordered(self, codes: IntArray) -> IntArray:
        codes[:, :2] = np.sort(codes[:, :2], axis=1)
        return codes


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a session: an ask with what it returned, or a tell with what was told."""

    codes: IntArray
    losses: FloatArray | None = None
    violations: FloatArray | None = None


def check_strategy(make: Make, *, n_objectives: Sequence[int] = (1, 2, 3), n_calls: int = 40, n_cuts: int = 5) -> None:
    """Check all that `Strategy` promises.

    Args:
        make: builds the strategy to check; a class with default options will do.
        n_objectives: numbers of losses to try.
        n_calls: asks and tells in a session; more than a population's worth shows more.
        n_cuts: from how many places of a session to resume.

    Raises:
        AssertionError: a promise is broken.
    """
    for m in n_objectives:
        for space in (MixedSpace(), SortedSpace()):
            _check_session(make, space, m, n_calls, n_cuts)
    _check_seeds(make)
    _check_small_spaces(make)
    _check_foreign_state(make)


def _check_session(make: Make, space: SearchSpace, m: int, n_calls: int, n_cuts: int) -> None:
    """Valid proposals; equal seeds, equal sessions; and the same session from a state saved anywhere."""
    before = _global_random_state()
    states: list[str] = []
    calls = _session(make(space, m, 7), space, m, n_calls, states)
    _replay(make(space, m, 7), calls, "two strategies with the same seed and calls differ")
    for cut in np.unique(np.linspace(0, len(calls) - 1, n_cuts).astype(int)).tolist():
        resumed = make(space, m, 8)  # another seed: the state must bring its own randomness
        resumed.load_state_dict(json.loads(states[cut]))
        again = json.dumps(resumed.state_dict(), sort_keys=True)
        _require(again == states[cut], f"a state loaded at call {cut} is saved differently")
        _replay(resumed, calls[cut:], f"a strategy resumed at call {cut} differs from the unbroken one")
    after = _global_random_state()
    touched = [library for library, state in before.items() if after[library] != state]
    _require(not touched, f"the global random state was used: {', '.join(touched)}")


def _session(strategy: Strategy, space: SearchSpace, m: int, n_calls: int, states: list[str]) -> list[_Call]:
    """Asks and tells out of order: batches, proposals never told, results never asked for, failures, and repeats."""
    rng = np.random.default_rng(m)
    waiting: list[IntArray] = []
    calls: list[_Call] = []
    for _ in range(n_calls):
        states.append(json.dumps(strategy.state_dict(), sort_keys=True, allow_nan=False))
        event = rng.random()
        if event < 0.5 or not waiting:
            n = int(rng.integers(0, 5))
            codes = strategy.ask(n)
            _check_proposals(codes, n, space)
            waiting.extend(code for code in codes if rng.random() < 0.9)
            calls.append(_Call(codes.copy()))
            continue
        if event < 0.55:
            codes = space.sample(3, rng)
        else:
            chosen = rng.permutation(len(waiting))[: int(rng.integers(0, 4))]
            codes = np.array([waiting[i] for i in chosen], dtype=np.int64).reshape(len(chosen), len(space.choices))
            waiting = [code for i, code in enumerate(waiting) if i not in chosen]
        codes = space.canonical(codes)
        losses, violations = _results(codes, m)
        given = (codes.copy(), losses.copy(), violations.copy())
        strategy.tell(codes, losses, violations)
        for now, then in zip((codes, losses, violations), given, strict=True):
            _require(np.array_equal(now, then, equal_nan=now.dtype.kind == "f"), "tell changed its arguments")
        calls.append(_Call(*given))
        for array in (codes, losses, violations):
            array[...] = 0  # a strategy that kept these very arrays shows it when resumed
    return calls


def _replay(strategy: Strategy, calls: Sequence[_Call], complaint: str) -> None:
    for number, call in enumerate(calls):
        if call.losses is None or call.violations is None:
            codes = strategy.ask(len(call.codes))
            _require(np.array_equal(codes, call.codes), f"{complaint}, {number} calls later")
            codes[...] = 0  # proposals belong to the caller
        else:
            strategy.tell(call.codes.copy(), call.losses.copy(), call.violations.copy())


def _check_proposals(codes: IntArray, n: int, space: SearchSpace) -> None:
    _require(isinstance(codes, np.ndarray) and codes.dtype == np.int64, "ask must return an int64 array")
    expected = (n, len(space.choices))
    _require(codes.shape == expected, f"ask({n}) returned shape {codes.shape}, expected {expected}")
    _require(bool(space.valid(codes).all()), f"ask({n}) returned an invalid code")


def _results(codes: IntArray, m: int) -> tuple[FloatArray, FloatArray]:
    """Losses and violations of codes: most feasible, some over budget (half of them not measured), some failed."""
    totals = codes.sum(axis=1)
    losses = np.stack([((codes - column) ** 2).sum(axis=1) - 3.5 * column for column in range(m)], axis=1) / 2
    violations = np.maximum(0.0, (totals - 8) / 8)
    losses[(violations > 0) & (totals % 2 == 0)] = np.nan
    failed = (codes @ np.arange(1, codes.shape[1] + 1)) % 7 == 0
    losses[failed], violations[failed] = np.nan, np.inf
    return losses, violations


def _check_seeds(make: Make) -> None:
    space = MixedSpace()
    first, second = (make(space, 2, seed).ask(8) for seed in (0, 1))
    _require(not np.array_equal(first, second), "seeds 0 and 1 give the same proposals")


def _check_small_spaces(make: Make) -> None:
    """A small space is searched to its last candidate, and asking on does no harm."""
    single = make(ListedSpace(Choice("only", ("one",))), 2, 0)
    _check_proposals(single.ask(3), 3, ListedSpace(Choice("only", ("one",))))
    single.tell(np.zeros((1, 1), dtype=np.int64), np.zeros((1, 2)), np.zeros(1))
    _check_proposals(single.ask(2), 2, ListedSpace(Choice("only", ("one",))))
    space = ListedSpace(Choice("op", ("conv", "pool")), Choice("width", (8, 16, 24)))
    strategy = make(space, 2, 0)
    seen: set[tuple[int, ...]] = set()
    for _ in range(_STALE_ASKS):
        codes = strategy.ask(2)
        _check_proposals(codes, 2, space)
        new = np.array([code for code in np.unique(codes, axis=0) if tuple(code) not in seen], dtype=np.int64)
        if len(new):
            strategy.tell(new, *_results(new, 2))
            seen |= {tuple(code) for code in new.tolist()}
        if len(seen) == space.size:
            break
    _require(len(seen) == space.size, f"{_STALE_ASKS} asks found {len(seen)} of the {space.size} candidates of a space")
    _check_proposals(strategy.ask(5), 5, space)


def _check_foreign_state(make: Make) -> None:
    """A state of another space or number of objectives is refused."""
    state = json.loads(json.dumps(make(MixedSpace(), 2, 0).state_dict()))
    for space, m in ((SortedSpace(), 2), (MixedSpace(), 3)):
        try:
            make(space, m, 0).load_state_dict(state)
        except StoreError:
            continue
        raise AssertionError("a state of another search was loaded without a StoreError")


def _global_random_state() -> dict[str, object]:
    """Of random, NumPy and, if something has loaded it already, torch."""
    kind, keys, *position = np.random.get_state(legacy=True)
    states: dict[str, object] = {"random": random.getstate(), "numpy": (kind, np.asarray(keys).tobytes(), position)}
    torch = sys.modules.get("torch")
    return states if torch is None else {**states, "torch": torch.random.get_rng_state().numpy().tobytes()}


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise AssertionError(complaint)
