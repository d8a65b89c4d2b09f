"""Designs as numbers for a learned model, and which designs lie outside what it has seen.

Numbers are taken as log2 where every one learned from is positive; names as one column each. A value outside the range
is taken as the nearest one inside, and a name never seen as none of those seen; `Encoder.outside` says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError
from codesign.trial import FloatArray
from simulators.accelerator import Columns, Field

BoolArray = NDArray[np.bool_]

MAX_OPTIONS = 16
"""Distinct numbers of a field up to which each of them is kept as an option; with more, it counts as continuous."""
N_KNOTS = 8
"""Places at which the influence of a continuous field on the others is described."""
STEP_WEIGHT = 0.3
"""Initial weight of a number's own step against its smooth scale of length 1."""


@dataclass(frozen=True)
class Input:
    """What was seen of one field.

    Attributes:
        name: of the field.
        is_text: whether its values are names.
        options: the values seen, sorted; () for a continuous number.
        low, high: least and largest number seen; 0 for names.
        scale: `log2` or `linear`; "" for names.
        knots: scaled numbers, rising, at which hat functions stand; () for names.
    """

    name: str
    is_text: bool
    options: tuple[int | float | str, ...]
    low: float = 0.0
    high: float = 0.0
    scale: str = ""
    knots: tuple[float, ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether only one value was seen: it tells designs apart from nothing."""
        return len(self.options) == 1

    def scaled(self, values: NDArray[np.generic]) -> FloatArray:
        """Numbers on the input's scale, those outside moved to the nearest one seen; shape (n,)."""
        inside = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        return np.asarray(np.log2(inside) if self.scale == "log2" else inside, dtype=np.float64)

    def indicators(self, values: NDArray[np.generic]) -> FloatArray:
        """Shape (n, options or knots): 1 for the value's own column; a number between two knots is shared by both."""
        if self.is_text:
            is_option: BoolArray = np.asarray(values)[:, None] == np.array(self.options)
            return is_option.astype(np.float64)
        knots, place = np.array(self.knots), self.scaled(values)
        right = np.clip(np.searchsorted(knots, place), 1, len(knots) - 1)
        share = (place - knots[right - 1]) / (knots[right] - knots[right - 1])
        hats = np.zeros((len(place), len(knots)))
        rows = np.arange(len(place))
        hats[rows, right - 1], hats[rows, right] = 1 - share, share
        return hats

    def outside(self, values: NDArray[np.generic]) -> BoolArray:
        """Whether each value is a name never seen or a number beyond those seen; shape (n,)."""
        if self.is_text:
            return ~np.isin(np.asarray(values), np.array(self.options))
        numbers = np.asarray(values, dtype=np.float64)
        return ~((numbers >= self.low) & (numbers <= self.high))

    def __str__(self) -> str:
        """What was seen, as a phrase."""
        if self.options:
            return f"{self.name} in {', '.join(map(str, self.options))}"
        return f"{self.name} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Encoder:
    """Turns designs into the columns that learned models read.

    Attributes:
        inputs: one per field, in the order of the fields.
    """

    inputs: tuple[Input, ...]

    @classmethod
    def learn(cls, fields: Sequence[Field], designs: Columns) -> Encoder:
        """Note what occurs in designs, each column of shape (n,), n >= 1."""
        return cls(tuple(_learn(spec, np.asarray(designs[spec.name])) for spec in fields))

    @cached_property
    def varied(self) -> tuple[Input, ...]:
        """The inputs of which more than one value was seen."""
        return tuple(given for given in self.inputs if not given.is_constant)

    @property
    def n_plain(self) -> int:
        """Number of columns of `plain`."""
        return sum(len(given.options) if given.is_text else 1 for given in self.varied)

    @property
    def n_base(self) -> int:
        """Number of columns of `base`."""
        return sum(len(given.options) + (not given.is_text) for given in self.varied)

    @property
    def n_indicators(self) -> int:
        """Number of columns of `indicators`."""
        return sum(len(given.options) if given.is_text else len(given.knots) for given in self.varied)

    def plain(self, designs: Columns) -> FloatArray:
        """One column for each name and one for each scaled number, shape (n, n_plain): what trees read."""
        return _stack(
            [
                given.indicators(designs[given.name]) if given.is_text else given.scaled(designs[given.name])[:, None]
                for given in self.varied
            ],
            designs,
        )

    def base(self, designs: Columns) -> FloatArray:
        """Shape (n, n_base): names as columns; numbers on a scale of length 1 and, if few, a column each as well."""
        blocks: list[FloatArray] = []
        for given in self.varied:
            if not given.is_text:
                length = given.knots[-1] - given.knots[0]
                blocks.append(((given.scaled(designs[given.name]) - given.knots[0]) / length)[:, None])
            if given.options:
                weight = 1.0 if given.is_text else STEP_WEIGHT
                blocks.append(weight * given.indicators(designs[given.name]))
        return _stack(blocks, designs)

    def indicators(self, designs: Columns) -> FloatArray:
        """Every input's indicators side by side, shape (n, n_indicators)."""
        return _stack([given.indicators(designs[given.name]) for given in self.varied], designs)

    def outside(self, designs: Columns) -> BoolArray:
        """Whether each design has a value outside what was seen, shape (n,)."""
        is_outside: BoolArray = np.logical_or.reduce([given.outside(designs[given.name]) for given in self.inputs])
        return is_outside

    def outside_names(self, designs: Columns) -> list[str]:
        """Names of the inputs for which some design lies outside."""
        return [given.name for given in self.inputs if given.outside(designs[given.name]).any()]

    def to_json(self) -> list[dict[str, Any]]:
        """The encoder as JSON holds it."""
        names = ("name", "is_text", "low", "high", "scale")
        return [
            {name: getattr(given, name) for name in names}
            | {"options": list(given.options), "knots": list(given.knots)}
            for given in self.inputs
        ]

    @classmethod
    def from_json(cls, records: Sequence[Mapping[str, Any]]) -> Encoder:
        """The inverse of `to_json`. Raises DataError if it is none."""
        try:
            inputs = tuple(
                Input(**{**record, "options": tuple(record["options"]), "knots": tuple(record["knots"])})
                for record in records
            )
        except (TypeError, KeyError) as error:
            raise DataError(f"inputs are not as they were written: {error}") from error
        return cls(inputs)


def _learn(spec: Field, values: NDArray[np.generic]) -> Input:
    seen = np.unique(values)
    if spec.kind == "str":
        return Input(spec.name, True, tuple(str(value) for value in seen))
    numbers = seen.astype(np.float64)
    low, high = float(numbers[0]), float(numbers[-1])
    scale = "log2" if low > 0 else "linear"
    is_few = len(seen) <= MAX_OPTIONS
    at = np.log2(numbers) if scale == "log2" else numbers
    knots = at if is_few else np.unique(np.quantile(at, np.linspace(0, 1, N_KNOTS)))
    options = tuple(value.item() for value in seen) if is_few else ()
    return Input(spec.name, False, options, low, high, scale, tuple(knots.tolist()))


def _stack(blocks: Sequence[FloatArray], designs: Columns) -> FloatArray:
    n = len(next(iter(designs.values())))
    return np.concatenate([np.zeros((n, 0)), *blocks], axis=1)
