"""The event loop behind `dramsim3`: one requester, and the controller of every channel.

A cycle runs in the order of DRAMsim3: refresh timer, one command of each channel (two where an HBM channel may), one
transaction from the transaction queue to a command queue, then one request from the trace. Cycles in which nothing can
happen are skipped: every bank keeps a lower bound on when its queue can issue a command, and timing only ever moves
away, so that a bound stays one until the bank's own queue or row changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.compile_numba import compiled
from simulators.dramsim3_banks import (
    ACTIVATE,
    ACTIVE_CYCLES,
    AT_BANKS,
    AT_BOUNDS,
    AT_GROUPS,
    AT_RANKS,
    AT_READS,
    AT_REQUESTS,
    AT_WAITING,
    AT_WRITES,
    B_BOUND,
    B_GROUP,
    B_RANK,
    BANK_SIZE,
    BANKS_PER_GROUP,
    C_PRE,
    C_READ,
    C_WRITE,
    CHANNEL_SIZE,
    CHANNELS,
    CMD_QUEUE,
    CYCLES,
    DUAL,
    GROUPS,
    KNOBS_END,
    L_BANK,
    L_REQUEST,
    LATENCY_SUM,
    LENGTH,
    LIST_SIZE,
    LOST,
    MAPPING,
    N_ADDRESSES,
    N_BANK,
    N_CHANNEL,
    N_ENTRY,
    N_GROUP,
    N_LISTED,
    N_PARAMETERS,
    N_RANK,
    N_RESULTS,
    N_TIMING,
    NEVER,
    NOTHING,
    OPEN_ROW,
    PER_RANK,
    PRECHARGE,
    Q_BURST,
    Q_COUNT,
    Q_REQUEST,
    Q_ROW,
    R_ACT_BANK,
    R_ACT_LAST,
    R_ACT_OTHER,
    R_OPEN,
    R_QUEUED,
    R_SINCE,
    RANKS,
    READ,
    READ_DONE,
    READS_DONE,
    REFRESH_ALL,
    REFRESH_INTERVAL,
    ROOM,
    SKIP,
    TRANS_QUEUE,
    UNIFIED,
    WRITE,
    WRITES_DONE,
    X_COUNT,
    X_DRAINING,
    X_IN_REF,
    X_NEXT,
    X_QUEUED,
    X_READS,
    X_READS_AT,
    X_REF_DONE,
    X_REF_IN,
    X_REF_NEXT,
    X_SOONEST,
    X_TRY_MOVE,
    X_WRITES,
    X_WRITES_AT,
    activate,
    add_candidate,
    find_candidates,
    precharge,
    ready_cycle,
    refresh,
    transfer,
)
from simulators.dramsim3_queues import find_command, find_refresh

Ints = NDArray[np.int64]

# a request's record: the cycle it asks for, 1 for a write, number of its address, channel, bank, row, burst of the row
CYCLE, IS_WRITE, ADDRESS, CHANNEL, BANK, ROW, BURST, N_REQUEST = range(8)

# what waits at an address: reads, the sum of their first cycles, whether a write does
W_READS, W_SINCE, W_WRITE, N_WAITING = range(4)


@compiled
def take(s: Ints, c: int, k: int, place: int, t: int, is_lost: bool) -> None:
    """Take an entry from its queue and, unless it gets lost, transfer its burst; a read answers every read that waits
    for its address."""
    entry = k + N_BANK + place * N_ENTRY
    is_read = s[entry + Q_BURST] & 1 == 0
    address = s[AT_WAITING] + s[s[entry + Q_REQUEST] + ADDRESS] * N_WAITING
    last = k + N_BANK + s[k + LENGTH] * N_ENTRY
    for i in range(entry, last - N_ENTRY):
        s[i] = s[i + N_ENTRY]
    s[k + LENGTH] -= 1
    s[s[k + B_RANK] + R_QUEUED] -= 1
    s[c + X_QUEUED] -= 1
    s[c + X_TRY_MOVE] = s[c + X_READS] + s[c + X_WRITES] > 0
    if is_lost:
        s[c + LOST] += 1
        return
    if is_read:
        done = t + s[READ_DONE]
        if done < s[CYCLES]:
            s[c + READS_DONE] += s[address + W_READS]
            s[c + LATENCY_SUM] += s[address + W_READS] * done - s[address + W_SINCE]
        s[address + W_READS] = s[address + W_SINCE] = 0
    else:
        s[address + W_WRITE] = 0
    transfer(s, c, k, t, is_read)


@compiled
def issue(s: Ints, c: int, kind: int, k: int, place: int, t: int, is_lost: bool) -> None:
    """Carry out a command on the bank at k, and see what its queue wants now."""
    if kind >= REFRESH_ALL:
        s[c + X_IN_REF] = 0
        s[c + X_REF_DONE] += 1
        refresh(s, c, k, t, kind == REFRESH_ALL)
    else:
        if kind == ACTIVATE:
            activate(s, c, k, t)
        elif kind == PRECHARGE:
            precharge(s, c, k, t)
        else:
            take(s, c, k, place, t, is_lost)
        find_candidates(s, k)
        s[s[k + B_BOUND]] = t if s[k + LENGTH] > 0 else NEVER
    s[c + X_SOONEST] = t + 1 if s[c + X_QUEUED] > 0 else NEVER


@compiled
def move_transaction(s: Ints, c: int) -> None:
    """Take the first transaction whose command queue has room; writes wait until their buffer is full, or holds more
    than 8 while nothing is queued, and are then drained. A write whose address is being read ends the draining."""
    draining, is_split = s[c + X_DRAINING], s[UNIFIED] == 0
    if is_split and draining == 0:
        n_writes = s[c + X_WRITES]
        if n_writes >= s[TRANS_QUEUE] or (n_writes > 8 and s[c + X_QUEUED] == 0):
            s[c + X_DRAINING] = n_writes
    is_writing = is_split and s[c + X_DRAINING] > 0
    number, start = (X_WRITES, X_WRITES_AT) if is_writing else (X_READS, X_READS_AT)
    first = s[c + start]
    s[c + X_TRY_MOVE] = s[c + X_DRAINING] != draining
    if s[c + X_QUEUED] >= s[ROOM]:
        return
    for i in range(first, first + s[c + number] * N_LISTED, N_LISTED):
        k = s[i + L_BANK]
        rank = s[k + B_RANK]
        queued = s[rank + R_QUEUED] if s[PER_RANK] else s[k + LENGTH]
        if queued >= s[CMD_QUEUE]:
            continue
        request = s[i + L_REQUEST]
        if is_writing:
            if s[s[AT_WAITING] + s[request + ADDRESS] * N_WAITING + W_READS] > 0:
                s[c + X_DRAINING] = 0
                s[c + X_TRY_MOVE] = draining != 0
                return
            s[c + X_DRAINING] -= 1
        for j in range(i + N_LISTED - 1, first + N_LISTED - 1, -1):
            s[j] = s[j - N_LISTED]
        s[c + start] += N_LISTED
        s[c + number] -= 1
        entry = k + N_BANK + s[k + LENGTH] * N_ENTRY
        s[entry + Q_ROW] = s[request + ROW]
        s[entry + Q_BURST] = s[request + BURST] * 2 + s[request + IS_WRITE]
        s[entry + Q_REQUEST] = request
        s[entry + Q_COUNT] = s[c + X_COUNT]
        s[k + LENGTH] += 1
        s[rank + R_QUEUED] += 1
        s[c + X_QUEUED] += 1
        s[c + X_COUNT] += 1
        add_candidate(s, k)
        bound = ready_cycle(s, k)
        s[s[k + B_BOUND]] = bound
        s[c + X_SOONEST] = min(s[c + X_SOONEST], bound)
        s[c + X_TRY_MOVE] = s[c + X_READS] > 0 or (is_writing and s[c + X_WRITES] > 0)
        return


@compiled
def run_channel(s: Ints, c: int, t: int) -> None:
    """Cycle t of the channel at c; its X_NEXT becomes the next cycle in which anything can happen."""
    if t == s[c + X_REF_NEXT]:
        s[c + X_REF_IN] += 1
        s[c + X_REF_NEXT] += s[REFRESH_INTERVAL]
    following = s[c + X_REF_NEXT]
    is_column = False
    for turn in range(1 + s[DUAL]):
        kind, k, place = NOTHING, -1, -1
        if turn == 0 and s[c + X_REF_IN] > s[c + X_REF_DONE]:
            kind, k, bound = find_refresh(s, c, t)
            following = min(following, bound)
        if kind == NOTHING and (s[c + X_SOONEST] <= t or turn == 1 or s[SKIP] == 0):
            kind, k, place = find_command(s, c, t)
        if kind == NOTHING:
            break
        was_column, is_column = is_column, READ <= kind <= WRITE
        # the second command must be a column command if the first is none, and the reverse; of two column commands
        # DRAMsim3 takes the second from its queue and never issues it
        if turn == 0 or is_column or was_column:
            issue(s, c, kind, k, place, t, turn == 1 and is_column and was_column)
    if s[c + X_TRY_MOVE] or s[SKIP] == 0:
        move_transaction(s, c)
    following = min(following, s[c + X_SOONEST])
    s[c + X_NEXT] = t + 1 if s[c + X_TRY_MOVE] else max(following, t + 1)


@compiled
def accept_request(s: Ints, c: int, request: int, t: int) -> bool:
    """Offer a request to the channel at c after its cycle t. Writes, and reads of an address still to be written, are
    answered within a cycle; a second read or write of an address that waits joins the first."""
    is_read = s[request + IS_WRITE] == 0
    to_writes = s[UNIFIED] == 0 and not is_read
    number, start = (X_WRITES, X_WRITES_AT) if to_writes else (X_READS, X_READS_AT)
    n = s[c + number]
    if n >= s[TRANS_QUEUE]:
        return False
    address = s[AT_WAITING] + s[request + ADDRESS] * N_WAITING
    if is_read and s[address + W_WRITE] == 0:
        s[address + W_READS] += 1
        s[address + W_SINCE] += t + 1
        if s[address + W_READS] > 1:
            return True
    else:
        if t + 2 < s[CYCLES]:
            s[c + (READS_DONE if is_read else WRITES_DONE)] += 1
            s[c + LATENCY_SUM] += is_read
        if s[address + W_WRITE]:
            return True
        s[address + W_WRITE] = 1
    home = c + (s[AT_WRITES] if to_writes else s[AT_READS])
    if s[c + start] + n * N_LISTED == home + s[LIST_SIZE]:
        for i in range(n * N_LISTED):
            s[home + i] = s[s[c + start] + i]
        s[c + start] = home
    listed = s[c + start] + n * N_LISTED
    s[listed + L_REQUEST] = request
    s[listed + L_BANK] = c + s[AT_BANKS] + s[request + BANK] * s[BANK_SIZE]
    s[c + number] += 1
    s[c + X_TRY_MOVE] = 1
    s[c + X_NEXT] = t + 1
    return True


@compiled
def reset(s: Ints) -> None:
    """An idle system at cycle 0."""
    s[N_PARAMETERS : s[AT_WAITING] + s[N_ADDRESSES] * N_WAITING] = 0
    per_rank = s[GROUPS] * s[BANKS_PER_GROUP]
    for c in range(N_PARAMETERS, N_PARAMETERS + s[CHANNELS] * s[CHANNEL_SIZE], s[CHANNEL_SIZE]):
        s[c + X_REF_NEXT] = s[c + X_NEXT] = s[REFRESH_INTERVAL]
        s[c + X_SOONEST] = NEVER
        s[c + X_READS_AT], s[c + X_WRITES_AT] = c + s[AT_READS], c + s[AT_WRITES]
        for r in range(s[RANKS]):
            rank = c + s[AT_RANKS] + r * N_RANK
            s[rank + R_ACT_BANK] = -1
            s[rank + R_ACT_LAST] = s[rank + R_ACT_OTHER] = -NEVER
        for b in range(s[RANKS] * per_rank):
            k = c + s[AT_BANKS] + b * s[BANK_SIZE]
            s[k + OPEN_ROW] = s[k + C_PRE] = s[k + C_READ] = s[k + C_WRITE] = -1
            s[k + B_RANK] = c + s[AT_RANKS] + b // per_rank * N_RANK
            s[k + B_GROUP] = c + s[AT_GROUPS] + b // s[BANKS_PER_GROUP] * N_GROUP
            s[k + B_BOUND] = c + s[AT_BOUNDS] + b
            s[c + s[AT_BOUNDS] + b] = NEVER


@compiled
def run_design(s: Ints, n_requests: int, results: Ints) -> None:
    """All cycles of one design; `results` of shape (channels, N_RESULTS) is filled in."""
    reset(s)
    skip, size, first = s[SKIP], s[CHANNEL_SIZE], N_PARAMETERS
    end = first + s[CHANNELS] * size
    t, request, offered_at = 0, s[AT_REQUESTS], NEVER
    last_request = request + (n_requests - 1) * N_REQUEST
    if n_requests > 0:
        offered_at = s[request + CYCLE]
    while t < s[CYCLES]:
        wake = NEVER
        for c in range(first, end, size):
            if s[c + X_NEXT] <= t or skip == 0:
                run_channel(s, c, t)
            wake = min(wake, s[c + X_NEXT])
        if offered_at <= t:
            c = first + s[request + CHANNEL] * size
            is_taken = accept_request(s, c, request, t)
            wake = min(wake, s[c + X_NEXT])
            # the last request is the repetition of the one before it, which is offered once
            if is_taken or request == last_request:
                request += N_REQUEST
                offered_at = NEVER
                if request <= last_request:
                    offered_at = max(s[request + CYCLE], t + 1)
                    wake = min(wake, offered_at)
        else:
            wake = min(wake, offered_at)
        t = max(t + 1, wake) if skip else t + 1
    for x in range(s[CHANNELS]):
        c = first + x * size
        for rank in range(c + s[AT_RANKS], c + s[AT_GROUPS], N_RANK):
            if s[rank + R_OPEN] > 0:
                s[c + ACTIVE_CYCLES] += s[CYCLES] - s[rank + R_SINCE]
        for i in range(N_RESULTS):
            results[x, i] = s[c + i]


@compiled
def run_designs(parameters: Ints, requests: Ints, n_addresses: int, results: Ints) -> None:
    """Each design on one trace; see `dramsim3.Dramsim3`.

    Args:
        parameters: shape (D, N_PARAMETERS), timing, knobs and shape; timing and shape are those of the first.
        requests: shape (M, R * N_REQUEST), the records of the requests under each of M address mappings; the last
            request is the repetition of the one before it.
        n_addresses: how many different addresses they name.
        results: shape (D, channels, N_RESULTS), filled in.
    """
    p = parameters[0].copy()
    n_banks = p[RANKS] * p[GROUPS] * p[BANKS_PER_GROUP]
    depth, capacity = 1, 1
    for d in range(len(parameters)):
        depth, capacity = max(depth, parameters[d, CMD_QUEUE]), max(capacity, parameters[d, TRANS_QUEUE])
    p[BANK_SIZE], p[LIST_SIZE] = N_BANK + depth * N_ENTRY, 4 * capacity * N_LISTED
    p[AT_RANKS] = N_CHANNEL
    p[AT_GROUPS] = p[AT_RANKS] + p[RANKS] * N_RANK
    p[AT_BANKS] = p[AT_GROUPS] + p[RANKS] * p[GROUPS] * N_GROUP
    p[AT_BOUNDS] = p[AT_BANKS] + n_banks * p[BANK_SIZE]
    p[AT_READS] = p[AT_BOUNDS] + n_banks
    p[AT_WRITES] = p[AT_READS] + p[LIST_SIZE]
    p[CHANNEL_SIZE] = p[AT_WRITES] + p[LIST_SIZE]
    p[AT_WAITING] = N_PARAMETERS + p[CHANNELS] * p[CHANNEL_SIZE]
    p[N_ADDRESSES] = n_addresses
    at_requests = p[AT_WAITING] + n_addresses * N_WAITING
    s = np.zeros(at_requests + requests.size, np.int64)
    s[:N_PARAMETERS] = p
    s[at_requests:] = requests.ravel()
    for d in range(len(parameters)):
        s[N_TIMING:KNOBS_END] = parameters[d, N_TIMING:KNOBS_END]
        s[ROOM] = s[CMD_QUEUE] * (s[RANKS] if s[PER_RANK] else n_banks)
        s[AT_REQUESTS] = at_requests + s[MAPPING] * requests.shape[1]
        run_design(s, requests.shape[1] // N_REQUEST, results[d])
