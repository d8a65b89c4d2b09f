"""Candidates with their results, compared by feasibility, non-domination and crowding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from codesign.pareto import crowded_places, rank
from codesign.strategies.scalar import hypervolume_values, sphere_directions
from codesign.strategies.strategy import FloatArray, StateDict, Told, pack, unpack
from search_spaces.ops import IntArray


@dataclass(frozen=True)
class Population:
    """Evaluated candidates.

    Attributes:
        codes: shape (p, d).
        losses: shape (p, m).
        violations: shape (p,), finite: a failed candidate is no member.
        born: shape (p,), number of the tell that brought the member.
    """

    codes: IntArray
    losses: FloatArray
    violations: FloatArray
    born: IntArray

    @classmethod
    def empty(cls, n_decisions: int, n_objectives: int) -> Population:
        """No member."""
        integers = np.zeros((0, n_decisions), dtype=np.int64)
        return cls(integers, np.zeros((0, n_objectives)), np.zeros(0), np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def places(self) -> IntArray:
        """Place of each member from best (0) to worst, shape (p,); equals share one."""
        return crowded_places(self.losses, self.violations)

    @cached_property
    def ranks(self) -> IntArray:
        """Front of each member, shape (p,): see `codesign.pareto.rank`."""
        return rank(self.losses, self.violations)

    def best(self, n: int) -> Population:
        """The `n` best, of equals the older, in their old order."""
        return self.take(np.sort(np.argsort(self.places, kind="stable")[:n]))

    def first(self, n: int) -> Population:
        """The first `n` members, or all."""
        return self.take(np.arange(min(n, len(self))))

    def join(self, told: Told, born: int) -> Population:
        """With the candidates of a tell that did not fail."""
        alive = np.isfinite(told.violations)
        ages = np.full(int(alive.sum()), born, dtype=np.int64)
        return self.plus(Population(told.codes[alive], told.losses[alive], told.violations[alive], ages))

    def plus(self, other: Population) -> Population:
        """With the members of another population behind."""
        return Population(
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.losses, other.losses]),
            np.concatenate([self.violations, other.violations]),
            np.concatenate([self.born, other.born]),
        )

    def take(self, rows: IntArray) -> Population:
        """The given members."""
        return Population(self.codes[rows], self.losses[rows], self.violations[rows], self.born[rows])

    def tournament(self, n: int, size: int, rng: np.random.Generator) -> IntArray:
        """Rows of the winners of `n` tournaments among `size` members drawn with replacement, shape (n,)."""
        return self._winners(rng.integers(0, len(self), size=(n, size)), self.places)

    def rank_tournament(self, n: int, size: int, rng: np.random.Generator) -> IntArray:
        """The same by rank alone: between members of a front chance decides."""
        return self._winners(rng.integers(0, len(self), size=(n, size)), self.ranks)

    def hypervolume_tournament(self, n: int, size: int, rng: np.random.Generator) -> IntArray:
        """The same by `hypervolume_values`, each tournament in a direction of its own."""
        drawn = rng.integers(0, len(self), size=(n, size))
        directions = sphere_directions(n, self.losses.shape[1], rng)
        values = hypervolume_values(self.losses, self.violations, directions)
        first = np.take_along_axis(values, drawn, axis=1).argmax(axis=1)
        return np.take_along_axis(drawn, first[:, None], axis=1)[:, 0]

    @staticmethod
    def _winners(drawn: IntArray, places: IntArray) -> IntArray:
        first = places[drawn].argmin(axis=1)  # of equals the one drawn first
        return np.take_along_axis(drawn, first[:, None], axis=1)[:, 0]

    def state_dict(self) -> StateDict:
        """JSON-able."""
        return {name: pack(getattr(self, name)) for name in ("codes", "losses", "violations", "born")}

    @classmethod
    def from_state_dict(cls, state: StateDict) -> Population:
        """The population that `state_dict` was taken of."""
        return cls(**{name: unpack(packed) for name, packed in state.items()})
