"""Reads any ONNX file as a table of ops with shapes, so that profilers and simulators can cost it.

What stands in no row and is not free of cost is listed as uncounted. Conventions beyond those of `search_spaces.ops`:

- a product with weights is LINEAR, one of two activations MATMUL, with its batch (heads) as repeats;
- a bias that a MatMul gets from the Add behind it belongs to the LINEAR row;
- 1-d ops have height 1; of 3-d ops depth and height are folded into one, as is a batch other than 1 into repeats;
- a transposed convolution is the 1x1 convolution to out_channels x kernel columns that implementations compute (adding
  up overlapping columns takes no multiplications), so that its MACs and weights are exact;
- where strides differ between the axes, the larger is given; padding and dilation have no column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto

from codesign.errors import InputError
from codesign.graph_onnx import (
    NOT_TRAINED,
    Graph,
    Shape,
    attribute,
    attribute_list,
    is_trained_type,
    is_zero,
    load_graph,
)
from codesign.shapes import GivenShape
from search_spaces.ops import IntArray, OpKind, OpTable, OpTableBuilder

Row = dict[str, int]

_ACTIVATIONS = (
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish", "HardSwish", "HardSigmoid", "Sigmoid",
    "Tanh", "Clip", "Softplus", "Softsign", "Softmax", "LogSoftmax", "ThresholdedRelu",
)  # fmt: skip
_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""They name the same memory anew: no arithmetic, no traffic."""


@dataclass(frozen=True, slots=True)
class OnnxOps:
    """What an ONNX file computes.

    Attributes:
        table: the ops in the file's order, as one candidate; labels are node names.
        params: parameters of each row, shape (L,), found in the file's tensors; a tensor that several ops share counts
            for the first.
        other_params: parameters that no row reads, such as a learned scale in a bare Mul.
        uncounted: number of nodes per op type that have a cost and no row, or no known shape.
        inputs: shape of every input, as assumed.
        stored_bytes: size of the file's tensors, statistics and constants included.
    """

    table: OpTable
    params: IntArray
    other_params: int
    uncounted: Mapping[str, int]
    inputs: Mapping[str, Shape]
    stored_bytes: int

    @property
    def total_params(self) -> int:
        """All parameters.

        A file does not say what was trained. Counted are tensors in floating point or of at most 8 bits that are
        initialisers, or constants in a weight's place; not running statistics and quantisation scales.
        """
        return int(self.params.sum()) + self.other_params


def read_ops(path: str | Path | bytes, shape: GivenShape = None) -> OnnxOps:
    """Read an ONNX file.

    Args:
        path: the file, or its bytes. Weights in a second file need not be there.
        shape: whole shapes of the inputs; without it a free first axis is 1, and no other may be free.

    Raises:
        InputError: it cannot be read, is no ONNX model, or a shape is missing or wrong.
    """
    graph = load_graph(path, shape)
    builder = OpTableBuilder(1)
    params: list[int] = []
    uncounted: dict[str, int] = {}
    claimed: set[str] = set()
    absorbed: set[str] = set()
    for number, node in enumerate(graph.nodes):
        if node.output[0] in absorbed:
            continue
        row = _row(graph, node)
        if row is None:
            if (op_type := _op_type(node)) not in _VIEWS:
                is_lost = op_type in _ROWS and _lacks_shape(graph, node)
                shown = f"{op_type} of unknown shape" if is_lost else op_type
                uncounted[shown] = uncounted.get(shown, 0) + 1
            continue
        kind = OpKind(row.pop("kind"))
        n_params = _claim(graph, node, claimed, is_layer=kind in (OpKind.CONV, OpKind.LINEAR, OpKind.NORM))
        if kind is OpKind.LINEAR and not row["bias"] and (add := _bias_behind(graph, node, row["out_channels"])):
            row["bias"] = 1
            absorbed.add(add.output[0])
            n_params += _claim(graph, add, claimed, is_layer=True)
        label = node.name or f"{node.op_type} {number}"
        builder.add(np.zeros(1, dtype=np.int64), kind, label, **row)
        params.append(n_params)
    other_params = sum(_claim(graph, node, claimed, is_layer=False) for node in graph.nodes)
    return OnnxOps(
        table=builder.build(),
        params=np.array(params, dtype=np.int64),
        other_params=other_params + graph.inner_params,
        uncounted=uncounted,
        inputs=graph.inputs,
        stored_bytes=graph.stored_bytes,
    )


def _op_type(node: NodeProto) -> str:
    """The op type, with its domain where that is not ONNX's own."""
    return str(node.op_type) if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _row(graph: Graph, node: NodeProto) -> Row | None:
    """The node's row, or None if it has none or one of its shapes is unknown."""
    maker = _ROWS.get(_op_type(node))
    if maker is None or _lacks_shape(graph, node):
        return None
    try:
        return maker(graph, node)
    except (LookupError, ValueError) as error:
        raise InputError(f"node {node.name!r}: its inputs or attributes are not those of a {node.op_type}") from error


