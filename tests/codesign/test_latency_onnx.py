"""Latency: the median of interleaved readings, on machines that do other work as well."""

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
    assert small.median_ms < large.median_ms
    assert small.median_ms < batched.median_ms
    assert batched.batch == 4096


def test_the_record(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(linear_classifier())
    [found] = measure([path], threads=2, readings=7, min_reading_ms=0.1)
    assert (found.readings, found.threads, found.batch) == (7, 2, 1)
    assert found.runtime == f"onnxruntime {RUNTIME_VERSION}"
    assert 0 < found.low_ms <= found.median_ms <= found.high_ms
    assert measure([]) == []


class Scripted:
    """Stands for a model: its readings follow a script, and the order of all readings is kept."""

    order: list[object]
    script: dict[object, list[float]]  # negative: disturbed

    def __init__(self, model: object, *_: object) -> None:
        self.model = model
        self.taken = 0

    def repeats(self, warmup: int, min_reading_ms: float) -> int:
        return 1

    def reading(self, repeats: int) -> latency_onnx._Reading:
        assert not gc.isenabled()
        self.order.append(self.model)
        self.taken += 1
        ms = self.script[self.model][(self.taken - 1) % len(self.script[self.model])]
        return latency_onnx._Reading(abs(ms), is_disturbed=ms < 0)


def test_readings_go_round_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    slow_spell = np.repeat([1.0, 40.0, 1.0], [10, 8, 7])  # a neighbour wakes up: all models meet it alike
    Scripted.order = []
    Scripted.script = {
        name: list(base * slow_spell * rng.uniform(0.99, 1.01, 25)) for name, base in ((b"a", 1.0), (b"b", 1.1))
    }
    monkeypatch.setattr(latency_onnx, "_Runner", Scripted)
    a, b = measure([b"a", b"b"], readings=25)
    assert Scripted.order == [b"a", b"b"] * 25
    assert a.median_ms == statistics.median(Scripted.script[b"a"])
    assert (a.low_ms, a.high_ms) == (sorted(Scripted.script[b"a"])[7], sorted(Scripted.script[b"a"])[17])
    assert a.median_ms < b.median_ms < 1.2
    assert gc.isenabled()
    assert isinstance(a, Latency)


def test_disturbed_readings_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Scripted.order = []
    Scripted.script = {b"quiet": [1.0], b"busy": [-9.0, -9.0, 2.0], b"hopeless": [-5.0, -6.0, -7.0]}
    monkeypatch.setattr(latency_onnx, "_Runner", Scripted)
    quiet, busy, hopeless = measure([b"quiet", b"busy", b"hopeless"], readings=6)
    assert [Scripted.order.count(name) for name in (b"quiet", b"busy", b"hopeless")] == [6, 18, 24]
    assert Scripted.order[:9] == [b"quiet", b"busy", b"hopeless"] * 3
    assert (quiet.median_ms, quiet.readings, quiet.disturbed) == (1.0, 6, 0)
    assert (busy.median_ms, busy.high_ms, busy.readings, busy.disturbed) == (2.0, 2.0, 6, 12)
    assert (hopeless.median_ms, hopeless.readings, hopeless.disturbed) == (6.0, 24, 24)


@pytest.mark.parametrize(("threads", "is_watched"), [(1, True), (2, False)])
def test_a_reading_is_disturbed_if_the_processor_did_other_work(
    monkeypatch: pytest.MonkeyPatch, threads: int, is_watched: bool
) -> None:
    runner = latency_onnx._Runner(linear_classifier(), 1, threads, 0, None)
    monkeypatch.setattr(latency_onnx, "perf_counter_ns", iter([0, 5_000_000] * 2).__next__)
    monkeypatch.setattr(latency_onnx, "thread_time_ns", iter([0, 4_900_000, 0, 3_000_000]).__next__)
    assert not runner.reading(1).is_disturbed
    assert runner.reading(1).is_disturbed == is_watched


def test_a_reading_fills_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = latency_onnx._Runner(linear_classifier(), 1, 1, 0, None)
    times = iter([0, 3_000_000, 5_000_000, 7_500_000, 10_000_000, 14_000_000])  # readings of 3, 2.5 and 4 ms
    monkeypatch.setattr(latency_onnx, "perf_counter_ns", lambda: next(times))
    assert runner.repeats(warmup=1, min_reading_ms=20.0) == 8  # the fastest of three: 20 / 2.5
    times = iter([0, 12_000_000])
    assert runner.reading(8).ms == 1.5


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
    assert seen == [{max(allowed)} if pin else allowed]
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
