"""The NASNet search space: two cells of blocks, stacked by a fixed plan.

Source: Zoph, Vasudevan, Shlens, Le 2018, "Learning Transferable Architectures for Scalable Image Recognition", section
3 and appendix A; shapes, stems and projections as in TF-slim's `nasnet.py` and `nasnet_utils.py`.

Departures, where the sources are silent or would make equal cells differ:

- A state that a block makes by concatenation has twice the cell's filters. It enters the cell's output as it is
  (TF-slim, which only adds, would bring every output to the shape of the last block, so that the order of blocks would
  matter); each operation that reads it brings it back to the cell's filters.
- The stride of `conv1x3_3x1` and `conv1x7_7x1` acts in both directions on the first of the two convolutions, and each
  of the two is a ReLU, a convolution and a batch norm.
- A factorised reduction to an odd number of filters gives the larger half to the shifted path.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, TypeVar

import numpy as np

from search_spaces.floor import Floor
from search_spaces.nasnet_cell import (
    COMBINATIONS,
    N_INPUTS,
    OPERATIONS,
    Block,
    Cell,
    NasNetGenotype,
    canonical_blocks,
    check_name,
    derived_outputs,
)
from search_spaces.nasnet_floor import nasnet_floor
from search_spaces.nasnet_macro import Macro, Stem
from search_spaces.nasnet_ops import CellBatch, auxiliary_ops, network_ops
from search_spaces.ops import IntArray, OpTable
from search_spaces.space import Choice, Genotype, NetworkSpace

_CELLS: Final = ("normal", "reduction")
_PER_BLOCK: Final = 5
_MOST_BLOCKS: Final = 10
_CellT = TypeVar("_CellT")


@dataclass(frozen=True, kw_only=True)
class NasNet(NetworkSpace):
    """Networks of a normal and a reduction cell.

    Decisions per cell and block: left state, right state, left operation, right operation, combination; first the
    normal cell, then the reduction cell, then N and F where they are searched.

    Attributes:
        image_shape: channels, height and width of an image.
        classes: number of logits.
        blocks: blocks per cell (B).
        cells: normal cells between two reductions (N); several values make it a decision.
        channels: filters of the first normal cell (F); several values make it a decision.
        stem: "cifar" keeps the image's size; "imagenet" divides it by 8 (a strided convolution, two reduction cells).
        stem_multiplier: the stem's convolution has so many times F (cifar) or 32 (imagenet) filters.
        skip_reduction_input: whether the cells next to a reduction read, as the output before, the one from before
            the reduction's own input (TF-slim's `skip_reduction_layer_input`).
        operations: which of the 13 operations may be chosen.
        auxiliary: whether training adds a classifier on the cell before the last reduction.
        drop_path_keep: probability to keep a branch of the last cell at the end of training (ScheduledDropPath).
        dropout_keep: probability to keep a feature before the classifier.

    Raises:
        ValueError: a value is out of range, or the image is too small for the plan.
    """

    image_shape: tuple[int, int, int]
    classes: int
    blocks: int = 5
    cells: int | tuple[int, ...] = 2
    channels: int | tuple[int, ...] = 16
    stem: Stem = "cifar"
    stem_multiplier: float = 3.0
    skip_reduction_input: bool = False
    operations: tuple[str, ...] = OPERATIONS
    auxiliary: bool = False
    drop_path_keep: float = 1.0
    dropout_keep: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= _MOST_BLOCKS:
            raise ValueError(f"blocks: {self.blocks} is not allowed; use 1..{_MOST_BLOCKS}")
        _check_counts("cells", self.cells)
        _check_counts("channels", self.channels)
        if not self.operations:
            raise ValueError(f"operations: none given; use some of {', '.join(OPERATIONS)}")
        for name in self.operations:
            check_name("operations", name, OPERATIONS)
        if len(set(self.operations)) != len(self.operations):
            raise ValueError(f"operations: {', '.join(self.operations)} names one twice")
        for filters in _options(self.channels):
            self.macro.check_channels(filters)

    @cached_property
    def macro(self) -> Macro:
        """What all networks of the space share."""
        return Macro(
            image_shape=self.image_shape,
            classes=self.classes,
            stem=self.stem,
            stem_multiplier=self.stem_multiplier,
            skip_reduction_input=self.skip_reduction_input,
            auxiliary=self.auxiliary,
            drop_path_keep=self.drop_path_keep,
            dropout_keep=self.dropout_keep,
        )

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The decisions, one per column."""
        choices: list[Choice] = []
        for cell in _CELLS:
            for b in range(self.blocks):
                states = tuple(range(N_INPUTS + b))
                choices += [Choice(f"{cell} {b} {side}", states) for side in ("left", "right")]
                choices += [Choice(f"{cell} {b} {side} op", self.operations) for side in ("left", "right")]
                choices.append(Choice(f"{cell} {b} combine", COMBINATIONS))
        for name, value in (("cells", self.cells), ("channels", self.channels)):
            if isinstance(value, tuple):
                choices.append(Choice(name, value))
        return tuple(choices)

    @cached_property
    def n_options(self) -> IntArray:
        """Number of options of each decision, shape (d,)."""
        return np.array([len(choice.options) for choice in self.choices], dtype=np.int64)

    def canonical(self, codes: IntArray) -> IntArray:
        """One row per network: cells that differ by the order of blocks or of a block's halves get the same row.

        Args:
            codes: shape (n, d), valid.

        Returns:
            Shape (n, d); see `nasnet_cell.canonical_blocks`.

        Raises:
            ValueError: a row is not a code of this space.
        """
        self._check_codes(codes)
        blocks = self._blocks_of(codes).reshape(-1, self.blocks, _PER_BLOCK)
        result = codes.copy()
        result[:, : self._n_cell_columns] = canonical_blocks(blocks, len(self.operations)).reshape(
            len(codes), self._n_cell_columns
        )
        return result

    def decode(self, code: IntArray) -> Genotype:
        """The genotype of one candidate, shape (d,); `NasNetGenotype.to_dict` documents its keys."""
        normal, reduction, cells, channels = self._decoded(code, _cell_dict)
        return {
            name: {
                "blocks": [dict(block) for block in cell["blocks"]],
                "outputs": [*cell["outputs"]],
            }  # not the cache's
            for name, cell in (("normal", normal), ("reduction", reduction))
        } | {"cells": cells, "channels": channels}

    def genotype(self, code: IntArray) -> NasNetGenotype:
        """The cells, N and F of one candidate, shape (d,)."""
        return NasNetGenotype(*self._decoded(code, _cell))

    def _decoded(
        self, code: IntArray, cell_of: Callable[[tuple[int, ...], tuple[str, ...]], _CellT]
    ) -> tuple[_CellT, _CellT, int, int]:
        """The two cells as `cell_of` gives them, N and F."""
        values: list[int] = code.tolist()
        width = self.blocks * _PER_BLOCK
        try:
            if min(values) < 0:
                raise IndexError
            normal = cell_of(tuple(values[:width]), self.operations)
            reduction = cell_of(tuple(values[width : 2 * width]), self.operations)
            rest = iter(values[2 * width :])
            cells, channels = (
                option[next(rest)] if isinstance(option, tuple) else option for option in (self.cells, self.channels)
            )
            return normal, reduction, cells, channels
        except (IndexError, ValueError, StopIteration, RuntimeError):
            self._check_codes(code[None])  # says which decision is wrong
            raise

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """The code of a genotype, shape (d,).

        Raises:
            ValueError: it is no genotype, or the space does not hold it; in particular if a cell states outputs that
                are not the states its blocks leave unused, as the published NASNet-A does.
        """
        return self.encode_genotype(NasNetGenotype.from_dict(genotype))

    def encode_genotype(self, genotype: NasNetGenotype) -> IntArray:
        """The code of a genotype, shape (d,); raises as `encode`."""
        code: list[int] = []
        for name, cell in zip(_CELLS, (genotype.normal, genotype.reduction), strict=True):
            if len(cell.blocks) != self.blocks:
                raise ValueError(f"{name}.blocks: there are {len(cell.blocks)}, the space's cells have {self.blocks}")
            if not cell.has_derived_outputs:
                raise ValueError(
                    f"{name}.outputs: {list(cell.outputs)} cannot be expressed by this space; a searched cell outputs "
                    f"the states that its blocks make and leave unused, here {list(Cell.of(cell.blocks).outputs)}"
                )
            for b, block in enumerate(cell.blocks):
                for side, operation in (("left_op", block.left_op), ("right_op", block.right_op)):
                    check_name(f"{name}.blocks[{b}].{side}", operation, self.operations)
                halves = (block.left, block.right, *map(self.operations.index, (block.left_op, block.right_op)))
                code += [*halves, COMBINATIONS.index(block.combine)]
        for key, given, options in (
            ("cells", genotype.cells, self.cells),
            ("channels", genotype.channels, self.channels),
        ):
            if given not in _options(options):
                raise ValueError(f"{key}: {given} is not one of {', '.join(map(str, _options(options)))}")
            code += [options.index(given)] if isinstance(options, tuple) else []
        return np.array(code, dtype=np.int64)

    def ops(self, codes: IntArray) -> OpTable:
        """What each network of a batch runs at inference, shape (n, d); the auxiliary head is not part of it.

        Raises:
            ValueError: a row is not a code of this space.
        """
        return network_ops(self._batch(codes), self.macro)

    def floor(self) -> Floor:
        """What every network of the space has at least, see `nasnet_floor`."""
        return nasnet_floor(self.blocks, _options(self.cells), _options(self.channels), self.operations, self.macro)

    def auxiliary_ops(self, codes: IntArray) -> OpTable:
        """What the auxiliary head of each network adds in training, shape (n, d).

        Raises:
            ValueError: the space has no auxiliary head, or a row is not a code of it.
        """
        self._check_auxiliary()
        return auxiliary_ops(self._batch(codes), self.macro)

    def architecture_ops(self, genotype: NasNetGenotype) -> OpTable:
        """`ops` of one architecture under this space's plan, whatever its blocks, N, F and stated outputs."""
        self.macro.check_channels(genotype.channels)
        return network_ops(CellBatch.of_genotypes([genotype]), self.macro)

    def architecture_auxiliary_ops(self, genotype: NasNetGenotype) -> OpTable:
        """`auxiliary_ops` of one architecture under this space's plan."""
        self._check_auxiliary()
        return auxiliary_ops(CellBatch.of_genotypes([genotype]), self.macro)

    def build(self, code: IntArray) -> object:
        """The `nasnet_torch.NasNetModule` of one candidate, shape (d,); weights from torch's global generator."""
        return self.build_architecture(self.genotype(code))

    def build_architecture(self, genotype: NasNetGenotype) -> object:
        """The module of one architecture under this space's plan, whatever its blocks, N, F and stated outputs."""
        self.macro.check_channels(genotype.channels)
        # named, not imported: this package must load without torch
        return importlib.import_module("search_spaces.nasnet_torch").NasNetModule(genotype, self.macro)

    @property
    def _n_cell_columns(self) -> int:
        return len(_CELLS) * self.blocks * _PER_BLOCK

    def _blocks_of(self, codes: IntArray) -> IntArray:
        """The cells' columns, shape (n, 2, B, 5)."""
        return codes[:, : self._n_cell_columns].reshape(len(codes), len(_CELLS), self.blocks, _PER_BLOCK)

    def _macro_options(self, codes: IntArray) -> tuple[IntArray, IntArray]:
        """N and F of each candidate, each of shape (n,)."""
        column = self._n_cell_columns
        values = []
        for option in (self.cells, self.channels):
            if isinstance(option, tuple):
                values.append(np.array(option, dtype=np.int64)[codes[:, column]])
                column += 1
            else:
                values.append(np.full(len(codes), option, dtype=np.int64))
        return values[0], values[1]

    def _batch(self, codes: IntArray) -> CellBatch:
        self._check_codes(codes)
        blocks = self._blocks_of(codes)
        cells, channels = self._macro_options(codes)
        names = np.array([OPERATIONS.index(name) for name in self.operations])
        return CellBatch(
            sources=blocks[..., 0:2],
            operations=names[blocks[..., 2:4]],
            is_concat=blocks[..., 4] == COMBINATIONS.index("concat"),
            is_output=derived_outputs(blocks[..., 0:2]),
            cells=cells,
            channels=channels,
        )

    def _check_codes(self, codes: IntArray) -> None:
        is_valid = self.valid(codes)
        if not is_valid.all():
            row = int(np.flatnonzero(~is_valid)[0])
            column = int(np.flatnonzero((codes[row] < 0) | (codes[row] >= self.n_options))[0])
            choice = self.choices[column]
            raise ValueError(
                f"row {row}: {choice.name}: {codes[row, column]} is not one of 0..{len(choice.options) - 1}"
            )

    def _check_auxiliary(self) -> None:
        if not self.auxiliary:
            raise ValueError("auxiliary: this space has no auxiliary head")


