"""ONNX models of single units, in the form in which onnxruntime runs them inside a network.

onnxruntime computes most convolutions and pools on images in blocks of channels and reorders where such a stretch
begins and ends. Inside a network a unit's neighbours mostly share its layout; a model of the unit alone would be
charged both reorders. So the model is optimised first, as in a network, and reorders at its borders are cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from codesign.device_units import ABSORBED, SIGNATURE_COLUMNS, WITH_ACTIVATION, WITH_ADD
from codesign.session_onnx import optimised
from search_spaces.ops import OpKind

_OPSET, _IR_VERSION = 18, 8
_LARGEST_BLOCK = 16
"""Channels in a block: 8 or 16, as wide as the processor's vectors."""


def unit_model(signature: Sequence[int], rng: np.random.Generator) -> bytes:
    """A unit as an ONNX model with random weights, batch 1, inputs `x` and, where a second is added, `z`.

    Args:
        signature: values of `SIGNATURE_COLUMNS`.
        rng: draws the weights.
    """
    of = dict(zip(SIGNATURE_COLUMNS, (int(value) for value in signature), strict=True))
    nodes, inputs, weights = _nodes(OpKind(of["kind"]), of, rng)
    made = nodes[-1].output[0]
    if of["fused"] & WITH_ADD and not of["fused"] & ABSORBED:
        inputs["z"] = _image(of, "out")
        # Only a value of their own layout is fused into convolutions: a pool of one pixel makes it one, and is cut off.
        nodes.append(helper.make_node("MaxPool", ["z"], ["added"], kernel_shape=[1, 1]))
        nodes.append(helper.make_node("Add", [made, "added"], [made := "sum"]))
    if of["fused"] & WITH_ACTIVATION and not of["fused"] & ABSORBED:
        nodes.append(helper.make_node("Relu", [made], [made := "rectified"]))
    return without_border_reorders(optimised(_model(nodes, inputs, made, weights)))


def empty_model() -> bytes:
    """The least that can be run: what a call costs."""
    return _model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 1]}, "y", {})


