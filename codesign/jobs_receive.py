"""Takes in a run that `codesign.jobs_send` wrote to a job's log, and puts it into a folder: whole or not at all."""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from pathlib import Path
from typing import BinaryIO

from codesign.errors import CodesignError, InputError
from codesign.jobs_send import BEGIN, END, LINE, MISSING, STORE

_RUN_FILES = ("job.yaml", "origin.json")


class Receiver:
    """Reads a log in pieces of any size and writes the run's archive to a file.

    Attributes:
        is_complete: the archive has arrived and its length and SHA-256 agree.
        is_missing: the cluster has no such run.
    """

    def __init__(self, submission_id: str, archive: BinaryIO) -> None:
        self._begin = f"{BEGIN}{submission_id}"
        self._archive = archive
        self._rest = ""
        self._has_begun = False
        self._digest = hashlib.sha256()
        self._n_bytes = 0
        self.is_complete = False
        self.is_missing = False

    def feed(self, text: str) -> bool:
        """Take in a piece of the log; True when nothing more is needed.

        Raises:
            CodesignError: what arrived is damaged.
        """
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._take(line)
        return self.is_complete or self.is_missing

    def _take(self, line: str) -> None:
        if not self._has_begun:
            self._has_begun = line == self._begin
            self.is_missing = self.is_missing or line == MISSING
        elif self.is_complete:
            return
        elif line.startswith(LINE):
            try:
                data = binascii.a2b_base64(line[len(LINE) :], strict_mode=True)
            except binascii.Error as error:
                raise CodesignError(f"the run arrived damaged ({error}); fetch it again") from error
            self._digest.update(data)
            self._n_bytes += len(data)
            self._archive.write(data)
        elif line.startswith(END):
            if line[len(END) :].split() != [str(self._n_bytes), self._digest.hexdigest()]:
                raise CodesignError(
                    f"the run arrived damaged ({self._n_bytes:,} bytes, another SHA-256); fetch it again"
                )
            self.is_complete = True


def check_target(folder: Path, submission_id: str) -> None:
    """Look whether a run can be put into a folder: a new or empty one, or one that holds an earlier state of it.

    Raises:
        InputError: it cannot.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: {str(folder)!r} is a file; name a folder")
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"--out: {str(folder)!r} cannot be written: no permission in {str(parent)!r}")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    fetched = _fetched(folder)
    if fetched.get("submission_id") != submission_id:
        raise InputError(f"--out: {str(folder)!r} holds something else already; name another folder")
    store = folder / STORE
    log = folder / f"{STORE}-wal"
    has_log = log.is_file() and log.stat().st_size > 0
    if has_log or (store.is_file() and _sha256(store) != fetched.get("store_sha256")):
        raise InputError(
            f"--out: the run in {str(folder)!r} was continued here after it was fetched; name another folder"
        )


def place_run(archive: Path, folder: Path, submission_id: str, address: str, job_folder: Path | None) -> None:
    """Unpack a run and put it into its folder, in one step; what else lies in an earlier state of it stays.

    Args:
        archive: a compressed tar.
        folder: where to; see `check_target`.
        submission_id: the job it comes from.
        address: its cluster.
        job_folder: where the job file lies on this machine, or None if that is unknown.

    Raises:
        CodesignError: the archive holds no run, or something that would leave the folder.
        InputError: the folder cannot take it.
    """
    check_target(folder, submission_id)
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    except OSError as error:
        raise InputError(f"--out: {str(folder)!r} cannot be written: {error.strerror}") from error
    try:
        partial.chmod(0o755)
        _unpack(archive, partial)
        _note_origin(partial, submission_id, address, job_folder or folder)
        _swap(partial, folder)
    except OSError as error:
        raise CodesignError(f"the run cannot be written to {str(folder)!r}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive, "r:gz") as packed:
            packed.extractall(folder, filter=_plain)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CodesignError(f"the run that arrived cannot be unpacked: {error}") from error
    missing = [name for name in _RUN_FILES if not (folder / name).is_file()]
    if missing:
        raise CodesignError(f"what arrived is not a run: no {missing[0]} in it")


def _plain(entry: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Python's `data` filter, and files alone: a run has no links."""
    if not (entry.isfile() or entry.isdir()):
        raise tarfile.SpecialFileError(entry)
    return tarfile.data_filter(entry, folder)


def _note_origin(folder: Path, submission_id: str, address: str, job_folder: Path) -> None:
    path = folder / "origin.json"
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
        origin["job_folder"] = str(job_folder.absolute())
    except (ValueError, TypeError) as error:
        raise CodesignError(f"what arrived is not a run: its origin.json cannot be read ({error})") from error
    store = folder / STORE
    origin["fetched"] = {
        "submission_id": submission_id,
        "address": address,
        "at": time.time(),
        "store_sha256": _sha256(store) if store.is_file() else "",
    }
    path.write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


def _swap(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    for file in folder.rglob("*"):  # exports and reports that were made here
        place = new / file.relative_to(folder)
        if file.is_file() and not file.name.startswith(f"{STORE}-") and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, place)
    before = new.with_name(f"{new.name}.before")
    folder.rename(before)
    try:
        new.rename(folder)
    except OSError:
        before.rename(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _fetched(folder: Path) -> dict[str, object]:
    try:
        fetched = json.loads((folder / "origin.json").read_text(encoding="utf-8"))["fetched"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return fetched if isinstance(fetched, dict) else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
