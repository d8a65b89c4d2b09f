"""Conformance kits for spaces, simulators and strategies: run them on your own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codesign.testing.simulators import check_simulator
    from codesign.testing.spaces import check_space
    from codesign.testing.strategies import check_strategy

_WHERE = {"check_simulator": "simulators", "check_space": "spaces", "check_strategy": "strategies"}

__all__ = ["check_simulator", "check_space", "check_strategy"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value
