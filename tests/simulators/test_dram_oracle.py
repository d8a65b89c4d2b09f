"""The compiled controller against a slow, independent one of communicating components, on small random problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from simulators import dram_batch
from simulators import dram_codes as codes
from simulators.accelerator import columns
from simulators.compile_numba import IS_COMPILED
from simulators.dram import (
    ARBITERS,
    BUFFERS,
    PAGE_POLICIES,
    REFRESH_POLICIES,
    RESPONSE_QUEUES,
    SCHEDULERS,
    Dram,
    decode_trace,
    encode_designs,
)
from simulators.dram_device import DramDevice, load_device
from simulators.dram_kernel import simulate
from simulators.dram_trace import Trace
from tests.simulators.dram_oracle import run_oracle

DEVICES = [load_device("ddr3-1600-1gb-x8"), load_device("ddr4-2400-4gb-x8")]


def use_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the kernel as Python, which spares a compilation per kind of device, except in tests marked slow."""
    if request.node.get_closest_marker("slow") is None:
        for name in ("simulate", "find_alike"):
            function = getattr(dram_batch, name)
            monkeypatch.setattr(dram_batch, name, getattr(function, "py_func", function))


python_loop = pytest.fixture(autouse=True)(use_python)


def random_device(rng: np.random.Generator) -> DramDevice:
    """A shipped device, mostly with a short refresh interval, so that short traces meet refreshes."""
    device = DEVICES[int(rng.integers(2))]
    if rng.random() < 0.3:
        return device
    recovery = int(rng.integers(20, 90))
    return replace(
        device, timing_cycles={**device.timing_cycles, "RFC": recovery, "REFI": int(rng.integers(recovery + 60, 900))}
    )


def random_trace(rng: np.random.Generator, device: DramDevice, most: int = 120) -> Trace:
    """Few banks, rows and columns, so that hits, conflicts and equal addresses abound; dense, sparse or bursty."""
    n = int(rng.integers(1, most))
    bits = device.address_bits
    address = np.zeros(n, np.int64)
    parts: list[tuple[int, Sequence[int]]] = [
        (int(rng.integers(1, 13)), [*bits["bank"], *bits.get("bank_group", ())]),
        (int(rng.integers(1, 5)), bits["row"]),
        (int(rng.integers(1, 6)), bits["column"][3:]),
    ]
    for n_values, where in parts:
        values = rng.integers(0, n_values, n)
        for i, bit in enumerate(where):
            address |= (values >> i & 1) << bit
    gaps: list[NDArray[np.int64]] = [
        np.ones(n, np.int64),
        rng.integers(0, 30, n),
        rng.integers(0, 2, n) * rng.integers(0, 400, n),
        np.where(rng.random(n) < 0.05, rng.integers(100, 3000, n), 1),
    ]
    is_write = rng.random(n) < rng.choice([0.0, 0.3, 0.5, 1.0])
    return Trace(np.cumsum(gaps[int(rng.integers(len(gaps)))]), is_write, address)


def random_knobs(rng: np.random.Generator) -> dict[str, str | int]:
    sizes = (1, 2, 3, 4, 8, 16)
    return {
        "page_policy": str(rng.choice(PAGE_POLICIES)),
        "scheduler": str(rng.choice(SCHEDULERS)),
        "scheduler_buffer": str(rng.choice(BUFFERS)),
        "request_buffer_size": int(rng.choice(sizes)),
        "resp_queue": str(rng.choice(RESPONSE_QUEUES)),
        "refresh_policy": str(rng.choice(REFRESH_POLICIES)),
        "refresh_max_postponed": int(rng.choice([0, 1, 2, 4])),
        "refresh_max_pulledin": int(rng.choice([0, 1, 2, 4])),
        "arbiter": str(rng.choice(ARBITERS)),
        "max_active_transactions": int(rng.choice([1, 2, 3, 4, 8, 32, 128])),
    }


def expected(device: DramDevice, trace: Trace, knobs: Mapping[str, object]) -> list[int]:
    end, count, _ = run_oracle(device, trace, knobs)
    return [end, *(count[name] for name in ("ACT", "PRE", "RD", "WR", "REF", "active", "total"))]


def check(seed: int, n_problems: int, n_designs: int, most: int = 120) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(n_problems):
        device = random_device(rng)
        trace = random_trace(rng, device, most)
        designs = [random_knobs(rng) for _ in range(n_designs)]
        outcomes = Dram(device, trace).outcomes(columns(Dram.fields, designs))
        for knobs, outcome in zip(designs, outcomes, strict=True):
            assert outcome.tolist() == expected(device, trace, knobs), (seed, knobs)


def test_outcomes_equal_the_oracle() -> None:
    check(0, n_problems=16, n_designs=3, most=60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_outcomes_equal_the_oracle(seed: int) -> None:
    check(seed, n_problems=25, n_designs=4)


def test_no_command_breaks_a_rule_and_some_meet_it_exactly() -> None:
    """The oracle's checker replays its own commands: illegal a cycle earlier, legal when issued, some at once."""
    rng, device = np.random.default_rng(2), DEVICES[0]
    n_tight = 0
    for _ in range(5):
        trace = random_trace(rng, device)
        _, _, history = run_oracle(device, trace, random_knobs(rng) | {"refresh_policy": "NoRefresh"})
        per_bank: dict[int, list[tuple[int, str]]] = {}
        for now, command, bank in history:
            per_bank.setdefault(bank, []).append((now, command))
        t = device.timing_cycles
        for commands in per_bank.values():
            for (before, first), (after, second) in pairwise(commands):
                if first == "ACT" and second[:2] in ("RD", "WR"):
                    assert after >= before + t["RCD"]
                    n_tight += after == before + t["RCD"]
                if first == "PRE" and second == "ACT":
                    assert after >= before + t["RP"]
                    n_tight += after == before + t["RP"]
    assert n_tight > 0


@pytest.mark.skipif(not IS_COMPILED, reason="there is only the Python version")
def test_the_python_version_of_the_kernel_gives_the_same_outcome() -> None:
    rng = np.random.default_rng(3)
    interpreted = simulate.py_func  # type: ignore[attr-defined]
    for _ in range(4):
        device = replace(DEVICES[0], timing_cycles={**DEVICES[0].timing_cycles, "RFC": 40, "REFI": 300})
        trace = random_trace(rng, device, 60)
        knobs = encode_designs(columns(Dram.fields, [random_knobs(rng)]))[0]
        requests, first_in_bank = decode_trace(device, trace)
        outcomes, timing = [], device.timing_vector()
        for function in (simulate, interpreted):
            outcome, evidence = np.zeros(codes.N_OUTCOMES, np.int64), np.zeros(codes.N_EVIDENCE, np.int64)
            n = len(trace)
            function(
                requests,
                tuple(first_in_bank.tolist()),
                tuple(range(0, len(first_in_bank), int(timing[codes.BANKS_PER_GROUP]))),
                timing,
                knobs,
                int(trace.is_write.sum()) or None,
                np.zeros(n, np.uint8),
                np.zeros(n, np.int64),
                np.zeros(n, np.int64),
                outcome,
                evidence,
            )
            outcomes.append([*outcome.tolist(), *evidence.tolist()])
        assert outcomes[0] == outcomes[1]
