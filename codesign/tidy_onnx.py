"""Brings an exporter's ONNX model into one normal form.

Equal networks must give equal bytes, and a file should hold what its network holds. So:

- initialisers are the network's parameters and its batch-norm statistics, under the network's own names; other tensors
  (mean and std of the pixels, constants) become Constant nodes. Counting parameters in the file is then exact;
- parameters that the exporter merged because their values happened to be equal are separate again; parameters the
  network really shares stay shared;
- nodes are named after their module (`/stem/conv/Conv`), values after the node that makes them;
- doc strings, traces and paths of the machine that exported are gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import count

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_STATISTICS = {"BatchNormalization": (3, 4)}


def tidy(model: ModelProto, parameters: Collection[str], buffers: Collection[str]) -> ModelProto:
    """The model in normal form. The given one is changed and returned.

    Args:
        model: as exported; its inputs and outputs keep their names.
        parameters: names of the network's parameters; a tensor that two modules share has two.
        buffers: names of the network's other tensors, batch-norm statistics among them.
    """
    graph = model.graph
    _split_merged(graph, parameters, buffers)
    _demote_constants(graph, parameters)
    _rename(graph)
    _strip(model)
    return model


def serialised(model: ModelProto) -> bytes:
    """The model's bytes; equal models give equal bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _split_merged(graph: GraphProto, parameters: Collection[str], buffers: Collection[str]) -> None:
    """Replace an Identity that stands for a tensor of the network by a copy of the initialiser it was merged with, and
    any other Identity of an initialiser by the initialiser.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    aliases: dict[str, str] = {}
    kept: list[NodeProto] = []
    outputs = {port.name for port in graph.output}
    for node in graph.node:
        if node.op_type != "Identity" or node.input[0] not in tensors or node.output[0] in outputs:
            kept.append(node)
            continue
        source, copy_name = node.input[0], node.output[0]
        if copy_name not in parameters and copy_name not in buffers:
            aliases[copy_name] = source
        else:
            copy = TensorProto()
            copy.CopyFrom(tensors[source])
            copy.name = copy_name
            graph.initializer.append(copy)
            tensors[copy_name] = copy
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)
        _replace_inputs(graph, aliases)


def _demote_constants(graph: GraphProto, parameters: Collection[str]) -> None:
    """Turn initialisers that are neither parameters nor batch-norm statistics into Constant nodes; drop unused ones."""
    used = {name for _, node in _nodes(graph) for name in node.input} | {port.name for port in graph.output}
    statistics = {
        node.input[slot]
        for _, node in _nodes(graph)
        for slot in _STATISTICS.get(node.op_type, ())
        if slot < len(node.input)
    }
    kept = [t for t in graph.initializer if t.name in used and (t.name in parameters or t.name in statistics)]
    constants = [
        onnx.helper.make_node("Constant", [], [t.name], value=t)
        for t in graph.initializer
        if t.name in used and t.name not in parameters and t.name not in statistics
    ]
    for node in constants:
        node.attribute[0].t.ClearField("name")
    kept.sort(key=lambda tensor: tensor.name)
    nodes = [*constants, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def _rename(graph: GraphProto) -> None:
    """Name nodes after their module and values after their node; the model's inputs, outputs, initialisers stay."""
    weights = {tensor.name for tensor in graph.initializer}
    bodies = list({id(inner): inner for inner, _ in _nodes(graph) if inner is not graph}.values())
    fixed = weights | {port.name for port in (*graph.input, *graph.output)}
    fixed |= {each.name for body in bodies for each in (*body.input, *body.initializer)}
    taken = set(fixed)
    names: dict[str, str] = {}
    for _, node in _nodes(graph):
        stem = node.name if node.name.startswith("/") else f"/{_scope(node, weights)}{node.op_type}"
        node.name = _unused(stem, taken)
        for place, output in enumerate(node.output):
            if output and output not in fixed:
                names[output] = _unused(f"{node.name}_output_{place}", taken)
    _replace_inputs(graph, names)
    for _, node in _nodes(graph):
        for place, output in enumerate(node.output):
            node.output[place] = names.get(output, output)
    for port in (port for body in bodies for port in body.output):
        port.name = names.get(port.name, port.name)


def _unused(stem: str, taken: set[str]) -> str:
    """The stem, with a number if need be; it counts as taken from now on."""
    name = next(name for n in count() if (name := f"{stem}_{n}" if n else stem) not in taken)
    taken.add(name)
    return name


def _scope(node: NodeProto, weights: set[str]) -> str:
    """The module a node's weights belong to, as `stem/conv/`, or nothing."""
    for name in node.input:
        if name in weights and "." in name:
            return str(name).rpartition(".")[0].replace(".", "/") + "/"
    return ""


def _strip(model: ModelProto) -> None:
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.metadata_props[:], model.graph.metadata_props[:]
    model.graph.name = "network"
    for graph in {id(graph): graph for graph, _ in _nodes(model.graph)}.values():
        del graph.value_info[:]
        for described in (*graph.node, *graph.initializer, *graph.input, *graph.output):
            described.doc_string = ""
            del described.metadata_props[:]
        for node in graph.node:
            attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
            for attribute in attributes:
                attribute.doc_string = ""
            copies = [onnx.AttributeProto.FromString(attribute.SerializeToString()) for attribute in attributes]
            del node.attribute[:]
            node.attribute.extend(copies)
    opsets = sorted((opset.domain, opset.version) for opset in model.opset_import)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in opsets)


def _replace_inputs(graph: GraphProto, names: Mapping[str, str]) -> None:
    for _, node in _nodes(graph):
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


def _nodes(graph: GraphProto) -> Iterator[tuple[GraphProto, NodeProto]]:
    """Every node with the graph it stands in, branches and loop bodies included."""
    for node in graph.node:
        yield graph, node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(inner)
