"""A simulated clock for asynchronous workers: a day of cluster scheduling in milliseconds.

Nothing waits. A worker that is free asks for work at once; its result arrives when its simulated time is over, results
of one instant together, and only then do the freed workers ask again. The driver knows neither strategies nor studies:

    drive_clock(lambda: study.ask(1), lambda batch: study.finish(batch.numbers, evaluate(batch.codes)), hours, 8)

Source of the method: Salinas et al. 2022, "Syne Tune", section 3 (simulated back end: events in order of time).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Work = TypeVar("Work")


@dataclass(frozen=True, slots=True)
class Shift(Generic[Work]):
    """One piece of work on a worker.

    Attributes:
        number: place in the order of asking, from 0.
        worker: which worker did it, from 0.
        began, ended: simulated times, in the unit of the durations; the first workers begin at 0.
        work: what was asked for.
    """

    number: int
    worker: int
    began: float
    ended: float
    work: Work


def drive_clock(
    ask: Callable[[], Work | None],
    tell: Callable[[Work], None],
    duration: Callable[[Work], float],
    workers: int,
) -> list[Shift[Work]]:
    """Keep workers busy until there is no more work.

    Args:
        ask: the next piece of work; None if there is none now. It is asked again whenever results have arrived, and the
            drive ends once it returns None while no worker is busy.
        tell: takes the result of a piece of work when it arrives.
        duration: how long a piece of work takes, from 0, finite; called once for each, in the order of asking.
        workers: how many work at once, at least 1. Of several that are free the one with the lowest number asks.

    Returns:
        What was done, in the order in which results arrived; of one instant in the order of asking.

    Raises:
        ValueError: fewer than one worker, or a duration that is negative or not finite.
    """
    if workers < 1:
        raise ValueError(f"workers: {workers} is not allowed; use a number from 1")
    free = list(range(workers))  # a heap
    busy: list[tuple[float, int, Shift[Work]]] = []  # a heap by end, then by number
    done: list[Shift[Work]] = []
    now, number = 0.0, 0
    while True:
        while free and (work := ask()) is not None:
            length = float(duration(work))
            if not (math.isfinite(length) and length >= 0):
                raise ValueError(f"the duration of work {number} is {length}; use a finite number from 0")
            shift = Shift(number, heapq.heappop(free), now, now + length, work)
            heapq.heappush(busy, (shift.ended, number, shift))
            number += 1
        if not busy:
            return done
        now = busy[0][0]
        while busy and busy[0][0] == now:
            shift = heapq.heappop(busy)[2]
            heapq.heappush(free, shift.worker)
            tell(shift.work)
            done.append(shift)
