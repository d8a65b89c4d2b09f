from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.units import count_text, duration_text, is_log_scale, plain_text, reading


@pytest.mark.parametrize(
    ("metric", "value", "label", "text"),
    [
        ("accuracy", 0.97222, "accuracy (%)", "97.22 %"),
        ("test_accuracy", 1.0, "test accuracy (%)", "100.00 %"),
        ("params", 58_312, "parameters", "58.3 k"),
        ("macs", 2_213_000, "MACs", "2.21 M"),
        ("latency_ms@edge-16x16", 0.42, "latency on edge-16x16 (ms)", "0.420 ms"),
        ("latency_cycles@edge", 84_000, "latency on edge (cycles)", "84.0 k cycles"),
        ("energy_uj@edge", 12.34, "energy on edge (µJ)", "12.3 µJ"),
        ("weight_bytes", 58_312, "weight memory (B)", "58.3 kB"),
        ("weight_bytes", 640, "weight memory (B)", "640 B"),
        ("dram_bytes@edge", 1.5e9, "DRAM traffic on edge (B)", "1.50 GB"),
        ("dram_gb_per_s@edge", 0.8, "DRAM on edge (GB/s)", "0.800 GB/s"),
        ("pes@edge", 256, "PEs on edge", "256"),
        ("loss", 0.2391, "training loss", "0.239"),
        ("my_own_score", 1234.5, "my own score", "1,234"),
        ("ms", 3.0, "ms", "3"),
    ],
)
def test_a_metric_is_read_off_its_name(metric: str, value: float, label: str, text: str) -> None:
    assert reading(metric).label == label
    assert reading(metric).text(value) == text


def test_what_is_not_known_is_a_dash() -> None:
    assert reading("params").text(math.nan) == "–"
    assert reading("params").number(math.nan) == ""
    assert reading("params").phrase(58_312) == "58.3 k parameters"


@given(st.floats(1e-3, 1e14) | st.floats(-1e14, -1e-3))
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    letters = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    number, _, letter = count_text(value).partition(" ")
    assert float(number.replace(",", "")) * letters.get(letter, 1) == pytest.approx(value, rel=0.0051)
    assert float(plain_text(value).replace(",", "")) == pytest.approx(value, rel=0.0051)
    if abs(value) >= 1000:
        assert len(number.replace(".", "").lstrip("-")) == (3 if abs(value) < 999.5e12 else len(number.lstrip("-")))


def test_rounding_moves_to_the_next_letter() -> None:
    assert count_text(999) == "999"
    assert count_text(999_400) == "999 k"
    assert count_text(999_600) == "1.00 M"
    assert count_text(-58_312) == "-58.3 k"
    assert [plain_text(v) for v in (0.0, 42.0, 4.2e-5, math.inf)] == ["0", "42", "4.2e-05", "inf"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (59.6, "1 min"), (725, "12 min 5 s"), (4320, "1 h 12 min"),
     (86_400 * 2 + 3 * 3600 + 59, "2 d 3 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_scale_is_logarithmic_beyond_a_decade_of_positive_values() -> None:
    assert not is_log_scale(np.array([1.0, 10.0]), "plain")
    assert is_log_scale(np.array([1.0, 10.1, np.nan]), "plain")
    assert not is_log_scale(np.array([0.0, 100.0]), "plain")
    assert not is_log_scale(np.array([0.01, 1.0]), "share")
    assert not is_log_scale(np.array([np.nan]), "plain")
