"""Latency: the quickest of interleaved readings, over several openings, on machines that do other work as well."""

from __future__ import annotations

import gc
import os
import statistics
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from codesign import latency_onnx
from codesign.errors import InputError
from codesign.latency import quickest_third
from codesign.latency_onnx import Latency, measure
from codesign.session_onnx import RUNTIME_VERSION, open_session, random_inputs
from codesign.shapes import GivenShape, resolve_shapes
from tests.codesign.onnx_files import linear_classifier, model_of


def product(size: int, n_layers: int = 1) -> bytes:
    """`n_layers` products of a (size x size) matrix with a batch of `size`-vectors."""
    nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(n_layers)]
    weight = np.eye(size, dtype=np.float32)
    return model_of(nodes, {"x0": ["batch", size]}, [f"x{n_layers}"], {"w": weight})


def test_more_work_takes_longer() -> None:
    small, large, batched = (
        *measure([product(64), product(64, 60)], readings=9, min_reading_ms=0.3),
        *measure([product(64)], batch=4096, readings=9, min_reading_ms=0.3),
    )
    assert small.latency_ms < large.latency_ms
    assert small.latency_ms < batched.latency_ms
    assert batched.batch == 4096


def test_the_record(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(linear_classifier())
    [found] = measure([path], threads=2, readings=7, min_reading_ms=0.1)
    assert (found.threads, found.batch) == (2, 1)
    assert found.readings >= 7
    assert found.runtime == f"onnxruntime {RUNTIME_VERSION}"
    assert 0 < found.low_ms <= found.latency_ms <= found.high_ms
    assert measure([]) == []


class Scripted:
    """Stands for a model: its readings follow a script, and the order of all readings is kept."""

    order: list[object]
    opened: list[object]
    script: dict[object, list[float]]  # negative: disturbed
    taken: dict[object, int]

    def __init__(self, model: object, *_: object) -> None:
        self.model = model
        self.opened.append(model)

    @classmethod
    def begin(cls, script: dict[object, list[float]]) -> None:
        cls.order, cls.opened, cls.script, cls.taken = [], [], script, dict.fromkeys(script, 0)

    def plan(self, warmup: int, min_reading_ms: float) -> tuple[int, int]:
        return 1, 1

    def reading(self, repeats: int, bursts: int) -> latency_onnx._Reading:
        assert not gc.isenabled()
        self.order.append(self.model)
        ms = self.script[self.model][self.taken[self.model] % len(self.script[self.model])]
        self.taken[self.model] += 1
        return latency_onnx._Reading(abs(ms), is_disturbed=ms < 0)


def test_readings_go_round_within_each_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    Scripted.begin({b"a": [1.0], b"b": [1.1]})
    monkeypatch.setattr(latency_onnx, "_Runner", Scripted)
    measure([b"a", b"b"], readings=30)
    assert Scripted.taken == {b"a": 30, b"b": 30}
    assert len(Scripted.opened) == 12
    for k in range(6):
        opened, read = Scripted.opened[2 * k : 2 * k + 2], Scripted.order[10 * k : 10 * k + 10]
        assert set(opened) == {b"a", b"b"}
        assert read == opened * 5
    assert gc.isenabled()


def test_the_quickest_third_of_the_openings_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    bias = [1.0, 1.02, 0.98, 1.01, 0.99, 1.6]  # of an opening, which no reading within it shows
    slow_spell = [3.0, 1.0, 1.3, 40.0, 1.1]
    readings = [b * s for b in bias for s in slow_spell]
    Scripted.begin({b"a": readings, b"b": [1.1 * ms for ms in readings]})
    monkeypatch.setattr(latency_onnx, "_Runner", Scripted)
    a, b = measure([b"a", b"b"], readings=30)
    assert a.latency_ms == pytest.approx(statistics.geometric_mean([0.98, 0.99]))
    assert b.latency_ms / a.latency_ms == pytest.approx(1.1)
    assert (a.low_ms, a.high_ms) == (0.98, 1.6)
    assert isinstance(a, Latency)


@pytest.mark.parametrize(
    ("times", "expected"),
    [([2.0], 2.0), ([1.0, 3.0], 1.0), ([9.0, 4.0, 1.0], 1.0), ([8.0, 2.0, 4.0, 16.0, 99.0], 8**0.5)],
)
def test_the_quickest_third(times: list[float], expected: float) -> None:
    assert quickest_third(times) == pytest.approx(expected)


def test_a_model_whose_quickest_openings_disagree_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spell = [1.0, 1.3, 1.2, 1.4, 1.3, 1.2, 1.5, 1.01, 1.0]
    Scripted.begin({b"a": [1.0], b"b": spell, b"never": [1.1**k for k in range(20)]})
    monkeypatch.setattr(latency_onnx, "_Runner", Scripted)
    a, b, never = measure([b"a", b"b", b"never"], readings=6)
    assert (a.readings, b.readings, never.readings) == (6, 8, 10)
    assert b.latency_ms == pytest.approx((1.0 * 1.01 * 1.2) ** (1 / 3))  # three of eight
    assert never.low_ms <= never.latency_ms <= never.high_ms


@pytest.mark.parametrize(
    ("readings", "openings"), [(6, 6), (9, 6), (15, 6), (25, 6), (30, 6), (40, 8), (60, 12), (100, 12)]
)
def test_readings_are_shared_out(monkeypatch: pytest.MonkeyPatch, readings: int, openings: int) -> None:
    Scripted.begin({b"a": [1.0]})
    monkeypatch.setattr(latency_onnx, "_Runner", Scripted)
    [a] = measure([b"a"], readings=readings)
    assert (a.readings, len(Scripted.opened)) == (readings, openings)


def test_disturbed_readings_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    script: dict[object, list[float]] = {b"quiet": [1.0], b"busy": [-0.5, 2.0], b"hopeless": [-5.0, -6.0]}
    Scripted.begin(script)
    monkeypatch.setattr(latency_onnx, "_Runner", Scripted)
    quiet, busy, hopeless = measure([b"quiet", b"busy", b"hopeless"], readings=6)
    assert Scripted.taken == {b"quiet": 6, b"busy": 12, b"hopeless": 12}
    assert (quiet.latency_ms, quiet.readings, quiet.disturbed) == (1.0, 6, 0)
    assert (busy.latency_ms, busy.readings, busy.disturbed) == (2.0, 12, 6)  # a quick one that was disturbed is not it
    assert hopeless.latency_ms == pytest.approx(5.0)
    assert (hopeless.readings, hopeless.disturbed) == (12, 12)


@pytest.mark.parametrize(("threads", "expected"), [(1, [(4.9, False), (3.0, True)]), (2, [(5.0, False), (5.0, False)])])
def test_a_reading_is_the_time_on_the_core(
    monkeypatch: pytest.MonkeyPatch, threads: int, expected: list[tuple[float, bool]]
) -> None:
    runner = latency_onnx._Runner(linear_classifier(), 1, threads, 0, None)
    monkeypatch.setattr(latency_onnx, "perf_counter_ns", iter([0, 5_000_000] * 2).__next__)
    monkeypatch.setattr(latency_onnx, "thread_time_ns", iter([0, 4_900_000, 0, 3_000_000]).__next__)
    found = [runner.reading(1, 1) for _ in range(2)]
    assert [(each.ms, each.is_disturbed) for each in found] == expected


def test_a_reading_is_the_quickest_of_its_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = latency_onnx._Runner(linear_classifier(), 1, 2, 0, None)
    lengths = iter([30_000, 20_000])  # 0.03 and 0.02 ms
    now: list[int] = []

    def clock() -> int:
        if now:
            return now.pop()
        now.append(next(lengths))
        return 0

    monkeypatch.setattr(latency_onnx, "perf_counter_ns", clock)
    assert runner.plan(warmup=1, min_reading_ms=2.0) == (5, 20)  # bursts of 0.1 ms
    lengths = iter([12_000_000, 8_000_000, 9_000_000])
    assert runner.reading(4, 3).ms == 2.0
    bursts = iter(
        [latency_onnx._Reading(1.0, True), latency_onnx._Reading(3.0, False), latency_onnx._Reading(2.0, False)]
    )
    monkeypatch.setattr(latency_onnx._Runner, "_burst", lambda *_: next(bursts))
    assert runner.reading(1, 3) == latency_onnx._Reading(2.0, False)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
@pytest.mark.parametrize("pin", [True, False])
def test_pinning_lasts_as_long_as_the_measurement(monkeypatch: pytest.MonkeyPatch, pin: bool) -> None:
    allowed = os.sched_getaffinity(0)
    seen: list[set[int]] = []
    real = open_session

    def watched(model: bytes, threads: int) -> object:
        seen.append(os.sched_getaffinity(0))
        return real(model, threads=threads)

    monkeypatch.setattr(latency_onnx, "open_session", watched)
    measure([linear_classifier()], readings=6, min_reading_ms=0.1, pin=pin)
    assert len(seen) >= 6
    assert all(each == ({max(allowed)} if pin else allowed) for each in seen)
    with pytest.raises(InputError):
        measure([b"broken"], pin=pin)
    assert os.sched_getaffinity(0) == allowed


def test_an_unreadable_model_is_wrong_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    for model in (tmp_path / "m.onnx", b"not a model", b"", linear_classifier()[:-50]):
        with pytest.raises(InputError, match="cannot open it as an ONNX model"):
            measure([model])
    with pytest.raises(InputError, match="there is no such file"):
        measure([tmp_path / "none.onnx"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"threads": 0}, {"readings": 5}, {"warmup": 0}, {"min_reading_ms": -1.0}]
)
def test_numbers_too_small_are_named(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        measure([linear_classifier()], **options)  # type: ignore[arg-type]


def test_inputs_follow_the_seed_and_the_shape() -> None:
    session = open_session(linear_classifier())
    first, again, other = (random_inputs(session, 3, np.random.default_rng(seed))["images"] for seed in (1, 1, 2))
    assert first.shape == (3, 2, 4, 4)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_run_that_fails_is_wrong_input() -> None:
    reshape = helper.make_node("Reshape", ["x", "shape"], ["y"])
    model = model_of([reshape], {"x": ["batch", 4]}, ["y"], {"shape": np.array([5, 5], dtype=np.int64)})
    with pytest.raises(InputError, match=r"cannot run the model on inputs of shape \(1, 4\)"):
        measure([model])


@pytest.mark.parametrize(
    ("inputs", "given", "batch", "expected"),
    [
        ({"a": ["n", 3]}, None, 4, {"a": (4, 3)}),
        ({"a": ["", 3]}, None, 4, {"a": (4, 3)}),
        ({"a": [2, 3]}, None, 2, {"a": (2, 3)}),
        ({"a": ["n", 3, "h", "w"]}, (1, 3, 8, 9), 1, {"a": (1, 3, 8, 9)}),
        ({"a": ["n", "t"], "b": ["n", "t"]}, (2, 5), 1, {"a": (2, 5), "b": (2, 5)}),
        ({"a": ["n", 3], "b": ["n", "t"]}, {"b": (2, 5)}, 1, {"a": (2, 3), "b": (2, 5)}),
        ({"a": []}, None, 1, {"a": ()}),
    ],
)
def test_free_axes_are_filled_in(
    inputs: dict[str, list[int | str]], given: GivenShape, batch: int, expected: dict[str, tuple[int, ...]]
) -> None:
    assert resolve_shapes(inputs, given, batch=batch) == expected


@pytest.mark.parametrize(
    ("inputs", "given", "message"),
    [
        ({"a": ["n", 3, "h"]}, None, r"\(n, 3, h\): its axis 2 is free"),
        ({"a": [2, 3]}, None, "axis 0 is 2, not 1"),
        ({"a": ["n", 3]}, (1, 4), "axis 1 is 3, not 4"),
        ({"a": ["n", 3]}, (1, 3, 1), "2 sizes"),
        ({"a": ["n", 3]}, (0, 3), "at least 1"),
        ({"image": ["n", 3]}, {"images": (1, 3)}, "did you mean 'image'"),
    ],
)
def test_what_does_not_fit_is_named(inputs: dict[str, list[int | str]], given: GivenShape, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_shapes(inputs, given)
    if message.startswith("axis 0"):
        assert resolve_shapes(inputs, given, any_batch=True) == {"a": (2, 3)}
