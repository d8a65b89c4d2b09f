"""The event kernel of the memory controller: one trace on one controller, jumping from event to event.

The controller is DRAMSys 4's: one queue per bank behind a common rule of admission (`scheduler_buffer`), one state
machine per bank that wants a command, one command a cycle on the command bus (the oldest request wins), a refresh
manager for the whole rank, and an arbiter that admits the requester's transactions. Within a cycle the order is fixed:

1. a request that waited in the arbiter's queue enters the controller;
2. the refresh manager looks at the banks;
3. one ready command is issued; a request that waited for buffer space may take the place that it frees;
4. a request that reached the arbiter in this very cycle enters the controller, and may still use the command bus.

The requester sees a stream of responses, at most one a cycle, each of which frees a place in the arbiter. Everything is
counted in cycles of the memory clock; the layout of the arrays is in `dram_codes`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators import dram_codes as c
from simulators.compile_numba import compiled
from simulators.dram_codes import BANK_BITS, ID_BITS

IntArray = NDArray[np.int64]

_NEVER = 1 << 32
_LOW_BITS = BANK_BITS + ID_BITS
_NO_KEY = _NEVER << _LOW_BITS
_BANK_MASK = (1 << BANK_BITS) - 1
_ACT, _READ, _WRITE, _PRE = range(4)


@compiled
def _load(buffer_kind: int, in_bank: int, in_direction: int, in_all: int) -> int:
    """How many requests take up places of a kind of buffer."""
    if buffer_kind == c.BANKWISE:
        return in_bank
    return in_direction if buffer_kind == c.READ_WRITE else in_all


@compiled
def simulate(
    requests: NDArray[np.uint32],
    first_in_bank: tuple[int, ...],
    groups: tuple[int, ...],
    timing: IntArray,
    knobs: IntArray,
    n_writes: int | None,
    served: NDArray[np.uint8],
    ready_at: IntArray,
    delivered_at: IntArray,
    outcome: IntArray,
    evidence: IntArray,
) -> None:
    """One trace on one design; fills `outcome` and `evidence`.

    Args:
        requests: shape (N_REQUEST_ROWS, R), the decoded trace.
        first_in_bank: of each bank. The lengths of the tuples are constants to the compiler, which saves a tenth.
        groups: first bank of each group.
        timing, knobs: shapes (N_TIMINGS,), cycles, and (N_KNOBS,).
        n_writes: how many of the requests are writes; None stands for none, and compiles to a shorter loop.
        served: shape (R,), work space that must hold zeros.
        ready_at, delivered_at: shape (R,), work space.
        outcome, evidence: shapes (N_OUTCOMES,) and (N_EVIDENCE,), to be filled; `evidence` must hold zeros.
    """
    bank_of, row_of, is_write, cycle = requests[c.BANK], requests[c.ROW], requests[c.IS_WRITE], requests[c.CYCLE]
    next_in_bank, next_in_row = requests[c.NEXT_IN_BANK], requests[c.NEXT_IN_ROW]
    last_at_address = requests[c.LAST_AT_ADDRESS]
    n_requests, n_banks, n_groups = len(bank_of), len(first_in_bank), len(groups)
    has_writes = n_writes is not None
    t_rp, t_refi = timing[c.T_RP], timing[c.T_REFI]
    policy, scheduler = knobs[c.POLICY], knobs[c.SCHEDULER]
    buffer_kind, buffer_size = knobs[c.BUFFER], knobs[c.BUFFER_SIZE]
    is_simple, max_active, in_order = knobs[c.IS_SIMPLE], knobs[c.MAX_ACTIVE], knobs[c.IN_ORDER]

    # banks: state, queue, and earliest cycles by the bank's own rules
    is_open, open_row, queued = np.zeros(n_banks, np.int64), np.zeros(n_banks, np.int64), np.zeros(n_banks, np.int64)
    front = np.zeros(n_banks, np.uint32)  # first request that is not served
    for b in range(n_banks):
        front[b] = first_in_bank[b]
    hit = np.full(n_banks, n_requests, np.uint32)  # first one of them to the open row
    activated_at, act_from = np.zeros(n_banks, np.int64), np.zeros(n_banks, np.int64)
    cas_from, pre_from, rda_from = np.zeros(n_banks, np.int64), np.zeros(n_banks, np.int64), np.zeros(n_banks, np.int64)
    # what each bank wants: class of command and group as one slot, request and bank as one number, earliest cycle
    slot, low = np.zeros(n_banks, np.uint32), np.zeros(n_banks, np.uint32)
    wanted_from = np.full(n_banks, _NEVER)
    closes, bits = np.zeros(n_banks, np.int64), np.zeros(n_banks, np.int64)
    group = (np.arange(n_banks) // (n_banks // n_groups)).astype(np.uint32)
    shared_from = np.zeros(4 * n_groups, np.int64)  # per slot: earliest cycle by the rules between banks
    last_acts, oldest_act = np.full(4, -_NEVER), 0
    best, bus_from = _NO_KEY, 0

    # refresh manager
    trigger = t_refi if knobs[c.REFRESH] else _NEVER
    is_regular, flexibility, is_blocked, blocked_at = True, 0, False, -1
    refresh_wants, refresh_from = 0, _NEVER  # 1: precharge all, 2: refresh

    # front end: request k enters next
    k, n_queued, n_queued_writes, last_bank = 0, 0, 0, 0
    admitted, entered, arrival = int(cycle[0]), -1, int(cycle[0])
    is_waiting, is_late, is_unknown = False, True, False  # is_unknown: a response must free a place first
    n_served, n_delivered = 0, 0
    is_streamed = not is_simple  # when a response is delivered matters to the requests that come after it
    fifo_delivery, ordered_delivery, end = -1, -1, _NEVER
    last_is_write = 0

    # evidence
    passed0 = passed1 = passed2 = -1
    failed0 = failed1 = failed2 = _NEVER
    active_needed, is_held, is_reordered, order_matters = 1, 0, 0, 0
    flex_high, is_forced, pulled_idle, differs = -1, 0, 0, 0

    # power: DRAMPower counts the cycles in which any bank is active, until the last command has ended
    n_act, n_refresh, n_open = 0, 0, 0
    first_active, active_until, active_cycles = 0, 0, 0
    last_end, last_closed = 0, -1  # end of the last command; last automatic precharge

    while True:
        # ---- the next event
        command_time = best >> _LOW_BITS
        if is_blocked and command_time > blocked_at:
            command_time = _NEVER
        trigger_time = trigger
        if refresh_wants:
            command_time = min(command_time, max(refresh_from, bus_from))
            trigger_time = _NEVER
        arrival_time = _NEVER if is_waiting or is_unknown or k >= n_requests else arrival
        now = min(command_time, trigger_time, arrival_time)
        if now > end:
            break
        dirty, is_all_dirty, is_rescan, is_entering, ordered_key = -1, False, False, False, _NO_KEY

        if arrival_time == now and (not is_late or (trigger_time > now and command_time > now)):
            # ---- a request asks for buffer space
            blocked_at = -1
            in_bank, load1 = queued[last_bank], max(n_queued - n_queued_writes, n_queued_writes)
            if _load(buffer_kind, in_bank, load1, n_queued) < buffer_size:
                passed0, passed1, passed2 = max(passed0, in_bank), max(passed1, load1), max(passed2, n_queued)
                is_entering = True
                if trigger_time == now or (refresh_wants and command_time == now):
                    order_matters = 1
                elif command_time == now:
                    ordered_key = best
            else:
                failed0, failed1, failed2 = min(failed0, in_bank), min(failed1, load1), min(failed2, n_queued)
                is_waiting = True
        elif trigger_time < command_time or (trigger_time == now and trigger_time == command_time):
            pass
        elif refresh_wants and refresh_from <= now:
            # ---- precharge all, or refresh
            bus_from = now + 1
            is_all_dirty = True
            is_refresh, refresh_wants = refresh_wants == 2, 0
            if not is_refresh:
                is_open[:] = 0
                not_before = now + t_rp
                n_open = 0
                active_until = max(active_until, now)
                last_end = now + t_rp - 1
            else:
                n_refresh += 1
                not_before = now + timing[c.T_RFC]
                active_cycles += active_until - first_active
                first_active, active_until = now, now + timing[c.T_RFC] - t_rp
                last_end = now - 1
                is_blocked = False
                if is_regular:
                    is_regular = False
                else:
                    flexibility -= 1
                if flexibility <= 0 and n_queued == 0:
                    pulled_idle |= 1 << min(-flexibility, 62)
                if flexibility == -knobs[c.PULLED_IN]:
                    is_regular = True
                    trigger += t_refi
            for b in range(n_banks):
                act_from[b] = max(act_from[b], not_before)
        else:
            # ---- a bank's command
            b = best & _BANK_MASK
            p = (best >> BANK_BITS) & ((1 << ID_BITS) - 1)
            g = group[b]
            kind = slot[b] & 3
            bus_from = now + 1
            is_rescan = True
            dirty = b
            if kind == _ACT:
                n_act += 1
                is_open[b], open_row[b], hit[b], activated_at[b] = 1, row_of[p], p, now
                act_from[b], cas_from[b] = now + timing[c.T_RC], now + timing[c.T_RCD]
                pre_from[b] = now + timing[c.T_RAS]
                last_acts[oldest_act] = now
                oldest_act = (oldest_act + 1) & 3
                not_before = max(now + timing[c.T_RRD_S], last_acts[oldest_act] + timing[c.T_FAW])
                for j in range(0, 4 * n_groups, 4):
                    shared_from[j] = max(shared_from[j], not_before)
                shared_from[4 * g] = max(shared_from[4 * g], now + timing[c.T_RRD_L])
                if n_open == 0 and now >= active_until:
                    active_cycles += active_until - first_active
                    first_active = now
                n_open += 1
                last_end = now + timing[c.T_RCD] - 1
            elif kind == _PRE:
                n_open -= 1
                is_open[b] = 0
                act_from[b] = max(act_from[b], now + t_rp)
                active_until = max(active_until, now)
                last_end = now + t_rp - 1
            else:
                differs |= bits[b]
                is_all_dirty = has_writes and last_is_write != is_write[p]
                last_is_write = is_write[p]
                if kind == _READ or not has_writes:
                    closed = now + timing[c.T_RD_PRE]
                    before_read, own_read = now + timing[c.T_CCD_S], now + timing[c.T_CCD_L]
                    before_write = own_write = now + timing[c.T_RD_WR]
                    ready, last_end = now + timing[c.T_READ_DATA], now + timing[c.T_READ_END]
                else:
                    closed = now + timing[c.T_WR_PRE]
                    rda_from[b] = now + timing[c.T_WR_RDA]
                    before_read, own_read = now + timing[c.T_WR_RD_S], now + timing[c.T_WR_RD_L]
                    before_write, own_write = now + timing[c.T_CCD_S], now + timing[c.T_CCD_L]
                    ready, last_end = now + timing[c.T_WRITE_DATA], now + timing[c.T_WRITE_END]
                    n_queued_writes -= 1
                for j in range(0, 4 * n_groups, 4):
                    shared_from[j + _READ] = max(shared_from[j + _READ], before_read)
                    shared_from[j + _WRITE] = max(shared_from[j + _WRITE], before_write)
                shared_from[4 * g + _READ] = max(shared_from[4 * g + _READ], own_read)
                shared_from[4 * g + _WRITE] = max(shared_from[4 * g + _WRITE], own_write)
                pre_from[b] = max(pre_from[b], closed)
                if closes[b]:
                    n_open -= 1
                    is_open[b] = 0
                    act_from[b] = max(act_from[b], closed + t_rp)
                    if kind == _READ:
                        closed = now + timing[c.T_RDA_PRE]
                    closed = max(closed, activated_at[b] + timing[c.T_RAS])  # as DRAMPower places the precharge
                    active_until = max(active_until, closed)
                    last_closed = max(last_closed, closed)
                # ---- the request leaves its queue
                served[p] = 1
                is_reordered |= p != n_served
                n_served += 1
                n_queued -= 1
                queued[b] -= 1
                if p == front[b]:
                    later = next_in_bank[p]
                    while later < k and served[later]:
                        later = next_in_bank[later]
                    front[b] = later
                if p == hit[b]:
                    later = next_in_row[p]
                    while later < k and served[later]:
                        later = next_in_row[later]
                    hit[b] = later
                # ---- its response, delivered as the data come and in the order of the requests
                ready_at[p] = ready
                fifo_delivery = max(ready, fifo_delivery + 1)
                if is_streamed and not in_order:
                    delivered_at[n_delivered] = fifo_delivery
                    n_delivered += 1
                while is_streamed and in_order and n_delivered < k and served[n_delivered]:
                    ordered_delivery = max(ready_at[n_delivered], ordered_delivery + 1)
                    delivered_at[n_delivered] = ordered_delivery
                    n_delivered += 1
                if n_served == n_requests:
                    for request in range(n_delivered if in_order else 0, n_requests):
                        ordered_delivery = max(ready_at[request], ordered_delivery + 1)
                    end = ordered_delivery if in_order else fifo_delivery
                if is_waiting:
                    in_bank, load1 = queued[last_bank], max(n_queued - n_queued_writes, n_queued_writes)
                    if _load(buffer_kind, in_bank, load1, n_queued) < buffer_size:
                        passed0, passed1, passed2 = max(passed0, in_bank), max(passed1, load1), max(passed2, n_queued)
                        is_waiting, is_entering = False, True
                    else:
                        failed0, failed1, failed2 = min(failed0, in_bank), min(failed1, load1), min(failed2, n_queued)

        # ---- a request enters the controller; when may the next one?
        entering = -1
        if is_entering:
            entering = bank_of[k]
            queued[entering] += 1
            n_queued += 1
            n_queued_writes += is_write[k] if has_writes else 0
            last_bank, entered = entering, now
            k += 1
            is_unknown = k < n_requests
            if is_open[entering] == 0 and queued[entering] > 1 and entering != dirty:
                entering = -1  # the bank goes on wanting to open the row of its oldest request
        if is_unknown:
            if is_simple:
                arrival = max(entered + 1, int(cycle[k]))
                is_late, is_unknown = True, False
            elif k < max_active or n_delivered > k - max_active:
                is_unknown = False
                admitted = max(admitted + 1, int(cycle[k]))
                # a place that is freed while the request before still waits to enter makes no difference
                harmless = max(admitted, entered)
                held = k - active_needed  # the response that frees the place, were this the limit
                while held >= 0 and (held >= n_delivered or delivered_at[held] > harmless):
                    active_needed, held = active_needed + 1, held - 1
                if k >= max_active and delivered_at[k - max_active] > admitted:
                    admitted = delivered_at[k - max_active]
                    if admitted > harmless:
                        is_held = 1
                arrival = max(admitted, entered + 1)
                is_late = admitted > entered

        # ---- the refresh manager looks at the banks
        if now >= trigger:
            refresh_wants, refresh_from = 0, _NEVER
            if now >= trigger + t_refi:
                trigger += t_refi
                is_regular = True
            is_due = n_queued == 0
            if not is_regular:
                if not is_due:
                    is_regular = True
                    trigger += t_refi
            elif flexibility == knobs[c.POSTPONED]:
                is_due = True
                is_forced = 1
                if not is_blocked:
                    is_blocked, blocked_at = True, now
            else:
                flex_high = max(flex_high, flexibility)
                if not is_due:
                    flexibility += 1
                    trigger += t_refi
            if is_due:
                # both commands concern every bank: what the slowest of them asks for
                refresh_wants, refresh_from = 1 if n_open > 0 else 2, max(now, bus_from)
                for b in range(n_banks):
                    refresh_from = max(refresh_from, pre_from[b] if n_open > 0 else act_from[b])

        # ---- what the banks want that have changed
        if dirty < 0:
            dirty, entering = entering, -1
        elif entering == dirty:
            entering = -1
        if is_all_dirty:
            dirty, is_rescan = 0, True
        while dirty >= 0:
            b = dirty
            first, oldest_hit = front[b], hit[b]
            if (best & _BANK_MASK) == b:
                is_rescan = True
            if first >= k:
                wanted_from[b] = _NEVER
            else:
                chosen, kind, earliest = first, _ACT, act_from[b]
                if is_open[b]:
                    is_hit = row_of[first] == open_row[b]
                    if oldest_hit < k:
                        grouped = oldest_hit
                        if has_writes:
                            later = oldest_hit
                            while later < k:
                                if served[later] == 0 and is_write[later] == last_is_write:
                                    before = last_at_address[later]
                                    if before >= n_requests or served[before]:
                                        grouped = later
                                        break
                                later = next_in_row[later]
                            if grouped != oldest_hit:
                                differs |= c.GROUP_BEFORE_HIT
                        if oldest_hit != first:
                            differs |= c.HIT_BEFORE_FRONT
                        if scheduler != c.FIFO:
                            is_hit = True
                            chosen = grouped if scheduler == c.FR_FCFS_GRP else oldest_hit
                    if policy != c.CLOSED and not is_hit:
                        kind, earliest = _PRE, pre_from[b]
                    else:
                        kind = _WRITE if has_writes and is_write[chosen] else _READ
                        # a further hit as the schedulers see it: the second in the queue, or any second hit
                        is_next_hit = is_any_hit = False
                        if queued[b] > 1:
                            later = next_in_bank[first]
                            while later < k and served[later]:
                                later = next_in_bank[later]
                            is_next_hit = later < k and row_of[later] == open_row[b]
                            if oldest_hit < k:
                                later = next_in_row[oldest_hit]
                                while later < k and served[later]:
                                    later = next_in_row[later]
                                is_any_hit = later < k
                        is_further = is_next_hit if scheduler == c.FIFO else is_any_hit
                        bit = 0 if is_next_hit == is_any_hit else c.FURTHER_HIT
                        if policy <= c.OPEN_ADAPTIVE:
                            would_close = queued[b] > 1 and not is_further
                            is_closing = would_close and policy == c.OPEN_ADAPTIVE
                            bit |= c.PAIR if would_close else 0
                        else:
                            is_closing = policy == c.CLOSED or not is_further
                            bit |= c.PAIR if is_further else 0
                        earliest = cas_from[b]
                        if is_closing and kind == _READ:
                            earliest = max(earliest, rda_from[b])
                        closes[b], bits[b] = is_closing, bit
                        differs |= bit if has_writes else 0
                slot[b] = group[b] * 4 + kind
                low[b] = (chosen << BANK_BITS) | b
                wanted_from[b] = max(earliest, now)
                if not is_rescan:
                    at = max(wanted_from[b], shared_from[slot[b]], bus_from)
                    best = min(best, (at << _LOW_BITS) | low[b])
            if is_all_dirty:
                dirty = b + 1 if b + 1 < n_banks else -1
            else:
                dirty, entering = entering, -1
        if is_rescan:
            best = _NO_KEY
            for b in range(n_banks):
                at = max(wanted_from[b], shared_from[slot[b]], bus_from)
                best = min(best, (at << _LOW_BITS) | low[b])
        if ordered_key != _NO_KEY and (best != ordered_key or bank_of[k - 1] == (best & _BANK_MASK)):
            order_matters = 1
        # ---- a refusal that is certain: nothing happens before the next request asks, and there is no place for it
        if not is_waiting and not is_unknown and k < n_requests and not is_blocked and refresh_wants == 0:
            in_bank, load1 = queued[last_bank], max(n_queued - n_queued_writes, n_queued_writes)
            load = _load(buffer_kind, in_bank, load1, n_queued)
            if load >= buffer_size and arrival < best >> _LOW_BITS and arrival < trigger:
                failed0, failed1, failed2 = min(failed0, in_bank), min(failed1, load1), min(failed2, n_queued)
                is_waiting = True

    power_end = max(last_end, 0)
    if last_closed >= bus_from:  # after the last command on the bus
        power_end = last_closed + t_rp - 1
    if n_open > 0:
        active_cycles += max(0, power_end - first_active)
    else:
        active_cycles += active_until - first_active
        power_end = max(power_end, active_until)
    outcome[c.END], outcome[c.REFRESHES] = end, n_refresh
    outcome[c.ACTIVATES], outcome[c.PRECHARGES] = n_act, n_act - n_open
    outcome[c.WRITES] = 0 if n_writes is None else n_writes
    outcome[c.READS] = n_requests - outcome[c.WRITES]
    outcome[c.ACTIVE_CYCLES], outcome[c.POWER_CYCLES] = active_cycles, power_end
    evidence[c.PASSED], evidence[c.PASSED + 1], evidence[c.PASSED + 2] = passed0, passed1, passed2
    evidence[c.FAILED], evidence[c.FAILED + 1], evidence[c.FAILED + 2] = failed0, failed1, failed2
    evidence[c.ACTIVE_NEEDED], evidence[c.IS_HELD], evidence[c.ORDER_MATTERS] = active_needed, is_held, order_matters
    evidence[c.FLEX_HIGH], evidence[c.IS_FORCED], evidence[c.PULLED_IDLE] = flex_high, is_forced, pulled_idle
    # in-order responses come later: what they do not hold back, earlier ones do not either
    if is_reordered:
        is_harmless = fifo_delivery == ordered_delivery and (is_simple or (in_order and not is_held))
        evidence[c.RESPONSES_MATTER] = 0 if is_harmless else 1
    evidence[c.DIFFERS] = differs
