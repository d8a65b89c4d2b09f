"""The fixed model that tells slow spells of the machine: what counts as slow, and what is read again because of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from time import perf_counter_ns

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import latency_onnx
from codesign.latency_onnx import Opening, open_and_read
from codesign.latency_reference_onnx import Reference, reference_model
from codesign.session_onnx import open_session
from tests.codesign.onnx_files import linear_classifier


def clock(lengths_ms: Iterator[float]) -> Iterator[int]:
    """What a clock shows while the reference is timed: both of its runs take the same time, then the next."""
    now = 0
    for ms in lengths_ms:
        for step in (0, 1, 2):
            yield now + round(step * ms * 1e6)
        now += 10**9


def scripted(lengths_ms: list[float]) -> Reference:
    """A reference that takes 1 ms as long as it settles, and then these times, over and over."""
    ticks = clock(itertools.chain(itertools.repeat(1.0, 100), itertools.cycle(lengths_ms)))
    return Reference(ticks.__next__)


def test_a_real_reference_takes_time() -> None:
    reference = Reference(perf_counter_ns)
    assert reference.read() > 0
    assert 0 < reference.limit_ms < 100


def test_a_tenth_slower_than_the_quickest_counts_as_slow() -> None:
    reference = scripted([2.0])
    assert reference.limit_ms == pytest.approx(1.1)
    assert reference.read() == 2.0
    reference.settle()
    assert reference.limit_ms == pytest.approx(1.1)  # it keeps what it has seen the machine do


def test_the_quicker_of_two_runs_counts() -> None:
    ticks = iter([0, 1_000_000, 4_000_000] * 50 + [0, 4_000_000, 5_000_000] * 51)
    reference = Reference(ticks.__next__)
    assert reference.limit_ms == pytest.approx(1.1)
    assert reference.read() == 1.0


def test_one_error_of_the_clock_does_not_make_everything_slow() -> None:
    reference = scripted([0.4, *[1.0] * 30])
    reference.read()
    reference.settle()
    assert reference.limit_ms == pytest.approx(1.1)


def test_a_machine_that_becomes_faster_raises_the_bar() -> None:
    reference = scripted([0.5])
    for _ in range(30):
        reference.read()
    reference.settle()
    assert reference.limit_ms == pytest.approx(0.55)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=60))
def test_the_limit_stays_between_what_was_seen(times: list[float]) -> None:
    reference = scripted(times)
    for _ in times:
        reference.read()
    reference.settle()
    least, most = min(1.0, *times), max(1.0, *times)
    assert 1.1 * least * (1 - 1e-6) <= reference.limit_ms <= 1.1 * most * (1 + 1e-6)


class Spells:
    """Stands for a reference in a machine whose spells follow a script, one timing after the other."""

    limit_ms = 1.1

    def __init__(self, times: list[float]) -> None:
        self._times = iter(times)
        self.now_ms = 1.0

    def read(self) -> float:
        self.now_ms = next(self._times)
        return self.now_ms

    def settle(self) -> None:
        """The limit is given."""


@pytest.mark.parametrize(
    ("reference_ms", "bursts_ms", "expected"),
    [
        ([1.0, 1.0], [3.0, 2.0, 4.0, 5.0], (2.0, False)),
        ([1.0, 1.3], [3.0, 2.0, 4.0, 5.0], (2.0, True)),
        ([1.3, 1.0], [3.0, 2.0, 4.0, 5.0], (2.0, True)),
        ([1.0, 1.3, 1.0], [1.0, 1.0, 1.0, 1.0, 0.5], (0.5, True)),
        ([1.3, 1.0, 1.05], [1.0, 1.0, 1.0, 1.0, 7.0], (7.0, False)),  # what is read in a slow spell is no bound
        ([1.0, 1.0, 1.3], [6.0, 7.0, 8.0, 9.0, 1.0], (6.0, False)),
    ],
)
def test_bursts_beside_a_slow_reference_are_disturbed(
    monkeypatch: pytest.MonkeyPatch, reference_ms: list[float], bursts_ms: list[float], expected: tuple[float, bool]
) -> None:
    runner = latency_onnx._Runner(linear_classifier(), 1, 1, 0, None, Spells(reference_ms))  # type: ignore[arg-type]
    bursts = iter(latency_onnx._Reading(ms, False) for ms in bursts_ms)
    monkeypatch.setattr(latency_onnx._Runner, "_burst", lambda *_: next(bursts))
    found = runner.reading(1, len(bursts_ms))
    assert (found.ms, found.is_disturbed) == expected
    assert next(bursts, None) is None


def opened(monkeypatch: pytest.MonkeyPatch, reference_ms: list[float], *, is_used: bool) -> Opening:
    """One opening, four readings of one burst, on a machine that slows all down as it does the reference."""
    spells = Spells(reference_ms)
    monkeypatch.setattr(latency_onnx._Runner, "plan", lambda *_: (1, 1))
    monkeypatch.setattr(
        latency_onnx._Runner, "_burst", lambda *_: latency_onnx._Reading(5.0 / spells.now_ms, is_disturbed=False)
    )
    # A burst is quicker in a slow spell here, which no machine does: so it shows which ones counted.
    return open_and_read([linear_classifier()], readings=4, reference=spells if is_used else None)  # type: ignore[arg-type]


def test_readings_in_slow_spells_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calm, slow = [1.0, 1.0], [2.0, 2.0]
    found = opened(monkeypatch, [*calm, *slow, *slow, *calm, *calm, *slow, *calm], is_used=True)
    assert (found.readings.tolist(), found.disturbed.tolist()) == ([7], [3])
    assert found.quickest_ms.tolist() == [5.0]


def test_patience_ends_when_the_machine_stays_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(monkeypatch, [2.0] * 16, is_used=True)
    assert (found.readings.tolist(), found.disturbed.tolist()) == ([8], [8])
    assert found.quickest_ms.tolist() == [2.5]


def test_without_a_reference_nothing_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(monkeypatch, [], is_used=False)
    assert (found.readings.tolist(), found.disturbed.tolist()) == ([4], [0])


def test_the_reference_gives_the_same_figures_every_time() -> None:
    feeds = {"x": np.ones((1, 16, 16, 16), dtype=np.float32)}
    first, again = (open_session(reference_model()).run(feeds)[0] for _ in range(2))
    assert first.shape == (1, 16, 16, 16)
    np.testing.assert_array_equal(first, again)
