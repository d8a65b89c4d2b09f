"""Accelerators as data: the fields of a model, presets in TOML files, and structs of arrays over many accelerators.

A simulator lists its fields; an accelerator is one value for each. A preset is a TOML file with a description, values
and, under `[search]`, the fields that may be searched with their options:

    simulator = "systolic"
    description = "a 16 x 16 array"
    [model]
    [values]
    rows = 16
    [search]
    rows = [8, 16, 32]
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Value = int | float | str
"""The value of one field of one accelerator."""

Columns = Mapping[str, NDArray[np.generic]]
"""Accelerators as a struct of arrays: one array of shape (A,) per field."""

PRESET_FOLDER = Path(__file__).parent / "presets"

_DTYPES: Mapping[str, type[np.generic]] = {"int": np.int64, "float": np.float64, "str": np.str_}


@dataclass(frozen=True, slots=True)
class Field:
    """One property of an accelerator.

    Attributes:
        name: as in presets and job files; it carries the unit if there is one (`clock_ghz`).
        kind: type of the value. An int is accepted where a float is asked for; a bool never is.
        unit: for listings, "" if it has none.
        default: the value where none is given.
        lowest: smallest value allowed, or None.
        allowed: the only values allowed; empty means any.
        doc: what it is.
    """

    name: str
    kind: Literal["int", "float", "str"]
    unit: str
    default: Value
    lowest: float | None = None
    allowed: tuple[Value, ...] = ()
    doc: str = ""

    def check(self, value: object, key: str = "") -> Value:
        """The value as a plain Python value of this kind.

        Args:
            value: what was given; NumPy scalars are taken too.
            key: where it stands, for the message; the name alone if empty.

        Raises:
            ValueError: wrong type, not finite, too small or not allowed.
        """
        key = key or self.name
        if isinstance(value, np.generic):
            value = value.item()
        accepted = {"int": (int,), "float": (int, float), "str": (str,)}[self.kind]
        if isinstance(value, bool) or not isinstance(value, accepted):
            raise ValueError(f"{key}: {value!r} is not allowed; use {self.expected}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key}: {value!r} is not allowed; use {self.expected}")
        result: Value = float(value) if self.kind == "float" else value
        if self.allowed and result not in self.allowed:
            raise _unknown(key, result, map(str, self.allowed))
        if self.lowest is not None and not isinstance(result, str) and result < self.lowest:
            raise ValueError(f"{key}: {value!r} is not allowed; use {self.expected}")
        return result

    @property
    def expected(self) -> str:
        """What is allowed, as a phrase."""
        if self.allowed:
            return f"one of {', '.join(map(str, self.allowed))}"
        noun = {"int": "an integer", "float": "a number", "str": "a text"}[self.kind]
        bound = "" if self.lowest is None else f" of at least {self.lowest:g}"
        return noun + bound + (f" ({self.unit})" if self.unit else "")


class HasFields(Protocol):
    """What simulators and design models share, and all that a preset is checked against."""

    @property
    def id(self) -> str:
        """Registered id with its version (`systolic-v2`); a change that moves any number makes a new version."""
        ...

    @property
    def fields(self) -> tuple[Field, ...]:
        """What describes one accelerator or design."""
        ...


@dataclass(frozen=True, slots=True)
class Preset:
    """A named accelerator.

    Attributes:
        name: name of the file, without `.toml`.
        simulator: id of the simulator it is meant for; without a version it fits every version.
        description: one line.
        values: fields that differ from the simulator's defaults (all of them once checked against a simulator).
        search: fields that may be searched, each with its options.
        options: of the model itself (`[model]` in the file), such as the device that a memory controller drives.
    """

    name: str
    simulator: str
    description: str
    values: Mapping[str, Value]
    search: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    options: Mapping[str, Value] = field(default_factory=dict)

    def checked(self, simulator: HasFields) -> Preset:
        """The preset with every field of the simulator filled in and every value and option checked.

        Raises:
            ValueError: it is meant for another simulator, or a field or a value is wrong.
        """
        if self.simulator not in (simulator.id, bare_id(simulator.id)):
            raise ValueError(f"preset {self.name!r} is for simulator {self.simulator!r}, not {simulator.id!r}")
        values = check_values(simulator.fields, self.values, key=self.name)
        by_name = {f.name: f for f in simulator.fields}
        search: dict[str, tuple[Value, ...]] = {}
        for name, options in self.search.items():
            key = f"{self.name}.search.{name}"
            if name not in by_name:
                raise _unknown(f"{self.name}.search", name, by_name)
            checked = tuple(by_name[name].check(option, key) for option in options)
            if not checked:
                raise ValueError(f"{key}: no options; list at least one value")
            if len(set(checked)) != len(checked):
                raise ValueError(f"{key}: {list(checked)} lists an option twice")
            search[name] = checked
        return Preset(self.name, self.simulator, self.description, values, search, self.options)


def bare_id(simulator: str) -> str:
    """An id without its version: `systolic` for `systolic-v2`."""
    name, _, version = simulator.rpartition("-v")
    return name if name and version.isdigit() else simulator


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, sorted."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.toml"))


def load_preset(name: str | Path, simulator: HasFields | None = None) -> Preset:
    """A preset by name, or from a user's own file.

    Args:
        name: one of `preset_names()`, or a path that ends in `.toml`.
        simulator: checks the values and options against its fields and fills in its defaults; None checks the
            file's structure alone.

    Raises:
        ValueError: unknown name, unreadable file, unknown key, wrong value, or a preset for another simulator.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in preset_names():
            raise _unknown("preset", str(name), preset_names())
        path = PRESET_FOLDER / f"{name}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"preset: cannot read {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"preset: {str(path)!r} is not valid TOML: {error}") from error
    preset = _preset(path.stem, data)
    return preset if simulator is None else preset.checked(simulator)


