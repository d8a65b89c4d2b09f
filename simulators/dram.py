"""A memory controller with ten knobs on one DRAM device and one trace: the design problem of ArchGym's DRAMGym.

Behaviour and figures are those of DRAMSys 4 with DRAMPower, cycle by cycle; knobs carry DRAMSys's names and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators import dram_codes as codes
from simulators.accelerator import Columns, Field, count_accelerators
from simulators.design import DesignReport
from simulators.dram_batch import run_batch
from simulators.dram_device import DramDevice, load_device
from simulators.dram_features import trace_features
from simulators.dram_trace import Trace, as_trace

IntArray = NDArray[np.int64]

PAGE_POLICIES = ("Open", "OpenAdaptive", "Closed", "ClosedAdaptive")
SCHEDULERS = ("Fifo", "FrFcfs", "FrFcfsGrp")
BUFFERS = ("Bankwise", "ReadWrite", "Shared")
RESPONSE_QUEUES = ("Fifo", "Reorder")
REFRESH_POLICIES = ("NoRefresh", "AllBank")
ARBITERS = ("Simple", "Fifo", "Reorder")


class Dram:
    """The controller's design space on a device and a trace.

    Attributes:
        device: timing, currents, geometry and address mapping.
        trace: requests of one burst each, at most one a cycle, cycles of the memory clock; at least one request.

    Args:
        device: a shipped device's name (see `dram_device.device_names`), a `.toml` file, or a `DramDevice`.
        trace: a generator's name (see `dram_trace.GENERATORS`), a `.stl` or `.trace` file, or a `Trace`.
        requests: how many a generator makes (None: 10,000) or at most how many of a file's are taken (None: all).
        seed: of a generator.

    Raises:
        ValueError: an unknown or unreadable device or trace, or a trace that is empty or too long.
    """

    @dataclass(frozen=True)
    class Options:
        """What a job may set."""

        device: str = "ddr3-1600-1gb-x8"
        trace: str = "hot_cold"
        requests: int | None = None
        seed: int = 0

    id: ClassVar[str] = "dram-v1"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("page_policy", "str", "", "Open", allowed=PAGE_POLICIES, doc="when a row is closed after an access"),
        Field("scheduler", "str", "", "FrFcfs", allowed=SCHEDULERS, doc="which request of a bank comes first"),
        Field("scheduler_buffer", "str", "", "Bankwise", allowed=BUFFERS, doc="what shares the request buffer"),
        Field("request_buffer_size", "int", "requests", 8, lowest=1, doc="places per bank, direction, or in all"),
        Field("resp_queue", "str", "", "Fifo", allowed=RESPONSE_QUEUES, doc="order of the controller's responses"),
        Field("refresh_policy", "str", "", "AllBank", allowed=REFRESH_POLICIES, doc="whether rows are refreshed"),
        Field("refresh_max_postponed", "int", "refreshes", 8, lowest=0, doc="refreshes that may be put off"),
        Field("refresh_max_pulledin", "int", "refreshes", 8, lowest=0, doc="refreshes that may be done in advance"),
        Field("arbiter", "str", "", "Simple", allowed=ARBITERS, doc="how the requester's transactions are admitted"),
        Field("max_active_transactions", "int", "transactions", 64, lowest=1, doc="limit of a Fifo or Reorder arbiter"),
    )
    metrics: ClassVar[tuple[str, ...]] = (
        "latency_ns", "energy_pj", "power_mw", "bandwidth_gb_per_s", "activates", "precharges", "refreshes",
    )  # fmt: skip
    uncounted: ClassVar[tuple[str, ...]] = (
        "power-down and self-refresh",
        "input, output and termination energy",
        "delays outside the controller",
    )

    def __init__(
        self,
        device: str | Path | DramDevice = "ddr3-1600-1gb-x8",
        trace: str | Path | Trace = "hot_cold",
        requests: int | None = None,
        seed: int = 0,
    ) -> None:
        """Load the device and decode the trace for it, once for all designs."""
        self.device = device if isinstance(device, DramDevice) else load_device(device)
        self.trace = as_trace(trace, requests, seed)
        self._requests, self._first_in_bank = decode_trace(self.device, self.trace)

    def features(self) -> Mapping[str, float]:
        """What tells this model's traces and devices apart, in numbers; see `dram_features.trace_features`."""
        bank, row = self.device.decode(self.trace.address)
        return trace_features(self.trace, bank, row, self.device.geometry["banks"], self.device.burst_cycles) | {
            "cycle_ns": self.device.cycle_ns,
            "peak_gb_per_s": self.device.peak_gb_per_s,
        }

    def evaluate(self, designs: Columns) -> DesignReport:
        """Figures of designs, each of shape (A,).

        `latency_ns` is the time until the last response; `power_mw` is averaged until the last command has ended, as in
        DRAMPower; `bandwidth_gb_per_s` counts the bytes of completed transactions over the latency.

        Raises:
            ValueError: a column is missing, shapes differ, or a value is not allowed.
        """
        outcomes = self.outcomes(designs)
        device, energy = self.device, self.device.energy_pj(outcomes)
        latency = outcomes[:, codes.END] * device.cycle_ns
        # DRAMSys stops before the last response has left the controller unless the arbiter buffers responses
        n_served = len(self.trace) - (np.asarray(designs["arbiter"]) == "Simple")
        figures = {
            "latency_ns": latency,
            "energy_pj": energy,
            "power_mw": energy / (outcomes[:, codes.POWER_CYCLES] * (1000 / device.clock_mhz)),
            "bandwidth_gb_per_s": n_served * device.burst_bytes / latency,
            "activates": outcomes[:, codes.ACTIVATES].astype(np.float64),
            "precharges": outcomes[:, codes.PRECHARGES].astype(np.float64),
            "refreshes": outcomes[:, codes.REFRESHES].astype(np.float64),
        }
        return DesignReport(figures, [""] * len(outcomes), self.uncounted)

    def outcomes(self, designs: Columns, *, merge: bool = True) -> IntArray:
        """Counts of cycles and commands, shape (A, N_OUTCOMES), columns as in `dram_codes`.

        Args:
            designs: as for `evaluate`.
            merge: recognise designs that provably behave like one already simulated; the figures are the same.
        """
        knobs = encode_designs(designs)
        # designs that restrict the least explain the most others
        order = np.lexsort(
            (
                -knobs[:, codes.BUFFER_SIZE],
                -knobs[:, codes.MAX_ACTIVE],
                -knobs[:, codes.IN_ORDER],
                knobs[:, codes.IS_SIMPLE],
            )
        )
        sorted_outcomes = np.zeros((len(knobs), codes.N_OUTCOMES), np.int64)
        timing = self.device.timing_vector()
        run_batch(self._requests, self._first_in_bank, timing, knobs[order], sorted_outcomes, merge)
        outcomes = np.empty_like(sorted_outcomes)
        outcomes[order] = sorted_outcomes
        return outcomes