def _lacks_shape(graph: Graph, node: NodeProto) -> bool:
    values = (*node.input, node.output[0])
    return any(value and value not in graph.shapes for value in values)


def _claim(graph: Graph, node: NodeProto, claimed: set[str], *, is_layer: bool) -> int:
    """Parameters among the tensors a node reads that no node has claimed; they are claimed now.

    In a layer's weight slots, constants are parameters too, and so are the 32-bit biases of quantised layers, and
    weights that the file computes from no stored weights at all.
    """
    skipped = NOT_TRAINED.get(node.op_type, ())
    total = 0
    for value in (value for slot, value in enumerate(node.input) if slot not in skipped and value in graph.sources):
        made_of = graph.sources[value]
        stored = {name for name in made_of if is_trained_type(graph.tensors[name])}
        if is_layer:
            stored = {name for name in stored if name in graph.initialisers or not is_zero(graph.tensors[name])}
            stored |= {name for name in made_of if graph.tensors[name].data_type == TensorProto.INT32}
            if not stored and value not in graph.tensors and value not in claimed:
                claimed.add(value)
                total += math.prod(graph.shapes[value])
        else:
            stored &= graph.initialisers
        total += sum(math.prod(graph.tensors[name].dims) for name in stored - claimed)
        claimed |= stored
    return total


def _has_bias(graph: Graph, node: NodeProto, slot: int | None) -> int:
    """1 if a layer has a bias; a constant of zeros, which one exporter writes for none, is not one."""
    if slot is None or len(node.input) <= slot or not node.input[slot]:
        return 0
    value = node.input[slot]
    return int(value in graph.initialisers or value not in graph.tensors or not is_zero(graph.tensors[value]))


def _bias_behind(graph: Graph, node: NodeProto, n_features: int) -> NodeProto | None:
    """The Add that gives a product its bias: the only reader, with a constant of one value per feature."""
    readers = graph.readers.get(node.output[0], [])
    if len(readers) != 1 or _op_type(readers[0]) != "Add" or node.output[0] in graph.outputs:
        return None
    others = [value for value in readers[0].input if value != node.output[0]]
    is_bias = len(others) == 1 and others[0] in graph.sources and graph.shapes.get(others[0]) == (n_features,)
    return readers[0] if is_bias and graph.shapes[node.output[0]][-1] == n_features else None


def _planes(shape: Shape) -> tuple[int, int, int]:
    """Channels, height and width of an activation: (N, C, ...) with N and all but the last axis folded into height."""
    if len(shape) < 2:
        return (*shape, 1)[0], 1, 1
    width = shape[-1] if len(shape) > 2 else 1
    return shape[1], shape[0] * math.prod(shape[2:-1]), width


def _image(shape: Shape) -> tuple[int, int]:
    """Height and width of an image, (N, C, W), (N, C, H, W) or (N, C, D, H, W); depth is folded into height."""
    return math.prod(shape[2:-1]), shape[-1]


def _same(kind: OpKind, shape: Shape, **columns: int) -> Row:
    """A row whose input and output have one shape."""
    channels, height, width = _planes(shape)
    return {
        "kind": kind, "in_channels": channels, "in_height": height, "in_width": width,
        "out_channels": channels, "out_height": height, "out_width": width, **columns,
    }  # fmt: skip


def _product(kind: OpKind, k: int, n: int, m: int, repeat: int = 1, bias: int = 0) -> Row:
    """M x K times K x N."""
    return {
        "kind": kind, "in_channels": k, "in_height": 1, "in_width": m,
        "out_channels": n, "out_height": 1, "out_width": m, "repeat": repeat, "bias": bias,
    }  # fmt: skip


def _convolution(x_slot: int, w_slot: int, bias_slot: int | None) -> Callable[[Graph, NodeProto], Row]:
    def row(graph: Graph, node: NodeProto) -> Row:
        x, w = (graph.shapes[node.input[slot]] for slot in (x_slot, w_slot))
        (in_height, in_width), (out_height, out_width) = _image(x), _image(graph.shapes[node.output[0]])
        kernel_height, kernel_width = _image(w)
        return {
            "kind": OpKind.CONV, "in_channels": x[1], "in_height": in_height, "in_width": in_width,
            "out_channels": w[0], "out_height": out_height, "out_width": out_width, "kernel_height": kernel_height,
            "kernel_width": kernel_width, "stride": max(attribute_list(node, "strides"), default=1),
            "groups": attribute(node, "group", 1), "bias": _has_bias(graph, node, bias_slot), "repeat": x[0],
        }  # fmt: skip

    return row


def _transposed_convolution(graph: Graph, node: NodeProto) -> Row:
    x, w = (graph.shapes[node.input[slot]] for slot in (0, 1))
    height, width = _image(x)
    groups = attribute(node, "group", 1)
    return {
        "kind": OpKind.CONV, "in_channels": x[1], "in_height": height, "in_width": width,
        "out_channels": groups * math.prod(w[1:]), "out_height": height, "out_width": width, "groups": groups,
        "repeat": x[0],
    }  # fmt: skip