def check_values(fields: Sequence[Field], values: Mapping[str, object], key: str = "accelerator") -> dict[str, Value]:
    """One accelerator: every field, defaults filled in, in the order of the fields.

    Raises:
        ValueError: a name is not a field (the nearest is suggested) or a value is wrong.
    """
    names = [f.name for f in fields]
    for name in values:
        if name not in names:
            raise _unknown(key, name, names)
    return {f.name: f.check(values.get(f.name, f.default), f"{key}.{f.name}") for f in fields}


def columns(fields: Sequence[Field], records: Iterable[Mapping[str, object]]) -> dict[str, NDArray[np.generic]]:
    """Accelerators as a struct of arrays.

    Args:
        fields: of the simulator.
        records: one mapping per accelerator; absent fields take their defaults.

    Returns:
        One array of shape (A,) per field: int64, float64 or text.

    Raises:
        ValueError: an unknown field or a wrong value; the message holds the accelerator's number.
    """
    checked = [check_values(fields, record, key=f"accelerators[{i}]") for i, record in enumerate(records)]
    return {f.name: np.array([values[f.name] for values in checked], dtype=_DTYPES[f.kind]) for f in fields}


def count_accelerators(fields: Sequence[Field], accelerators: Columns) -> int:
    """How many accelerators a struct of arrays holds.

    Raises:
        ValueError: a field has no column, or columns differ in shape.
    """
    shapes = {}
    for f in fields:
        if f.name not in accelerators:
            raise ValueError(f"accelerators: column {f.name!r} is missing")
        shapes[f.name] = np.shape(accelerators[f.name])
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"accelerators: every column must have one shape (A,), not {shapes}")
    return int(next(iter(shapes.values()))[0])


def _preset(name: str, data: Mapping[str, object]) -> Preset:
    known = ("simulator", "description", "model", "values", "search")
    for key in data:
        if key not in known:
            raise _unknown(name, key, known)
    texts: dict[str, str] = {}
    for key in ("simulator", "description"):
        text = data.get(key)
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name}.{key}: {text!r} is not allowed; use a text")
        texts[key] = text
    tables: dict[str, dict[str, object]] = {}
    for key in ("model", "values", "search"):
        table = data.get(key, {})
        if not isinstance(table, dict):
            raise ValueError(f"{name}.{key}: {table!r} is not allowed; use a table")
        tables[key] = table
    values = {k: _plain(v, f"{name}.values.{k}") for k, v in tables["values"].items()}
    options = {k: _plain(v, f"{name}.model.{k}") for k, v in tables["model"].items()}
    search: dict[str, tuple[Value, ...]] = {}
    for k, listed in tables["search"].items():
        if not isinstance(listed, list):
            raise ValueError(f"{name}.search.{k}: {listed!r} is not allowed; use a list of values")
        search[k] = tuple(_plain(option, f"{name}.search.{k}") for option in listed)
    return Preset(name, texts["simulator"], texts["description"], values, search, options)


def _plain(value: object, key: str) -> Value:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{key}: {value!r} is not allowed; use a number or a text")
    return value


def _unknown(key: str, value: object, names: Iterable[str]) -> ValueError:
    allowed = list(names)
    close = get_close_matches(str(value).lower(), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{key}: {value!r} is not one of {', '.join(allowed)}{hint}")
