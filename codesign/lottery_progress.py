"""The progress of a lottery: tickets done and the time left, estimated for each agent from its own tickets."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from codesign.lottery_job import Ticket
from codesign.progress import LOG_SECONDS
from codesign.units import duration_text


class TimeLeft:
    """How long the tickets that are left will take.

    Args:
        pending: tickets to be carried out.
        workers: tickets side by side.
    """

    def __init__(self, pending: Sequence[Ticket], workers: int) -> None:
        self._workers = workers
        self._left: dict[str, int] = defaultdict(int)
        self._spent: dict[str, list[float]] = defaultdict(list)
        for ticket in pending:
            self._left[ticket.agent] += 1

    def add(self, agent: str, seconds: float) -> None:
        """A ticket of an agent is done."""
        self._left[agent] -= 1
        self._spent[agent].append(seconds)

    @property
    def seconds(self) -> float | None:
        """Estimate; an agent that has finished no ticket is taken for an average one. None if none has."""
        means = {agent: sum(spent) / len(spent) for agent, spent in self._spent.items()}
        if not means:
            return None
        average = sum(means.values()) / len(means)
        work = sum(left * means.get(agent, average) for agent, left in self._left.items())
        return work / max(1, min(self._workers, sum(self._left.values())))


Shown = Callable[[str, float], None]
"""Takes the agent of a ticket that is done and the seconds it took."""


@contextmanager
def lottery_progress(pending: Sequence[Ticket], n_done: int, workers: int, console: Console) -> Iterator[Shown]:
    """Show progress for the length of a block: a bar on a terminal, else a line now and then."""
    left, total, done = TimeLeft(pending, workers), n_done + len(pending), n_done

    if console.is_terminal:
        columns = (
            TextColumn("tickets"), MofNCompleteColumn(), BarColumn(bar_width=24), TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )  # fmt: skip
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=total, completed=n_done)

            def draw(agent: str, seconds: float) -> None:
                left.add(agent, seconds)
                progress.update(task, advance=1, description=_left_text(left.seconds))

            yield draw
        return
    began = last = time.monotonic()

    def line(agent: str, seconds: float) -> None:
        nonlocal done, last
        left.add(agent, seconds)
        done += 1
        now = time.monotonic()
        if now - last >= LOG_SECONDS or done == total:
            last = now
            text = f", {_left_text(left.seconds)}" if done < total else ""
            console.print(f"tickets {done:,}/{total:,}, {now - began:.0f} s{text}", soft_wrap=True)

    yield line


def _left_text(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{duration_text(seconds)} left"
