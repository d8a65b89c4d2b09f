"""Measures how long onnxruntime takes for a model on this machine's CPU.

What makes two measurements of one model agree, and models comparable, on a machine that does other work as well:

- threads are pinned in number and never wait busily; one inference at a time;
- a reading lasts several inferences, so that the clock's grain and the call itself vanish in it;
- readings go round the models, so that a slow spell hits all alike and not the one that happened to be measured;
- each reading starts with one inference that is not timed and fetches the model's weights back into the caches;
- the median counts: a mean follows the slow spells, and with the median comes its interval.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from codesign.errors import InputError
from codesign.intervals import FEWEST_READINGS, median_interval
from codesign.latency import Latency
from codesign.session_onnx import RUNTIME_VERSION, Array, Session, open_session, random_inputs
from codesign.shapes import GivenShape

__all__ = ["Latency", "measure"]


def measure(
    models: Sequence[bytes | Path],
    *,
    batch: int = 1,
    threads: int = 1,
    readings: int = 25,
    warmup: int = 5,
    min_reading_ms: float = 2.0,
    seed: int = 0,
    shape: GivenShape = None,
    pin: bool = False,
) -> list[Latency]:
    """Measure models side by side. It takes about `len(models) * readings * min_reading_ms`.

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
            rounds = [
                [runner.reading_ms(n) for runner, n in zip(runners, repeats, strict=True)] for _ in range(readings)
            ]
    return [_latency([each[i] for each in rounds], threads, batch) for i in range(len(runners))]


class _Runner:
    """One open model with its inputs."""

    def __init__(self, model: bytes | Path, batch: int, threads: int, seed: int, shape: GivenShape) -> None:
        self._session: Session = open_session(model, threads=threads)
        self._feeds: dict[str, Array] = random_inputs(self._session, batch, np.random.default_rng(seed), shape)

    def repeats(self, warmup: int, min_reading_ms: float) -> int:
        """Warm up; how many inferences fill a reading."""
        for _ in range(warmup):
            self._session.run(self._feeds)
        fastest_ms = min(self.reading_ms(1) for _ in range(3))
        return max(1, int(np.ceil(min_reading_ms / max(fastest_ms, 1e-4))))

    def reading_ms(self, repeats: int) -> float:
        """Milliseconds per inference over `repeats` of them."""
        run, feeds = self._session.run, self._feeds
        run(feeds)
        start_ns = perf_counter_ns()
        for _ in range(repeats):
            run(feeds)
        return (perf_counter_ns() - start_ns) / repeats / 1e6


def _latency(readings_ms: list[float], threads: int, batch: int) -> Latency:
    low_ms, high_ms = median_interval(readings_ms)
    return Latency(
        median_ms=statistics.median(readings_ms), low_ms=low_ms, high_ms=high_ms,
        readings=len(readings_ms), threads=threads, batch=batch, runtime=f"onnxruntime {RUNTIME_VERSION}",
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
