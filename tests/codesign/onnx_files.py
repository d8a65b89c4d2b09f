"""Small ONNX files, and an exported pair of model and manifest, made without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from codesign.data.dataset import Dataset, Split
from codesign.intervals import wilson_interval
from codesign.manifest import FORMAT, Accuracy, Manifest, ModelFile, Origin, ParityRow, Preprocessing, Probe, TensorSpec
from codesign.probe import probe_images

FloatArray = NDArray[np.float32]

SHAPE = (2, 4, 4)
N_CLASSES = 3


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    tensors: dict[str, NDArray[np.generic]],
    *,
    opset: int = 18,
    domains: tuple[str, ...] = (),
) -> bytes:
    """An ONNX model; every input is float32, the outputs' shapes are left open."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return data


def weights(seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Weight, shape (32, 3), and bias, shape (3,), of the linear classifier."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(SHAPE))
    weight = (rng.normal(size=(size, N_CLASSES)) / 100).astype(np.float32)
    return weight, rng.normal(size=N_CLASSES).astype(np.float32)


def linear_classifier(seed: int = 0) -> bytes:
    """Flatten and one Gemm: its outputs can be computed with NumPy alone."""
    weight, bias = weights(seed)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"], "/Flatten"),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], "/Gemm"),
    ]
    model = onnx.load_from_string(
        model_of(nodes, {"images": ["batch", *SHAPE]}, ["logits"], {"weight": weight, "bias": bias})
    )
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", N_CLASSES]))
    data: bytes = model.SerializeToString()
    return data


def classify_by_hand(images: FloatArray, seed: int = 0) -> FloatArray:
    """What `linear_classifier` computes."""
    weight, bias = weights(seed)
    return (images.reshape(len(images), -1).astype(np.float64) @ weight + bias).astype(np.float32)


def dataset(seed: int = 0, n_test: int = 300) -> Dataset:
    """Random 8-bit images whose labels the linear classifier mostly gets right."""
    rng = np.random.default_rng(seed + 100)
    splits = []
    for n in (20, 10, n_test):
        images = rng.integers(0, 256, size=(n, *SHAPE), dtype=np.uint8)
        labels = classify_by_hand(images.astype(np.float32)).argmax(axis=1).astype(np.int64)
        wrong = rng.random(n) < 0.2
        splits.append(Split(images, np.where(wrong, (labels + 1) % N_CLASSES, labels)))
    train, validation, test = splits
    return Dataset.of("made up", train, validation, test, classes=("a", "b", "c"))


def manifest_for(model: bytes, data: Dataset, file: str = "model.onnx") -> Manifest:
    """The manifest of the linear classifier, by NumPy alone."""
    images = probe_images(5, (7, *SHAPE), 0.0, 255.0)
    outputs = tuple(tuple(map(float, row)) for row in classify_by_hand(images))
    guesses = classify_by_hand(data.test.images.astype(np.float32)).argmax(axis=1)
    correct, n = int((guesses == data.test.labels).sum()), len(data.test)
    return Manifest(
        format=FORMAT,
        model=ModelFile(file, hashlib.sha256(model).hexdigest(), len(model), 18, 8, "tests"),
        inputs=(TensorSpec("images", "float32", ("batch", *SHAPE)),),
        outputs=(TensorSpec("logits", "float32", ("batch", N_CLASSES)),),
        preprocessing=Preprocessing("none", data.mean, data.std),
        classes=data.classes,
        accuracy=Accuracy(correct, n, correct / n, *wilson_interval(correct, n), 0, "numpy"),
        metrics={"params": {"value": 99}},
        genotype={"cells": [1, 2]},
        facts={"note": "é [1,\n 2]"},
        parity=(ParityRow(1, "ORT_ENABLE_ALL", 0.0, 1e-5),),
        probe=Probe(5, 7, 0.0, 255.0, 1e-5, 1e-4, outputs),
        origin=Origin(data.name, data.fingerprint, "0", "0" * 64, {"numpy": np.__version__}),
        how_to_verify="codesign verify",
    )


def write_pair(folder: Path, model: bytes, manifest: Manifest) -> Path:
    """Both files, as an export to a folder leaves them."""
    (folder / "model.onnx").write_bytes(model)
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return folder / "model.onnx"
