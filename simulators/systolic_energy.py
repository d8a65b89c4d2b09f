"""Energy and area of a systolic array with three scratchpads, from counts of what it does.

The array is the one of `systolic_physical`; the counts may come from any model (SCALE-Sim's are the same quantities).
Energies per action are those of `energy` and `sram`, for b-bit words and accumulators of 2 b + 16 bits:

    multiply-accumulate     multiplier and adder; and what moves in a PE each time:
                              ws, is   the streamed word and the partial sum go to the next PE: a wire, a register
                              os       both words go to the next PE, the partial sum is written where it is
    stationary word         (R + 1) / 2 hops from the array's edge to its PE, once for each time it is loaded (ws, is);
                              os: each result leaves over as many hops
    scratchpad word         a share of one access to a line as wide as the edge of the array that it serves (a power of
                              two of bytes, at most 256 a memory, several memories side by side beyond); one read and
                              one write port, since a double buffer fills while it is read
    DRAM word               its bits at the DRAM's energy per bit, and a write to (or read from) its scratchpad

Partial sums that are read back are the writes beyond one per output; those that reach DRAM are written and read back.
Area is PEs and scratchpads. Both count memories by `sram(..., monotone=True)`: more capacity is never cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from simulators.accelerator import Columns
from simulators.energy import accumulator_bits, dram_pj_per_bit, hop_pj, pe_cost, register_pj
from simulators.sram import SramCost, sram, sram_range
from simulators.workload import FloatArray, IntArray, Workload

PE_BITS = 8
"""Width of the words that the PEs and scratchpads are built for, where an accelerator has no column `pe_bits`."""

DRAM_KIND = "ddr3"
"""Kind of DRAM, where an accelerator has no column `dram_kind`."""

TECH_NM = 45
"""Technology, where an accelerator has no column `tech_nm`."""

SCRATCHPADS = ("ifmap", "filter", "ofmap")

COUNTS = (
    "sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes",
    "dram_ifmap_reads", "dram_filter_reads", "dram_ofmap_writes",
)  # fmt: skip
"""What `systolic_energy_uj` needs, in words."""


@dataclass(frozen=True, slots=True)
class EnergyRates:
    """Energy per action in pJ, each of shape (W, A) for W word widths and A accelerators.

    Attributes:
        mac: a multiply-accumulate with what moves in the PE.
        ifmap_read, filter_read: a word from its scratchpad into the array, stationary words with their hops.
        output_write: an output from the array into its scratchpad, and its way out of the array if it was stationary.
        sum_round: a partial sum written to the scratchpad and read back.
        ifmap_fetch, filter_fetch: a word from DRAM into its scratchpad.
        output_drain: an output from its scratchpad to DRAM.
        sum_spill: a partial sum to DRAM and back.
    """

    mac: FloatArray
    ifmap_read: FloatArray
    filter_read: FloatArray
    output_write: FloatArray
    sum_round: FloatArray
    ifmap_fetch: FloatArray
    filter_fetch: FloatArray
    output_drain: FloatArray
    sum_spill: FloatArray

    def total_uj(
        self, at: tuple[IntArray | int, ...], macs: FloatArray, outputs: FloatArray, counts: Mapping[str, FloatArray]
    ) -> FloatArray:
        """Energy of layers. `at` indexes the rates so that they broadcast with the counts (`COUNTS`)."""
        energy = macs * self.mac[at]
        energy += counts["sram_ifmap_reads"] * self.ifmap_read[at]
        energy += counts["sram_filter_reads"] * self.filter_read[at]
        energy += outputs * (self.output_write[at] + self.output_drain[at])
        energy += (counts["sram_ofmap_writes"] - outputs) * self.sum_round[at]
        energy += counts["dram_ifmap_reads"] * self.ifmap_fetch[at]
        energy += counts["dram_filter_reads"] * self.filter_fetch[at]
        energy += (counts["dram_ofmap_writes"] - outputs) * self.sum_spill[at]
        return np.asarray(energy * 1e-6)


def systolic_energy_uj(
    workload: Workload, accelerators: Columns, counts: Mapping[str, FloatArray], *, paired: bool = False
) -> FloatArray:
    """Dynamic energy of every layer on every array.

    Args:
        workload: L layers.
        accelerators: columns rows, columns, dataflow, ifmap_kib, filter_kib, ofmap_kib and, optionally, tech_nm,
            dram_kind; shape (A,) each.
        counts: words, for each of `COUNTS`, of shape (L, A), or (L,) when paired; writes of outputs at least one each.
        paired: layer i ran on accelerator i alone.

    Returns:
        Micro-joules, of the shape of the counts. Static power is not in it: see `systolic_leakage_mw`.

    Raises:
        ValueError: a technology outside those of the tables.
    """
    macs, outputs = workload.macs.astype(np.float64), output_words(workload)
    if paired:
        rates = energy_rates(workload.bits[None, :], accelerators)
        return rates.total_uj((0,), macs, outputs, counts)
    widths, which = np.unique(workload.bits, return_inverse=True)
    rates = energy_rates(widths[:, None], accelerators)
    return rates.total_uj((which,), macs[:, None], outputs[:, None], counts)


def energy_rates(widths: IntArray, accelerators: Columns) -> EnergyRates:
    """Energy per action, for words of each width on each accelerator.

    Args:
        widths: shape (W, 1), or (1, A) for the one width that each accelerator meets.
        accelerators: as `systolic_energy_uj` takes them.
    """
    bits = np.asarray(widths, np.float64)
    sums = np.broadcast_to(accumulator_bits(bits), (len(widths), len(accelerators["rows"])))
    tech = _tech_nm(accelerators)
    pe = pe_cost(bits, tech)
    hop, sum_hop = hop_pj(bits, pe.area_um2, tech), hop_pj(sums, pe.area_um2, tech)
    is_os = accelerators["dataflow"] == "os"
    inward = hop * (accelerators["rows"].astype(np.float64) + 1.0) / 2.0
    outward = np.where(is_os, sum_hop * (accelerators["rows"].astype(np.float64) + 1.0) / 2.0, 0.0)
    read: dict[str, FloatArray] = {}
    write: dict[str, FloatArray] = {}
    for name in SCRATCHPADS:
        line, _, cost = _memories(name, bits, accelerators)
        read[name], write[name] = (1e3 * e / (8.0 * line) for e in (cost.read_energy_nj, cost.write_energy_nj))
    dram = _dram_pj_per_bit(accelerators)
    return EnergyRates(
        mac=pe.mac_pj + np.where(is_os, 2.0 * hop + register_pj(sums, tech), hop + sum_hop),
        ifmap_read=bits * read["ifmap"] + np.where(accelerators["dataflow"] == "is", inward, 0.0),
        filter_read=bits * read["filter"] + np.where(accelerators["dataflow"] == "ws", inward, 0.0),
        output_write=bits * write["ofmap"] + outward,
        sum_round=sums * (write["ofmap"] + read["ofmap"]),
        ifmap_fetch=bits * (dram + write["ifmap"]),
        filter_fetch=bits * (dram + write["filter"]),
        output_drain=bits * (dram + read["ofmap"]),
        sum_spill=sums * (2.0 * dram + read["ofmap"] + write["ofmap"]),
    )


def systolic_area_mm2(accelerators: Columns) -> FloatArray:
    """Area of PEs and scratchpads, built for words of `pe_bits`; shape (A,).

    Raises:
        ValueError: a technology outside those of the tables.
    """
    area = _n_pes(accelerators) * pe_cost(_pe_bits(accelerators), _tech_nm(accelerators)).area_um2 * 1e-6
    for name in SCRATCHPADS:
        _, memories, cost = _memories(name, _pe_bits(accelerators), accelerators)
        area = area + memories * cost.area_mm2
    return np.asarray(area)


def systolic_leakage_mw(accelerators: Columns) -> FloatArray:
    """Static power of PEs and scratchpads, shape (A,): an upper end rather than a forecast.

    CACTI's high-performance cells at 360 K leak ten and more times what low-power cells do, so it is a figure of its
    own and no part of the energy of a layer.
    """
    leakage = _n_pes(accelerators) * pe_cost(_pe_bits(accelerators), _tech_nm(accelerators)).leakage_uw * 1e-3
    for name in SCRATCHPADS:
        _, memories, cost = _memories(name, _pe_bits(accelerators), accelerators)
        leakage = leakage + memories * cost.leakage_mw
    return np.asarray(leakage)


def output_words(workload: Workload) -> FloatArray:
    """Words of the output of each layer, shape (L,)."""
    return np.asarray(workload.batch.astype(np.float64) * workload.out_channels * workload.out_y * workload.out_x)


def _memories(name: str, bits: ArrayLike, accelerators: Columns) -> tuple[FloatArray, FloatArray, SramCost]:
    """One scratchpad: bytes of a line, how many memories of the size costed make it up, and the cost of one of them."""
    rows, columns = (accelerators[key].astype(np.float64) for key in ("rows", "columns"))
    width = np.asarray(bits, np.float64)
    if name == "ofmap":
        line_bits = columns * accumulator_bits(width)
    else:  # a streamed operand enters along the rows; one that is loaded, or the second of os, along the columns
        enters_rows = {"ifmap": ("os", "ws"), "filter": ("is",)}[name]
        line_bits = np.where(np.isin(accelerators["dataflow"], enters_rows), rows, columns) * width
    grid = sram_range()
    widest, smallest, largest = (float(v) for v in (grid.block_bytes[-1], grid.size_bytes[0], grid.size_bytes[-1]))
    line = np.minimum(2.0 ** np.ceil(np.log2(np.maximum(line_bits / 8.0, 1.0))), widest)
    side_by_side = np.maximum(np.ceil(line_bits / 8.0 / widest), 1.0)
    size = accelerators[f"{name}_kib"].astype(np.float64) * 1024.0 / side_by_side
    # beyond the largest memory of the table the scratchpad is several of them, each access to one
    costed = np.clip(size, smallest, largest)
    memories = np.where(size > 0.0, side_by_side * np.maximum(size / largest, 1.0), 0.0)
    return line, memories, sram(costed, line, _tech_nm(accelerators), 0, 1, 1, monotone=True)


def _n_pes(accelerators: Columns) -> FloatArray:
    return np.asarray(accelerators["rows"].astype(np.float64) * accelerators["columns"].astype(np.float64))


def _tech_nm(accelerators: Columns) -> FloatArray:
    if "tech_nm" in accelerators:
        return accelerators["tech_nm"].astype(np.float64)
    return np.full(len(accelerators["rows"]), float(TECH_NM))


def _pe_bits(accelerators: Columns) -> FloatArray:
    if "pe_bits" in accelerators:
        return accelerators["pe_bits"].astype(np.float64)
    return np.full(len(accelerators["rows"]), float(PE_BITS))


def _dram_pj_per_bit(accelerators: Columns) -> FloatArray:
    if "dram_kind" not in accelerators:
        return np.full(len(accelerators["rows"]), dram_pj_per_bit(DRAM_KIND))
    kinds, which = np.unique(accelerators["dram_kind"], return_inverse=True)
    return np.array([dram_pj_per_bit(str(kind)) for kind in kinds], dtype=np.float64)[which]
