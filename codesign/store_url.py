"""Where a run's database is."""

from __future__ import annotations

from pathlib import Path


def store_url(store: str | None, folder: Path, job_folder: Path) -> str:
    """The URL of a run's database.

    Args:
        store: what the job says; a relative SQLite path is relative to the job file, as every path in a job is.
        folder: of the run, whose own file it is where the job says nothing.
        job_folder: where the job file lies.
    """
    if store is None:
        return f"sqlite:///{folder.absolute() / 'codesign.db'}"
    relative = store.removeprefix("sqlite:///")
    if relative == store or relative.startswith("/") or relative == ":memory:":
        return store
    return f"sqlite:///{job_folder.absolute() / relative}"
