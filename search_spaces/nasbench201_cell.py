"""Cells of NAS-Bench-201: six edges between four nodes, their text, and which of them compute the same function.

A cell is a row of six operation numbers. Node 0 is the cell's input, node 3 its output, and every node the sum of what
its incoming edges give.

Source: Dong and Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", section
2.1; text of a cell as in the authors' `Structure.tostr`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.ops import IntArray

OPERATIONS: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV_1X1, CONV_3X3, POOL = range(len(OPERATIONS))
EDGES: Final = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Source and target node of each edge, in the order of the cell's text."""
EDGE_NAMES: Final = tuple(f"{target}<-{source}" for source, target in EDGES)
N_NODES: Final = 4
N_CELLS: Final = len(OPERATIONS) ** len(EDGES)
_CELL_TEXT: Final = re.compile(r"\|OP~0\|\+\|OP~0\|OP~1\|\+\|OP~0\|OP~1\|OP~2\|".replace("OP", "([^~|+]+)"))
_NUMBERS: Final = {name: number for number, name in enumerate(OPERATIONS)}
_PLACES: Final = len(OPERATIONS) ** np.arange(len(EDGES) - 1, -1, -1)
_POOLED: Final = 0xD1342543DE82EF95
"""Any odd number that is not small: what average pooling multiplies by in the hash of a function."""
Equality = Literal["function", "text"]
EQUALITIES: Final = ("function", "text")
_Words = NDArray[np.uint64]


def cell_text(cell: IntArray) -> str:
    """The published text of a cell, shape (6,), such as `|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|`."""
    nodes: dict[int, str] = {}
    for (source, target), operation in zip(EDGES, cell.tolist(), strict=True):
        nodes[target] = nodes.get(target, "|") + f"{OPERATIONS[operation]}~{source}|"
    return "+".join(nodes.values())


def parse_cell(text: str) -> IntArray:
    """The cell of a published text, shape (6,).

    Raises:
        ValueError: the text is not one of a cell of four nodes, or names an unknown operation.
    """
    found = _CELL_TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"cell: {text!r} is not of the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    try:
        return np.array([_NUMBERS[name] for name in found.groups()], dtype=np.int64)
    except KeyError:
        for edge, name in zip(EDGE_NAMES, found.groups(), strict=True):
            check_operation(f"cell, edge {edge}", name)
        raise


def check_operation(key: str, name: object) -> None:
    """Raise ValueError unless a name is one of the five operations."""
    if name not in OPERATIONS:
        raise ValueError(f"{key}: {name!r} is not an operation; use one of {', '.join(OPERATIONS)}")


def all_cells() -> IntArray:
    """Every cell, shape (15,625, 6), by `cell_index`."""
    index = np.unravel_index(np.arange(N_CELLS), (len(OPERATIONS),) * len(EDGES))
    return np.stack(index, axis=1).astype(np.int64)


def cell_index(cells: IntArray) -> IntArray:
    """The place of cells, shape (n, 6), in `all_cells`, shape (n,): the row read as a number to base five."""
    return np.asarray(cells @ _PLACES, dtype=np.int64)


def live_edges(cells: IntArray) -> NDArray[np.bool_]:
    """Which edges lie on a path from input to output that no zero operation cuts, shape (n, 6) of cells (n, 6)."""
    is_open = cells != NONE
    reached = np.zeros((N_NODES, len(cells)), dtype=np.bool_)
    leads = np.zeros_like(reached)
    reached[0] = leads[-1] = True
    for edge, (source, target) in enumerate(EDGES):
        reached[target] |= reached[source] & is_open[:, edge]
    for edge in reversed(range(len(EDGES))):
        source, target = EDGES[edge]
        leads[source] |= leads[target] & is_open[:, edge]
    sources, targets = np.array(EDGES).T
    return np.asarray(is_open & reached[sources].T & leads[targets].T)


def remove_dead(cells: IntArray) -> IntArray:
    """Cells without the operations that do not reach the output or are fed by none, shape (n, 6)."""
    return np.where(live_edges(cells), cells, NONE)


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """All cells by class.

    Attributes:
        of: shape (15,625,), the class of each cell, by `cell_index`.
        members: shape (15,625,), indices of cells, sorted by class.
        begin: shape (c,), where each class's members begin.
        count: shape (c,), how many they are.
    """

    of: IntArray
    members: IntArray
    begin: IntArray
    count: IntArray


@lru_cache(maxsize=2)
def classes(equality: Equality = "function") -> Classes:
    """The classes of equal cells, see `representatives`."""
    _, of, count = np.unique(cell_index(representatives(equality)), return_inverse=True, return_counts=True)
    return Classes(of, np.argsort(of, kind="stable"), np.cumsum(count) - count, count)


