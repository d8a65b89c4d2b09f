"""Runs on the cluster: `python -m codesign.jobs_send ID` writes the run of a submitted job to its log, as text.

The Jobs API has one way back, the log; so the run's folder goes there as base64 of a compressed tar, in lines that
nothing else in a log looks like, with its length and SHA-256 at the end. Standard library only.

    =codesign run begin ID
    +<base64 of 48 KiB>
    =codesign run end <bytes> <sha256>        or: =codesign run missing
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TextIO

BEGIN, LINE, END, MISSING = "=codesign run begin ", "+", "=codesign run end ", "=codesign run missing"
LINE_BYTES = 48 * 1024
"""Bytes in a line: Ray sends a log on as soon as it has read 20,000 characters, so that no message grows large."""

STORE = "codesign.db"
LEFT_OUT = ("tune", "checkpoints")
"""Folders of a run that matter only to the machine that carries it out."""


def run_folder(submission_id: str, environ: Mapping[str, str]) -> Path:
    """Where the run of a submitted job lies on the head node."""
    runs = environ.get("CODESIGN_RUNS")
    return (Path(runs) if runs else Path.home() / ".codesign" / "runs") / submission_id


def send(submission_id: str, folder: Path, out: TextIO) -> None:
    """Write a run's folder between the markers, or that there is none.

    Each line is one write (Ray runs jobs unbuffered): what Ray itself writes to the log may come between lines alone.
    """
    if not (folder / "job.yaml").is_file():
        out.write(f"{MISSING}\n")
        return
    out.write(f"{BEGIN}{submission_id}\n")
    lines = _Lines(out)
    pack(folder, lines)
    lines.finish()
    out.write(f"{END}{lines.n_bytes} {lines.digest.hexdigest()}\n")
    out.flush()


def pack(folder: Path, out: io.RawIOBase) -> None:
    """Write a run's folder as a compressed tar. The run may be under way.

    The store comes first, as a consistent copy: whatever its trials refer to is complete by then.
    """
    with (
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        if (folder / STORE).is_file():
            with tempfile.TemporaryDirectory() as scratch:
                copy = Path(scratch) / STORE
                copy_store(folder / STORE, copy)
                _add(archive, copy, STORE)
        for file in _files(folder):
            _add(archive, file, file.relative_to(folder).as_posix())


def copy_store(source: Path, target: Path) -> None:
    """A copy of an SQLite database as it stands at one moment, while others may write to it."""
    with closing(sqlite3.connect(source, timeout=60)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def _files(folder: Path) -> Iterator[Path]:
    for parent, below, names in os.walk(folder):
        if Path(parent) == folder:
            below[:] = [name for name in below if name not in LEFT_OUT]
        below.sort()
        for name in sorted(names):
            is_store = Path(parent) == folder and name.startswith(STORE)  # -wal and -shm belong to the live one
            if not (is_store or name.endswith(".partial") or Path(parent, name).is_symlink()):
                yield Path(parent, name)


def _add(archive: tarfile.TarFile, file: Path, name: str) -> None:
    try:
        content = file.open("rb")
    except FileNotFoundError:  # the run goes on meanwhile
        return
    with content:
        entry = tarfile.TarInfo(name)
        status = os.fstat(content.fileno())
        entry.size, entry.mtime, entry.mode = status.st_size, int(status.st_mtime), 0o644
        archive.addfile(entry, content)


class _Lines(io.RawIOBase):
    """Takes bytes and writes them as lines of base64."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._held = bytearray()
        self.n_bytes = 0
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        given = bytes(data)  # type: ignore[call-overload]
        self.n_bytes += len(given)
        self.digest.update(given)
        self._held += given
        while len(self._held) >= LINE_BYTES:
            self._put(LINE_BYTES)
        return len(given)

    def finish(self) -> None:
        """Write what is left."""
        if self._held:
            self._put(len(self._held))

    def _put(self, n: int) -> None:
        self._out.write(f"{LINE}{base64.b64encode(self._held[:n]).decode('ascii')}\n")
        del self._held[:n]


if __name__ == "__main__":
    send(sys.argv[1], run_folder(sys.argv[1], os.environ), sys.stdout)
