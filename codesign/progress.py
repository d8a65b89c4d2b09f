"""The progress line of a run: trials, time left, the best so far; on a log, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from codesign.objectives import Objectives
from codesign.pareto import is_nondominated
from codesign.study import Study
from codesign.trial import FloatArray

LOG_SECONDS = 15.0
"""Time between lines where the output is no terminal."""


class Best:
    """The best value of each objective and the size of the front, from results as they come."""

    def __init__(self, objectives: Objectives) -> None:
        self._objectives = objectives
        self._front = np.zeros((0, len(objectives.objectives)))
        self.n_failed = 0

    def add(self, losses: FloatArray, violations: FloatArray) -> None:
        """Take in results: losses of shape (n, m), violations of shape (n,)."""
        self.n_failed += int(np.isinf(violations).sum())
        feasible = losses[(violations == 0) & ~np.isnan(losses).any(axis=1)]
        if len(feasible):
            joined = np.unique(np.concatenate([self._front, feasible]), axis=0)
            self._front = joined[is_nondominated(joined)]

    def __str__(self) -> str:
        if len(self._front) == 0:
            return "no candidate yet"
        best = self._front.min(axis=0)
        values = [
            f"{objective.metric} {-loss if objective.maximize else loss:.4g}"
            for objective, loss in zip(self._objectives.objectives, best, strict=True)
        ]
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        return f"best {', '.join(values)}; front {len(self._front)}{failed}"


@contextmanager
def progress_line(study: Study, objectives: Objectives, console: Console) -> Iterator[None]:
    """Show the study's progress for the length of a block."""
    best = Best(objectives)
    if console.is_terminal:
        with _bar(study, best, console):
            yield
    else:
        study.on_result(_Lines(study, best, console))
        yield


@contextmanager
def _bar(study: Study, best: Best, console: Console) -> Iterator[None]:
    columns = (
        TextColumn("trials"), MofNCompleteColumn(), BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.description}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(str(best), total=study.trials, completed=study.n_finished)

        def show(losses: FloatArray, violations: FloatArray) -> None:
            best.add(losses, violations)
            progress.update(task, completed=study.n_finished, description=str(best))

        study.on_result(show)
        yield


class _Lines:
    """Prints a line when enough time has passed since the last one, and at the end."""

    def __init__(self, study: Study, best: Best, console: Console) -> None:
        self._study, self._best, self._console = study, best, console
        self._began = self._last = time.monotonic()
        self._n_before = study.n_finished

    def __call__(self, losses: FloatArray, violations: FloatArray) -> None:
        self._best.add(losses, violations)
        now, done, total = time.monotonic(), self._study.n_finished, self._study.trials
        if now - self._last < LOG_SECONDS and done < total:
            return
        self._last = now
        pace = (done - self._n_before) / max(now - self._began, 1e-9)
        left = f", {(total - done) / pace:.0f} s left" if pace > 0 and done < total else ""
        self._console.print(f"trials {done:,}/{total:,}, {now - self._began:.0f} s{left}; {self._best}", soft_wrap=True)
