"""Compiled loops: event models whose next step depends on the last one, which no array operation expresses.

With numba installed (extra `fast`) they run as machine code, compiled once and kept in the user's cache folder; without
it the same functions run as Python, with the same figures, some hundred times slower. Nothing else of `simulators`
needs numba.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

try:
    import numba

    IS_COMPILED = True
except ImportError:  # the extra `fast` is not installed
    IS_COMPILED = False

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, compiled on its first call where numba is installed.

    It must keep to numbers, NumPy arrays and other compiled functions; no error is raised inside, and integer division
    by zero is the caller's to rule out. `function.py_func` is the Python version, for tests (where it is compiled).
    """
    if not IS_COMPILED:
        return function
    kept, folder = numba.config.CACHE_DIR, _cache_folder(function.__module__)  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]  # read once, where caching is enabled
    try:
        return cast(Callable[_P, _R], numba.njit(cache=True, error_model="numpy")(function))
    finally:
        numba.config.CACHE_DIR = kept  # type: ignore[attr-defined]


def _cache_folder(module: str) -> str:
    """A folder for this very source: numba's own check does not see changes in a function that another one calls."""
    sources = hashlib.sha256()
    for text in _sources(module.rpartition(".")[2], {}).values():
        sources.update(text.encode())
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return str(Path(base).expanduser() / f"codesign-{sources.hexdigest()[:16]}")


def _sources(name: str, found: dict[str, str]) -> dict[str, str]:
    """Source texts of a module of this package and of all that it imports from the package, by name."""
    path = Path(__file__).with_name(f"{name}.py")
    if name not in found and path.is_file():
        found[name] = path.read_text(encoding="utf-8")
        for other in re.findall(r"^(?:from|import) simulators\.(\w+)", found[name], re.MULTILINE):
            _sources(other, found)
    return found
