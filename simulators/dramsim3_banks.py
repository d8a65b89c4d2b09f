"""State and timing of one channel's DRAM for `dramsim3`: what a bank's queue wants, when it may, and what follows.

Everything is one array `s` of integers, so that compiled functions pass one pointer: parameters (timing, knobs, shape,
layout), then for each channel its record, ranks, bank groups, banks with their command queues, bounds and transaction
queues, then what waits at each address, and the requests. A record is named by where it starts in `s`, a value within
it by one of the constants below.

Constraints that DRAMsim3 keeps per bank and command are kept here at the widest level at which they are the same: bank,
bank group, rank. `dramsim3_device` refuses devices for which that would differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.compile_numba import compiled

Ints = NDArray[np.int64]

NEVER = 1 << 60

# parameters: gaps between commands in cycles; then the knobs of the design, the shape of the system, places in `s`
(
    READ_READ_L,
    READ_READ_S,
    READ_READ_O,
    READ_WRITE,
    READ_WRITE_O,
    READ_PRE,
    READP_ACT,
    READP_REF,
    WRITE_READ_L,
    WRITE_READ_S,
    WRITE_READ_O,
    WRITE_WRITE_L,
    WRITE_WRITE_S,
    WRITE_WRITE_O,
    WRITE_PRE,
    WRITEP_ACT,
    PRE_ACT,
    PRE_PRE,
    ACT_ACT,
    ACT_ACT_L,
    ACT_ACT_S,
    ACT_PRE,
    ACT_READ,
    ACT_WRITE,
    REF_ACT,
    REFB_REFB,
    READ_DONE,
    FOUR_ACTS,
    THIRTY_TWO_ACTS,
    N_TIMING,
) = range(30)
(
    CLOSE_PAGE,
    PER_RANK,
    CMD_QUEUE,
    TRANS_QUEUE,
    MAPPING,
    REFRESH,
    REFRESH_INTERVAL,
    UNIFIED,
    KNOBS_END,
) = range(N_TIMING, N_TIMING + 9)
CHANNELS, RANKS, GROUPS, BANKS_PER_GROUP, DUAL, CYCLES, SKIP, SHAPE_END = range(KNOBS_END, KNOBS_END + 8)
(
    AT_RANKS,
    AT_GROUPS,
    AT_BANKS,
    AT_BOUNDS,
    AT_READS,
    AT_WRITES,
    BANK_SIZE,
    LIST_SIZE,
    CHANNEL_SIZE,
    AT_WAITING,
    AT_REQUESTS,
    N_ADDRESSES,
    ROOM,
    N_PARAMETERS,
) = range(SHAPE_END, SHAPE_END + 14)
ALL_RANKS, RANK_BY_RANK, BANK_BY_BANK = range(3)

# a channel's record; the first part counts what is reported
(
    READS_DONE,
    WRITES_DONE,
    LATENCY_SUM,
    READS,
    WRITES,
    READ_HITS,
    WRITE_HITS,
    ACTIVATES,
    PRECHARGES,
    REFRESHES,
    BANK_REFRESHES,
    ACTIVE_CYCLES,
    LOST,
    N_RESULTS,
) = range(14)
(
    X_NEXT,
    X_SOONEST,
    X_REF_NEXT,
    X_REF_IN,
    X_REF_DONE,
    X_IN_REF,
    X_REF_FROM,
    X_REF_TO,
    X_BLOCK_FROM,
    X_BLOCK_TO,
    X_LAST_QUEUE,
    X_DRAINING,
    X_TRY_MOVE,
    X_QUEUED,
    X_COUNT,
    X_READS,
    X_READS_AT,
    X_WRITES,
    X_WRITES_AT,
    N_CHANNEL,
) = range(N_RESULTS, N_RESULTS + 20)

# a rank's record: when it may be precharged and activated again, rows open and since when, commands queued, places
# and numbers of the activations remembered, the bank last activated with its cycle and that of the last other bank
(
    R_PRE,
    R_WINDOW,
    R_OPEN,
    R_SINCE,
    R_QUEUED,
    R_FOUR_AT,
    R_FOUR_N,
    R_MANY_AT,
    R_MANY_N,
    R_ACT_BANK,
    R_ACT_LAST,
    R_ACT_OTHER,
    R_FOUR,
) = range(13)
R_MANY = R_FOUR + 4
N_RANK = R_MANY + 32

# a bank group's record
G_READ, G_WRITE, G_ACT, N_GROUP = range(4)

# a bank's record, followed by its queue; candidates are places in the queue, -1 for none
(
    OPEN_ROW,
    HITS,
    LENGTH,
    T_ACT,
    T_READ,
    T_WRITE,
    T_PRE,
    T_REF,
    C_PRE,
    C_READ,
    C_WRITE,
    B_RANK,
    B_GROUP,
    B_BOUND,
    N_BANK,
) = range(15)
# an entry of a bank's queue: burst of the row, doubled, plus 1 for a write; number in the order of arrival
Q_ROW, Q_BURST, Q_REQUEST, Q_COUNT, N_ENTRY = range(5)

# an entry of a transaction queue
L_REQUEST, L_BANK, N_LISTED = range(3)

NOTHING, ACTIVATE, PRECHARGE, READ, WRITE, REFRESH_ALL, REFRESH_ONE = range(7)


@compiled
def waits_for_read(s: Ints, k: int, i: int) -> bool:
    """Whether a read of the same place stands before entry i, a write, in the queue of the bank at k."""
    entry = k + N_BANK + i * N_ENTRY
    for earlier in range(k + N_BANK, entry, N_ENTRY):
        if s[earlier + Q_BURST] == s[entry + Q_BURST] - 1 and s[earlier + Q_ROW] == s[entry + Q_ROW]:
            return True
    return False


@compiled
def find_candidates(s: Ints, k: int) -> None:
    """What the queue of the bank at k wants, given its open row: a precharge for its head, its first read and its first
    write of the open row. A write waits for earlier reads of its place; a precharge for hits in the queue, four at
    most."""
    n = s[k + LENGTH]
    s[k + C_PRE] = s[k + C_READ] = s[k + C_WRITE] = -1
    open_row = s[k + OPEN_ROW]
    if n == 0 or open_row < 0:
        return
    is_hit = False
    for i in range(n):
        entry = k + N_BANK + i * N_ENTRY
        if s[entry + Q_ROW] != open_row:
            continue
        is_hit = True
        if s[entry + Q_BURST] & 1 == 0:
            if s[k + C_READ] < 0:
                s[k + C_READ] = i
        elif s[k + C_WRITE] < 0 and not waits_for_read(s, k, i):
            s[k + C_WRITE] = i
        if s[k + C_READ] >= 0 and s[k + C_WRITE] >= 0:
            break
    if s[k + N_BANK + Q_ROW] != open_row and (not is_hit or s[k + HITS] >= 4):
        s[k + C_PRE] = 0


@compiled
def add_candidate(s: Ints, k: int) -> None:
    """The same after the queue's last entry was added."""
    i = s[k + LENGTH] - 1
    entry = k + N_BANK + i * N_ENTRY
    if s[k + OPEN_ROW] < 0:
        return
    if s[entry + Q_ROW] != s[k + OPEN_ROW]:
        if i == 0:
            s[k + C_PRE] = 0
        return
    if s[k + HITS] < 4:
        s[k + C_PRE] = -1
    if s[entry + Q_BURST] & 1 == 0:
        if s[k + C_READ] < 0:
            s[k + C_READ] = i
    elif s[k + C_WRITE] < 0 and not waits_for_read(s, k, i):
        s[k + C_WRITE] = i


