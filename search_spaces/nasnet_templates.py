"""The pieces of a NASNet as short sequences of ops.

Every piece of a network (an operation of a block, the projection of a cell's input, the head, ...) is one of a few
hundred templates, and a template is a few steps, each one row of an op table. `STEPS` holds all of them as arrays.

A ReLU that several operations would apply to one state is computed, and listed, once: by the first of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from search_spaces.nasnet_cell import OPERATIONS, BoolArray
from search_spaces.ops import IntArray, OpKind


class Width(IntEnum):
    """Which channel count of its piece a step reads or writes."""

    OPERAND = 0  # of the state that the piece reads
    FILTERS = 1  # of what the piece makes
    LOWER_HALF = 2  # the halves of FILTERS, in a factorised reduction
    UPPER_HALF = 3
    DOUBLE = 4  # twice FILTERS: a block's concatenation


class At(IntEnum):
    """The size at which a step runs."""

    INPUT = 0
    DOWN = 1  # reads the input size, writes the output size: the piece's stride acts here
    OUTPUT = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One row of a template."""

    kind: OpKind
    reads: Width = Width.FILTERS
    writes: Width = Width.FILTERS
    kernel: tuple[int, int] = (1, 1)
    at: At = At.OUTPUT
    is_depthwise: bool = False
    bias: int = 0
    is_join: bool = False  # joins the halves of a block


Steps = tuple[Step, ...]

_NORM: Final = Step(OpKind.NORM)
_RELU: Final = Step(OpKind.ACTIVATION)
_RELU_IN: Final = Step(OpKind.ACTIVATION, Width.OPERAND, Width.OPERAND, at=At.INPUT)
_JOINS: Final = (
    (),
    (Step(OpKind.ADD, is_join=True),),
    (Step(OpKind.CONCAT, Width.DOUBLE, Width.DOUBLE, is_join=True),),
)


def _conv(height: int, width: int, at: At = At.DOWN) -> Steps:
    return (Step(OpKind.CONV, Width.OPERAND, Width.FILTERS, (height, width), at), _NORM)


def _factorised(height: int, width: int) -> Steps:
    """The stride acts in both directions on the first convolution."""
    return (*_conv(height, width), _RELU, Step(OpKind.CONV, kernel=(width, height)), _NORM)


def _separable(side: int) -> Steps:
    """Applied twice; the stride acts on the first depthwise convolution."""
    kernel = (side, side)
    return (
        Step(OpKind.CONV, Width.OPERAND, Width.OPERAND, kernel, At.DOWN, is_depthwise=True),
        Step(OpKind.CONV, Width.OPERAND, Width.FILTERS),
        _NORM,
        _RELU,
        Step(OpKind.CONV, kernel=kernel, is_depthwise=True),
        Step(OpKind.CONV),
        _NORM,
    )


def _pool(kind: OpKind, side: int) -> Steps:
    return (Step(kind, Width.OPERAND, Width.OPERAND, (side, side), At.DOWN),)


_BODIES: Final[dict[str, Steps]] = {
    "identity": (),
    "conv1x1": _conv(1, 1),
    "conv3x3": _conv(3, 3),
    "conv1x3_3x1": _factorised(1, 3),
    "conv1x7_7x1": _factorised(1, 7),
    "dilated3x3": _conv(3, 3),
    "avgpool3x3": _pool(OpKind.AVG_POOL, 3),
    "maxpool3x3": _pool(OpKind.MAX_POOL, 3),
    "maxpool5x5": _pool(OpKind.MAX_POOL, 5),
    "maxpool7x7": _pool(OpKind.MAX_POOL, 7),
    "sep3x3": _separable(3),
    "sep5x5": _separable(5),
    "sep7x7": _separable(7),
}

_REDUCE: Final = (
    Step(OpKind.SUBSAMPLE, Width.OPERAND, Width.OPERAND, at=At.DOWN),
    Step(OpKind.CONV, Width.OPERAND, Width.LOWER_HALF),
    Step(OpKind.SUBSAMPLE, Width.OPERAND, Width.OPERAND, at=At.DOWN),
    Step(OpKind.CONV, Width.OPERAND, Width.UPPER_HALF),
    Step(OpKind.CONCAT),
    _NORM,
)
"""TF-slim's factorised reduction: every second pixel, and every second pixel shifted by one."""

