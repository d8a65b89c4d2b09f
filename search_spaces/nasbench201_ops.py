"""What networks of NAS-Bench-201 cells compute, as an op table, vectorised over cells.

All networks of a space are parts of one: of the network whose every edge has every operation. Its ops are listed once,
each with the condition under which a cell has it, and a batch of cells picks its rows.

Source: Dong and Yang 2020, "NAS-Bench-201", figure 1; the authors' `TinyNetwork`, `ResNetBasicblock` and `ReLUConvBN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from search_spaces.nasbench201_cell import CONV_1X1, CONV_3X3, EDGE_NAMES, EDGES, NONE, OPERATIONS, POOL
from search_spaces.ops import COLUMNS, IntArray, OpKind, OpTable, OpTableBuilder

N_STAGES: Final = 3
KERNELS: Final = {CONV_1X1: 1, CONV_3X3: 3}
_ALWAYS: Final = 0
_N_CHOICES: Final = len(EDGES) * len(OPERATIONS)
_ONE: Final = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the cells of one stage stand: their channels, height and width."""

    channels: int
    height: int
    width: int


def stages(image_shape: tuple[int, int, int], channels: int) -> tuple[Stage, ...]:
    """The three stages: channels double and sides halve, rounded up."""
    _, height, width = image_shape
    return tuple(Stage(channels << s, -(-height >> s), -(-width >> s)) for s in range(N_STAGES))


@dataclass(frozen=True, slots=True, eq=False)
class Superset:
    """The ops of a network whose every edge has every operation.

    Attributes:
        table: the ops, in execution order, as one candidate.
        condition: shape (L,), the column of `_conditions` that says which cells have the op.
    """

    table: OpTable
    condition: IntArray


def network_ops(cells: IntArray, superset: Superset) -> OpTable:
    """The ops of each network, in execution order within a cell; equal cells of a stage are one row with `repeat`.

    Every operation of a cell is counted, dead or not; zero operations and skips compute nothing.

    Args:
        cells: shape (n, 6), operation of each edge.
        superset: of the space.
    """
    candidate, row = np.nonzero(_conditions(cells)[:, superset.condition])
    columns = {name: getattr(superset.table, name)[row] for name in COLUMNS if name != "candidate"}
    return OpTable(n_candidates=len(cells), candidate=candidate, labels=superset.table.labels, **columns)


@lru_cache(maxsize=64)
def superset_of(image_shape: tuple[int, int, int], classes: int, channels: int, depth: int) -> Superset:
    """The ops that networks can have.

    Args:
        image_shape: channels, height, width.
        classes: number of logits.
        channels: of the first stage.
        depth: cells per stage.
    """
    rows = _Rows()
    plan = stages(image_shape, channels)
    rows.conv("stem", image_shape[0], plan[0], 3, is_activated=False)
    for number, stage in enumerate(plan):
        if number:
            _residual(rows, f"residual block {number - 1}", plan[number - 1], stage)
        for edge in range(len(EDGES)):
            _edge(rows, edge, f"stage {number} cells", stage, depth)
    last = plan[-1]
    rows.add(OpKind.NORM, "head, norm", last)
    rows.add(OpKind.ACTIVATION, "head, relu", last)
    rows.add(OpKind.GLOBAL_POOL, "head, pool", last, out_height=1, out_width=1)
    rows.add(OpKind.LINEAR, "head, classifier", Stage(last.channels, 1, 1), out_channels=classes, bias=1)
    return Superset(rows.builder.build(), np.array(rows.conditions, dtype=np.int64))


def _conditions(cells: IntArray) -> NDArray[np.bool_]:
    """Shape (n, 1 + 30 + 6): always; each edge has each operation; a sum is made where the edge comes in."""
    has = cells[:, :, None] == np.arange(len(OPERATIONS))
    is_open = cells != NONE
    sums = [
        is_open[:, edge] & is_open[:, [other for other in range(edge) if EDGES[other][1] == target]].any(axis=1)
        for edge, (_, target) in enumerate(EDGES)
    ]
    always = np.ones((len(cells), 1), dtype=np.bool_)
    return np.hstack([always, has.reshape(len(cells), _N_CHOICES), np.stack(sums, axis=1)])


class _Rows:
    """Lists ops with their conditions."""

    def __init__(self) -> None:
        self.builder = OpTableBuilder(1)
        self.conditions: list[int] = []
        self.condition = _ALWAYS
        self.repeat = 1

    def add(self, kind: OpKind, label: str, stage: Stage, **columns: int) -> None:
        """An op that keeps channels and size, unless told otherwise."""
        shape = {"in_channels": stage.channels, "in_height": stage.height, "in_width": stage.width}
        shape |= {"out_channels": stage.channels, "out_height": stage.height, "out_width": stage.width}
        self.builder.add(_ONE, kind, label, **(shape | {"repeat": self.repeat} | columns))
        self.conditions.append(self.condition)

    def conv(
        self, label: str, reads: int, out: Stage, kernel: int, before: Stage | None = None, is_activated: bool = True
    ) -> None:
        """ReLU, convolution, batch norm; strided if the stage before is another."""
        size = before or out
        if is_activated:
            self.add(OpKind.ACTIVATION, f"{label}, relu", Stage(reads, size.height, size.width))
        columns = {"in_channels": reads, "in_height": size.height, "in_width": size.width}
        columns |= {"kernel_height": kernel, "kernel_width": kernel, "stride": 2 if before else 1}
        self.add(OpKind.CONV, label, out, **columns)
        self.add(OpKind.NORM, f"{label}, norm", out)


def _residual(rows: _Rows, label: str, before: Stage, after: Stage) -> None:
    """Two convolutions, the first strided, beside an average pool and a 1x1 convolution without batch norm."""
    rows.conv(f"{label}, conv 0", before.channels, after, 3, before)
    rows.conv(f"{label}, conv 1", after.channels, after, 3)
    columns = {"in_height": before.height, "in_width": before.width, "kernel_height": 2, "kernel_width": 2, "stride": 2}
    rows.add(OpKind.AVG_POOL, f"{label}, pool", Stage(before.channels, after.height, after.width), **columns)
    rows.add(OpKind.CONV, f"{label}, shortcut", after, in_channels=before.channels)
    rows.add(OpKind.ADD, f"{label}, add", after)


def _edge(rows: _Rows, edge: int, place: str, stage: Stage, depth: int) -> None:
    """One edge with each operation, in all cells of a stage, and the sum where other edges came into its node."""
    rows.repeat = depth
    first = 1 + edge * len(OPERATIONS)
    for operation, kernel in KERNELS.items():
        rows.condition = first + operation
        rows.conv(f"{place}, {EDGE_NAMES[edge]}: {OPERATIONS[operation]}", stage.channels, stage, kernel)
    rows.condition = first + POOL
    rows.add(
        OpKind.AVG_POOL, f"{place}, {EDGE_NAMES[edge]}: {OPERATIONS[POOL]}", stage, kernel_height=3, kernel_width=3
    )
    rows.condition = 1 + _N_CHOICES + edge
    rows.add(OpKind.ADD, f"{place}, node {EDGES[edge][1]}: add", stage)
    rows.condition, rows.repeat = _ALWAYS, 1
