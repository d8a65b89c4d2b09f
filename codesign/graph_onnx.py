"""Loads an ONNX file as a graph with every shape filled in, what is constant told from what depends on the input."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from codesign.errors import InputError
from codesign.session_onnx import open_session, random_inputs
from codesign.shapes import GivenShape, resolve_shapes

Shape = tuple[int, ...]

NOT_TRAINED: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3), "QLinearConv": (1, 2, 4, 5, 6, 7), "QLinearMatMul": (1, 2, 4, 5, 6, 7),
}  # fmt: skip
"""Inputs that hold running statistics, scales and zero points: tensors, and no parameters."""

_WEIGHT_BITS: Mapping[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.DOUBLE: 64, TensorProto.FLOAT16: 16, TensorProto.BFLOAT16: 16,
    TensorProto.FLOAT8E4M3FN: 8, TensorProto.FLOAT8E4M3FNUZ: 8, TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8, TensorProto.INT8: 8, TensorProto.UINT8: 8, TensorProto.INT4: 4, TensorProto.UINT4: 4,
}  # fmt: skip
_OTHER_BITS: Mapping[int, int] = {
    TensorProto.BOOL: 8, TensorProto.INT16: 16, TensorProto.UINT16: 16, TensorProto.INT32: 32, TensorProto.UINT32: 32,
    TensorProto.INT64: 64, TensorProto.UINT64: 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX graph, read for costing.

    Attributes:
        nodes: those whose outputs depend on the input, in execution order.
        shapes: of every value whose shape is known.
        sources: of every value that is known before any input is seen, the tensors it is made of.
        tensors: initialisers and the values of Constant nodes.
        initialisers: which of the tensors are initialisers.
        readers: the nodes that read a value.
        outputs: names of the model's outputs.
        inputs: shape of every input.
        stored_bytes: size of all tensors in the file, those of branches and loop bodies included.
        inner_params: parameters of branches and loop bodies.
    """

    nodes: tuple[NodeProto, ...]
    shapes: Mapping[str, Shape]
    sources: Mapping[str, frozenset[str]]
    tensors: Mapping[str, TensorProto]
    initialisers: frozenset[str]
    readers: Mapping[str, list[NodeProto]]
    outputs: frozenset[str]
    inputs: Mapping[str, Shape]
    stored_bytes: int
    inner_params: int


def load_graph(path: str | Path | bytes, shape: GivenShape = None) -> Graph:
    """Read an ONNX file.

    Args:
        path: the file, or its bytes. Weights in a second file need not be there.
        shape: whole shapes of the inputs; without it a free first axis is 1, and no other may be free.

    Raises:
        InputError: it cannot be read, is no ONNX model, or a shape is missing or wrong.
    """
    name = f"the model ({len(path)} bytes)" if isinstance(path, bytes) else str(path)
    model = _load(path, name)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    inputs = _fix_inputs(model.graph, shape, name)
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: its shapes do not fit together: {error}") from error
    shapes = _known_shapes(model.graph)
    if any(node.output[0] not in shapes for node in model.graph.node):
        shapes |= _run_for_shapes(model, inputs, Path() if isinstance(path, bytes) else Path(path).parent)
    return _read(model.graph, inputs, shapes)


def attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def attribute_list(node: NodeProto, name: str) -> list[int]:
    """An attribute that lists integers; empty if absent."""
    return next((list(a.ints) for a in node.attribute if a.name == name), [])


def is_trained_type(tensor: TensorProto) -> bool:
    """Whether a tensor's type is one that weights have: floating point, or at most 8 bits."""
    return tensor.data_type in _WEIGHT_BITS


def is_zero(tensor: TensorProto) -> bool:
    """Whether every element is zero. A tensor in a second file is taken not to be."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return False
    return not onnx.numpy_helper.to_array(tensor).any()


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Branches and bodies of a node."""
    for each in node.attribute:
        if each.type == onnx.AttributeProto.GRAPH:
            yield each.g
        yield from each.graphs


def _load(path: str | Path | bytes, name: str) -> ModelProto:
    try:
        model: ModelProto = onnx.load_from_string(path if isinstance(path, bytes) else Path(path).read_bytes())
        _check_text(model.graph)
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{name}: it cannot be read: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise InputError(f"{name}: this is not an ONNX model: {error}") from error
    if not model.ir_version or not model.graph.output:
        raise InputError(f"{name}: this is not an ONNX model: it has no graph")
    return model


