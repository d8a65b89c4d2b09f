"""How the memory model's numbers are laid out: the columns of the arrays that the compiled kernel reads and writes."""

from __future__ import annotations

# knobs of one design
POLICY, SCHEDULER, BUFFER, BUFFER_SIZE, IN_ORDER, REFRESH, POSTPONED, PULLED_IN, IS_SIMPLE, MAX_ACTIVE = range(10)
N_KNOBS = 10

OPEN, OPEN_ADAPTIVE, CLOSED, CLOSED_ADAPTIVE = range(4)
FIFO, FR_FCFS, FR_FCFS_GRP = range(3)
BANKWISE, READ_WRITE, SHARED = range(3)

# the timing vector, in cycles; banks that follow each other share a group
(
    BANKS_PER_GROUP, T_RCD, T_RAS, T_RC, T_RP, T_RRD_S, T_RRD_L, T_FAW, T_CCD_S, T_CCD_L, T_RD_WR, T_WR_RD_S,
    T_WR_RD_L, T_RD_PRE, T_WR_PRE, T_WR_RDA, T_READ_DATA, T_WRITE_DATA, T_RFC, T_REFI, T_READ_END, T_WRITE_END,
    T_RDA_PRE,
) = range(23)  # fmt: skip
N_TIMINGS = 23

# the decoded trace, one column per request; "next" and "last" are the trace's length where there is none
BANK, ROW, IS_WRITE, CYCLE, NEXT_IN_BANK, NEXT_IN_ROW, LAST_AT_ADDRESS = range(7)
N_REQUEST_ROWS = 7

# the outcome of one design
END, ACTIVATES, PRECHARGES, READS, WRITES, REFRESHES, ACTIVE_CYCLES, POWER_CYCLES = range(8)
N_OUTCOMES = 8

# the evidence of one run: what its decisions would have been under other knobs
PASSED, FAILED = 0, 3  # per kind of buffer: the largest load that was let in, the smallest that was refused
ACTIVE_NEEDED, IS_HELD, FLEX_HIGH, IS_FORCED, PULLED_IDLE, ORDER_MATTERS, RESPONSES_MATTER, DIFFERS = range(6, 14)
N_EVIDENCE = 14

# bits of DIFFERS
HIT_BEFORE_FRONT, GROUP_BEFORE_HIT, FURTHER_HIT, PAIR = 1, 2, 4, 8

# an event's key is its cycle, the request's number and the bank: the oldest request of the earliest cycle is the least
BANK_BITS, ID_BITS = 6, 24
MAX_BANKS, MAX_REQUESTS, MAX_CYCLES = 1 << BANK_BITS, 1 << ID_BITS, 1 << 31