PIECES: Final[dict[str, Steps]] = {
    "nothing": (),
    "stem": (Step(OpKind.CONV, Width.OPERAND, Width.FILTERS, (3, 3), At.DOWN), _NORM),
    "project": _conv(1, 1),
    "relu, project": (_RELU_IN, *_conv(1, 1)),
    "reduce": _REDUCE,
    "relu, reduce": (_RELU_IN, *_REDUCE),
    "concat": (Step(OpKind.CONCAT),),
    "head": (
        _RELU_IN,
        Step(OpKind.GLOBAL_POOL, Width.OPERAND, Width.OPERAND, at=At.DOWN),
        Step(OpKind.LINEAR, Width.OPERAND, Width.FILTERS, bias=1),
    ),
}
PIECE: Final = {name: i for i, name in enumerate(PIECES)}


def _operation_steps(name: str, is_projected: bool, is_rectified: bool, join: int) -> Steps:
    """A block's half: perhaps its state's first ReLU, the operation, and after the right half the join."""
    body = _BODIES[name]
    if is_projected and name == "identity":
        body = _conv(1, 1)
    elif is_projected and "pool" in name:
        body = (*body, *_conv(1, 1, At.OUTPUT))
    return (*((_RELU_IN,) if is_rectified else ()), *body, *_JOINS[join])


_N_JOINS: Final = len(_JOINS)
TEMPLATES: Final = (
    *PIECES.values(),
    *(
        _operation_steps(name, is_projected, is_rectified, join)
        for name in OPERATIONS
        for is_projected in (False, True)
        for is_rectified in (False, True)
        for join in range(_N_JOINS)
    ),
)
MOST_STEPS: Final = max(len(steps) for steps in TEMPLATES)
N_STEPS: Final = np.array([len(steps) for steps in TEMPLATES], dtype=np.int64)


def operation_template(
    operation: IntArray, is_projected: BoolArray, is_rectified: BoolArray, join: IntArray
) -> IntArray:
    """Indices of the templates of blocks' halves; all arrays have the same shape.

    Args:
        operation: indices into `OPERATIONS`.
        is_projected: whether a 1x1 convolution must match shapes; means nothing for a convolution.
        is_rectified: whether the half is the first to need the ReLU of its state.
        join: 0 for a left half, 1 for the right half of a sum, 2 for that of a concatenation.
    """
    return len(PIECES) + ((operation * 2 + is_projected) * 2 + is_rectified) * _N_JOINS + join


@dataclass(frozen=True, slots=True)
class StepArrays:
    """All templates' steps, field by field; step s of template t is row t * MOST_STEPS + s."""

    kind: IntArray
    reads: IntArray
    writes: IntArray
    kernel_height: IntArray
    kernel_width: IntArray
    is_input_before: BoolArray  # whether the step reads the size before the piece's stride
    is_output_before: BoolArray  # whether it writes that size
    is_depthwise: BoolArray
    bias: IntArray
    label: IntArray  # offset from the place's first label


def _compile() -> StepArrays:
    blank = Step(OpKind.ADD)
    padded = [step for steps in TEMPLATES for step in (*steps, *[blank] * (MOST_STEPS - len(steps)))]
    per_operation = 2 * 2 * _N_JOINS
    labels = []
    for row, step in enumerate(padded):
        template = row // MOST_STEPS - len(PIECES)
        operation = max(template // per_operation, 0)
        labels.append(len(OPERATIONS) if step.is_join else operation)
    columns = {
        "kind": [step.kind for step in padded],
        "reads": [step.reads for step in padded],
        "writes": [step.writes for step in padded],
        "kernel_height": [step.kernel[0] for step in padded],
        "kernel_width": [step.kernel[1] for step in padded],
        "bias": [step.bias for step in padded],
        "label": labels,
    }
    arrays = {name: np.array(values, dtype=np.int64) for name, values in columns.items()}
    return StepArrays(
        is_input_before=np.array([step.at != At.OUTPUT for step in padded]),
        is_output_before=np.array([step.at == At.INPUT for step in padded]),
        is_depthwise=np.array([step.is_depthwise for step in padded]),
        **arrays,
    )


STEPS: Final = _compile()
