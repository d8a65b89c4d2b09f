"""The ops of a whole batch of NASNets, without a loop over candidates.

A batch is a grid, candidate by place in the network; each entry is a piece of `nasnet_templates` with its channels. The
op table is the grid expanded into the pieces' steps, so that it comes out in execution order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from search_spaces.nasnet_cell import N_INPUTS, OPERATIONS, BoolArray, Cell, NasNetGenotype
from search_spaces.nasnet_macro import (
    AUXILIARY_CHANNELS,
    AUXILIARY_STRIDE,
    AUXILIARY_WINDOW,
    Macro,
    Site,
)
from search_spaces.nasnet_templates import MOST_STEPS, N_STEPS, PIECE, STEPS, operation_template
from search_spaces.ops import IntArray, OpKind, OpTable, OpTableBuilder

_IS_POOL: Final = np.array(["pool" in name for name in OPERATIONS])
_IDENTITY: Final = OPERATIONS.index("identity")


@dataclass(frozen=True, slots=True)
class CellBatch:
    """A batch of genotypes as arrays; axis 1 is 0 for the normal and 1 for the reduction cell.

    Attributes:
        sources: shape (n, 2, B, 2), the states that each block reads.
        operations: shape (n, 2, B, 2), indices into `OPERATIONS`.
        is_concat: shape (n, 2, B), whether the block concatenates its halves.
        is_output: shape (n, 2, B + 2), whether the state is part of the cell's output.
        cells: shape (n,), normal cells between reductions (N).
        channels: shape (n,), filters of the first normal cell (F).
    """

    sources: IntArray
    operations: IntArray
    is_concat: BoolArray
    is_output: BoolArray
    cells: IntArray
    channels: IntArray

    @classmethod
    def of_genotypes(cls, genotypes: Sequence[NasNetGenotype]) -> CellBatch:
        """The batch of genotypes with equally many blocks, whatever their outputs."""
        pairs = [(genotype.normal, genotype.reduction) for genotype in genotypes]
        blocks = np.array([[_block_codes(cell) for cell in pair] for pair in pairs], dtype=np.int64)
        is_output = np.zeros((*blocks.shape[:2], N_INPUTS + blocks.shape[2]), dtype=np.bool_)
        for i, pair in enumerate(pairs):
            for kind, cell in enumerate(pair):
                is_output[i, kind, list(cell.outputs)] = True
        return cls(
            sources=blocks[..., 0:2],
            operations=blocks[..., 2:4],
            is_concat=blocks[..., 4] == 1,
            is_output=is_output,
            cells=np.array([genotype.cells for genotype in genotypes], dtype=np.int64),
            channels=np.array([genotype.channels for genotype in genotypes], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def n_blocks(self) -> int:
        """Blocks per cell (B)."""
        return int(self.sources.shape[2])

    def reads_inputs(self) -> BoolArray:
        """Whether each cell reads state 0 and state 1, shape (n, 2, 2): by a block, or for its output."""
        flat = self.sources.reshape(*self.sources.shape[:2], -1)
        is_read = [(flat == state).any(axis=2) | self.is_output[:, :, state] for state in range(N_INPUTS)]
        return np.stack(is_read, axis=2)

    def state_widths(self) -> IntArray:
        """Channels of what each state adds to the output, in units of the cell's filters, shape (n, 2, B + 2)."""
        widths = np.ones(self.is_output.shape, dtype=np.int64)
        widths[..., N_INPUTS:] += self.is_concat
        return widths

    def output_widths(self) -> IntArray:
        """Channels of each cell's output, in units of the cell's filters, shape (n, 2)."""
        return np.asarray(np.where(self.is_output, self.state_widths(), 0).sum(axis=2))


