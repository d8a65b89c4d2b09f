"""Sizes, bandwidths, costs and area of many accelerators that share one hierarchy's structure.

A hierarchy's own figures are taken as they are. Where an accelerator differs from it, energies per access are those of
the hierarchy times a ratio:

- a memory of other capacity or width: the ratio of CACTI's energies (`simulators.sram`, 45 nm, monotone); above 4 MiB,
  the largest macro there, a memory is cut into banks of equal size, of which an access uses one;
- a register file of other size: the square root of the ratio of words, as its bit and word lines lengthen so;
- DRAM of other width: proportional, the energy per bit stays.

Registers, their ports and the multiply-accumulate are as wide as a layer's words: the hierarchy states them for 8-bit
words and 16-bit sums, and they scale with the bits (energy of a multiply-accumulate: `simulators.energy.pe_cost`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simulators.energy import pe_cost
from simulators.spatial_cost import Numbers
from simulators.spatial_hierarchy import Hierarchy, Memory
from simulators.sram import sram, sram_range
from simulators.workload import FloatArray, IntArray

REGISTERS = ("weight_register_words", "input_register_words", "output_register_words")
BUFFERS = ("weight_buffer_kib", "input_buffer_kib", "output_buffer_kib", "global_kib", "weight_global_kib")
SIZES = (*REGISTERS, *BUFFERS)
WIDTHS = {"buffer_bits": BUFFERS[:3], "global_bits": BUFFERS[3:], "dram_bits": ("",)}

_WORD_BITS = 8.0
_BANK_BYTES = 4_194_304.0
_KIB_BITS = 8_192.0


def check_fields(hierarchy: Hierarchy, values: Mapping[str, FloatArray]) -> None:
    """Refuse a size or width that no memory of the hierarchy takes.

    Args:
        hierarchy: of these accelerators.
        values: field -> shape (A,); 0 means as in the hierarchy.

    Raises:
        ValueError: the field and the hierarchy are named.
    """
    known = {memory.field for memory in hierarchy.memories}
    for name in SIZES:
        if (values[name] > 0).any() and name not in known:
            allowed = ", ".join(sorted(known - {""}))
            raise ValueError(f"{name}: hierarchy {hierarchy.name!r} has no such memory; it has {allowed}")
    for name, sized in WIDTHS.items():
        if (values[name] > 0).any() and not known & set(sized):
            raise ValueError(f"{name}: hierarchy {hierarchy.name!r} has no such memory")


def numbers_for(hierarchy: Hierarchy, values: Mapping[str, FloatArray], word_bits: FloatArray) -> Numbers:
    """Numbers of P accelerators, each for layers of some word width.

    Args:
        hierarchy: their structure, and their figures where a field is 0.
        values: `SIZES` and `WIDTHS` fields, shape (P,).
        word_bits: shape (P,), bits per word.
    """
    wider = word_bits / _WORD_BITS
    bits, reads, writes, lows, highs = [], [], [], [], []
    for memory in hierarchy.memories:
        capacity, width, share = _changed(memory, values)
        is_register = memory.field in REGISTERS
        scale = wider if is_register else np.ones_like(wider)
        read, write = _energy_ratio(memory, capacity, width)
        bits.append(capacity * scale)
        reads.append(memory.read_pj * read * scale)
        writes.append(memory.write_pj * write * scale)
        high = [port.max_bits * share * scale for port in memory.ports]
        lows.append([np.minimum(port.min_bits * scale, h) for port, h in zip(memory.ports, high, strict=True)])
        highs.append(high)
    mac_pj = hierarchy.mac_pj * pe_cost(word_bits).mac_pj / pe_cost(_WORD_BITS).mac_pj
    return Numbers(bits, reads, writes, lows, highs, np.asarray(mac_pj))


def on_chip_kib(hierarchy: Hierarchy, values: Mapping[str, FloatArray]) -> FloatArray:
    """KiB of all buffers, registers not counted, shape (A,)."""
    kib: FloatArray = np.zeros(len(values["dram_bits"]))
    for memory in hierarchy.memories:
        if memory.field in BUFFERS:
            kib = kib + _changed(memory, values)[0] / _KIB_BITS
    return kib


def area_mm2(hierarchy: Hierarchy, values: Mapping[str, FloatArray], pes: FloatArray) -> FloatArray:
    """Area of PEs, registers and buffers at 45 nm for 8-bit words, shape (A,); DRAM and wiring are not in it.

    A PE's area holds its operand registers and one accumulator (`simulators.energy.pe_cost`); register files beyond one
    word per PE take the area per bit of the smallest SRAM macro.

    Args:
        hierarchy: their structure.
        values: `SIZES` and `WIDTHS` fields, shape (A,).
        pes: shape (array dimensions, A), PEs along each.
    """
    total = pes.prod(axis=0) * float(pe_cost(_WORD_BITS).area_um2) * 1e-6
    sizes = np.asarray(sram_range().size_bytes, dtype=np.float64)
    per_bit = float(sram(sizes[0], 1, monotone=True).area_mm2) / (8.0 * sizes[0])
    for memory in hierarchy.memories:
        capacity, width, _ = _changed(memory, values)
        if memory.field in REGISTERS:
            repeated = [a for a, name in enumerate(hierarchy.array) if name not in memory.serves]
            word = _WORD_BITS * (2.0 if memory.operands == ("O",) else 1.0)
            total = total + pes[repeated].prod(axis=0) * np.maximum(capacity - word, 0.0) * per_bit
        elif memory.field in BUFFERS:
            size, n_banks = _banks(capacity, sizes)
            total = total + n_banks * sram(size, _block(width), monotone=True).area_mm2
    return np.asarray(total)


def take(values: Mapping[str, FloatArray], rows: IntArray) -> dict[str, FloatArray]:
    """The fields of some accelerators."""
    return {name: array[rows] for name, array in values.items()}


def _changed(memory: Memory, values: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Bits of capacity, bits of width, and width over the hierarchy's own, shape (P,) each."""
    n = len(values["dram_bits"])
    capacity, share = np.full(n, memory.bits), np.ones(n)
    own_width = max(port.max_bits for port in memory.ports)
    if memory.field:
        size = values[memory.field]
        unit = _KIB_BITS
        if memory.field in REGISTERS:
            unit = _WORD_BITS * (2.0 if memory.operands == ("O",) else 1.0)
        capacity = np.where(size > 0, size * unit, capacity)
    for name, sized in WIDTHS.items():
        if memory.field in sized:
            share = np.where(values[name] > 0, values[name] / own_width, share)
    return capacity, own_width * share, share


