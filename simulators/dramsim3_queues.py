"""Which command a channel issues next for `dramsim3`: round robin over its queues, and what a refresh needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.compile_numba import compiled
from simulators.dramsim3_banks import (
    ACT_ACT,
    AT_BANKS,
    AT_BOUNDS,
    B_RANK,
    BANK_BY_BANK,
    BANK_SIZE,
    BANKS_PER_GROUP,
    GROUPS,
    N_BANK,
    N_ENTRY,
    NEVER,
    NOTHING,
    OPEN_ROW,
    PER_RANK,
    PRECHARGE,
    Q_COUNT,
    R_ACT_BANK,
    R_ACT_LAST,
    R_ACT_OTHER,
    R_PRE,
    RANK_BY_RANK,
    RANKS,
    REFRESH,
    REFRESH_ALL,
    REFRESH_ONE,
    SKIP,
    T_PRE,
    T_REF,
    X_BLOCK_FROM,
    X_BLOCK_TO,
    X_IN_REF,
    X_LAST_QUEUE,
    X_REF_DONE,
    X_REF_FROM,
    X_REF_TO,
    X_SOONEST,
    choose,
    ready_cycle,
)

Ints = NDArray[np.int64]


@compiled
def first_due(s: Ints, first: int, end: int, limit: int) -> int:
    """The first place from `first` on whose bound is at most the limit; `end` if there is none."""
    while first < end and s[first] > limit:
        first += 1
    return first


@compiled
def find_in_banks(s: Ints, c: int, t: int, limit: int, block_from: int, block_to: int) -> tuple[int, int, int]:
    """The next command by round robin over queues of banks: kind, bank, place in its queue."""
    bounds, last = c + s[AT_BOUNDS], s[c + X_LAST_QUEUE]
    b, end = last + 1, s[RANKS] * s[GROUPS] * s[BANKS_PER_GROUP]
    is_second_half = False
    while True:
        b = first_due(s, bounds + b, bounds + end, limit) - bounds
        if b >= end:
            if is_second_half:
                return NOTHING, -1, -1
            b, end, is_second_half = 0, last + 1, True
            continue
        if b < block_from or b >= block_to:
            k = c + s[AT_BANKS] + b * s[BANK_SIZE]
            bound = ready_cycle(s, k)
            s[bounds + b] = bound
            if bound <= t:
                s[c + X_LAST_QUEUE] = b
                kind, place = choose(s, k, t)
                return kind, k, place
        b += 1


@compiled
def find_in_ranks(s: Ints, c: int, t: int, limit: int, block_from: int, block_to: int) -> tuple[int, int, int]:
    """The same over queues of ranks, each of which serves its entries in their order, whatever their bank."""
    per_rank, queue, bounds = s[GROUPS] * s[BANKS_PER_GROUP], s[c + X_LAST_QUEUE], c + s[AT_BOUNDS]
    for _ in range(s[RANKS]):
        queue = queue + 1 if queue + 1 < s[RANKS] else 0
        if block_from <= queue * per_rank < block_to:
            continue
        best, best_bank, best_kind, best_place = NEVER, -1, NOTHING, -1
        b, end = queue * per_rank, (queue + 1) * per_rank
        while b < end:
            b = first_due(s, bounds + b, bounds + end, limit) - bounds
            if b < end:
                k = c + s[AT_BANKS] + b * s[BANK_SIZE]
                bound = ready_cycle(s, k)
                s[bounds + b] = bound
                if bound <= t:
                    kind, place = choose(s, k, t)
                    count = s[k + N_BANK + place * N_ENTRY + Q_COUNT]
                    if count < best:
                        best, best_bank, best_kind, best_place = count, k, kind, place
            b += 1
        if best_bank >= 0:
            s[c + X_LAST_QUEUE] = queue
            return best_kind, best_bank, best_place
    return NOTHING, -1, -1


@compiled
def find_command(s: Ints, c: int, t: int) -> tuple[int, int, int]:
    """The next command of the channel at c: kind, bank, place in its queue; X_SOONEST becomes a bound on the next try.

    A refresh that waits blocks its queues.
    """
    bounds = c + s[AT_BOUNDS]
    end = bounds + s[RANKS] * s[GROUPS] * s[BANKS_PER_GROUP]
    block_from, block_to = -1, -1
    low, high = end, end
    if s[c + X_IN_REF]:
        block_from, block_to = s[c + X_BLOCK_FROM], s[c + X_BLOCK_TO]
        low, high = bounds + block_from, bounds + block_to
    limit = t if s[SKIP] else NEVER - 1
    kind, k, place, soonest = NOTHING, -1, -1, NEVER
    for turn in range(2):
        soonest = NEVER
        for b in range(bounds, low):
            soonest = min(soonest, s[b])
        for b in range(high, end):
            soonest = min(soonest, s[b])
        if soonest > limit or turn == 1:
            break
        if s[PER_RANK]:
            kind, k, place = find_in_ranks(s, c, t, limit, block_from, block_to)
        else:
            kind, k, place = find_in_banks(s, c, t, limit, block_from, block_to)
        if kind != NOTHING:
            soonest = t + 1
            break
    s[c + X_SOONEST] = soonest
    return kind, k, place


@compiled
def start_refresh(s: Ints, c: int) -> None:
    """Block the queues that the oldest refresh needs empty of commands, and note its banks."""
    per_rank, number = s[GROUPS] * s[BANKS_PER_GROUP], s[c + X_REF_DONE]
    if s[REFRESH] == BANK_BY_BANK:
        r = (number // per_rank) % s[RANKS]
        first = r * per_rank + number % s[GROUPS] * s[BANKS_PER_GROUP] + number // s[GROUPS] % s[BANKS_PER_GROUP]
        last = first + 1
    else:
        r = number % s[RANKS] if s[REFRESH] == RANK_BY_RANK else 0
        first, last = r * per_rank, (r + 1) * per_rank
    s[c + X_IN_REF] = 1
    s[c + X_REF_FROM], s[c + X_REF_TO] = c + s[AT_BANKS] + first * s[BANK_SIZE], c + s[AT_BANKS] + last * s[BANK_SIZE]
    s[c + X_BLOCK_FROM] = r * per_rank if s[PER_RANK] else first
    s[c + X_BLOCK_TO] = (r + 1) * per_rank if s[PER_RANK] else last


@compiled
def find_refresh(s: Ints, c: int, t: int) -> tuple[int, int, int]:
    """The command that the oldest refresh needs, its bank (or first bank of its rank), and a bound on the next try."""
    if s[c + X_IN_REF] == 0:
        start_refresh(s, c)
    is_bank = s[REFRESH] == BANK_BY_BANK
    first = s[c + X_REF_FROM]
    rank = s[first + B_RANK]
    closed_at, next_close = 0, NEVER
    for k in range(first, s[c + X_REF_TO], s[BANK_SIZE]):
        if s[k + OPEN_ROW] >= 0:
            ready = max(s[k + T_PRE], s[rank + R_PRE])
            if ready <= t:
                return PRECHARGE, k, t + 1
            next_close = min(next_close, ready)
        else:
            closed_at = max(closed_at, s[k + T_REF])
            if is_bank:
                other = s[rank + R_ACT_OTHER] if s[rank + R_ACT_BANK] == k else s[rank + R_ACT_LAST]
                closed_at = max(closed_at, other + s[ACT_ACT])
    if next_close < NEVER:
        return NOTHING, -1, next_close
    if closed_at > t:
        return NOTHING, -1, closed_at
    return REFRESH_ONE if is_bank else REFRESH_ALL, first, t + 1
