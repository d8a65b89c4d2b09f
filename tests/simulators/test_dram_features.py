"""The figures that describe a trace: closed forms, and a slow version that walks through the requests."""

from __future__ import annotations

from collections import Counter
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.dram import Dram
from simulators.dram_features import trace_features
from simulators.dram_trace import Trace, make_trace


def slow_features(trace: Trace, bank: list[int], row: list[int], burst_cycles: int) -> dict[str, float]:
    n, rows, places, addresses = len(trace), dict[int, int](), list(zip(bank, row, strict=True)), set[int]()
    hits = near = repeats = 0
    for i in range(n):
        hits += rows.get(bank[i]) == row[i]
        rows[bank[i]] = row[i]
        near += places[i] in places[max(0, i - 64) : i]
        repeats += int(trace.address[i]) in addresses
        addresses.add(int(trace.address[i]))
    gaps = [int(trace.cycle[i + 1] - trace.cycle[i]) for i in range(n - 1)]
    mean = sum(gaps) / len(gaps) if gaps else 0
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 if gaps else 0
    pairs = max(1, n - 1)
    windows = [bank[i : i + 64] for i in range(0, n, 64)]
    return {
        "log2_requests": log2(n),
        "read_share": sum(not write for write in trace.is_write) / n,
        "turnaround_share": sum(bool(trace.is_write[i]) != bool(trace.is_write[i + 1]) for i in range(n - 1)) / pairs,
        "mean_gap_cycles": mean,
        "gap_variation": spread / mean if mean else 0,
        "bus_load": n * burst_cycles / (sum(gaps) + burst_cycles),
        "row_hit_share": hits / n,
        "row_hit_share_64": near / n,
        "distinct_rows_share": len(set(places)) / n,
        "effective_banks": effective(bank),
        "effective_banks_64": sum(map(effective, windows)) / len(windows),
        "same_bank_share": sum(bank[i] == bank[i + 1] for i in range(n - 1)) / pairs,
        "repeat_share": repeats / n,
    }


def effective(bank: list[int]) -> float:
    shares = [count / len(bank) for count in Counter(bank).values()]
    return float(2 ** -sum(share * log2(share) for share in shares))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 200))
def test_features_equal_the_slow_version(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    bank, row = rng.integers(0, 8, n), rng.integers(0, 3, n)
    trace = Trace(np.cumsum(rng.integers(0, 5, n)), rng.random(n) < 0.3, (row * 8 + bank) * 64 + rng.integers(0, 2, n))
    found = trace_features(trace, bank, row, 8, 4)
    assert found == pytest.approx(slow_features(trace, bank.tolist(), row.tolist(), 4), abs=1e-12)


def test_a_stream_by_hand() -> None:
    found = Dram(trace=make_trace("stream", n_requests=512)).features()
    # 128 bursts of 64 bytes in a row of 8 KiB, then the next bank
    assert found["effective_banks"] == pytest.approx(4)
    assert found["effective_banks_64"] == 1
    assert found["row_hit_share"] == found["row_hit_share_64"] == (512 - 4) / 512
    assert found["read_share"] == 1
    assert found["mean_gap_cycles"] == 1
    assert found["gap_variation"] == found["repeat_share"] == found["turnaround_share"] == 0
    assert found["bus_load"] == 512 * 4 / (511 + 4)
    assert found["peak_gb_per_s"] == pytest.approx(12.8)
