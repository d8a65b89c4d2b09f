"""Traces: both text formats, the generators, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulators.dram_trace import GENERATORS, Trace, make_trace, read_trace


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_stl_lines_are_cycle_kind_and_hexadecimal_address(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, "a.stl", "# comment\n0:\tread\t0x40\n\n7:\twrite\tFF40\n"))
    assert trace.cycle.tolist() == [0, 7]
    assert trace.is_write.tolist() == [False, True]
    assert trace.address.tolist() == [0x40, 0xFF40]


def test_trace_lines_are_address_kind_and_cycle(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, "a.trace", "0x40 READ 3\n0xFF40 WRITE 9\n"))
    assert trace.cycle.tolist() == [3, 9]
    assert trace.is_write.tolist() == [False, True]
    assert trace.address.tolist() == [0x40, 0xFF40]


def test_a_request_never_overtakes_the_one_before(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path, "a.stl", "5: read 0x0\n3: read 0x40\n")).cycle.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "must end in one of .stl, .trace"),
        ("a.stl", "0: fetch 0x0\n", "line 1.*'fetch' where read or write"),
        ("a.stl", "0: read 0x0\nzero: read 0x0\n", "line 2.*'zero' where a number"),
        ("a.stl", "0 read 0x0\n", "not of the form"),
        ("a.trace", "0x0 READ\n", "not of the form"),
        ("a.trace", "0x0 READ -1\n", "at least 0"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_trace(write(tmp_path, name, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        read_trace(tmp_path / "none.stl")


@pytest.mark.parametrize(
    ("cycle", "address", "message"),
    [([1, 0], [0, 0], "request 1"), ([0, 1], [0, -64], "at least 0"), ([0], [0, 0], "shape")],
)
def test_arrays_that_are_no_trace_are_refused(cycle: list[int], address: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trace(np.array(cycle), np.zeros(len(cycle), np.bool_), np.array(address))


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_generators_repeat_for_a_seed_and_give_whole_bursts(name: str) -> None:
    first, second = make_trace(name, seed=3, n_requests=500), make_trace(name, seed=3, n_requests=500)
    assert len(first) == 500
    assert (first.address == second.address).all()
    assert (first.is_write == second.is_write).all()
    assert (first.address % 64 == 0).all()
    assert (np.diff(first.cycle) == 1).all()


def test_generators_have_the_pattern_of_their_name() -> None:
    assert (np.diff(make_trace("stream", n_requests=9).address) == 64).all()
    assert (np.diff(make_trace("strided", n_requests=9, stride_bytes=4096).address) == 4096).all()
    hot = make_trace("hot_cold", n_requests=2000, n_hot=1, hot_share=1.0).address
    assert hot.max() - hot.min() < 8192
    product = make_trace("gemm", n_requests=132, tile_m=16, tile_n=16, k=256)
    assert product.is_write.sum() == 4  # 16 x 16 words of output are four bursts, after 2 x 16 x 4 bursts of input
    assert product.is_write[-4:].all()


def test_unknown_generators_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'stream'"):
        make_trace("streem")
    with pytest.raises(ValueError, match="n_requests"):
        make_trace("stream", n_requests=0)
