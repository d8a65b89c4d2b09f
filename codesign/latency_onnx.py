"""Measures how long onnxruntime takes for a model on this machine's CPU.

What makes two measurements of one model agree, and models comparable, on a machine that does other work as well:

- threads are fixed in number and never wait busily; one inference at a time;
- with one thread a reading is the time for which that thread had the core (with several, that of the clock): while
  another process has the core, the count stands still;
- a reading is the quickest of many short bursts of inferences, each long enough for the clock's grain to vanish in it:
  the shorter a burst, the likelier that nothing disturbs it;
- readings go round the models, so that a slow spell hits all alike and not the one that happened to be measured;
- each reading starts with one inference that is not timed and fetches the model's weights back into the caches;
- a reading in which another process took the core away is told by its clock and its processor time drifting apart, and
  one in a slow spell of the whole machine by a small fixed model, timed before and after; both are taken again, if it
  does not happen all the time (see `codesign.latency_reference_onnx`);
- what is left of others' work (their use of caches and memory) only ever adds, so the quickest reading counts;
- a model is opened six to twelve times: where its tensors come to lie makes it quicker or slower by a percent or two
  for as long as it is open, and no number of readings tells. The quickest third of the openings counts, so that slow
  spells that last longer than an opening do no harm; where the two quickest disagree, it is opened a few times more.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import get_clock_info, perf_counter_ns, thread_time_ns

import numpy as np
from numpy.typing import NDArray

from codesign.errors import InputError
from codesign.intervals import FEWEST_READINGS, median_interval
from codesign.latency import Latency, quickest_third
from codesign.latency_reference_onnx import Reference
from codesign.session_onnx import RUNTIME_VERSION, Array, Session, open_session, random_inputs
from codesign.shapes import GivenShape

__all__ = ["Latency", "Opening", "measure", "new_reference", "open_and_read"]

FEWEST_OPENINGS, MOST_OPENINGS = FEWEST_READINGS, 12
"""As few as have an interval."""
_READINGS_PER_OPENING = 5
_MORE_OPENINGS = 4
_AGREE = 1.02
"""Openings are enough when the second quickest is slower by at most this factor."""
_BURST_MS = 0.1
"""How long a burst lasts at least."""
_BURSTS_BETWEEN = 4
"""Bursts after which the reference is timed again."""
_PATIENCE = 2
"""Rounds per reading asked for, at most: on a machine that is never quiet, a measurement ends all the same."""

_SEES_PROCESSOR_TIME = get_clock_info("thread_time").resolution <= 1e-6


@dataclass(frozen=True, slots=True)
class _Reading:
    ms: float
    is_disturbed: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """What one opening of n models gave.

    Attributes:
        quickest_ms: shape (n,), each model's quickest reading, of the undisturbed ones if there are any.
        readings: shape (n,), how many were taken.
        disturbed: shape (n,), during how many another process held the core or the machine was slow.
    """

    quickest_ms: NDArray[np.float64]
    readings: NDArray[np.int64]
    disturbed: NDArray[np.int64]


def measure(
    models: Sequence[bytes | Path],
    *,
    batch: int = 1,
    threads: int = 1,
    readings: int = 60,
    warmup: int = 3,
    min_reading_ms: float = 3.0,
    seed: int = 0,
    shape: GivenShape = None,
    pin: bool = False,
) -> list[Latency]:
    """Measure models side by side.

    It takes about `len(models) * readings * min_reading_ms` on a quiet machine, up to twice as long on a busy one, and
    opens each model six to sixteen times.

    Args:
        models: bytes or paths of ONNX files; compare models within one call, where they share every slow spell.
        batch: the size of a free first axis.
        threads: threads within an op.
        readings: readings per model, at least 6; shared out among six openings, or up to twelve with five in each.
        warmup: inferences before the first reading of an opening, not timed, at least 1.
        min_reading_ms: how long a reading lasts at least; slow models take one inference per reading.
        seed: of the random inputs and of the order in which models are opened.
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
    if not models:
        return []
    reference = new_reference()
    openings = min(max(FEWEST_OPENINGS, readings // _READINGS_PER_OPENING), MOST_OPENINGS)
    taken: list[list[tuple[float, int, int]]] = [[] for _ in models]
    for k in range(openings + _MORE_OPENINGS):
        rows = [i for i, own in enumerate(taken) if k < openings or not _agree(own)]
        if not rows:
            break
        opening = open_and_read(
            [models[i] for i in rows], batch=batch, threads=threads, readings=-(-max(1, readings - k) // openings),
            warmup=warmup, min_reading_ms=min_reading_ms, seed=seed + k, shape=shape, pin=pin, reference=reference,
        )  # fmt: skip
        found = zip(opening.quickest_ms.tolist(), opening.readings.tolist(), opening.disturbed.tolist(), strict=True)
        for i, each in zip(rows, found, strict=True):
            taken[i].append(each)
    return [_latency(own, threads, batch) for own in taken]


def _agree(openings: Sequence[tuple[float, int, int]]) -> bool:
    quickest, second, *_ = sorted(ms for ms, _, _ in openings)
    return second <= _AGREE * quickest


def new_reference() -> Reference:
    """What tells slow spells; to be shared by measurements that are compared."""
    return Reference(thread_time_ns if _SEES_PROCESSOR_TIME else perf_counter_ns)


def open_and_read(
    models: Sequence[bytes | Path],
    *,
    batch: int = 1,
    threads: int = 1,
    readings: int = 5,
    warmup: int = 3,
    min_reading_ms: float = 3.0,
    seed: int = 0,
    shape: GivenShape = None,
    pin: bool = False,
    reference: Reference | None = None,
) -> Opening:
    """Open models once, in random order, and read them in turn.

    The arguments are those of `measure`; with a `reference` readings in slow spells are taken again.
    """
    order = np.random.default_rng(seed).permutation(len(models)).tolist()
    taken: list[list[_Reading]] = [[] for _ in models]
    with _pinned(threads if pin else 0):  # the runtime's own threads inherit the cores of the one that starts them
        runners = [_Runner(models[i], batch, threads, seed, shape, reference) for i in order]
        with _without_garbage_collection():
            plans = [runner.plan(warmup, min_reading_ms) for runner in runners]
            for i, own in zip(order, _take(runners, plans, readings, reference), strict=True):
                taken[i] = own
    return Opening(
        np.array([_quickest(own) for own in taken], dtype=np.float64),
        np.array([len(own) for own in taken], dtype=np.int64),
        np.array([sum(each.is_disturbed for each in own) for own in taken], dtype=np.int64),
    )


def _take(
    runners: Sequence[_Runner], plans: Sequence[tuple[int, int]], readings: int, reference: Reference | None
) -> list[list[_Reading]]:
    """Round after round of readings, until every model has enough that nothing disturbed, or patience ends."""
    taken: list[list[_Reading]] = [[] for _ in runners]
    for _ in range(readings * _PATIENCE):
        waiting = [i for i, own in enumerate(taken) if sum(not each.is_disturbed for each in own) < readings]
        if not waiting:
            break
        if reference is not None:
            reference.settle()
        for i in waiting:
            taken[i].append(runners[i].reading(*plans[i]))
    return taken


def _quickest(taken: Sequence[_Reading]) -> float:
    return min([each.ms for each in taken if not each.is_disturbed] or [each.ms for each in taken])


class _Runner:
    """One open model with its inputs."""

    def __init__(
        self, model: bytes | Path, batch: int, threads: int, seed: int, shape: GivenShape,
        reference: Reference | None = None,
    ) -> None:  # fmt: skip
        self._reference = reference
        self._is_watched = threads == 1 and _SEES_PROCESSOR_TIME
        self._session: Session = open_session(model, threads=threads)
        self._feeds: dict[str, Array] = random_inputs(self._session, batch, np.random.default_rng(seed), shape)

    def plan(self, warmup: int, min_reading_ms: float) -> tuple[int, int]:
        """Warm up; how many inferences make a burst, and how many bursts a reading."""
        for _ in range(warmup):
            self._session.run(self._feeds)
        fastest_ms = max(min(self._burst(1).ms for _ in range(2)), 1e-4)
        repeats = max(1, int(np.ceil(_BURST_MS / fastest_ms)))
        return repeats, max(1, int(np.ceil(min_reading_ms / (repeats * fastest_ms))))

    def reading(self, repeats: int, bursts: int) -> _Reading:
        """Milliseconds per inference: of the bursts the quickest one that nothing disturbed, or else the quickest."""
        self._session.run(self._feeds)
        return min(self._bursts(repeats, bursts), key=lambda each: (each.is_disturbed, each.ms))

    def _bursts(self, repeats: int, bursts: int) -> Iterator[_Reading]:
        """Bursts; between two timings of the reference one of which is slow, all are disturbed."""
        before_ms = self._reference_ms()
        for start in range(0, bursts, _BURSTS_BETWEEN):
            taken = [self._burst(repeats) for _ in range(min(_BURSTS_BETWEEN, bursts - start))]
            after_ms = self._reference_ms()
            is_slow = self._reference is not None and max(before_ms, after_ms) > self._reference.limit_ms
            yield from (replace(each, is_disturbed=each.is_disturbed or is_slow) for each in taken)
            before_ms = after_ms

    def _reference_ms(self) -> float:
        return 0.0 if self._reference is None else self._reference.read()

    def _burst(self, repeats: int) -> _Reading:
        run, feeds = self._session.run, self._feeds
        start_ns, processor_start_ns = perf_counter_ns(), thread_time_ns()
        for _ in range(repeats):
            run(feeds)
        processor_ns, elapsed_ns = thread_time_ns() - processor_start_ns, perf_counter_ns() - start_ns
        is_disturbed = self._is_watched and elapsed_ns > 1.05 * processor_ns + 10_000
        return _Reading((processor_ns if self._is_watched else elapsed_ns) / repeats / 1e6, is_disturbed)


def _latency(openings: Sequence[tuple[float, int, int]], threads: int, batch: int) -> Latency:
    """From each opening's quickest reading, number of readings and number of disturbed ones."""
    quickest_ms, readings, disturbed = zip(*openings, strict=True)
    low_ms, high_ms = median_interval(quickest_ms)
    value_ms = quickest_third(quickest_ms)
    return Latency(
        latency_ms=value_ms, low_ms=min(low_ms, value_ms), high_ms=high_ms, readings=sum(readings),
        disturbed=sum(disturbed), threads=threads, batch=batch, runtime=f"onnxruntime {RUNTIME_VERSION}",
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
