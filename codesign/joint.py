"""The joint space: a network together with the accelerators it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codesign.errors import InputError
from search_spaces.ops import IntArray
from search_spaces.space import Choice, Genotype, NetworkSpace, SearchSpace, choice_features
from simulators.accelerator import Preset, Value

Knobs = dict[str, NDArray[np.generic]]
"""Searched fields of one target as a struct of arrays: field -> shape (n,)."""


@dataclass(frozen=True, eq=False)
class JointSpace(SearchSpace):
    """Candidates that are a network and, for each target, an accelerator.

    A row holds the network's choices followed by one column per searched field of each target, named `edge.rows`.

    Attributes:
        network: the space of networks; its own sampling, mutation, validity and canonical form are kept.
        accelerators: target -> preset; the options under its `search` are the choices.

    Raises:
        InputError: a preset has nothing to search.
    """

    network: NetworkSpace
    accelerators: Mapping[str, Preset]

    def __post_init__(self) -> None:
        """Refuse an accelerator with nothing to search."""
        for target, preset in self.accelerators.items():
            if not preset.search:
                raise InputError(f"targets.{target}: preset {preset.name!r} has no [search] table; list options there")

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The network's choices, then `target.field` for each searched field."""
        knobs = tuple(
            Choice(f"{target}.{name}", tuple(options))
            for target, preset in self.accelerators.items()
            for name, options in preset.search.items()
        )
        return self.network.choices + knobs

    @property
    def size(self) -> int:
        """Exact number of codes: networks times accelerators."""
        size = self.network.size
        for choice in self._knobs:
            size *= len(choice.options)
        return size

    def split(self, codes: IntArray) -> tuple[IntArray, dict[str, Knobs]]:
        """The network codes, shape (n, d of the network), and each target's searched fields as values."""
        width = self._width
        values = (np.array(choice.options)[codes[:, width + i]] for i, choice in enumerate(self._knobs))
        return codes[:, :width], {
            target: {name: next(values) for name in preset.search} for target, preset in self.accelerators.items()
        }

    def decode(self, code: IntArray) -> Genotype:
        """`{"network": the network's genotype, "accelerators": {"edge": {"rows": 8, ...}}}`."""
        chosen = iter(
            choice.options[int(index)] for choice, index in zip(self._knobs, code[self._width :], strict=True)
        )
        accelerators = {t: {name: next(chosen) for name in p.search} for t, p in self.accelerators.items()}
        return {"network": self.network.decode(code[: self._width]), "accelerators": accelerators}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """The code of a genotype, shape (d,). Raises InputError if the space does not hold it."""
        network, accelerators = (_table(genotype, key) for key in ("network", "accelerators"))
        _refuse_unknown("accelerators", accelerators, self.accelerators)
        knobs: list[int] = []
        for target, preset in self.accelerators.items():
            key = f"accelerators.{target}"
            values = _table(accelerators, target, "accelerators.")
            _refuse_unknown(key, values, preset.search)
            for name, options in preset.search.items():
                knobs.append(_index(f"{key}.{name}", values.get(name), options))
        return np.concatenate([self.network.encode(network), np.array(knobs, dtype=np.int64)])

    def sample(self, n: int, rng: np.random.Generator) -> IntArray:
        """`n` codes: networks as their space draws them, accelerators uniformly."""
        networks = self.network.sample(n, rng)
        knobs = rng.integers(0, self.n_options[self._width :], size=(n, len(self._knobs)), dtype=np.int64)
        return np.concatenate([networks, knobs], axis=1)

    def mutate(self, codes: IntArray, rng: np.random.Generator) -> IntArray:
        """One change in each code: a searched field as often as its share of the free columns is, else the network."""
        result, options = codes.copy(), self.n_options
        free = np.flatnonzero(options > 1)
        if len(free) == 0 or len(codes) == 0:
            return result
        column = free[rng.integers(0, len(free), size=len(codes))]
        in_network = column < self._width
        rows = np.flatnonzero(~in_network)
        step = rng.integers(1, options[column[rows]])
        result[rows, column[rows]] = (result[rows, column[rows]] + step) % options[column[rows]]
        if in_network.any():
            result[in_network, : self._width] = self.network.mutate(codes[in_network, : self._width], rng)
        return result

    def crossover(self, first: IntArray, second: IntArray, rng: np.random.Generator) -> IntArray:
        """The network space's crossover of the networks, each searched field from either parent."""
        width = self._width
        networks = self.network.crossover(first[:, :width], second[:, :width], rng)
        take_first = rng.random((len(first), len(self._knobs))) < 0.5
        return np.concatenate([networks, np.where(take_first, first[:, width:], second[:, width:])], axis=1)

    def valid(self, codes: IntArray) -> NDArray[np.bool_]:
        """Whether each row is a code of this space, shape (n,)."""
        in_range = super().valid(codes)
        return np.asarray(in_range & self.network.valid(codes[:, : self._width]))

    def canonical(self, codes: IntArray) -> IntArray:
        """Canonical networks; accelerators as they are."""
        return np.concatenate([self.network.canonical(codes[:, : self._width]), codes[:, self._width :]], axis=1)

    def features(self, codes: IntArray) -> NDArray[np.float64]:
        """The network space's features, then those of the searched fields."""
        fields = choice_features(self._knobs, codes[:, self._width :])
        return np.hstack([self.network.features(codes[:, : self._width]), fields])

    @property
    def _width(self) -> int:
        return len(self.network.choices)

    @property
    def _knobs(self) -> tuple[Choice, ...]:
        return self.choices[self._width :]


def _table(genotype: Mapping[str, object], key: str, prefix: str = "") -> Mapping[str, object]:
    value = genotype.get(key)
    if not isinstance(value, Mapping):
        raise InputError.about(prefix + key, value, "a mapping")
    return value


def _refuse_unknown(key: str, given: Mapping[str, object], known: Mapping[str, object]) -> None:
    for name in given:
        if name not in known:
            raise InputError.about(key, name, known)


def _index(key: str, value: object, options: tuple[Value, ...]) -> int:
    if value not in options:
        raise InputError.about(key, value, map(str, options))
    return options.index(value)
