"""The networks below a NASNet space.

What a network runs besides the operations of its blocks depends on few facts: which inputs each of the two cells reads,
how wide their outputs are, N and F. The floor has one network for every combination of them, whose blocks hold the
cheapest operation on the narrowest state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from search_spaces.floor import Floor
from search_spaces.nasnet_cell import N_INPUTS, OPERATIONS, BoolArray
from search_spaces.nasnet_macro import Macro
from search_spaces.nasnet_ops import CellBatch, network_ops
from search_spaces.ops import IntArray

_READS: Final = ((True, False), (False, True), (True, True))
"""A cell's first block reads inputs alone, so that at least one of them is read."""
_WIDEST: Final = 3
"""Stands for any greater width of a cell's output too: from here on it equals the filters of no later cell, which would
save that cell a projection, and wider outputs only cost more."""
_FAMILIES: Final = (
    ("sep3x3", "sep5x5", "sep7x7"),
    ("conv1x3_3x1", "conv1x7_7x1"),
    ("conv3x3", "dilated3x3"),
)
"""Operations of the same steps, the smallest kernel first."""


@dataclass(frozen=True, slots=True)
class _Interfaces(CellBatch):
    """Cells of which only what meets the rest of the network is stated.

    Attributes:
        reads: shape (n, 2, 2), whether each cell reads state 0 and state 1.
        widths: shape (n, 2), channels of each cell's output, in units of the cell's filters.
    """

    reads: BoolArray
    widths: IntArray

    def reads_inputs(self) -> BoolArray:
        """As stated."""
        return self.reads

    def output_widths(self) -> IntArray:
        """As stated."""
        return self.widths


def nasnet_floor(
    blocks: int, cells: Sequence[int], channels: Sequence[int], operations: Sequence[str], macro: Macro
) -> Floor:
    """The floor of a space.

    Args:
        blocks: per cell (B).
        cells: options of N.
        channels: options of F.
        operations: that may be chosen, of `OPERATIONS`.
        macro: what all networks share.
    """
    widths = tuple(range(1, min(2 * blocks, _WIDEST) + 1))
    axes = (range(len(_READS)), range(len(_READS)), widths, widths, cells, channels)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1).astype(np.int64)
    n, width_pair, filters = len(grid), grid[:, 2:4], grid[:, 5]
    chosen = np.full((n, 2, blocks, 2), OPERATIONS.index(_cheapest(operations, is_strided=False)))
    chosen[:, 1, 0] = OPERATIONS.index(_cheapest(operations, is_strided=True))  # reads inputs, which are strided here
    first = macro.sites(1)[0]
    stem = np.array([macro.stem_filters(int(f)) for f in filters.tolist()])
    chosen[stem < filters * first.quarters // 4] = OPERATIONS.index("identity")  # a state narrower than the filters
    is_output = np.zeros((n, 2, N_INPUTS + blocks), dtype=np.bool_)
    is_output[:, :, N_INPUTS:] = np.arange(blocks) < width_pair[:, :, None]
    batch = _Interfaces(
        sources=np.full((n, 2, blocks, 2), N_INPUTS),  # a state as narrow and as small as any
        operations=chosen,
        is_concat=np.zeros((n, 2, blocks), dtype=np.bool_),
        is_output=is_output,
        cells=grid[:, 4],
        channels=filters,
        reads=np.array(_READS)[grid[:, :2]],
        widths=width_pair,
    )
    return Floor(network_ops(batch, macro), "the stem, the classifier and the cheapest cells between them")


def _cheapest(operations: Sequence[str], is_strided: bool) -> str:
    """The operation whose steps are among those of every allowed one, on a state that has the cell's filters.

    Args:
        operations: the allowed ones.
        is_strided: whether the state is larger than what the cell makes: then an identity is a 1x1 convolution.

    Returns:
        "identity", which costs nothing, for poolings too: they hold no weights and no multiply-accumulates.
    """
    names = {"conv1x1" if name == "identity" and is_strided else name for name in operations}
    if "identity" in names or any("pool" in name for name in names):
        return "identity"
    for family in _FAMILIES:
        if names <= set(family):
            return next(name for name in family if name in names)
    return "conv1x1"
