"""A memory trace in a few numbers, for models that learn across traces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.dram_trace import Trace

IntArray = NDArray[np.int64]


def trace_features(trace: Trace, bank: IntArray, row: IntArray, n_banks: int, burst_cycles: int) -> dict[str, float]:
    """Load, locality and parallelism of a trace on a device; every figure is finite.

    Args:
        trace: R requests.
        bank, row: shape (R,), where each request goes.
        n_banks: banks of the device.
        burst_cycles: cycles of the data bus per request.

    Returns:
        `log2_requests`; `read_share`; `turnaround_share` (of successive requests, those of different direction);
        `mean_gap_cycles` and `gap_variation` (the gaps' standard deviation over their mean); `bus_load` (share of the
        time between first and last request that bursts would fill, above 1 where the trace asks for more than there
        is); `row_hit_share` (requests to the row last used in their bank) and `row_hit_share_64` (requests to a row
        that one of the 64 requests before it used, which a reordering scheduler may exploit); `distinct_rows_share`
        (distinct rows over requests); `effective_banks` (2 to the entropy, in bits, of the banks' shares of requests)
        and `effective_banks_64` (its mean over successive windows of 64 requests); `same_bank_share` (of successive
        requests, those to one bank); `repeat_share` (requests to an address seen before).
    """
    n = len(trace)
    gaps = np.diff(trace.cycle)
    mean_gap = float(gaps.mean()) if n > 1 else 0.0
    place = row * n_banks + bank
    starts = range(0, n, 64)
    return {
        "log2_requests": float(np.log2(n)),
        "read_share": float(1 - trace.is_write.mean()),
        "turnaround_share": _share(trace.is_write[1:] != trace.is_write[:-1]),
        "mean_gap_cycles": mean_gap,
        "gap_variation": float(gaps.std() / mean_gap) if mean_gap else 0.0,
        "bus_load": n * burst_cycles / float(trace.cycle[-1] - trace.cycle[0] + burst_cycles),
        "row_hit_share": _row_hits(bank, row) / n,
        "row_hit_share_64": float((_distance(place) <= 64).mean()),
        "distinct_rows_share": len(np.unique(place)) / n,
        "effective_banks": _effective(bank),
        "effective_banks_64": float(np.mean([_effective(bank[start : start + 64]) for start in starts])),
        "same_bank_share": _share(bank[1:] == bank[:-1]),
        "repeat_share": 1 - len(np.unique(trace.address)) / n,
    }


def _share(is_true: NDArray[np.bool_]) -> float:
    """The share of what is true; 0 of nothing."""
    return float(is_true.mean()) if len(is_true) else 0.0


def _row_hits(bank: IntArray, row: IntArray) -> int:
    order = np.argsort(bank, kind="stable")
    is_hit = (bank[order[1:]] == bank[order[:-1]]) & (row[order[1:]] == row[order[:-1]])
    return int(is_hit.sum())


def _distance(keys: IntArray) -> IntArray:
    """How many places before each one the last equal key stands; more than any if there is none."""
    order = np.argsort(keys, kind="stable")
    is_equal = keys[order[1:]] == keys[order[:-1]]
    distance = np.full(len(keys), len(keys) + 64, np.int64)
    distance[order[1:][is_equal]] = np.diff(order)[is_equal]
    return distance


def _effective(bank: IntArray) -> float:
    _, count = np.unique(bank, return_counts=True)
    share = count / len(bank)
    return float(2 ** -(share @ np.log2(share)))
