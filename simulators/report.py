"""What a simulator returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

_V = TypeVar("_V")


class Lazy(Mapping[str, _V], Generic[_V]):
    """A mapping whose values are made when they are first asked for, and then kept."""

    def __init__(self, names: tuple[str, ...], make: Callable[[str], _V]) -> None:
        self._names = names
        self._make = make
        self._made: dict[str, _V] = {}

    def __getitem__(self, name: str) -> _V:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, slots=True)
class CostReport:
    """Cost of every layer on every accelerator.

    Attributes:
        columns: quantities that add up over the layers of a network, named with their unit (`latency_cycles`,
            `latency_ms`, `dram_bytes`, ...), each of shape (L, A), or (L,) when layers and accelerators were paired. A
            simulator may leave a column uncomputed until it is asked for (`Lazy`).
        per_accelerator: quantities of the accelerator alone (`pes`, `peak_gmacs_per_s`, ...), each of shape (A,).
        uncounted: what the model leaves out of every figure, as short phrases: never charged zero in silence.
        provenance: how columns were found, where a simulator has more than one way: column -> phrase.
    """

    columns: Mapping[str, NDArray[np.float64]]
    per_accelerator: Mapping[str, NDArray[np.float64]]
    uncounted: tuple[str, ...] = field(default=())
    provenance: Mapping[str, str] = field(default_factory=dict)