@compiled
def ready_cycle(s: Ints, k: int) -> int:
    """First cycle at which one of the candidates of the bank at k meets every timing constraint."""
    group, rank = s[k + B_GROUP], s[k + B_RANK]
    ready: int = NEVER
    if s[k + OPEN_ROW] < 0:
        ready = max(s[k + T_ACT], s[group + G_ACT], s[rank + R_WINDOW])
    else:
        if s[k + C_PRE] >= 0:
            ready = max(s[k + T_PRE], s[rank + R_PRE])
        if s[k + C_READ] >= 0:
            ready = min(ready, max(s[k + T_READ], s[group + G_READ]))
        if s[k + C_WRITE] >= 0:
            ready = min(ready, max(s[k + T_WRITE], s[group + G_WRITE]))
    return ready


@compiled
def choose(s: Ints, k: int, t: int) -> tuple[int, int]:
    """The command for the foremost entry of a bank's queue, of those ready at cycle t, and the entry's place."""
    group, rank = s[k + B_GROUP], s[k + B_RANK]
    if s[k + OPEN_ROW] < 0:
        return ACTIVATE, 0
    if s[k + C_PRE] >= 0 and max(s[k + T_PRE], s[rank + R_PRE]) <= t:
        return PRECHARGE, 0
    read, write = s[k + C_READ], s[k + C_WRITE]
    if read >= 0 and max(s[k + T_READ], s[group + G_READ]) > t:
        read = -1
    if write >= 0 and max(s[k + T_WRITE], s[group + G_WRITE]) > t:
        write = -1
    if read >= 0 and (write < 0 or read < write):
        return READ, read
    return WRITE, write


