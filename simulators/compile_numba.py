"""Compiled loops: event models whose next step depends on the last one, which no array operation expresses.

With numba installed (extra `fast`) they run as machine code, compiled once and kept on disk; without it the same
functions run as Python, with the same figures, some hundred times slower. Nothing else of `simulators` needs numba.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import ParamSpec, TypeVar, cast

IS_COMPILED = find_spec("numba") is not None
"""Whether `compiled` functions run as machine code."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, compiled on its first call where numba is installed.

    It must keep to numbers, NumPy arrays and other compiled functions; no error is raised inside, and integer division
    by zero is the caller's to rule out. `function.py_func` is the Python version, for tests (where it is compiled).
    """
    if not IS_COMPILED:
        return function
    import numba

    return cast(Callable[_P, _R], numba.njit(cache=True, error_model="numpy")(function))
