"""Finds spaces, simulators, design models, strategies, evaluators and data readers by name.

Every one of them, codesign's own included, is an entry point in a group `codesign.<kind>`; a lookup imports that one
class and nothing else. An id may carry a version (`systolic-v2`); the bare name means the newest. A user's own class is
named `module:Name` and found beside the job file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from codesign.errors import InputError

Kind = Literal["spaces", "simulators", "strategies", "evaluators", "data", "models"]

_VERSION = re.compile(r"^(?P<name>.+)-v(?P<version>\d+)$")


def names(kind: Kind) -> list[str]:
    """Every registered id of a kind, sorted. Imports nothing."""
    return sorted(_table(kind, entry_points(group=f"codesign.{kind}")))


def resolve(kind: Kind, name: str, key: str = "type") -> str:
    """The full id for a name: a bare name means its newest version. Raises InputError if it is unknown."""
    table = _table(kind, entry_points(group=f"codesign.{kind}"))
    if name in table or ":" in name:
        return name
    versions = {int(m["version"]): full for full in table if (m := _VERSION.match(full)) and m["name"] == name}
    if not versions:
        bare = {(m["name"] if (m := _VERSION.match(full)) else full) for full in table}
        raise InputError.about(key, name, sorted(bare))
    return versions[max(versions)]


def lookup(kind: Kind, name: str, key: str = "type") -> type:
    """The class registered under a name.

    Args:
        kind: which registry.
        name: an id, a bare name (newest version), or `module:Name`.
        key: where the name was given, for the error message.

    Raises:
        InputError: the name is unknown (the nearest is suggested), claimed twice, or its module does not load.
    """
    full = resolve(kind, name, key)
    if ":" in full:
        return _load(EntryPoint(name=full, value=full, group=f"codesign.{kind}"), key)
    return _load(_table(kind, entry_points(group=f"codesign.{kind}"))[full], key)


def _table(kind: Kind, found: Iterable[EntryPoint]) -> dict[str, EntryPoint]:
    table: dict[str, EntryPoint] = {}
    for point in found:
        other = table.setdefault(point.name, point)
        if other.value != point.value:
            raise InputError(
                f"two packages register {kind} {point.name!r}: {other.value} and {point.value}; remove one"
            )
    return table


def _load(point: EntryPoint, key: str) -> type:
    module_name, _, attribute = point.value.partition(":")
    try:
        found = getattr(import_module(module_name), attribute)
    except ImportError as error:
        raise InputError(f"{key}: cannot import {module_name!r} for {point.name!r}: {error}") from error
    except AttributeError as error:
        raise InputError(f"{key}: module {module_name!r} has no {attribute!r}") from error
    if not isinstance(found, type) and not callable(found):
        raise InputError(f"{key}: {point.value} is not a class or function")
    return found  # type: ignore[no-any-return]