def _block_codes(cell: Cell) -> list[tuple[int, int, int, int, bool]]:
    return [
        (b.left, b.right, OPERATIONS.index(b.left_op), OPERATIONS.index(b.right_op), b.combine == "concat")
        for b in cell.blocks
    ]


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The pieces of every candidate at consecutive places.

    Attributes:
        template: shape (n, places), index of the piece's template.
        operand, filters: shape (n, places), channels read and made.
        is_large: shape (n, places), whether the piece reads the place's larger size.
        sizes: shape (places, 4), height and width after, height and width before.
        stride: shape (places,), between the two.
        labels: per place the labels that its steps point to.
    """

    template: IntArray
    operand: IntArray
    filters: IntArray
    is_large: BoolArray
    sizes: IntArray
    stride: IntArray
    labels: tuple[tuple[str, ...], ...]


def network_ops(batch: CellBatch, macro: Macro) -> OpTable:
    """The ops that each network runs at inference, in execution order; the auxiliary head is not among them.

    What reaches no output is not run: projections of cell inputs that no block reads, and cells whose output no later
    cell reads.
    """
    if len(batch) == 0:
        return OpTableBuilder(0).build()
    widths = batch.output_widths()
    distinct, rows = np.unique(batch.channels, return_inverse=True)
    stem = np.array([macro.stem_filters(int(channels)) for channels in distinct], dtype=np.int64)[rows]
    pieces = [_stem_piece(macro, stem)]
    is_live = _live_cells(batch, macro)
    last, older, older_before = stem, None, None
    for place, site in enumerate(macro.sites(int(batch.cells.max()))):
        is_active = _has_cell(batch, site)
        if site.is_reduction:
            older_before = older
        previous = older_before if macro.skip_reduction_input and site.opens_stage else older
        pieces.append(_cell_pieces(batch, site, is_live[:, place], last, previous))
        made = widths[:, int(site.is_reduction)] * _filters(batch, site)
        older = last if older is None else np.where(is_active, last, older)
        last = np.where(is_active, made, last)
    pieces.append(_head_piece(macro, last))
    return _expand(_join(pieces))


def _has_cell(batch: CellBatch, site: Site) -> BoolArray:
    return np.full(len(batch), True) if site.is_reduction else site.index < batch.cells


def _live_cells(batch: CellBatch, macro: Macro) -> BoolArray:
    """Whether each candidate has the cell and its output reaches the classifier, shape (n, sites)."""
    sites = macro.sites(int(batch.cells.max()))
    rows, reads = np.arange(len(batch)), batch.reads_inputs()
    last = older = older_before = np.full(len(batch), len(sites))  # this column stands for the stem
    sources: list[tuple[BoolArray, IntArray, IntArray]] = []
    for place, site in enumerate(sites):
        has_cell = _has_cell(batch, site)
        if site.is_reduction:
            older_before = older
        previous = older_before if macro.skip_reduction_input and site.opens_stage else older
        sources.append((has_cell, last, previous))
        older = np.where(has_cell, last, older)
        last = np.where(has_cell, place, last)
    is_live = np.zeros((len(batch), len(sites) + 1), dtype=np.bool_)
    is_live[rows, last] = True
    for place in reversed(range(len(sites))):
        has_cell, *inputs = sources[place]
        kind = int(sites[place].is_reduction)
        for state, source in enumerate(inputs):
            is_live[rows, source] |= has_cell & is_live[:, place] & reads[:, kind, state]
    return is_live[:, :-1]


def auxiliary_ops(batch: CellBatch, macro: Macro) -> OpTable:
    """The ops of the auxiliary head, which runs in training alone: on the cell before the last reduction."""
    height, width = macro.auxiliary_size
    channels = batch.output_widths()[:, 0] * batch.channels * 2
    pooled = {"height": _pooled(height), "width": _pooled(width)}
    before = {"in_height": height, "in_width": width}
    inside = {"in_height": pooled["height"], "in_width": pooled["width"]}
    inside_out = {"out_height": pooled["height"], "out_width": pooled["width"]}
    pixel = {"in_height": 1, "in_width": 1, "out_height": 1, "out_width": 1}
    narrow, wide = AUXILIARY_CHANNELS
    builder, rows, label = OpTableBuilder(len(batch)), np.arange(len(batch)), "auxiliary head"

    def add(kind: OpKind, reads: int | IntArray, writes: int | IntArray, **columns: int) -> None:
        builder.add(rows, kind, label, in_channels=reads, out_channels=writes, **columns)

    add(OpKind.ACTIVATION, channels, channels, **before, out_height=height, out_width=width)
    window = {"kernel_height": AUXILIARY_WINDOW, "kernel_width": AUXILIARY_WINDOW, "stride": AUXILIARY_STRIDE}
    add(OpKind.AVG_POOL, channels, channels, **before, **inside_out, **window)
    add(OpKind.CONV, channels, narrow, **inside, **inside_out)
    add(OpKind.NORM, narrow, narrow, **inside, **inside_out)
    add(OpKind.ACTIVATION, narrow, narrow, **inside, **inside_out)
    whole = {"kernel_height": pooled["height"], "kernel_width": pooled["width"]}
    add(OpKind.CONV, narrow, wide, **inside, out_height=1, out_width=1, **whole)
    add(OpKind.NORM, wide, wide, **pixel)
    add(OpKind.ACTIVATION, wide, wide, **pixel)
    add(OpKind.LINEAR, wide, macro.classes, **pixel, bias=1)
    return builder.build()


def _pooled(side: int) -> int:
    return (side - AUXILIARY_WINDOW) // AUXILIARY_STRIDE + 1


def _filters(batch: CellBatch, site: Site) -> IntArray:
    return batch.channels * site.quarters // 4


def _stem_piece(macro: Macro, stem: IntArray) -> _Pieces:
    image_channels, *image_size = macro.image_shape
    is_strided = macro.stem == "imagenet"
    return _single("stem", "stem", np.full(len(stem), image_channels), stem, image_size, macro.stem_size, is_strided)


def _head_piece(macro: Macro, last: IntArray) -> _Pieces:
    size = macro.sites(1)[-1].size_out
    return _single("head", "head", last, np.full(len(last), macro.classes), size, (1, 1), False)


def _single(
    piece: str,
    label: str,
    operand: IntArray,
    filters: IntArray,
    size_before: Sequence[int],
    size_after: Sequence[int],
    is_strided: bool,
) -> _Pieces:
    return _Pieces(
        template=np.full((len(operand), 1), PIECE[piece]),
        operand=operand[:, None],
        filters=filters[:, None],
        is_large=np.full((len(operand), 1), True),
        sizes=np.array([(*size_after, *size_before)]),
        stride=np.array([2 if is_strided else 1]),
        labels=((label,),),
    )


def _cell_pieces(
    batch: CellBatch, site: Site, is_live: BoolArray, current: IntArray, previous: IntArray | None
) -> _Pieces:
    """A cell's pieces: state 1, state 0, the halves of its blocks, inputs that are passed on, the concatenation.

    Args:
        batch: n genotypes.
        site: the place of the cell.
        is_live: shape (n,), whether the candidate has the cell and runs it.
        current: shape (n,), channels of the last output.
        previous: shape (n,), channels of the output before; None if there is none.
    """
    kind = int(site.is_reduction)
    filters = _filters(batch, site)
    n_blocks = batch.n_blocks
    passed = [state for state in range(N_INPUTS) if batch.is_output[:, kind, state].any()]
    n_places = 2 + 2 * n_blocks + len(passed) + 1
    template = np.zeros((len(batch), n_places), dtype=np.int64)
    operand = np.empty_like(template)
    is_large = np.full(template.shape, True)
    made = np.repeat(filters[:, None], n_places, axis=1)

    states = np.empty((len(batch), N_INPUTS + n_blocks), dtype=np.int64)  # channels of each state
    states[:, 0] = filters
    states[:, 1], template[:, 0], operand[:, 0] = _previous_piece(site, filters, current, previous)
    states[:, N_INPUTS:] = batch.state_widths()[:, kind, N_INPUTS:] * filters[:, None]
    template[:, 1], operand[:, 1] = PIECE["relu, project"], current
    halves = slice(2, 2 + 2 * n_blocks)
    template[:, halves], operand[:, halves], is_large[:, halves] = _half_pieces(batch, site, states)
    for place, state in enumerate(passed, start=halves.stop):
        differs = states[:, state] != filters
        match = np.full(len(batch), PIECE["reduce"]) if site.is_reduction else np.where(differs, PIECE["project"], 0)
        template[:, place] = np.where(batch.is_output[:, kind, state], match, PIECE["nothing"])
        operand[:, place] = states[:, state]
    template[:, -1] = np.where(batch.is_output[:, kind].sum(axis=1) > 1, PIECE["concat"], PIECE["nothing"])
    operand[:, -1] = made[:, -1] = batch.output_widths()[:, kind] * filters
    reads = batch.reads_inputs()[:, kind]
    template[~reads[:, 1], 0] = PIECE["nothing"]
    template[~reads[:, 0], 1] = PIECE["nothing"]
    template[~is_live] = PIECE["nothing"]

    before = site.size_previous or site.size_in
    sizes = [(*site.size_in, *before), (*site.size_in, *site.size_in)]
    sizes += [(*site.size_out, *site.size_in)] * (2 * n_blocks + len(passed)) + [(*site.size_out, *site.size_out)]
    stride = [1 + (before != site.size_in), 1, *[1 + kind] * (2 * n_blocks + len(passed)), 1]
    return _Pieces(
        template, operand, made, is_large, np.array(sizes), np.array(stride), _labels(site, n_blocks, passed)
    )


def _previous_piece(
    site: Site, filters: IntArray, current: IntArray, previous: IntArray | None
) -> tuple[IntArray, IntArray | int, IntArray]:
    """Channels of state 1; the template that makes it; channels that this reads. As TF-slim's `_reduce_prev_layer`."""
    if previous is None:
        return current, PIECE["nothing"], current
    if site.size_previous != site.size_in:
        return filters, PIECE["relu, reduce"], previous
    return filters, np.where(previous == filters, PIECE["nothing"], PIECE["relu, project"]), previous


