"""What a run knew from earlier ones, kept in its own folder: it goes on alike when they are gone.

DIR/warm_start.json    what was learned from what, and the hash of the arrays
DIR/warm_start.npz     arrays alone; nothing in it is executed when it is read
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError
from codesign.warm_start_model import ARRAYS, Learned

FORMAT = "codesign-warm-start-1"
MANIFEST, STORED = "warm_start.json", "warm_start.npz"
_TEXTS = ("objective", "source", "n_results", "skill")


def save_learned(learned: Sequence[Learned], folder: Path) -> None:
    """Write what was learned into a run's folder; nothing if there is nothing. Raises OSError."""
    if not learned:
        return
    held = io.BytesIO()
    np.savez(held, **{f"{i}.{name}": getattr(one, name) for i, one in enumerate(learned) for name in ARRAYS})
    data = held.getvalue()
    listed = [{name: getattr(one, name) for name in _TEXTS} | {"counts": list(one.counts)} for one in learned]
    manifest = {"format": FORMAT, "learned": listed, "arrays_sha256": hashlib.sha256(data).hexdigest()}
    for name, content in ((STORED, data), (MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())):
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)


def load_learned(folder: Path) -> tuple[Learned, ...]:
    """What `save_learned` wrote.

    Raises:
        DataError: it is not there, or was damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        data = (folder / STORED).read_bytes()
    except OSError as error:
        raise DataError(
            f"what the run in {str(folder)!r} had learned from earlier ones cannot be read "
            f"({Path(error.filename).name}: {error.strerror}); bring the file back, or begin a new run"
        ) from error
    except ValueError as error:
        raise DataError(f"{str(folder / MANIFEST)!r} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{str(folder / MANIFEST)!r} is not of format {FORMAT}")
    if hashlib.sha256(data).hexdigest() != manifest.get("arrays_sha256"):
        raise DataError(f"{str(folder / STORED)!r} was changed after it was written: its hash does not match")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            return tuple(_learned(one, {name: held[f"{i}.{name}"] for name in ARRAYS}) for i, one in _listed(manifest))
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"what the run in {str(folder)!r} had learned cannot be used: {error}") from error


def _listed(manifest: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    return list(enumerate(manifest["learned"]))


def _learned(one: dict[str, Any], arrays: dict[str, Any]) -> Learned:
    return Learned(**{name: one[name] for name in _TEXTS}, counts=tuple(one["counts"]), **arrays)