@compiled
def close_bank(s: Ints, c: int, k: int, t: int) -> None:
    """Close the row; the rank's last row to close ends its active time."""
    rank = s[k + B_RANK]
    s[k + OPEN_ROW], s[k + HITS] = -1, 0
    s[rank + R_OPEN] -= 1
    if s[rank + R_OPEN] == 0:
        s[c + ACTIVE_CYCLES] += t - s[rank + R_SINCE]


@compiled
def remember(s: Ints, window: int, size: int, at: int, number: int, until: int, t: int) -> int:
    """Remember an activation in a window; when the oldest leaves it, or 0 while it is not full.

    At most one leaves at a time, even if more are past, which is what DRAMsim3 does."""
    if s[number] > 0 and t >= s[window + s[at]]:
        s[at] = (s[at] + 1) & (size - 1)
        s[number] -= 1
    s[window + ((s[at] + s[number]) & (size - 1))] = until
    s[number] += 1
    leaves: int = 0
    if s[number] == size:
        leaves = s[window + s[at]]
    return leaves


@compiled
def activate(s: Ints, c: int, k: int, t: int) -> None:
    """Open the row of the queue's head in the bank at k."""
    rank, own = s[k + B_RANK], s[k + B_GROUP]
    s[c + ACTIVATES] += 1
    s[k + OPEN_ROW] = s[k + N_BANK + Q_ROW]
    if s[rank + R_OPEN] == 0:
        s[rank + R_SINCE] = t
    s[rank + R_OPEN] += 1
    until = t + s[FOUR_ACTS]
    ready = remember(s, rank + R_FOUR, 4, rank + R_FOUR_AT, rank + R_FOUR_N, until, t)
    if s[THIRTY_TWO_ACTS] > 0:
        until = t + s[THIRTY_TWO_ACTS]
        ready = max(ready, remember(s, rank + R_MANY, 32, rank + R_MANY_AT, rank + R_MANY_N, until, t))
    s[rank + R_WINDOW] = ready
    s[k + T_ACT] = max(s[k + T_ACT], t + s[ACT_ACT])
    s[k + T_READ], s[k + T_WRITE], s[k + T_PRE] = t + s[ACT_READ], t + s[ACT_WRITE], t + s[ACT_PRE]
    first = c + s[AT_GROUPS] + (rank - c - s[AT_RANKS]) // N_RANK * s[GROUPS] * N_GROUP
    for group in range(first, first + s[GROUPS] * N_GROUP, N_GROUP):
        s[group + G_ACT] = max(s[group + G_ACT], t + (s[ACT_ACT_L] if group == own else s[ACT_ACT_S]))
    if s[rank + R_ACT_BANK] != k:
        s[rank + R_ACT_OTHER], s[rank + R_ACT_BANK] = s[rank + R_ACT_LAST], k
    s[rank + R_ACT_LAST] = t