def without_border_reorders(model: bytes) -> bytes:
    """An optimised model that takes and gives images in the layout in which it works.

    Cut off are reorders of its inputs and outputs, and pools of one pixel behind its inputs.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    given = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.input}
    made = {value.name for value in graph.output}
    into = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "ReorderInput" and n.input[0] in given}
    reordered = set(into.values())
    for node in graph.node:
        if _is_border_pool(node) and into.get(node.input[0], node.input[0]) in given:
            into[node.output[0]] = into.get(node.input[0], node.input[0])
    out_of = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "ReorderOutput" and n.output[0] in made}
    if not into and not out_of:
        return model
    readers = [name for node in graph.node for name in node.input if name in given]
    if any(readers.count(name) > 1 for name in into.values()):
        return model  # the image is also read in plain layout
    nodes = [node for node in graph.node if node.output[0] not in into and node.output[0] not in out_of]
    for node in nodes:
        for slot, name in enumerate(node.input):
            node.input[slot] = into.get(name, name)
    for name in reordered:
        given[name][1] = math.ceil(given[name][1] / _LARGEST_BLOCK) * _LARGEST_BLOCK
    ends = [out_of.get(value.name, value.name) for value in graph.output]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items())
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends)
    data: bytes = proto.SerializeToString()
    return data


def _is_border_pool(node: NodeProto) -> bool:
    windows = [list(attribute.ints) for attribute in node.attribute if attribute.name == "kernel_shape"]
    return bool(node.op_type == "MaxPool" and windows == [[1, 1]])


_Weights = dict[str, NDArray[np.generic]]
_Nodes = tuple[list[NodeProto], dict[str, list[int]], _Weights]


def _nodes(kind: OpKind, of: dict[str, int], rng: np.random.Generator) -> _Nodes:
    """Nodes, shapes of inputs, and weights."""
    image = {"x": _image(of, "in")}
    window = [of["kernel_height"], of["kernel_width"]]
    places: dict[str, Any] = {"kernel_shape": window, "strides": [of["stride"]] * 2, "pads": _pads(of)}
    if kind is OpKind.CONV:
        shape = (of["out_channels"], of["in_channels"] // of["groups"], *window)
        weights = _drawn(rng, w=shape, b=shape[:1])  # a folded norm makes a bias of every convolution's
        return [helper.make_node("Conv", ["x", "w", "b"], ["y"], group=of["groups"], **places)], image, weights
    if kind in (OpKind.LINEAR, OpKind.MATMUL):
        return _product(kind, of, rng)
    if kind is OpKind.NORM:
        channels = (of["in_channels"],)
        weights = _drawn(rng, scale=channels, shift=channels, mean=channels)
        weights["variance"] = np.ones(channels, dtype=np.float32)
        return [helper.make_node("BatchNormalization", ["x", *weights], ["y"])], image, weights
    if kind in (OpKind.ADD, OpKind.CONCAT):
        halves = [of["in_channels"]] * 2
        if kind is OpKind.CONCAT:
            halves = [max(1, of["out_channels"] // 2), max(1, of["out_channels"] - of["out_channels"] // 2)]
        inputs = {name: [1, n, *_image(of, "out")[2:]] for name, n in zip("xz", halves, strict=True)}
        options: dict[str, Any] = {"axis": 1} if kind is OpKind.CONCAT else {}
        return [helper.make_node("Add" if kind is OpKind.ADD else "Concat", ["x", "z"], ["y"], **options)], inputs, {}
    if kind is OpKind.SUBSAMPLE:
        ends = {"starts": [0, 0], "ends": image["x"][2:], "axes": [2, 3], "steps": [of["stride"]] * 2}
        numbers: _Weights = {name: np.array(values, dtype=np.int64) for name, values in ends.items()}
        return [helper.make_node("Slice", ["x", *numbers], ["y"])], image, numbers
    if kind is OpKind.MAX_POOL:
        return [helper.make_node("MaxPool", ["x"], ["y"], **places)], image, {}
    if kind is OpKind.AVG_POOL:
        return [helper.make_node("AveragePool", ["x"], ["y"], count_include_pad=0, **places)], image, {}
    if kind is OpKind.GLOBAL_POOL:
        return [helper.make_node("GlobalAveragePool", ["x"], ["y"])], image, {}
    return [helper.make_node("Relu", ["x"], ["y"])], image, {}


def _product(kind: OpKind, of: dict[str, int], rng: np.random.Generator) -> _Nodes:
    """One row times weights is a Gemm, as exported classifiers are; several (tokens) are a MatMul."""
    rows = of["out_height"] * of["out_width"]
    factor = (of["in_channels"], of["out_channels"])
    if kind is OpKind.MATMUL:
        inputs = {"x": [1, rows, of["in_channels"]], "w": [1, *factor]}
        return [helper.make_node("MatMul", ["x", "w"], ["y"])], inputs, {}
    weights = _drawn(rng, w=factor, b=factor[1:])
    if rows == 1:
        nodes = [helper.make_node("Gemm", ["x", "w", *(["b"] if of["bias"] else [])], ["y"])]
        return nodes, {"x": [1, of["in_channels"]]}, weights
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"])]
    nodes += [helper.make_node("Add", ["product", "b"], ["y"])] if of["bias"] else []
    return nodes, {"x": [1, rows, of["in_channels"]]}, weights


def _drawn(rng: np.random.Generator, **shapes: tuple[int, ...]) -> _Weights:
    return {name: (rng.standard_normal(shape) / 10).astype(np.float32) for name, shape in shapes.items()}


def _image(of: dict[str, int], side: str) -> list[int]:
    return [1, of[f"{side}_channels"], of[f"{side}_height"], of[f"{side}_width"]]


def _pads(of: dict[str, int]) -> list[int]:
    """Padding that makes the output as large as the signature says: top, left, bottom, right."""
    before, behind = [], []
    for axis in ("height", "width"):
        needed = (of[f"out_{axis}"] - 1) * of["stride"] + of[f"kernel_{axis}"] - of[f"in_{axis}"]
        before.append(max(0, needed) // 2)
        behind.append(max(0, needed) - max(0, needed) // 2)
    return before + behind


def _model(nodes: Sequence[NodeProto], inputs: dict[str, list[int]], output: str, weights: _Weights) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "unit",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    data: bytes = proto.SerializeToString()
    return data
