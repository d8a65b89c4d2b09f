"""The progress of learning a proxy: what is being fitted and the time left; on a log, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from codesign.progress import LOG_SECONDS
from codesign.proxy_fit import Note
from codesign.units import duration_text


@contextmanager
def fit_progress(console: Console) -> Iterator[Note]:
    """Show progress for the length of a block; what is yielded takes the share done and what comes next."""
    began = time.monotonic()
    if console.is_terminal:
        columns = (
            TextColumn("learning"), TaskProgressColumn(), BarColumn(bar_width=24), TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )  # fmt: skip
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=1.0)

            def draw(share: float, text: str) -> None:
                progress.update(task, completed=share, description=_described(share, time.monotonic() - began, text))

            yield draw
        return
    last = began

    def line(share: float, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOG_SECONDS:
            last = now
            described = _described(share, now - began, text)
            console.print(f"learning {share:.0%}, {now - began:.0f} s; {described}", soft_wrap=True)

    yield line


def _described(share: float, spent: float, text: str) -> str:
    if share <= 0 or share >= 1:
        return text
    return f"{duration_text(spent * (1 - share) / share)} left, {text}"
