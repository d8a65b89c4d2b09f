"""Measures how long onnxruntime takes for a model on this machine's CPU.

What makes two measurements of one model agree, and models comparable, on a machine that does other work as well:

- threads are pinned in number and never wait busily; one inference at a time;
- a reading lasts several inferences, so that the clock's grain and the call itself vanish in it;
- readings go round the models, so that a slow spell hits all alike and not the one that happened to be measured;
- each reading starts with one inference that is not timed and fetches the model's weights back into the caches;
- a reading in which another process took the core away is told by its clock and its processor time drifting apart, and
  is taken again (with one thread; several wait for each other anyway);
- of the readings left, the median counts: a mean follows every outlier, and with the median comes its interval.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import get_clock_info, perf_counter_ns, thread_time_ns

import numpy as np

from codesign.errors import InputError
from codesign.intervals import FEWEST_READINGS, median_interval
from codesign.latency import Latency
from codesign.session_onnx import RUNTIME_VERSION, Array, Session, open_session, random_inputs
from codesign.shapes import GivenShape

__all__ = ["Latency", "measure"]

_PATIENCE = 4
"""Rounds per reading asked for, at most: on a machine that is never quiet, a measurement ends all the same."""

_SEES_PROCESSOR_TIME = get_clock_info("thread_time").resolution <= 1e-6


@dataclass(frozen=True, slots=True)
class _Reading:
    ms: float
    is_disturbed: bool


def measure(
    models: Sequence[bytes | Path],
    *,
    batch: int = 1,
    threads: int = 1,
    readings: int = 25,
    warmup: int = 5,
    min_reading_ms: float = 1.0,
    seed: int = 0,
    shape: GivenShape = None,
    pin: bool = False,
) -> list[Latency]:
    """Measure models side by side.

    It takes about `len(models) * readings * min_reading_ms` on a quiet machine, up to four times as long on a busy one.

    Args:
        models: bytes or paths of ONNX files; compare models within one call, where they share every slow spell.
        batch: the size of a free first axis.
        threads: threads within an op.
        readings: readings per model, at least 6.
        warmup: inferences before the first reading, not timed, at least 1.
        min_reading_ms: how long a reading lasts at least; slow models take one inference per reading.
        seed: of the random inputs.
        shape: whole shapes of the inputs, where more than the first axis is free.
        pin: whether to keep to `threads` of the allowed cores meanwhile, where the system can. It helps on an idle
            machine; on a busy one it forbids moving away from a neighbour.

    Returns:
        One `Latency` per model, in order.

    Raises:
        InputError: a model cannot be read or run, a shape does not fit, or a number is too small.
    """
    for key, value, least in (
        ("batch", batch, 1), ("threads", threads, 1), ("readings", readings, FEWEST_READINGS), ("warmup", warmup, 1),
        ("min_reading_ms", min_reading_ms, 0.0),
    ):  # fmt: skip
        if not value >= least:
            raise InputError.about(key, value, f"a number of at least {least}")
    with _pinned(threads if pin else 0):  # the runtime's own threads inherit the cores of the one that starts them
        runners = [_Runner(model, batch, threads, seed, shape) for model in models]
        with _without_garbage_collection():
            repeats = [runner.repeats(warmup, min_reading_ms) for runner in runners]
            taken = _take(runners, repeats, readings)
    return [_latency(each, threads, batch) for each in taken]


def _take(runners: Sequence[_Runner], repeats: Sequence[int], readings: int) -> list[list[_Reading]]:
    """Round after round of readings, until every model has enough that nothing disturbed."""
    taken: list[list[_Reading]] = [[] for _ in runners]
    for _ in range(readings * _PATIENCE):
        waiting = [i for i, own in enumerate(taken) if sum(not each.is_disturbed for each in own) < readings]
        if not waiting:
            break
        for i in waiting:
            taken[i].append(runners[i].reading(repeats[i]))
    return taken


class _Runner:
    """One open model with its inputs."""

    def __init__(self, model: bytes | Path, batch: int, threads: int, seed: int, shape: GivenShape) -> None:
        self._is_watched = threads == 1 and _SEES_PROCESSOR_TIME
        self._session: Session = open_session(model, threads=threads)
        self._feeds: dict[str, Array] = random_inputs(self._session, batch, np.random.default_rng(seed), shape)

    def repeats(self, warmup: int, min_reading_ms: float) -> int:
        """Warm up; how many inferences fill a reading."""
        for _ in range(warmup):
            self._session.run(self._feeds)
        fastest_ms = min(self.reading(1).ms for _ in range(3))
        return max(1, int(np.ceil(min_reading_ms / max(fastest_ms, 1e-4))))

    def reading(self, repeats: int) -> _Reading:
        """Milliseconds per inference over `repeats` of them."""
        run, feeds = self._session.run, self._feeds
        run(feeds)
        start_ns, processor_start_ns = perf_counter_ns(), thread_time_ns()
        for _ in range(repeats):
            run(feeds)
        processor_ns, elapsed_ns = thread_time_ns() - processor_start_ns, perf_counter_ns() - start_ns
        is_disturbed = self._is_watched and elapsed_ns > 1.1 * processor_ns + 10_000
        return _Reading(elapsed_ns / repeats / 1e6, is_disturbed)


def _latency(taken: list[_Reading], threads: int, batch: int) -> Latency:
    """The median of the undisturbed readings, or of all if those are too few for an interval."""
    undisturbed = [each.ms for each in taken if not each.is_disturbed]
    kept = undisturbed if len(undisturbed) >= FEWEST_READINGS else [each.ms for each in taken]
    low_ms, high_ms = median_interval(kept)
    return Latency(
        median_ms=statistics.median(kept), low_ms=low_ms, high_ms=high_ms, readings=len(kept),
        disturbed=len(taken) - len(undisturbed), threads=threads, batch=batch, runtime=f"onnxruntime {RUNTIME_VERSION}",
    )  # fmt: skip


@contextmanager
def _pinned(n_cores: int) -> Iterator[None]:
    """Keep this thread to `n_cores` of its cores (0: leave it alone); the old set returns afterwards."""
    if n_cores < 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    # The highest ones: interrupts and whatever else was never told where to run tend to the lowest.
    os.sched_setaffinity(0, sorted(allowed)[-n_cores:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