@lru_cache(maxsize=1 << 16)
def _cell_dict(columns: tuple[int, ...], operations: tuple[str, ...]) -> dict[str, Any]:
    """`_cell(...).to_dict()`, six times quicker: a big search decodes every candidate. Callers copy it."""
    blocks: list[dict[str, object]] = []
    unused = dict.fromkeys(range(N_INPUTS, N_INPUTS + len(columns) // _PER_BLOCK))
    for i in range(0, len(columns), _PER_BLOCK):
        left, right, left_op, right_op, combine = columns[i : i + _PER_BLOCK]
        if max(left, right) >= N_INPUTS + len(blocks):
            raise IndexError
        blocks.append(
            {
                "left": left,
                "right": right,
                "left_op": operations[left_op],
                "right_op": operations[right_op],
                "combine": COMBINATIONS[combine],
            }
        )
        unused.pop(left, None)
        unused.pop(right, None)
    return {"blocks": blocks, "outputs": list(unused)}


@lru_cache(maxsize=1 << 16)  # a mutation changes one of a candidate's two cells: the other is in the cache
def _cell(columns: tuple[int, ...], operations: tuple[str, ...]) -> Cell:
    """The cell that one cell's columns of a code stand for."""
    blocks = [columns[i : i + _PER_BLOCK] for i in range(0, len(columns), _PER_BLOCK)]
    return Cell.of(
        [
            Block(left, right, operations[left_op], operations[right_op], COMBINATIONS[combine])
            for left, right, left_op, right_op, combine in blocks
        ]
    )


def _options(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _check_counts(key: str, value: int | tuple[int, ...]) -> None:
    options = _options(value)
    if not options or min(options) < 1 or len(set(options)) != len(options):
        raise ValueError(f"{key}: {value} is not allowed; use a whole number of at least 1, or several different ones")
