"""The HTML report of a run: one file that opens from disk, needs no network and can be mailed."""

from __future__ import annotations

from pathlib import Path

from codesign.assemble import Parts
from codesign.errors import InputError
from codesign.report_data import gather
from codesign.report_page import page
from codesign.run import Run, write_text


def write_report(run: Run, parts: Parts, path: Path) -> Path:
    """Write the report of a run, finished or under way; the file is replaced whole or not at all.

    Args:
        run: the run.
        parts: its parts.
        path: the HTML file.

    Returns:
        `path`.

    Raises:
        InputError: the file cannot be written.
    """
    text = page(gather(run, parts))
    try:
        write_text(path, text)
    except OSError as error:
        raise InputError(f"--out: {str(path)!r} cannot be written: {error.strerror or error}") from error
    return path
