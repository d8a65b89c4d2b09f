"""The progress of a calibration: what is measured and the time left; on a log, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from codesign.device_calibrate import Note
from codesign.progress import LOG_SECONDS
from codesign.units import duration_text


@contextmanager
def calibration_progress(console: Console) -> Iterator[Note]:
    """Show progress for the length of a block; what is yielded takes the share of the time spent and what is done."""
    began = last = time.monotonic()
    first = -1.0

    def described(share: float, text: str) -> str:
        nonlocal first
        first = share if first < 0 else first  # a calibration that goes on does not start at 0
        spent = time.monotonic() - began
        if share >= 1 or share - first < 0.02:
            return text
        return f"{text}; at most {duration_text(spent * (1 - share) / (share - first))} left"

    if not console.is_terminal:

        def line(share: float, text: str) -> None:
            nonlocal last
            shown = described(share, text)
            if time.monotonic() - last >= LOG_SECONDS:
                last = time.monotonic()
                console.print(f"calibrating, {last - began:.0f} s: {shown}", soft_wrap=True)

        yield line
        return
    columns = (
        TextColumn("calibrating"), TaskProgressColumn(), BarColumn(bar_width=24), TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda share, text: progress.update(task, completed=share, description=described(share, text))