def _energy_ratio(memory: Memory, capacity: FloatArray, width: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Energy of a read and of a write, over the hierarchy's own."""
    own_width = max(port.max_bits for port in memory.ports)
    if memory.field in REGISTERS:
        ratio = np.sqrt(capacity / memory.bits)
        return ratio, ratio
    if memory.field not in BUFFERS:
        return width / own_width, width / own_width
    sizes = np.asarray(sram_range().size_bytes, dtype=np.float64)
    new = sram(_banks(capacity, sizes)[0], _block(width), monotone=True)
    old = sram(_banks(np.array(memory.bits), sizes)[0], _block(np.array(own_width)), monotone=True)
    return new.read_energy_nj / old.read_energy_nj, new.write_energy_nj / old.write_energy_nj


def _banks(capacity_bits: FloatArray, sizes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bytes of one bank, inside CACTI's grid, and banks."""
    size = capacity_bits / 8.0
    n_banks = np.ceil(size / min(_BANK_BYTES, sizes[-1]))
    return np.maximum(size / n_banks, sizes[0]), n_banks


def _block(width_bits: FloatArray) -> FloatArray:
    blocks = np.asarray(sram_range().block_bytes, dtype=np.float64)
    return np.asarray(np.clip(width_bits / 8.0, blocks[0], blocks[-1]))
