"""Energy and area of multipliers, adders, registers, wires and DRAM: the one place the other models take them from.

The figures are data, `data/energy.toml`, each with its published source; memories are in `sram.py`. Between published
widths a figure follows a straight line for adders and a power law for multipliers (which grow with nearly the square of
the width); outside, the last piece goes on. A figure published for one technology is scaled to another with the
equations of Stillmaker and Baas (2017), at the supply the figures were published for, 0.9 V, in every technology;
between their nodes, in the logarithms of node and factor.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simulators.workload import FloatArray

TABLE = Path(__file__).parent / "data" / "energy.toml"

GUARD_BITS = 16
"""Bits an accumulator has beyond those of a product: it adds 65,536 products of any size without overflow."""


@dataclass(frozen=True, slots=True)
class PeCost:
    """One processing element: multiplier, adder and registers.

    Attributes:
        mac_pj: energy of a multiply-accumulate, without registers.
        area_um2: of multiplier, adder, three operand registers and an accumulator.
        leakage_uw: static power.
    """

    mac_pj: FloatArray
    area_um2: FloatArray
    leakage_uw: FloatArray


def accumulator_bits(bits: ArrayLike) -> FloatArray:
    """Width of an accumulator of products of two words: 2 bits + `GUARD_BITS`, 32 for 8-bit words."""
    return 2.0 * np.asarray(bits, np.float64) + GUARD_BITS


def adder_pj(bits: ArrayLike, tech_nm: ArrayLike = 45) -> FloatArray:
    """Energy of an integer addition."""
    return _by_line("adder", "energy_pj", bits) * energy_scale(tech_nm, _table()["adder"]["tech_nm"])


def multiplier_pj(bits: ArrayLike, tech_nm: ArrayLike = 45) -> FloatArray:
    """Energy of an integer multiplication of two words of one width."""
    return _by_power("multiplier", "energy_pj", bits) * energy_scale(tech_nm, _table()["multiplier"]["tech_nm"])


def register_pj(bits: ArrayLike, tech_nm: ArrayLike = 45) -> FloatArray:
    """Energy of writing a word to a register once, clock included."""
    part = _table()["register"]
    per_bit = part["energy_pj_per_bit"] * energy_scale(tech_nm, part["tech_nm"])
    return np.asarray(np.asarray(bits, np.float64) * per_bit)


def wire_pj(bits: ArrayLike, length_mm: ArrayLike, tech_nm: ArrayLike = 45) -> FloatArray:
    """Energy of sending a word of random data over a wire."""
    part = _table()["wire"]
    per_bit_mm = part["energy_pj_per_bit_mm"] * energy_scale(tech_nm, part["tech_nm"])
    return np.asarray(np.asarray(bits, np.float64) * np.asarray(length_mm, np.float64) * per_bit_mm)


def hop_pj(bits: ArrayLike, pe_area_um2: ArrayLike, tech_nm: ArrayLike = 45) -> FloatArray:
    """Energy of moving a word to the neighbouring PE: a wire as long as a square PE's side, and its register there."""
    length_mm = np.sqrt(np.asarray(pe_area_um2, np.float64)) * 1e-3
    return wire_pj(bits, length_mm, tech_nm) + register_pj(bits, tech_nm)


def dram_pj_per_bit(kind: str) -> float:
    """Energy of a bit read from or written to DRAM, interface included.

    Args:
        kind: one of `dram_kinds()`.

    Raises:
        ValueError: unknown kind; the nearest is suggested.
    """
    kinds = _table()["dram"]
    if kind not in kinds:
        close = get_close_matches(kind.lower(), kinds, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"dram: {kind!r} is not one of {', '.join(kinds)}{hint}")
    return float(kinds[kind]["energy_pj_per_bit"])


def dram_kinds() -> tuple[str, ...]:
    """Kinds of DRAM with a published energy."""
    return tuple(_table()["dram"])