def _check_text(graph: GraphProto) -> None:
    """Raise ValueError if a name is no text, which protobuf hands over as bytes, or a node has no output."""
    names = [each.name for each in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
        if not node.output:
            raise ValueError(f"node {node.name!r} has no output")
        for body in subgraphs(node):
            _check_text(body)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name in it is no text")


def _fix_inputs(graph: GraphProto, shape: GivenShape, name: str) -> dict[str, Shape]:
    """Give every input a whole shape, and forget the shapes that were written for free axes."""
    weights = {tensor.name for tensor in graph.initializer}
    ports = [port for port in graph.input if port.name not in weights]
    for port in ports:
        if not port.type.HasField("tensor_type") or not port.type.tensor_type.HasField("shape"):
            raise InputError(f"{name}: input {port.name!r} is no tensor with a shape")
    free: dict[str, list[int | str]] = {
        port.name: [axis.dim_value or axis.dim_param for axis in port.type.tensor_type.shape.dim] for port in ports
    }
    try:
        fixed = resolve_shapes(free, shape, any_batch=True)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    for port in ports:
        for axis, size in zip(port.type.tensor_type.shape.dim, fixed[port.name], strict=True):
            axis.dim_value = size
    for port in graph.output:
        port.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    return fixed


def _read(graph: GraphProto, inputs: Mapping[str, Shape], shapes: dict[str, Shape]) -> Graph:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    initialisers = frozenset(tensors)
    sources = {name: frozenset([name]) for name in tensors}
    nodes: list[NodeProto] = []
    readers: dict[str, list[NodeProto]] = {}
    inner: list[TensorProto] = []
    for node in graph.node:
        inner.extend(_inner_tensors(node))
        if node.op_type == "Constant" and not node.domain:
            name = node.output[0]
            tensors[name] = next((a.t for a in node.attribute if a.name == "value"), TensorProto())
            shapes.setdefault(name, tuple(tensors[name].dims))
            sources[name] = frozenset([name])
        elif (made_of := _made_of(node, shapes, sources)) is not None:
            sources |= dict.fromkeys(node.output, made_of)
        else:
            nodes.append(node)
            for value in node.input:
                readers.setdefault(value, []).append(node)
    return Graph(
        nodes=tuple(nodes),
        shapes=shapes,
        sources=sources,
        tensors=tensors,
        initialisers=initialisers,
        readers=readers,
        outputs=frozenset(port.name for port in graph.output),
        inputs=inputs,
        stored_bytes=sum(_bytes(tensor) for tensor in (*tensors.values(), *inner)),
        inner_params=sum(math.prod(tensor.dims) for tensor in inner if is_trained_type(tensor)),
    )


def _known_shapes(graph: GraphProto) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for port in (*graph.input, *graph.value_info, *graph.output):
        if port.type.HasField("tensor_type") and port.type.tensor_type.HasField("shape"):
            axes = port.type.tensor_type.shape.dim
            if all(axis.HasField("dim_value") for axis in axes):
                shapes[port.name] = tuple(axis.dim_value for axis in axes)
    return shapes


def _run_for_shapes(model: ModelProto, inputs: Mapping[str, Shape], folder: Path) -> dict[str, Shape]:
    """Shapes that inference cannot tell, seen in one run on random inputs; none if the model cannot be run."""
    watched = ModelProto()
    watched.CopyFrom(model)
    values = [value for node in model.graph.node for value in node.output if value]
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=value) for value in values)
    try:
        onnx.load_external_data_for_model(watched, str(folder))
        session = open_session(watched.SerializeToString(), level="ORT_DISABLE_ALL")
        outputs = session.run(random_inputs(session, 1, np.random.default_rng(0), inputs))
    except (InputError, OSError, ValueError):
        return {}
    seen = zip(values, outputs, strict=True)
    return {value: tuple(output.shape) for value, output in seen if hasattr(output, "shape")}


def _made_of(
    node: NodeProto, shapes: Mapping[str, Shape], sources: Mapping[str, frozenset[str]]
) -> frozenset[str] | None:
    """The tensors a node's outputs are made of, if they are known before any input is seen."""
    if not node.input or any(True for _ in subgraphs(node)):
        return None
    if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
        return frozenset()
    if any(value and value not in sources for value in node.input):
        return None
    skipped = NOT_TRAINED.get(node.op_type, ())
    return frozenset().union(*(sources[v] for slot, v in enumerate(node.input) if v and slot not in skipped))


def _inner_tensors(node: NodeProto) -> Iterator[TensorProto]:
    for body in subgraphs(node):
        yield from body.initializer
        for inner in body.node:
            yield from _inner_tensors(inner)


def _bytes(tensor: TensorProto) -> int:
    bits = _WEIGHT_BITS.get(tensor.data_type) or _OTHER_BITS.get(tensor.data_type, 0)
    n_elements: int = math.prod(tensor.dims)
    return (n_elements * bits + 7) // 8
