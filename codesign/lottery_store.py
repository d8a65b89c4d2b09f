"""Where a lottery's results lie: one Parquet file of tickets, and a file for each that came since it was written.

DIR/lottery.yaml       the resolved lottery
DIR/problem.json       which problem the tickets are of
DIR/tickets.parquet    tickets, one row each, with every loss they met
DIR/tickets/           tickets not yet in it, a file each: written whole or not at all, so a kill loses what ran
DIR/lottery.json, lottery.html, lottery.svg    what came out
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import InputError, StoreError
from codesign.lottery import Outcome
from codesign.lottery_job import Lottery, Ticket, dump_lottery
from codesign.run import write_text


class LotteryStore:
    """The tickets in a folder.

    Args:
        folder: made if it is not there.
        fingerprint: of the problem, see `Problem.fingerprint`.
        n_objectives: number of losses.

    Raises:
        InputError: the folder cannot be written, or holds tickets of another problem.
        StoreError: a Parquet file in it cannot be read.
    """

    def __init__(self, folder: Path, fingerprint: str, n_objectives: int) -> None:
        self.folder = folder
        self._n_objectives = n_objectives
        self._parts = folder / "tickets"
        self._whole = folder / "tickets.parquet"
        check_folder(folder, fingerprint)
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            write_text(folder / "problem.json", json.dumps({"fingerprint": fingerprint}) + "\n")
        except OSError as error:
            raise InputError(f"--out: {str(folder)!r} cannot be written: {error.strerror}") from error
        self._rows: dict[str, dict[str, Any]] = {}
        for path in (self._whole, *sorted(self._parts.glob("*.parquet"))):
            if path.is_file():
                self._rows |= {row["key"]: row for row in _read(path)}

    def begin(self, lottery: Lottery) -> None:
        """Write down which lottery it is."""
        write_text(self.folder / "lottery.yaml", dump_lottery(lottery))

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket_key(ticket) in self._rows

    def add(self, ticket: Ticket, outcome: Outcome) -> None:
        """Keep a ticket's outcome; durable when this returns."""
        row = {
            "key": ticket_key(ticket), "agent": ticket.agent, "strategy": ticket.strategy, "setting": ticket.setting,
            "repeat": ticket.repeat, "options": json.dumps(ticket.options, sort_keys=True), "seed": ticket.seed,
            "n_evaluations": len(outcome.losses), "losses": outcome.losses.ravel().tolist(),
            "violations": outcome.violations.tolist(), "strategy_seconds": outcome.strategy_seconds,
            "evaluation_seconds": outcome.evaluation_seconds,
        }  # fmt: skip
        _write(self._parts / f"{row['key']}.parquet", [row])
        self._rows[row["key"]] = row

    def outcome(self, ticket: Ticket) -> Outcome:
        """What a ticket in the store found."""
        row = self._rows[ticket_key(ticket)]
        losses = np.array(row["losses"], dtype=np.float64).reshape(-1, self._n_objectives)
        violations = np.array(row["violations"], dtype=np.float64)
        return Outcome(losses, violations, row["strategy_seconds"], row["evaluation_seconds"])

    def compact(self) -> None:
        """Bring all tickets into the one file; a kill in between leaves some in two files, which does no harm."""
        rows = sorted(self._rows.values(), key=lambda row: (row["agent"], row["setting"], row["repeat"], row["key"]))
        _write(self._whole, rows)
        for path in self._parts.glob("*"):
            path.unlink()


def ticket_key(ticket: Ticket) -> str:
    """Equal for tickets that must come out equal on one problem."""
    content = [ticket.strategy, ticket.options, ticket.seed, ticket.evaluations, ticket.batch]
    text = json.dumps([ticket.agent, *content], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def check_folder(folder: Path, fingerprint: str) -> None:
    """Raise InputError if a folder cannot take a lottery on this problem; writes nothing."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: {str(folder)!r} is a file; name a folder")
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"--out: {str(folder)!r} cannot be written: no permission in {str(parent)!r}")
    try:
        held = json.loads((folder / "problem.json").read_text(encoding="utf-8"))["fingerprint"]
    except FileNotFoundError:
        if (folder / "job.yaml").exists():
            raise InputError(f"--out: {str(folder)!r} holds a run; name another folder") from None
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--out: {str(folder / 'problem.json')!r} cannot be read: {error}") from error
    if held != fingerprint:
        raise InputError(
            f"--out: {str(folder)!r} holds tickets of another problem (or of models that have changed since); "
            "name another folder"
        )


def _read(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path, schema=_schema()).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise StoreError(f"{str(path)!r} cannot be read: {str(error).splitlines()[0]}") from error
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=_schema()), stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def _schema() -> Any:
    import pyarrow

    text, whole, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    kinds = {
        "key": text, "agent": text, "strategy": text, "setting": whole, "repeat": whole, "options": text, "seed": whole,
        "n_evaluations": whole, "losses": pyarrow.list_(real), "violations": pyarrow.list_(real),
        "strategy_seconds": real, "evaluation_seconds": real,
    }  # fmt: skip
    return pyarrow.schema(list(kinds.items()))