def pe_cost(bits: ArrayLike, tech_nm: ArrayLike = 45) -> PeCost:
    """A processing element for words of so many bits.

    Its registers are those of a systolic array that loads the next stationary operand while it computes: two operands,
    the operand to come and an accumulator.
    """
    width = np.asarray(bits, np.float64)
    sums, registers = accumulator_bits(width), 3.0 * width + accumulator_bits(width)
    table = _table()
    logic = _by_power("multiplier", "area_um2", width) * area_scale(tech_nm, table["multiplier"]["tech_nm"])
    logic = logic + _by_line("adder", "area_um2", sums) * area_scale(tech_nm, table["adder"]["tech_nm"])
    flops = table["register"]
    stored = registers * flops["area_um2_per_bit"] * area_scale(tech_nm, flops["tech_nm"])
    leak = table["logic_leakage"]
    # leakage goes with the area in the technology it was published for, and is scaled as energy is
    published = logic * area_scale(leak["tech_nm"], tech_nm) * leak["uw_per_um2"]
    published = published + registers * flops["leakage_uw_per_bit"]
    return PeCost(
        mac_pj=multiplier_pj(width, tech_nm) + adder_pj(sums, tech_nm),
        area_um2=logic + stored,
        leakage_uw=published * energy_scale(tech_nm, leak["tech_nm"]),
    )


def energy_scale(to_nm: ArrayLike, from_nm: ArrayLike) -> FloatArray:
    """Energy of a circuit in one technology over that in another, at the supply of the table.

    Raises:
        ValueError: a technology outside the published nodes.

    Source: Stillmaker and Baas 2017, the energy polynomials in the supply voltage.
    """
    part = _table()["scaling"]
    volt = part["supply_v"]
    factor = np.asarray(part["energy_a"]) * volt**2 + np.asarray(part["energy_b"]) * volt + np.asarray(part["energy_c"])
    return _between_nodes(factor, to_nm) / _between_nodes(factor, from_nm)


def area_scale(to_nm: ArrayLike, from_nm: ArrayLike) -> FloatArray:
    """Area of a circuit in one technology over that in another; as `energy_scale`."""
    factor = np.asarray(_table()["scaling"]["area"])
    return _between_nodes(factor, to_nm) / _between_nodes(factor, from_nm)


def sources() -> dict[str, str]:
    """Where each figure was published, by its key in the table."""
    found: dict[str, str] = {}
    for name, part in _table().items():
        nested = part if "source" not in part else {"": part}
        found |= {f"{name}.{key}".rstrip("."): value["source"] for key, value in nested.items()}
    return found


def _between_nodes(factor: FloatArray, tech_nm: ArrayLike) -> FloatArray:
    nodes = np.asarray(_table()["scaling"]["tech_nm"], np.float64)
    tech = np.asarray(tech_nm, np.float64)
    outside = ~((tech >= nodes[0]) & (tech <= nodes[-1]))
    if outside.any():
        bad = tech[outside].flat[0]
        raise ValueError(f"tech_nm: {bad:g} is not allowed; use {nodes[0]:g} to {nodes[-1]:g}")
    return np.asarray(np.exp(np.interp(np.log(tech), np.log(nodes), np.log(factor))))


def _by_line(part: str, figure: str, bits: ArrayLike) -> FloatArray:
    """Straight lines between the published widths, the outermost ones extended."""
    known, values = (np.asarray(_table()[part][name], np.float64) for name in ("bits", figure))
    width = _width(bits)
    piece = np.clip(np.searchsorted(known, width, side="right") - 1, 0, len(known) - 2)
    slope = (values[piece + 1] - values[piece]) / (known[piece + 1] - known[piece])
    return np.asarray(values[piece] + slope * (width - known[piece]))


def _by_power(part: str, figure: str, bits: ArrayLike) -> FloatArray:
    """The power law through two published widths."""
    known, values = (np.asarray(_table()[part][name], np.float64) for name in ("bits", figure))
    exponent = np.log(values[1] / values[0]) / np.log(known[1] / known[0])
    return np.asarray(values[0] * (_width(bits) / known[0]) ** exponent)


def _width(bits: ArrayLike) -> FloatArray:
    width = np.asarray(bits, np.float64)
    if (width < 1).any():
        raise ValueError(f"bits: {width.min():g} is not allowed; use a number of at least 1")
    return width


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))
