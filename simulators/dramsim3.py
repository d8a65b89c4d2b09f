"""A memory system, cycle for cycle that of DRAMsim3: controllers with command queues, refresh and DRAM devices.

One requester offers the requests of a trace in order, one a cycle, from the cycle each asks for on; it stalls while the
queue of the request's channel is full. The figures are those that DRAMsim3 prints after a number of cycles, so a system
too slow for the trace answers fewer requests.

Five habits are DRAMsim3's rather than a controller's and are kept, so that figures agree with it:
the trace's last request is offered once more, as a read (its reader notices the end of a file one line late); an HBM
channel that finds two column commands in one cycle issues the first and loses the second, whose address is never
answered again; RANK_LEVEL_SIMULTANEOUS refreshes the first rank alone; a bank's refresh delays the other banks of its
rank, by the refresh time of a whole rank, and not the bank itself; a precharge for a row conflict comes after 4 hits.

Source: DRAMsim3 (Li et al., IEEE CAL 2020), state of April 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators import dramsim3_banks as at
from simulators import dramsim3_kernel as loop
from simulators.accelerator import Columns, Field, count_accelerators
from simulators.design import DesignReport
from simulators.dram_trace import Trace, as_trace
from simulators.dramsim3_device import Device, load_device
from simulators.workload import FloatArray

IntArray = NDArray[np.int64]

PAGE_POLICIES = ("OPEN_PAGE", "CLOSE_PAGE")
QUEUE_STRUCTURES = ("PER_BANK", "PER_RANK")
REFRESH_POLICIES = ("RANK_LEVEL_SIMULTANEOUS", "RANK_LEVEL_STAGGERED", "BANK_LEVEL_STAGGERED")

_COUNTS: Mapping[str, tuple[int, ...]] = {
    "reads_done": (at.READS_DONE,),
    "writes_done": (at.WRITES_DONE,),
    "activates": (at.ACTIVATES,),
    "precharges": (at.PRECHARGES,),
    "read_row_hits": (at.READ_HITS,),
    "write_row_hits": (at.WRITE_HITS,),
    "refreshes": (at.REFRESHES, at.BANK_REFRESHES),
    "lost_requests": (at.LOST,),
}


class Dramsim3:
    """The seven knobs of a DRAMsim3 controller on one device and one trace.

    Metrics: `read_latency_cycles` and `read_latency_ns`, mean from the offer to the last word over the reads answered;
    `bandwidth_gb_per_s` (1e9 bytes) of all answered requests over all cycles; `energy_pj` and `power_mw` of all
    channels; and counts over all channels. Energy and power are those of the devices: DRAMsim3 prints the energy in
    mW x cycles, here it is times tCK.

    Args:
        device: a shipped device's name, a `.toml` file, `FILE.json:NAME`, or a `Device`.
        trace: a generator's name (see `dram_trace.GENERATORS`), a `.trace` or `.stl` file, or a `Trace`.
        cycles: simulated clock cycles.
        requests: how many a generator makes (None: 10,000) or at most how many of a file's are taken (None: all).
        seed: of a generator.

    Raises:
        ValueError: an unknown or unreadable device or trace, or no cycles.
    """

    @dataclass(frozen=True)
    class Options:
        """What a job may set."""

        device: str = "ddr3-1600"
        trace: str = "gemm"
        cycles: int = 60_000
        requests: int | None = None
        seed: int = 0

    id: ClassVar[str] = "dramsim3-v1"
    metrics: ClassVar[tuple[str, ...]] = (
        "read_latency_ns",
        "read_latency_cycles",
        "bandwidth_gb_per_s",
        "energy_pj",
        "power_mw",
        *_COUNTS,
    )
    uncounted: ClassVar[tuple[str, ...]] = (
        "energy of the controller, the interface and termination",
        "power-down and self-refresh: an idle rank stays in standby",
        "requests that are not answered within the simulated cycles",
    )

    def __init__(
        self,
        device: str | Path | Device = "ddr3-1600",
        trace: str | Path | Trace = "gemm",
        cycles: int = 60_000,
        requests: int | None = None,
        seed: int = 0,
    ) -> None:
        """Load the device and the trace."""
        if isinstance(cycles, bool) or not isinstance(cycles, int) or cycles < 1:
            raise ValueError(f"cycles: {cycles!r} is not allowed; use an integer of at least 1")
        self.device = device if isinstance(device, Device) else load_device(device)
        self.trace = as_trace(trace, requests, seed)
        self.cycles = cycles
        knobs = self.device.system
        self.fields = (
            _choice("row_buf_policy", knobs, PAGE_POLICIES, "whether a row is precharged after each column command"),
            _choice("queue_structure", knobs, QUEUE_STRUCTURES, "what a command queue serves"),
            _size("cmd_queue_size", knobs, "commands", "entries of one command queue"),
            _size("trans_queue_size", knobs, "requests", "entries of a channel's read, write or unified queue"),
            Field("address_mapping", "str", "", knobs["address_mapping"], doc="fields of an address, highest first"),
            _choice("refresh_policy", knobs, REFRESH_POLICIES, "what is refreshed at a time"),
            _choice("unified_queue", knobs, ("false", "true"), "reads and writes share one transaction queue"),
        )

    def evaluate(self, designs: Columns) -> DesignReport:
        """Figures of controllers; designs that differ only in knobs without effect are simulated once.

        See `DesignModel.evaluate`.

        Raises:
            ValueError: a column is missing, shapes differ, or a value is not one of those allowed.
        """
        n_designs = count_accelerators(self.fields, designs)
        parameters, layouts = self._parameters(designs)
        knobs = parameters[:, at.N_TIMING : at.KNOBS_END]
        _, first, member = np.unique(knobs, axis=0, return_index=True, return_inverse=True)
        results = self._simulate(parameters[first], layouts)
        metrics = {name: values[member.reshape(n_designs)] for name, values in self._metrics(results).items()}
        reason = f"no read is answered within {self.cycles} cycles"
        is_answered = ~np.isnan(metrics["read_latency_cycles"])
        return DesignReport(metrics, ["" if answered else reason for answered in is_answered], self.uncounted)

    def _parameters(self, designs: Columns) -> tuple[IntArray, list[str]]:
        """Designs as the event loop wants them, equal where they behave equally, and their address mappings."""
        device = self.device
        parameters = np.repeat(device.parameters[None], count_accelerators(self.fields, designs), axis=0)
        parameters[:, at.CYCLES], parameters[:, at.SKIP] = self.cycles, 1
        for place, name in (
            (at.CLOSE_PAGE, "row_buf_policy"),
            (at.PER_RANK, "queue_structure"),
            (at.UNIFIED, "unified_queue"),
        ):
            parameters[:, place] = self._index(designs, name)
        for place, name in ((at.CMD_QUEUE, "cmd_queue_size"), (at.TRANS_QUEUE, "trans_queue_size")):
            parameters[:, place] = np.asarray(designs[name]).astype(np.int64)
            for size in np.unique(parameters[:, place]):
                self._field(name).check(size)
        policy = self._index(designs, "refresh_policy")
        intervals = (device.refresh_interval, device.refresh_interval // device.ranks, device.bank_refresh_interval)
        parameters[:, at.REFRESH_INTERVAL] = np.array(intervals)[policy]
        parameters[:, at.REFRESH] = np.where((policy == at.ALL_RANKS) & (device.ranks == 1), at.RANK_BY_RANK, policy)
        names, member = np.unique(np.asarray(designs["address_mapping"]).astype(np.str_), return_inverse=True)
        distinct: dict[tuple[tuple[int, int], ...], tuple[int, str]] = {}
        numbers = np.zeros(len(names), dtype=np.int64)
        for i, mapping in enumerate(names.tolist()):
            bits = device.bit_positions(mapping)
            layout = tuple((low, n) if n else (0, 0) for _, (low, n) in sorted(bits.items()))
            numbers[i] = distinct.setdefault(layout, (len(distinct), mapping))[0]
        parameters[:, at.MAPPING] = numbers[member.reshape(-1)]
        return parameters, [mapping for _, mapping in distinct.values()]

    def _field(self, name: str) -> Field:
        return next(f for f in self.fields if f.name == name)

    def _index(self, designs: Columns, name: str) -> IntArray:
        spec = self._field(name)
        values, member = np.unique(np.asarray(designs[name]).astype(np.str_), return_inverse=True)
        numbers = np.array([spec.allowed.index(spec.check(value)) for value in values.tolist()], dtype=np.int64)
        return numbers[member.reshape(-1)]

    def _simulate(self, parameters: IntArray, mappings: Sequence[str]) -> IntArray:
        """Counts of distinct designs, of shape (D, channels, N_RESULTS)."""
        results = np.zeros((len(parameters), self.device.channels, at.N_RESULTS), dtype=np.int64)
        if len(parameters) == 0:
            return results
        trace = self.trace
        address = np.append(trace.address, trace.address[-1:])
        distinct, name = np.unique(address, return_inverse=True)
        requests = np.zeros((len(mappings), len(address), loop.N_REQUEST), dtype=np.int64)
        requests[:, :, loop.CYCLE] = np.append(trace.cycle, trace.cycle[-1:])
        requests[:, : len(trace), loop.IS_WRITE] = trace.is_write  # the repetition is a read
        requests[:, :, loop.ADDRESS] = name.reshape(-1)
        for i, mapping in enumerate(mappings):
            requests[i, :, loop.CHANNEL : loop.BURST + 1] = self.device.decode(address, mapping).T
        loop.run_designs(parameters, requests.reshape(len(mappings), -1), len(distinct), results)
        return results

    def _metrics(self, results: IntArray) -> dict[str, FloatArray]:
        """Figures of D designs from their counts, each of shape (D,)."""
        device, total = self.device, results.sum(axis=1)
        reads, writes = total[:, at.READS_DONE], total[:, at.WRITES_DONE]
        latency = np.divide(total[:, at.LATENCY_SUM], reads, out=np.full(len(total), np.nan), where=reads > 0)
        active = total[:, at.ACTIVE_CYCLES]
        idle = self.cycles * device.ranks * device.channels - active
        parts = {
            "activate": total[:, at.ACTIVATES],
            "read": total[:, at.READS],
            "write": total[:, at.WRITES],
            "refresh": total[:, at.REFRESHES],
            "bank_refresh": total[:, at.BANK_REFRESHES],
            "active_cycle": active,
            "idle_cycle": idle,
        }
        energy_mw_cycles = sum((device.energy[part] * n for part, n in parts.items()), np.zeros(len(total)))
        duration_ns = self.cycles * device.tck_ns
        figures = {
            "read_latency_ns": latency * device.tck_ns,
            "read_latency_cycles": latency,
            "bandwidth_gb_per_s": (reads + writes) * device.request_bytes / duration_ns,
            "energy_pj": energy_mw_cycles * device.tck_ns,
            "power_mw": energy_mw_cycles / self.cycles,
        }
        counts = {name: total[:, list(places)].sum(axis=1).astype(np.float64) for name, places in _COUNTS.items()}
        return figures | counts


def _choice(name: str, knobs: Mapping[str, int | str], allowed: tuple[str, ...], doc: str) -> Field:
    return Field(name, "str", "", knobs[name], allowed=allowed, doc=doc)


def _size(name: str, knobs: Mapping[str, int | str], unit: str, doc: str) -> Field:
    return Field(name, "int", unit, knobs[name], lowest=1, doc=doc)