def encode_designs(designs: Columns) -> IntArray:
    """Designs as the kernel's knobs, shape (A, N_KNOBS); a knob without influence given the others is set to 0.

    The postponement knobs mean nothing without refresh, nor the transaction limit to a Simple arbiter; responses come
    in the order of the requests if the queue or the arbiter sees to it.
    """
    n_designs = count_accelerators(Dram.fields, designs)
    columns = {spec.name: _codes(spec, np.asarray(designs[spec.name])) for spec in Dram.fields}
    knobs = np.zeros((n_designs, codes.N_KNOBS), np.int64)
    is_refreshed = columns["refresh_policy"] == 1
    is_simple = columns["arbiter"] == 0
    knobs[:, codes.POLICY] = columns["page_policy"]
    knobs[:, codes.SCHEDULER] = columns["scheduler"]
    knobs[:, codes.BUFFER] = columns["scheduler_buffer"]
    knobs[:, codes.BUFFER_SIZE] = columns["request_buffer_size"]
    knobs[:, codes.IN_ORDER] = (columns["resp_queue"] == 1) | (columns["arbiter"] == 2)
    knobs[:, codes.REFRESH] = is_refreshed
    knobs[:, codes.POSTPONED] = np.where(is_refreshed, columns["refresh_max_postponed"], 0)
    knobs[:, codes.PULLED_IN] = np.where(is_refreshed, columns["refresh_max_pulledin"], 0)
    knobs[:, codes.IS_SIMPLE] = is_simple
    knobs[:, codes.MAX_ACTIVE] = np.where(is_simple, 0, columns["max_active_transactions"])
    return knobs


def decode_trace(device: DramDevice, trace: Trace) -> tuple[NDArray[np.uint32], IntArray]:
    """The trace as the kernel reads it: `requests` (N_REQUEST_ROWS, R) and `first_in_bank` (banks,).

    Raises:
        ValueError: an empty or too long trace.
    """
    n_requests = len(trace)
    if not 1 <= n_requests <= codes.MAX_REQUESTS:
        raise ValueError(f"trace: {n_requests} requests are not allowed; use 1 to {codes.MAX_REQUESTS}")
    if trace.cycle[-1] >= codes.MAX_CYCLES:
        raise ValueError(f"trace: cycle {trace.cycle[-1]} is not allowed; use cycles below {codes.MAX_CYCLES}")
    bank, row = device.decode(trace.address)
    requests = np.empty((codes.N_REQUEST_ROWS, n_requests), np.uint32)
    requests[codes.BANK], requests[codes.ROW] = bank, row
    requests[codes.IS_WRITE], requests[codes.CYCLE] = trace.is_write, trace.cycle
    requests[codes.NEXT_IN_BANK] = _next_equal(bank)
    requests[codes.NEXT_IN_ROW] = _next_equal(row * device.geometry["banks"] + bank)
    following = _next_equal(trace.address)
    has_following = following < n_requests
    requests[codes.LAST_AT_ADDRESS] = n_requests
    requests[codes.LAST_AT_ADDRESS, following[has_following]] = np.flatnonzero(has_following)
    first_in_bank = np.full(device.geometry["banks"], n_requests, np.int64)
    first_in_bank[bank[::-1]] = np.arange(n_requests - 1, -1, -1)
    return requests, first_in_bank


def _codes(spec: Field, values: NDArray[np.generic]) -> IntArray:
    """A column as numbers: the place of a text among those allowed, or the number itself."""
    if not spec.allowed:
        numbers = values.astype(np.int64)
        wrong = np.flatnonzero(numbers < (spec.lowest or 0))
    else:
        matches = values[:, None] == np.array(spec.allowed)
        numbers = matches.argmax(axis=1).astype(np.int64)
        wrong = np.flatnonzero(~matches.any(axis=1))
    for i in wrong[:1]:
        spec.check(values[i], f"designs[{i}].{spec.name}")
    return numbers


def _next_equal(keys: IntArray) -> IntArray:
    """For each place the next one with an equal key, the length if there is none."""
    order = np.argsort(keys, kind="stable")
    is_equal = keys[order[1:]] == keys[order[:-1]]
    following = np.full(len(keys), len(keys), np.int64)
    following[order[:-1][is_equal]] = order[1:][is_equal]
    return following
