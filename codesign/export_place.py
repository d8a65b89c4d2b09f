"""Where an export goes, checked before torch is loaded."""

from __future__ import annotations

import tempfile
from pathlib import Path

from codesign.errors import InputError


def places(out: Path) -> tuple[Path, Path]:
    """Where the model and its manifest go: `M.onnx` and `M.manifest.json`, or fixed names inside a folder."""
    if out.suffix == ".onnx":
        return out, out.with_suffix(".manifest.json")
    return out / "model.onnx", out / "manifest.json"


def check_writable(*paths: Path) -> None:
    """Try it: permission bits do not tell of read-only file systems, nor of a full quota."""
    folder = paths[0].parent
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path}: a folder is in the way; give another place to write to")
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"{folder}: this folder cannot be written to: {error.strerror}") from error