@compiled
def precharge(s: Ints, c: int, k: int, t: int) -> None:
    """Close the row of the bank at k."""
    s[c + PRECHARGES] += 1
    close_bank(s, c, k, t)
    s[k + T_ACT] = max(s[k + T_ACT], t + s[PRE_ACT])
    s[k + T_REF] = max(s[k + T_REF], t + s[PRE_ACT])
    s[s[k + B_RANK] + R_PRE] = t + s[PRE_PRE]


@compiled
def refresh(s: Ints, c: int, k: int, t: int, is_rank: bool) -> None:
    """Refresh the bank at k or its whole rank. A bank's refresh delays the other banks, and itself not at all."""
    s[c + (REFRESHES if is_rank else BANK_REFRESHES)] += 1
    again = t + (s[REF_ACT] if is_rank else s[REFB_REFB])
    per_rank = s[GROUPS] * s[BANKS_PER_GROUP] * s[BANK_SIZE]
    first = c + s[AT_BANKS] + (s[k + B_RANK] - c - s[AT_RANKS]) // N_RANK * per_rank
    for other in range(first, first + per_rank, s[BANK_SIZE]):
        if is_rank or other != k:
            s[other + T_ACT] = max(s[other + T_ACT], t + s[REF_ACT])
            s[other + T_REF] = max(s[other + T_REF], again)


@compiled
def transfer(s: Ints, c: int, k: int, t: int, is_read: bool) -> None:
    """Read or write a burst of the open row of the bank at k, and precharge after it where the policy says so."""
    own, rank = s[k + B_GROUP], s[k + B_RANK]
    if s[k + HITS] != 0:
        s[c + (READ_HITS if is_read else WRITE_HITS)] += 1
    s[c + (READS if is_read else WRITES)] += 1
    o = READ_READ_L if is_read else WRITE_READ_L
    to_write_l = s[READ_WRITE] if is_read else s[WRITE_WRITE_L]
    to_write_s = s[READ_WRITE] if is_read else s[WRITE_WRITE_S]
    to_write_o = s[READ_WRITE_O] if is_read else s[WRITE_WRITE_O]
    group = c + s[AT_GROUPS]
    for other in range(c + s[AT_RANKS], group, N_RANK):
        to_read, to_write = t + s[o + 2], t + to_write_o
        if other == rank:
            to_read, to_write = t + s[o + 1], t + to_write_s
        for _ in range(s[GROUPS]):
            if group != own:
                s[group + G_READ] = max(s[group + G_READ], to_read)
                s[group + G_WRITE] = max(s[group + G_WRITE], to_write)
            group += N_GROUP
    s[own + G_READ] = max(s[own + G_READ], t + s[o])
    s[own + G_WRITE] = max(s[own + G_WRITE], t + to_write_l)
    if s[CLOSE_PAGE]:
        close_bank(s, c, k, t)
        s[k + T_ACT] = max(s[k + T_ACT], t + (s[READP_ACT] if is_read else s[WRITEP_ACT]))
        s[k + T_REF] = max(s[k + T_REF], t + (s[READP_REF] if is_read else s[WRITEP_ACT]))
    else:
        s[k + HITS] += 1
        s[k + T_PRE] = max(s[k + T_PRE], t + (s[READ_PRE] if is_read else s[WRITE_PRE]))
