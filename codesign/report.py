"""The HTML report of a run: one file that opens from disk, needs no network and can be mailed."""

from __future__ import annotations

import json
from pathlib import Path

from codesign.assemble import Parts
from codesign.errors import InputError
from codesign.report_data import gather
from codesign.report_figures import front_figures, progress_figure
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
    data = gather(run, parts)
    fronts = front_figures(data) if data.n_trials else []
    figures = {
        "fronts": [figure for _, figure in fronts],
        "progress": progress_figure(data) if data.is_feasible.any() else None,
    }
    text = page(data, [title for title, _ in fronts], script_safe_json(figures))
    try:
        write_text(path, text)
    except OSError as error:
        raise InputError(f"--out: {str(path)!r} cannot be written: {error.strerror or error}") from error
    return path


def script_safe_json(content: object) -> str:
    """JSON that may stand inside a script element: no `<`, `>` or `&` is left in it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
