"""NASNet cells as data, and the one form that stands for equal cells.

States of a cell: 0 = the current input (after its 1x1 convolution), 1 = the output of the cell before, 2 + b = what
block b makes.

Source: Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

import numpy as np
from numpy.typing import NDArray

from search_spaces.ops import IntArray

BoolArray = NDArray[np.bool_]

OPERATIONS: Final = (
    "identity",
    "conv1x1",
    "conv3x3",
    "conv1x3_3x1",
    "conv1x7_7x1",
    "dilated3x3",
    "avgpool3x3",
    "maxpool3x3",
    "maxpool5x5",
    "maxpool7x7",
    "sep3x3",
    "sep5x5",
    "sep7x7",
)
"""The 13 operations of the paper's search space."""

COMBINATIONS: Final = ("add", "concat")
"""How a block joins its two halves: element-wise sum, or concatenation along the channels."""

N_INPUTS: Final = 2
"""States that a cell starts from."""


@dataclass(frozen=True, slots=True)
class Block:
    """Two operations on two states, joined into a new state.

    Attributes:
        left, right: states that the block reads.
        left_op, right_op: one of `OPERATIONS` each.
        combine: one of `COMBINATIONS`.
    """

    left: int
    right: int
    left_op: str
    right_op: str
    combine: str = "add"

    def __post_init__(self) -> None:
        check_name("left_op", self.left_op, OPERATIONS)
        check_name("right_op", self.right_op, OPERATIONS)
        check_name("combine", self.combine, COMBINATIONS)

    def to_dict(self) -> dict[str, object]:
        """The block as JSON-able data."""
        return {
            "left": self.left,
            "right": self.right,
            "left_op": self.left_op,
            "right_op": self.right_op,
            "combine": self.combine,
        }

    @classmethod
    def from_dict(cls, data: object, where: str = "block") -> Block:
        """The block that `to_dict` wrote. Raises ValueError if it is none."""
        record = _record(data, where, _BLOCK_KEYS, optional=("combine",))
        left, right = (_integer(record[key], f"{where}.{key}") for key in ("left", "right"))
        try:
            return cls(left, right, *(str(record.get(key, "add")) for key in _BLOCK_KEYS[2:]))
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None


