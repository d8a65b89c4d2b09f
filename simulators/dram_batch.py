"""Many controllers on one trace: those that provably behave like one already simulated are recognised, not simulated.

Each run leaves evidence of its decisions: how full each kind of buffer was whenever a request was let in or refused,
how often a refresh was put off, whether another scheduler would once have preferred another request, and so on. A
controller with other knobs that would have decided the same each time has, by induction over the events, the same run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators import dram_codes as c
from simulators.compile_numba import compiled
from simulators.dram_kernel import simulate

IntArray = NDArray[np.int64]


@compiled
def explains(knobs: IntArray, evidence: IntArray, other: IntArray) -> bool:
    """Whether a controller with the knobs `other` decides at every event as the run with `knobs` did."""
    kind = other[c.BUFFER]
    if evidence[c.PASSED + kind] >= other[c.BUFFER_SIZE] or evidence[c.FAILED + kind] < other[c.BUFFER_SIZE]:
        return False
    if other[c.REFRESH] != knobs[c.REFRESH]:
        return False
    is_put_off_alike = not evidence[c.IS_FORCED] and other[c.POSTPONED] > evidence[c.FLEX_HIGH]
    if other[c.POSTPONED] != knobs[c.POSTPONED] and not is_put_off_alike:
        return False
    if other[c.PULLED_IN] != knobs[c.PULLED_IN]:
        idle = evidence[c.PULLED_IDLE]
        if (idle >> min(other[c.PULLED_IN], 62)) & 1 or (idle >> min(knobs[c.PULLED_IN], 62)) & 1:
            return False
    if other[c.IS_SIMPLE] != knobs[c.IS_SIMPLE]:
        if knobs[c.IS_SIMPLE] or evidence[c.IS_HELD] or evidence[c.ORDER_MATTERS]:
            return False
    elif other[c.MAX_ACTIVE] != knobs[c.MAX_ACTIVE] and (
        evidence[c.IS_HELD] or other[c.MAX_ACTIVE] < evidence[c.ACTIVE_NEEDED]
    ):
        return False
    if other[c.IN_ORDER] != knobs[c.IN_ORDER] and evidence[c.RESPONSES_MATTER]:
        return False
    differs = evidence[c.DIFFERS]
    if other[c.POLICY] != knobs[c.POLICY] and (other[c.POLICY] ^ knobs[c.POLICY] != 1 or differs & c.PAIR):
        return False
    if other[c.SCHEDULER] != knobs[c.SCHEDULER]:
        if differs & c.GROUP_BEFORE_HIT and (
            other[c.SCHEDULER] == c.FR_FCFS_GRP or knobs[c.SCHEDULER] == c.FR_FCFS_GRP
        ):
            return False
        if other[c.SCHEDULER] == c.FIFO or knobs[c.SCHEDULER] == c.FIFO:
            if differs & c.HIT_BEFORE_FRONT:
                return False
            if differs & c.FURTHER_HIT and ((other[c.POLICY] | knobs[c.POLICY]) & 1):
                return False
    return True


@compiled
def find_alike(designs: IntArray, source: IntArray, evidence: IntArray, n_runs: int, a: int) -> int:
    """The design whose run explains design a, the latest run first; -1 if there is none.

    Args:
        designs: shape (A, N_KNOBS).
        source: shape (A,), the design of each of the first `n_runs` runs.
        evidence: shape (A, N_EVIDENCE), of those runs.
        n_runs: how many there are.
        a: which design.
    """
    for run in range(n_runs - 1, -1, -1):
        if explains(designs[source[run]], evidence[run], designs[a]):
            return int(source[run])
    return -1


def run_batch(
    requests: NDArray[np.uint32],
    first_in_bank: IntArray,
    timing: IntArray,
    designs: IntArray,
    outcomes: IntArray,
    merge: bool,
) -> int:
    """One trace on every design; fills `outcomes` and returns how many designs were simulated, not recognised.

    Args:
        requests: shape (N_REQUEST_ROWS, R), the decoded trace; 1 <= R <= `MAX_REQUESTS`.
        first_in_bank: shape (banks,), first request to each bank, R if there is none; at most `MAX_BANKS` banks.
        timing: shape (N_TIMINGS,), cycles.
        designs: shape (A, N_KNOBS). Fewest designs are simulated if those that restrict the least come first.
        outcomes: shape (A, N_OUTCOMES), to be filled.
        merge: take the outcome of an earlier design that provably behaves alike.
    """
    n_designs, n_requests = len(designs), requests.shape[1]
    n_writes = int(requests[c.IS_WRITE].sum()) or None
    banks = tuple(first_in_bank.tolist())
    groups = tuple(range(0, len(banks), int(timing[c.BANKS_PER_GROUP])))
    evidence = np.zeros((n_designs, c.N_EVIDENCE), np.int64)
    source = np.zeros(n_designs, np.int64)
    served = np.zeros(n_requests, np.uint8)
    ready_at, delivered_at = np.zeros(n_requests, np.int64), np.zeros(n_requests, np.int64)
    n_runs = 0
    for a in range(n_designs):
        alike = find_alike(designs, source, evidence, n_runs, a) if merge else -1
        if alike >= 0:
            outcomes[a] = outcomes[alike]
            continue
        served[:] = 0
        simulate(
            requests, banks, groups, timing, designs[a], n_writes, served, ready_at, delivered_at, outcomes[a],
            evidence[n_runs],
        )  # fmt: skip
        source[n_runs] = a
        n_runs += 1
    return n_runs