def _gemm(graph: Graph, node: NodeProto) -> Row:
    a, b = (graph.shapes[node.input[slot]] for slot in (0, 1))
    m, k = reversed(a) if attribute(node, "transA", 0) else a
    n = b[0] if attribute(node, "transB", 0) else b[1]
    bias = _has_bias(graph, node, 2)
    if node.input[1] in graph.sources:
        return _product(OpKind.LINEAR, k, n, m, bias=bias)
    if node.input[0] in graph.sources:
        return _product(OpKind.LINEAR, k, m, n, bias=bias)
    return _product(OpKind.MATMUL, k, n, m)


def _matmul(a_slot: int, b_slot: int) -> Callable[[Graph, NodeProto], Row]:
    def row(graph: Graph, node: NodeProto) -> Row:
        a, b = (graph.shapes[node.input[slot]] for slot in (a_slot, b_slot))
        a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
        (m, k), n = a[-2:], b[-1]
        batch = math.prod(np.broadcast_shapes(a[:-2], b[:-2]))
        for slot, weights, n_out, n_columns in ((b_slot, b, n, m), (a_slot, a, m, n)):
            if node.input[slot] in graph.sources:
                n_weights = math.prod(weights[:-2])
                return _product(OpKind.LINEAR, k, n_out, n_columns * batch // n_weights, repeat=n_weights)
        return _product(OpKind.MATMUL, k, n, m, repeat=batch)

    return row


def _norm(graph: Graph, node: NodeProto) -> Row:
    shape = graph.shapes[node.output[0]]
    if node.op_type != "LayerNormalization":
        return _same(OpKind.NORM, shape)
    axis = attribute(node, "axis", -1) % len(shape)
    features, places = math.prod(shape[axis:]), math.prod(shape[:axis])
    return _product(OpKind.NORM, features, features, places)


def _pool(kind: OpKind) -> Callable[[Graph, NodeProto], Row]:
    def row(graph: Graph, node: NodeProto) -> Row:
        x, y = graph.shapes[node.input[0]], graph.shapes[node.output[0]]
        (in_height, in_width), (out_height, out_width) = _image(x), _image(y)
        *outer, kernel_width = attribute_list(node, "kernel_shape")
        return {
            "kind": kind, "in_channels": x[1], "in_height": in_height, "in_width": in_width,
            "out_channels": x[1], "out_height": out_height, "out_width": out_width, "repeat": x[0],
            "kernel_height": math.prod(outer), "kernel_width": kernel_width,
            "stride": max(attribute_list(node, "strides"), default=1),
        }  # fmt: skip

    return row


def _global_pool(graph: Graph, node: NodeProto) -> Row | None:
    """A global pooling, or a mean over all pixels."""
    x, y = graph.shapes[node.input[0]], graph.shapes[node.output[0]]
    if len(x) < 3 or math.prod(y) != x[0] * x[1] or y[:2] != x[:2]:
        return None
    height, width = _image(x)
    return {
        "kind": OpKind.GLOBAL_POOL, "in_channels": x[1], "in_height": height, "in_width": width,
        "out_channels": x[1], "out_height": 1, "out_width": 1, "repeat": x[0],
    }  # fmt: skip


def _activation(graph: Graph, node: NodeProto) -> Row:
    return _same(OpKind.ACTIVATION, graph.shapes[node.output[0]])


def _add(graph: Graph, node: NodeProto) -> Row:
    """An addition of tensors; that of a scalar reads one operand only, like an activation."""
    shape = graph.shapes[node.output[0]]
    n_operands = sum(math.prod(graph.shapes[value]) > 1 or value not in graph.sources for value in node.input)
    return _same(OpKind.ADD, shape, repeat=n_operands - 1) if n_operands > 1 else _same(OpKind.ACTIVATION, shape)


def _concat(graph: Graph, node: NodeProto) -> Row:
    return _same(OpKind.CONCAT, graph.shapes[node.output[0]])


_ROWS: Mapping[str, Callable[[Graph, NodeProto], Row | None]] = {
    "Conv": _convolution(0, 1, 2),
    "ConvInteger": _convolution(0, 1, None),
    "QLinearConv": _convolution(0, 3, 8),
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _matmul(0, 1),
    "MatMulInteger": _matmul(0, 1),
    "QLinearMatMul": _matmul(0, 3),
    "BatchNormalization": _norm,
    "LayerNormalization": _norm,
    "InstanceNormalization": _norm,
    "GroupNormalization": _norm,
    "MaxPool": _pool(OpKind.MAX_POOL),
    "AveragePool": _pool(OpKind.AVG_POOL),
    "GlobalMaxPool": _global_pool,
    "GlobalAveragePool": _global_pool,
    "ReduceMean": _global_pool,
    "Add": _add,
    "Sum": _add,
    "Concat": _concat,
    **dict.fromkeys(_ACTIVATIONS, _activation),
}