@dataclass(frozen=True, slots=True)
class Cell:
    """A directed acyclic graph of blocks.

    Attributes:
        blocks: in an order in which each reads earlier states alone.
        outputs: the states whose concatenation is the cell's output, ascending. `Cell.of` derives them.
    """

    blocks: tuple[Block, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("blocks: a cell needs at least 1 block")
        for b, block in enumerate(self.blocks):
            for side, state in (("left", block.left), ("right", block.right)):
                if not 0 <= state < N_INPUTS + b:
                    raise ValueError(f"blocks[{b}].{side}: state {state} is not one of 0..{N_INPUTS + b - 1}")
        if list(self.outputs) != sorted(set(self.outputs)) or not self.outputs:
            raise ValueError(f"outputs: {list(self.outputs)} must be one or more states in ascending order")
        if self.outputs[0] < 0 or self.outputs[-1] >= N_INPUTS + len(self.blocks):
            raise ValueError(f"outputs: {list(self.outputs)} are not all in 0..{N_INPUTS + len(self.blocks) - 1}")
        dead = set(unused_states(self.blocks)) - set(self.outputs)
        if dead:
            raise ValueError(f"outputs: state {min(dead)} is neither read by a block nor an output")

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Cell:
        """A cell as the search makes it: its outputs are the states made in it that no block reads."""
        return cls(tuple(blocks), unused_states(blocks))

    @property
    def has_derived_outputs(self) -> bool:
        """Whether the outputs are those that `Cell.of` derives."""
        return self.outputs == unused_states(self.blocks)

    def reads(self, state: int) -> bool:
        """Whether a block reads the state, or the output contains it; what makes an unread input is never computed."""
        return state in self.outputs or any(state in (block.left, block.right) for block in self.blocks)

    def to_dict(self) -> dict[str, object]:
        """The cell as JSON-able data."""
        return {"blocks": [block.to_dict() for block in self.blocks], "outputs": list(self.outputs)}

    @classmethod
    def from_dict(cls, data: object, where: str = "cell") -> Cell:
        """The cell that `to_dict` wrote; without `outputs` they are derived. Raises ValueError if it is none."""
        record = _record(data, where, ("blocks", "outputs"), optional=("outputs",))
        items = enumerate(_list(record["blocks"], f"{where}.blocks"))
        blocks = tuple(Block.from_dict(item, f"{where}.blocks[{b}]") for b, item in items)
        outputs = unused_states(blocks)
        if "outputs" in record:
            stated = _list(record["outputs"], f"{where}.outputs")
            outputs = tuple(_integer(state, f"{where}.outputs") for state in stated)
        try:
            return cls(blocks, outputs)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None


@dataclass(frozen=True, slots=True)
class NasNetGenotype:
    """One network of the space.

    Attributes:
        normal, reduction: the two cells; they have equally many blocks.
        cells: normal cells between two reductions (N).
        channels: filters of the first normal cell (F).
    """

    normal: Cell
    reduction: Cell
    cells: int
    channels: int

    def __post_init__(self) -> None:
        if len(self.normal.blocks) != len(self.reduction.blocks):
            raise ValueError(
                f"normal and reduction have {len(self.normal.blocks)} and {len(self.reduction.blocks)} blocks; "
                "they must have equally many"
            )
        for key, value in (("cells", self.cells), ("channels", self.channels)):
            if value < 1:
                raise ValueError(f"{key}: {value} is not allowed; use at least 1")

    def to_dict(self) -> dict[str, object]:
        """The genotype as JSON-able data."""
        return {
            "normal": self.normal.to_dict(),
            "reduction": self.reduction.to_dict(),
            "cells": self.cells,
            "channels": self.channels,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> NasNetGenotype:
        """The genotype that `to_dict` wrote. Raises ValueError, naming the key, if it is none."""
        record = _record(data, "genotype", ("normal", "reduction", "cells", "channels"))
        return cls(
            normal=Cell.from_dict(record["normal"], "normal"),
            reduction=Cell.from_dict(record["reduction"], "reduction"),
            cells=_integer(record["cells"], "cells"),
            channels=_integer(record["channels"], "channels"),
        )


def unused_states(blocks: Sequence[Block]) -> tuple[int, ...]:
    """The states made by blocks that no block reads, ascending."""
    used = {state for block in blocks for state in (block.left, block.right)}
    return tuple(state for state in range(N_INPUTS, N_INPUTS + len(blocks)) if state not in used)


def derived_outputs(sources: IntArray) -> BoolArray:
    """The states made in a cell that no block reads, shape (..., B + 2), from sources of shape (..., B, 2)."""
    *lead, n_blocks, _ = sources.shape
    is_used = np.zeros((*lead, N_INPUTS + n_blocks), dtype=np.bool_)
    np.put_along_axis(is_used, sources.reshape(*lead, 2 * n_blocks), True, axis=-1)
    is_used[..., :N_INPUTS] = True
    return ~is_used


def canonical_blocks(blocks: IntArray, n_operations: int) -> IntArray:
    """The one form of each cell: equal for cells that differ by block order or by the order of a block's halves.

    Args:
        blocks: shape (m, B, 5); per block left state, right state, left operation, right operation, combination.
        n_operations: how many operations there are.

    Returns:
        Shape (m, B, 5). Of all orders in which each block reads earlier states alone, the one whose sequence of block
        keys is least; a key is (larger half, smaller half, combination), a half (state, operation). The order is
        built block by block, always with the least key among the blocks that are ready; the search branches only
        where two blocks have the same key, which means twins: same states, same operations, other readers.
    """
    n_cells, n_blocks, _ = blocks.shape
    base = (N_INPUTS + n_blocks) * n_operations  # halves are below it, unless they read a state not yet placed
    sources, operations, combine = blocks[:, :, 0:2], blocks[:, :, 2:4], blocks[:, :, 4]
    is_unused = derived_outputs(sources)[:, N_INPUTS:]

    origin: IntArray = np.arange(n_cells)
    names = np.full((n_cells, N_INPUTS + n_blocks), N_INPUTS + n_blocks)  # the new number of each state
    names[:, 0], names[:, 1] = 0, 1
    is_placed: BoolArray = np.zeros((n_cells, n_blocks), dtype=np.bool_)
    keys: IntArray = np.zeros((n_cells, n_blocks), dtype=np.int64)
    for place in range(n_blocks):
        halves = names[np.arange(len(origin))[:, None, None], sources[origin]] * n_operations + operations[origin]
        low, high = halves.min(axis=2), halves.max(axis=2)
        key = (high * base + low) * len(COMBINATIONS) + combine[origin]
        key[is_placed | (high >= base)] = np.iinfo(np.int64).max
        keys[:, place] = key.min(axis=1)
        is_least = key == keys[:, place, None]
        if np.count_nonzero(is_least) > len(origin):  # twins that nobody reads are interchangeable: one branch will do
            spare = is_least & is_unused[origin]
            is_least &= ~spare | (np.cumsum(spare, axis=1) == 1)
        branch, block = np.nonzero(is_least)
        if len(branch) > len(origin):
            origin, names, is_placed, keys = origin[branch], names[branch], is_placed[branch], keys[branch]
        names[np.arange(len(origin)), N_INPUTS + block] = N_INPUTS + place
        is_placed[np.arange(len(origin)), block] = True
    if len(origin) > n_cells:  # of each cell's branches, the least sequence of keys
        order = np.lexsort((*keys.T[::-1], origin))
        keys = keys[order][np.searchsorted(origin[order], np.arange(n_cells))]
    return _blocks_of_keys(keys, base, n_operations)


def _blocks_of_keys(keys: IntArray, base: int, n_operations: int) -> IntArray:
    halves, combine = np.divmod(keys, len(COMBINATIONS))
    high, low = np.divmod(halves, base)
    (left, left_op), (right, right_op) = np.divmod(low, n_operations), np.divmod(high, n_operations)
    return np.stack((left, right, left_op, right_op, combine), axis=2)


def check_name(key: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError, with the nearest valid name, unless `value` is one of the allowed names."""
    if value not in allowed:
        close = get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{key}: {value!r} is not one of {', '.join(allowed)}{hint}")


def _record(data: object, where: str, keys: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, object]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: {data!r} is not a mapping with the keys {', '.join(keys)}")
    for key in data:
        check_name(f"unknown key in {where}", key, keys)
    for key in keys:
        if key not in data and key not in optional:
            raise ValueError(f"{where}.{key}: this key is missing")
    return data


def _list(data: object, where: str) -> Sequence[object]:
    if not isinstance(data, list | tuple):
        raise ValueError(f"{where}: {data!r} is not a list")
    return data


def _integer(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{where}: {value!r} is not a whole number")
    return value


_BLOCK_KEYS: Final = ("left", "right", "left_op", "right_op", "combine")