def _half_pieces(batch: CellBatch, site: Site, states: IntArray) -> tuple[IntArray, IntArray, BoolArray]:
    """Template, channels read and size read of the halves of all blocks, each of shape (n, 2 B)."""
    kind = int(site.is_reduction)
    flat = (len(batch), 2 * batch.n_blocks)
    sources = batch.sources[:, kind].reshape(flat)
    operation = batch.operations[:, kind].reshape(flat)
    operand = np.take_along_axis(states, sources, axis=1)
    is_strided = sources < N_INPUTS if site.is_reduction else np.zeros(flat, dtype=np.bool_)
    is_identity = operation == _IDENTITY
    is_projected = (operand != _filters(batch, site)[:, None]) | (is_identity & is_strided)
    reads_relu = np.where(is_identity, is_projected, ~_IS_POOL[operation])
    same = sources[:, :, None] == sources[:, None, :]
    is_later = np.tri(flat[1], k=-1, dtype=np.bool_)
    is_first = ~(same & reads_relu[:, None, :] & is_later).any(axis=2)
    join = np.zeros((len(batch), batch.n_blocks, 2), dtype=np.int64)
    join[:, :, 1] = 1 + batch.is_concat[:, kind]
    template = operation_template(operation, is_projected, reads_relu & is_first, join.reshape(flat))
    return template, operand, is_strided


