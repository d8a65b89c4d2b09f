"""What every search space offers, with the parts that follow from its choices written once.

A candidate is a row of an integer array of shape (n, d): column = decision, value = index of the option taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from search_spaces.floor import Floor
from search_spaces.ops import IntArray, OpTable

FloatArray = NDArray[np.float64]

Genotype = dict[str, object]
"""A candidate as readable, JSON-able data."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision: its name and the options it picks from."""

    name: str
    options: tuple[int | float | str, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError(f"choice {self.name!r} has no options")
        if len(set(self.options)) != len(self.options):
            raise ValueError(f"choice {self.name!r} lists an option twice: {self.options}")


class SearchSpace(Protocol):
    """A set of candidates. Subclass it: only `choices`, `decode` and `encode` must be given."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The decisions, one per column."""
        ...

    def decode(self, code: IntArray) -> Genotype:
        """The genotype of one candidate, shape (d,)."""
        ...

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """The code of a genotype, shape (d,). Raises ValueError if the space does not hold it."""
        ...

    @property
    def n_options(self) -> IntArray:
        """Number of options of each decision, shape (d,)."""
        return np.array([len(choice.options) for choice in self.choices], dtype=np.int64)

    @property
    def size(self) -> int:
        """Exact number of codes (before equal networks are merged)."""
        return math.prod(len(choice.options) for choice in self.choices)

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """`n` codes drawn uniformly, shape (n, d)."""
        options = self.n_options
        return rng.integers(0, options, size=(n, len(options)), dtype=np.int64)

    def mutate(self, codes: IntArray, rng: np.random.Generator) -> IntArray:
        """A copy of each code with one decision changed to another option, shape (n, d)."""
        options = self.n_options
        free = np.flatnonzero(options > 1)
        result = codes.copy()
        if len(free) == 0 or len(codes) == 0:
            return result
        rows = np.arange(len(codes))
        columns = free[rng.integers(0, len(free), size=len(codes))]
        step = rng.integers(1, options[columns])
        result[rows, columns] = (result[rows, columns] + step) % options[columns]
        return result

    def crossover(self, first: IntArray, second: IntArray, rng: np.random.Generator) -> IntArray:
        """Uniform crossover: each decision from either parent, shape (n, d)."""
        take_first: NDArray[np.bool_] = rng.random(first.shape) < 0.5
        return np.where(take_first, first, second)

    def valid(self, codes: IntArray) -> NDArray[np.bool_]:
        """Whether each row is a code of this space, shape (n,)."""
        if codes.ndim != 2 or codes.shape[1] != len(self.choices):
            raise ValueError(f"codes have shape {codes.shape}, expected (n, {len(self.choices)})")
        return np.asarray(((codes >= 0) & (codes < self.n_options)).all(axis=1))

    def canonical(self, codes: IntArray) -> IntArray:
        """The one row that stands for each candidate: equal candidates get equal rows, shape (n, d)."""
        return codes.copy()

    def features(self, codes: IntArray) -> FloatArray:
        """Finite numbers that describe what candidates compute, equal for equal candidates, shape (n, k).

        For models that predict from few results. Here, of the canonical code: for a choice between numbers its place
        among the options, from 0 to 1; for any other one column per option, 1 where it is taken. A space that knows
        more of its candidates (how often an operation occurs, which paths exist) says it here.
        """
        return choice_features(self.choices, self.canonical(codes))


def choice_features(choices: tuple[Choice, ...], codes: IntArray) -> FloatArray:
    """Columns for the choices' options, see `SearchSpace.features`; shape (n, k), at least one column."""
    places = [_places(choice) for choice in choices]
    widths = [len(choice.options) if place is None else 1 for choice, place in zip(choices, places, strict=True)]
    columns = np.zeros((len(codes), max(1, sum(widths))))
    rows, start = np.arange(len(codes)), 0
    for place, width, taken in zip(places, widths, codes.T, strict=True):
        if place is None:
            columns[rows, start + taken] = 1.0
        else:
            columns[:, start] = place[taken]
        start += width
    return columns


def _places(choice: Choice) -> FloatArray | None:
    """The place of each option of a choice between numbers, from 0 to 1; None for any other choice."""
    if not all(isinstance(option, int | float) for option in choice.options):
        return None
    place = np.argsort(np.argsort(np.array(choice.options, dtype=np.float64)))
    return np.asarray(place / max(1, len(place) - 1))


class NetworkSpace(SearchSpace, Protocol):
    """A space of networks: it also knows their ops, without torch."""

    def ops(self, codes: IntArray) -> OpTable:
        """Ops of a batch of candidates, shape (n, d), vectorised over candidates."""
        ...

    def floor(self) -> Floor | None:
        """Networks that no candidate is smaller than, or None where none are known.

        With them a budget that no candidate meets is recognised in a space that is too large to list.
        """
        return None

    def build(self, code: IntArray) -> object:
        """The `torch.nn.Module` of one candidate, shape (d,), randomly initialised; input (batch, C, H, W)."""
        ...
