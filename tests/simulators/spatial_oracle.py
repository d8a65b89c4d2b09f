"""A slow walk through a loop nest that counts the words each memory moves, to hold the fast model against.

It knows only loops, which operand each belongs to, and at which loop each level's tile begins. It steps through every
temporal iteration, notes when a tile gives way to another, and counts the words of tiles by listing them.
"""

from __future__ import annotations

from itertools import product

from simulators.mapping import Loop, Mapping

RELEVANT = {"O": "B G K OY OX", "W": "G K C FY FX", "I": "B G C OY OX FY FX"}


def words_of(operand: str, ranges: dict[str, range], stride: int) -> int:
    """Distinct words of an operand that loops over these ranges touch."""
    if operand != "I":
        total = 1
        for d in RELEVANT[operand].split():
            total *= len(ranges[d])
        return total
    rows = {stride * o + f for o in ranges["OY"] for f in ranges["FY"]}
    columns = {stride * o + f for o in ranges["OX"] for f in ranges["FX"]}
    return len(ranges["B"]) * len(ranges["G"]) * len(ranges["C"]) * len(rows) * len(columns)


def _extents(loops: tuple[Loop, ...]) -> dict[str, range]:
    sizes = dict.fromkeys(["B", "G", "K", "C", "OY", "OX", "FY", "FX"], 1)
    for dimension, size in loops:
        sizes[dimension] *= int(size)
    return {dimension: range(size) for dimension, size in sizes.items()}


def tile_changes(mapping: Mapping, operand: str, boundary: int) -> tuple[int, int]:
    """How often the tile below a boundary is replaced or first loaded, and how many different tiles there are.

    A PE keeps its inputs while they are the same, but hands on each product: it has no memory for sums.
    """
    order = mapping.order
    first = (0, *mapping.bounds(operand))[boundary]
    relevant = RELEVANT[operand].split()
    places = [i for i in range(first, len(order)) if order[i][0] in relevant]
    changes, seen, last = 0, set(), None
    for counters in product(*(range(int(size)) for _, size in reversed(order))):
        innermost_first = counters[::-1]
        tile = tuple(innermost_first[i] for i in places)
        if tile != last or (operand == "O" and boundary == 0):
            changes += 1
            seen.add(tile)
            last = tile
    return changes, len(seen)


def moved_words(mapping: Mapping, operand: str, boundary: int, stride: int) -> tuple[int, bool]:
    """Words that one copy of the level above a boundary moves one way, and whether any of them moves more than once."""
    inner = mapping.order[: (0, *mapping.bounds(operand))[boundary]]
    fanned = tuple(loop for level in mapping.spatial[operand][: boundary + 1] for loop in level)
    changes, different = tile_changes(mapping, operand, boundary)
    outer_adds = any(
        d in ("C", "FY", "FX") and s > 1 for level in mapping.spatial["O"][boundary + 1 :] for d, s in level
    )
    words = words_of(operand, _extents(inner + fanned), stride)
    return changes * words, changes > different or outer_adds
