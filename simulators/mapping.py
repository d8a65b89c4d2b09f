"""Mappings: how a layer's loops are spread over PEs (spatial) and time and memories (temporal), as readable data.

A mapping lists, for each operand and each of its memory levels from the PE outwards, the temporal loops whose data that
level holds, innermost first; every operand lists the same loops in the same order, but may cut the list in different
places (uneven mapping, Mei et al. 2021, section 4.2). Its spatial loops are listed for each operand by where they fan
out: entry 0 below level 0, entry 1 below level 1, and a last one above the top level.

`parse_mapping` reads ZigZag's text form of the two; `str` of ZigZag's objects looks so:

    SpatialMapping({O: [[], [(K, 32.0), (C, 32.0)], [], []], W: [[], [(K, 32.0), (C, 32.0)], []], ...})
    {O: [[(C, 2), (FY, 3), (FX, 3)], [(OY, 56), (OX, 56), (K, 2)], []], W: [[(C, 2), ...], []], ...}
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from dataclasses import dataclass

from simulators.spatial_hierarchy import DIMENSIONS, OPERANDS, Hierarchy

Loop = tuple[str, float]
"""A loop dimension and its size; spatial sizes may be fractions (5 of 6 tiles full)."""

Levels = tuple[tuple[Loop, ...], ...]
"""Loops by level."""

_LOOP = re.compile(r"\(\s*([A-Z]+)\s*,\s*([0-9.eE+-]+)\s*\)")
_OPERAND = re.compile(r"([A-Z])\s*:\s*\[")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping of one layer; see the module's text.

    Attributes:
        spatial: operand -> spatial loops by fan-out, one entry more than levels.
        temporal: operand -> temporal loops by level.
    """

    spatial: MappingType[str, Levels]
    temporal: MappingType[str, Levels]

    def __post_init__(self) -> None:
        """Refuse operands that disagree on the loops or their order."""
        if set(self.temporal) != set(OPERANDS) or set(self.spatial) != set(OPERANDS):
            raise ValueError(f"mapping: operands must be {', '.join(OPERANDS)}, not {', '.join(self.temporal)}")
        for operand in OPERANDS:
            for dimension, size in (*_flat(self.temporal[operand]), *_flat(self.spatial[operand])):
                if dimension not in DIMENSIONS or not size > 0:
                    raise ValueError(f"mapping: loop {(dimension, size)} of {operand} is not allowed")
            if _flat(self.temporal[operand]) != self.order:
                raise ValueError(
                    f"mapping: the temporal loops of {operand} are not those of {next(iter(self.temporal))}"
                )
            if len(self.spatial[operand]) != len(self.temporal[operand]) + 1:
                raise ValueError(f"mapping: {operand} needs one more spatial entry than temporal levels")

    @property
    def order(self) -> tuple[Loop, ...]:
        """Every temporal loop, innermost first."""
        return _flat(next(iter(self.temporal.values())))

    def bounds(self, operand: str) -> tuple[int, ...]:
        """How many loops of `order` lie in each level or below, one number per level."""
        counts, total = [], 0
        for loops in self.temporal[operand]:
            total += len(loops)
            counts.append(total)
        return tuple(counts)

    @property
    def spatial_text(self) -> str:
        """The spatial part in ZigZag's text form."""
        return f"SpatialMapping({_text(self.spatial, '{!r}')})"

    @property
    def temporal_text(self) -> str:
        """The temporal part in ZigZag's text form."""
        return _text(self.temporal, "{:.0f}")

    def describe(self, hierarchy: Hierarchy) -> str:
        """The loop nest as lines, outermost first; a temporal loop with the memories that hold its tiles."""
        lines = []
        ends = {operand: self.bounds(operand) for operand in OPERANDS}
        for position in reversed(range(len(self.order))):
            dimension, size = self.order[position]
            held = []
            for operand in OPERANDS:
                level = next(i for i, end in enumerate(ends[operand]) if position < end)
                held.append(f"{operand} in {hierarchy.level_names(operand)[level]}")
            lines.append(f"for {dimension:2} in {size:.0f}: {', '.join(held)}")
        unrolled = [f"{dimension} {size:g}" for dimension, size in _flat(self.spatial["O"]) if size > 1]
        return "\n".join([*lines, f"in parallel: {', '.join(unrolled) or 'nothing'}"])


def parse_mapping(spatial: str, temporal: str) -> Mapping:
    """A mapping from ZigZag's text forms of its spatial and its temporal part.

    Raises:
        ValueError: malformed text, an unknown loop dimension, or operands that disagree.
    """
    parsed = _parse(temporal, "temporal")
    if set(parsed) == set(OPERANDS):
        return Mapping({op: _parse(spatial, "spatial").get(op, ()) for op in parsed}, parsed)
    raise ValueError(f"temporal mapping: operands must be {', '.join(OPERANDS)}, not {', '.join(parsed) or 'none'}")


def _parse(text: str, key: str) -> dict[str, Levels]:
    result: dict[str, Levels] = {}
    for match in _OPERAND.finditer(text):
        levels, position = [], match.end()
        while (start := text.find("[", position)) != -1 and "]" not in text[position:start]:
            end = text.find("]", start)
            if end == -1:
                raise ValueError(f"{key} mapping: a bracket is not closed in {text!r}")
            levels.append(tuple((name, float(size)) for name, size in _LOOP.findall(text[start:end])))
            position = end + 1
        result[match.group(1)] = tuple(levels)
    return result


def _flat(levels: Levels) -> tuple[Loop, ...]:
    return tuple(loop for level in levels for loop in level)


def _text(operands: MappingType[str, Levels], number: str) -> str:
    parts = []
    for operand, levels in operands.items():
        inner = ", ".join(f"[{', '.join(f'({d}, {number.format(s)})' for d, s in level)}]" for level in levels)
        parts.append(f"{operand}: [{inner}]")
    return "{" + ", ".join(parts) + "}"