def changed_cells(cells: IntArray, kinds: Classes, rng: np.random.Generator) -> IntArray:
    """For each cell another class's cell, shape (n, 6): one edge changed in a random one of the cells equal to it.

    A change of the representative itself could never open a path of two edges: the first alone is dead, and dead
    edges do not survive.
    """
    own = kinds.of[cell_index(cells)]
    index = kinds.members[kinds.begin[own] + rng.integers(0, kinds.count[own])]
    equal = index[:, None] // _PLACES % len(OPERATIONS)
    changes = np.arange(len(OPERATIONS)) - equal[:, :, None]  # (n, edges, operations)
    candidates = (index[:, None, None] + changes * _PLACES[:, None]).reshape(len(cells), -1)
    is_other = kinds.of[candidates] != own[:, None]  # the direct edge is never dead, so some always are
    chosen = np.argmax(np.where(is_other, rng.random(candidates.shape), -1.0), axis=1)
    taken = candidates[np.arange(len(cells)), chosen]
    return np.asarray(taken[:, None] // _PLACES % len(OPERATIONS), dtype=np.int64)


@lru_cache(maxsize=2)
def representatives(equality: Equality = "function") -> IntArray:
    """For every cell, the one that stands for all that are equal to it, shape (15,625, 6), read-only.

    "function" (5,044 classes): two cells are equal if some assignment of one's convolutions to the other's, with
    weights and batch norms, makes their outputs equal for every input. Zero and dead edges are removed (a convolution
    that reads nothing counts as zero, whatever its batch norm adds), identities contracted, sums in any order, average
    pooling distributed over sums. Two convolutions of one input remain two, one that is read twice remains one.

    "text" (5,390 classes): two cells are equal if the authors' `to_unique_str` writes them alike once zeros are left
    out, as tables do that name a representative per row. The text does not tell one convolution read twice from two
    (337 classes hold cells with different numbers of weights), and it keeps some equal sums apart.

    The representative has the fewest edges of its class, of these the lowest `cell_index`: nothing in it is dead.
    """
    cells = all_cells()
    keys = _function_keys(cells) if equality == "function" else np.array([_expression(cell) for cell in cells.tolist()])
    _, kinds = np.unique(keys, return_inverse=True)
    order = np.lexsort((np.arange(len(cells)), (cells != NONE).sum(axis=1), kinds))
    first = np.unique(kinds[order], return_index=True)[1]
    result = cells[order[first]][kinds]
    result.flags.writeable = False
    return result


def _expression(cell: Sequence[int]) -> str:
    """The authors' `to_unique_str` of a cell, zeros left out: "" for a cell that computes nothing."""
    nodes = ["0", "", "", ""]
    terms: list[list[str]] = [[] for _ in range(N_NODES)]
    for (source, target), operation in zip(EDGES, cell, strict=True):
        if source > 0:
            nodes[source] = "+".join(sorted(terms[source]))  # every edge into the source came before
        if operation != NONE and nodes[source]:
            text = nodes[source]
            terms[target].append(text if operation == SKIP else f"({text})@{OPERATIONS[operation]}")
    return "+".join(sorted(terms[-1]))


def _function_keys(cells: IntArray) -> _Words:
    """A number per cell that is equal for cells of the same function, shape (n,), by hashing to 64 bits.

    A node's value is a sum of the cell's input and of the convolutions' results, each pooled some times. Pooling is
    multiplication by a constant, so that it distributes. What a convolution is follows from its kind, from what it
    reads and from who reads it; three rounds of telling each about its neighbours reach across the longest path.
    """
    cells = remove_dead(cells)
    is_conv = (cells == CONV_1X1) | (cells == CONV_3X3)
    n, n_edges = cells.shape
    values: _Words = np.zeros((N_NODES, n, n_edges + 1), dtype=np.uint64)  # of the convolutions and, last, the input
    values[0, :, -1] = 1
    factor = np.array([0, 1, 0, 0, _POOLED], dtype=np.uint64)
    for edge, (source, target) in enumerate(EDGES):
        values[target] += values[source] * factor[cells[:, edge]][:, None]
        values[target, :, edge] += is_conv[:, edge]
    reads = np.stack([values[source] for source, _ in EDGES], axis=1) * is_conv[:, :, None]  # (n, reader, what is read)
    among, of_input, written = reads[:, :, :-1], reads[:, :, -1], values[-1]
    colours = _mixed(_mixed(_mixed(cells.astype(np.uint64)) + of_input) + written[:, :-1]) * is_conv
    is_read, as_reader, as_read = among != 0, _mixed(among), _mixed(among + np.uint64(1))
    for _ in range(3):
        below = (_mixed(colours[:, None, :] + as_reader) * is_read).sum(axis=2, dtype=np.uint64)
        above = (_mixed(colours[:, :, None] + as_read) * is_read).sum(axis=1, dtype=np.uint64)
        colours = _mixed(_mixed(colours + _mixed(below)) + above) * is_conv
    return np.asarray(_mixed(colours.sum(axis=1, dtype=np.uint64)) + _mixed(written[:, -1]))


def _mixed(words: _Words) -> _Words:
    """64-bit words spread evenly and one to one (the finaliser of SplitMix64, Steele et al. 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