def _labels(site: Site, n_blocks: int, passed: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    halves = (
        (*(f"{site.name}, block {b}, {side}: {name}" for name in OPERATIONS), f"{site.name}, block {b}, combine")
        for b in range(n_blocks)
        for side in ("left", "right")
    )
    inputs = ((f"{site.name}, previous",), (f"{site.name}, input",))
    outputs = (*((f"{site.name}, output: state {state}",) for state in passed), (f"{site.name}, output",))
    return (*inputs, *halves, *outputs)


def _join(pieces: Sequence[_Pieces]) -> _Pieces:
    return _Pieces(
        template=np.concatenate([piece.template for piece in pieces], axis=1),
        operand=np.concatenate([piece.operand for piece in pieces], axis=1),
        filters=np.concatenate([piece.filters for piece in pieces], axis=1),
        is_large=np.concatenate([piece.is_large for piece in pieces], axis=1),
        sizes=np.concatenate([piece.sizes for piece in pieces]),
        stride=np.concatenate([piece.stride for piece in pieces]),
        labels=tuple(labels for piece in pieces for labels in piece.labels),
    )


def _expand(pieces: _Pieces) -> OpTable:
    """One row per step of each piece."""
    n, n_places = pieces.template.shape
    template = pieces.template.ravel()
    n_steps = N_STEPS[template]
    entry = np.repeat(np.arange(n * n_places), n_steps)  # the grid entry of each row
    first_row = np.cumsum(n_steps) - n_steps
    step = np.arange(len(entry)) + (template * MOST_STEPS - first_row)[entry]  # row of STEPS
    candidate = np.repeat(np.arange(n), n_steps.reshape(n, n_places).sum(axis=1))
    place = entry - candidate * n_places

    lower = pieces.filters // 2
    widths = np.stack((pieces.operand, pieces.filters, lower, pieces.filters - lower, 2 * pieces.filters), axis=2)
    width_entry = entry * widths.shape[2]
    in_channels = widths.ravel()[width_entry + STEPS.reads[step]]
    is_large = pieces.is_large.ravel()[entry]
    reads_large, writes_large = is_large & STEPS.is_input_before[step], is_large & STEPS.is_output_before[step]
    heights, widths_px = pieces.sizes[:, 0::2].ravel(), pieces.sizes[:, 1::2].ravel()
    in_size, out_size = 2 * place + reads_large, 2 * place + writes_large
    label_start = np.cumsum([0] + [len(labels) for labels in pieces.labels])
    return OpTable(
        n_candidates=n,
        candidate=candidate,
        kind=STEPS.kind[step],
        in_channels=in_channels,
        out_channels=widths.ravel()[width_entry + STEPS.writes[step]],
        in_height=heights[in_size],
        in_width=widths_px[in_size],
        out_height=heights[out_size],
        out_width=widths_px[out_size],
        kernel_height=STEPS.kernel_height[step],
        kernel_width=STEPS.kernel_width[step],
        stride=np.where(reads_large & ~writes_large, pieces.stride[place], 1),
        groups=np.where(STEPS.is_depthwise[step], in_channels, 1),
        bias=STEPS.bias[step],
        repeat=np.ones(len(entry), dtype=np.int64),
        label=label_start[place] + STEPS.label[step],
        labels=tuple(label for labels in pieces.labels for label in labels),
    )
