"""What every search strategy offers, and the checks and records that all of them need.

A strategy proposes codes and learns their losses. It knows no metric names, no files and no cluster.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from codesign.errors import InputError, StoreError
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
StateDict = dict[str, Any]
"""JSON-able: dicts with text keys, lists, numbers, texts, booleans and None."""

_OptionsT = TypeVar("_OptionsT")
_ValueT = TypeVar("_ValueT")

SETTINGS = "settings"
"""Key of a field's metadata under which `tunable` keeps the values worth trying."""


class Strategy(Protocol):
    """Proposes candidates and learns from their results.

    Built as `MyStrategy(space, n_objectives, seed, **options)`; `Options` is a frozen dataclass that describes the
    options. Asks and tells may come in any order and number: several asks before a tell, asks that are never told,
    tells of codes that were never asked for. Proposals may repeat; a strategy makes new ones likely and never loops
    until it finds one. Two strategies with equal arguments and equal calls propose the same codes, and so does one
    that was restored from the other's state.
    """

    Options: ClassVar[type]

    def ask(self, n: int) -> IntArray:
        """`n` valid codes to evaluate, shape (n, d)."""
        ...

    def tell(self, codes: IntArray, losses: FloatArray, violations: FloatArray) -> None:
        """Learn results.

        Args:
            codes: shape (n, d).
            losses: shape (n, m), to minimise; NaN where not measured.
            violations: shape (n,), 0 for a feasible candidate, positive for one that is over budget (it may have NaN
                losses, and the smaller violation is better), infinite for one that failed.
        """
        ...

    def state_dict(self) -> StateDict:
        """All that the future depends on, the random generator included, as JSON-able data."""
        ...

    def load_state_dict(self, state: StateDict) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            StoreError: the state is of another strategy, search space or number of objectives.
        """
        ...


@runtime_checkable
class Forecasts(Protocol):
    """What a strategy with a model of the losses offers besides: its forecasts are held against what comes out."""

    def forecast(self, codes: IntArray) -> FloatArray | None:
        """What the model expects of candidates, asked after they were proposed and before they are evaluated.

        Args:
            codes: shape (n, d).

        Returns:
            Losses, shape (n, m), NaN where the model has none; None where there is no model (yet). Nothing that is
            asked for later depends on the call.
        """
        ...


@runtime_checkable
class DrawsAtRandom(Protocol):
    """What a strategy offers besides if it begins with, or is, a random search."""

    @property
    def draws_at_random(self) -> bool:
        """Whether the next `ask` proposes draws from the space's own distribution."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """Checked results: codes (n, d), losses (n, m) and violations (n,), all of them copies."""

    codes: IntArray
    losses: FloatArray
    violations: FloatArray


def check_told(
    space: SearchSpace, n_objectives: int, codes: IntArray, losses: FloatArray, violations: FloatArray
) -> Told:
    """Results in one form: a feasible row with a loss that is not finite, or a NaN violation, counts as failed.

    Raises:
        ValueError: a shape is wrong, or a row is not a code of the space.
    """
    codes = np.array(codes, dtype=np.int64)
    losses = np.array(losses, dtype=np.float64)
    violations = np.array(violations, dtype=np.float64)
    n = len(codes)
    if losses.shape != (n, n_objectives) or violations.shape != (n,):
        raise ValueError(
            f"losses {losses.shape} and violations {violations.shape} do not fit codes {codes.shape}: expected "
            f"{(n, n_objectives)} and {(n,)}"
        )
    if not space.valid(codes).all():
        raise ValueError(f"row {int(np.argmin(space.valid(codes)))} of codes is not a code of the search space")
    violations = np.maximum(violations, 0.0)
    failed = np.isnan(violations) | ((violations == 0) & ~np.isfinite(losses).all(axis=1))
    violations[failed] = np.inf
    return Told(codes, losses, violations)


def make_options(options: type[_OptionsT], given: Mapping[str, object]) -> _OptionsT:
    """A strategy's options from keywords.

    Raises:
        InputError: an option is unknown, or its value is refused.
    """
    names = [item.name for item in fields(options)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            raise InputError.about("option", name, names)
    return options(**given)


def tunable(default: _ValueT, *values: _ValueT) -> _ValueT:
    """A field of an options class: its default, and the values that a hyper-parameter sweep tries."""
    declared: Any = field(default=default, metadata={SETTINGS: values})
    return declared  # type: ignore[no-any-return]


def declared_settings(options: type) -> dict[str, tuple[Any, ...]]:
    """The hyper-parameter space that an options class declares: values worth trying, by option."""
    return {item.name: tuple(item.metadata[SETTINGS]) for item in fields(options) if SETTINGS in item.metadata}


def require(holds: bool, key: str, value: object, allowed: str) -> None:
    """Raise InputError for an option's value unless the condition holds."""
    if not holds:
        raise InputError.about(key, value, allowed)


def header(name: str, space: SearchSpace, n_objectives: int) -> StateDict:
    """What a state must agree on with the strategy that loads it."""
    return {"strategy": name, "n_options": space.n_options.tolist(), "n_objectives": n_objectives}


def check_header(state: StateDict, expected: StateDict) -> None:
    """Raise StoreError if a state is of another strategy, search space or number of objectives."""
    for key, value in expected.items():
        if state.get(key) != value:
            raise StoreError(f"the saved strategy state has {key} {state.get(key)!r}, this search has {value!r}")


def pack(array: NDArray[Any]) -> StateDict:
    """An array as JSON-able data, bit for bit (JSON knows no NaN)."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    text = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(array.shape), "base64": text}


def unpack(packed: StateDict) -> NDArray[Any]:
    """The array that `pack` was given."""
    dtype = np.dtype(packed["dtype"])
    data = base64.b64decode(packed["base64"])
    return np.frombuffer(data, dtype=dtype).reshape(packed["shape"]).astype(dtype.newbyteorder("="))
