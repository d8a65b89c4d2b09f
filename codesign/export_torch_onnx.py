"""Exports a network as an ONNX file that is proven to compute what torch computes."""

from __future__ import annotations

import copy
import hashlib
import os
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from codesign.convert_torch_onnx import to_onnx
from codesign.data.dataset import Dataset
from codesign.errors import InputError, VerificationError
from codesign.export_place import check_writable, places
from codesign.manifest import (
    FORMAT,
    PREPROCESSING,
    Manifest,
    ModelFile,
    Origin,
    ParityRow,
    Preprocessing,
    Probe,
    code_sha256,
    code_version,
    plain,
)
from codesign.probe import RECIPE, agrees, probe_images, tolerance
from codesign.session_onnx import RUNTIME_VERSION, Session
from codesign.verify_onnx import (
    BATCHES,
    classify,
    open_levels,
    port_specs,
    run_images,
    worst_difference,
)

ABSOLUTE, RELATIVE = 1e-5, 1e-4
"""Outputs of onnxruntime and torch may differ by ABSOLUTE + RELATIVE * max |torch's outputs|: some hundred times the
rounding of float32, and far below what a wrong operator does."""

PROBE_SEED = 0

HOW_TO_VERIFY = (
    "Run `codesign verify` on the model. By hand: (1) the SHA-256 of this file's bytes before its last comma, the one "
    'before "checksum", is the checksum; (2) the model\'s size and SHA-256 are model.bytes and model.sha256; (3) run '
    "probe.batch images of the input's shape through the model: {recipe}, with probe.seed, probe.low and probe.high; "
    "every output lies within probe.absolute + probe.relative * max |probe.outputs| of probe.outputs, however batched; "
    "(4) on the test split of the data set with fingerprint origin.data_fingerprint, accuracy.correct images are right "
    "(up to accuracy.close_calls may differ on another processor)."
)

FloatArray = NDArray[np.float32]


def export_model(
    network: nn.Module, data: Dataset, out: str | Path, facts: Mapping[str, object], *, threads: int = 1
) -> Manifest:
    """Write a network as ONNX with its manifest, or nothing.

    onnxruntime must agree with torch at batch sizes 1, 2 and 7 and at its lowest and highest optimiser level, on test
    images and on random ones.

    Args:
        network: raw float32 images, shape (batch, C, H, W), in; logits, shape (batch, n_classes), out.
        data: its test split gives the accuracy, its fingerprint goes into the manifest.
        out: `M.onnx`, which gets `M.manifest.json` beside it; else a folder for `model.onnx` and `manifest.json`.
        facts: `genotype` and `metrics` get places of their own in the manifest; the rest stands under `facts`.
        threads: of onnxruntime.

    Returns:
        The manifest as written.

    Raises:
        InputError: the folder cannot be written to, or a fact cannot be written as JSON. Found before any work.
        TrialError: the network cannot be expressed in ONNX.
        VerificationError: onnxruntime and torch disagree; nothing is written.
    """
    model_path, manifest_path = places(Path(out))
    check_writable(model_path, manifest_path)
    genotype, metrics = (_mapping(plain(facts.get(name, {}), name), name) for name in ("genotype", "metrics"))
    rest = {n: plain(value, f"facts.{n}") for n, value in facts.items() if n not in ("genotype", "metrics")}
    reference = copy.deepcopy(network).cpu().eval()
    model = to_onnx(reference, data.image_shape)
    sessions = open_levels(model, threads)
    parity = tuple(_parity_rows(reference, sessions, data))
    session = sessions["ORT_ENABLE_ALL"]
    low, high = _pixel_range(data)
    manifest = Manifest(
        format=FORMAT,
        model=_model_file(model, model_path.name),
        inputs=port_specs(session.inputs),
        outputs=port_specs(session.outputs),
        preprocessing=Preprocessing(PREPROCESSING, tuple(map(float, data.mean)), tuple(map(float, data.std))),
        classes=tuple(data.classes),
        accuracy=classify(session, data.test, ABSOLUTE, RELATIVE),
        metrics=metrics,
        genotype=genotype,
        facts=rest,
        parity=parity,
        probe=_probe(reference, data, low, high),
        origin=_origin(data),
        how_to_verify=HOW_TO_VERIFY.format(recipe=RECIPE),
    )
    _write(model_path, model)
    _write(manifest_path, manifest.to_bytes())
    return manifest


def _parity_rows(reference: nn.Module, sessions: Mapping[str, Session], data: Dataset) -> list[ParityRow]:
    """Compare onnxruntime with torch everywhere; the first disagreement raises VerificationError."""
    low, high = _pixel_range(data)
    rows: list[ParityRow] = []
    for batch in BATCHES:
        real = np.resize(data.test.images[:batch], (batch, *data.image_shape)).astype(np.float32)
        drawn = probe_images(PROBE_SEED + 1, (batch, *data.image_shape), low, high)
        expected = [_outputs(reference, images) for images in (real, drawn)]
        if expected[0].shape != (batch, data.n_classes):
            raise VerificationError(
                f"nothing was written: the network's outputs for {batch} images have shape {expected[0].shape}; "
                f"with {data.n_classes} classes it must be {(batch, data.n_classes)}"
            )
        for level, session in sessions.items():
            found = [
                ParityRow(
                    batch=batch,
                    level=level,
                    max_abs_difference=worst_difference(partial(run_images, session), images, outputs, batch),
                    tolerance=tolerance(outputs, ABSOLUTE, RELATIVE),
                )
                for images, outputs in zip((real, drawn), expected, strict=True)
            ]
            for row in found:
                if not agrees(row.max_abs_difference, row.tolerance):
                    raise VerificationError(
                        f"nothing was written: at batch {batch} and {level} onnxruntime's outputs differ by "
                        f"{row.max_abs_difference:.3g} from torch's, more than the allowed {row.tolerance:.3g}"
                    )
            rows.append(max(found, key=lambda row: row.max_abs_difference / row.tolerance))
    return rows


def _outputs(reference: nn.Module, images: FloatArray) -> FloatArray:
    with torch.no_grad():
        outputs: FloatArray = reference(torch.from_numpy(images)).numpy()
    return outputs


def _probe(reference: nn.Module, data: Dataset, low: float, high: float) -> Probe:
    batch = max(BATCHES)
    outputs = _outputs(reference, probe_images(PROBE_SEED, (batch, *data.image_shape), low, high))
    # The shortest decimal that is the same float32; written as float64 the digits would double.
    rows = tuple(tuple(float(np.format_float_scientific(value)) for value in row) for row in outputs)
    return Probe(PROBE_SEED, batch, low, high, ABSOLUTE, RELATIVE, rows)


def _pixel_range(data: Dataset) -> tuple[float, float]:
    if data.test.images.dtype == np.uint8:
        return 0.0, 255.0
    return float(data.test.images.min()), float(data.test.images.max())


def _model_file(model: bytes, name: str) -> ModelFile:
    read = onnx.load_from_string(model)
    opset = next(each.version for each in read.opset_import if each.domain == "")
    producer = f"{read.producer_name} {read.producer_version}".strip()
    return ModelFile(name, hashlib.sha256(model).hexdigest(), len(model), opset, read.ir_version, producer)


def _origin(data: Dataset) -> Origin:
    tools = {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": RUNTIME_VERSION}
    tools["numpy"] = np.__version__
    return Origin(data.name, data.fingerprint, code_version(), code_sha256(), tools)


def _mapping(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InputError.about(place, value, "a mapping")
    return value


def _write(path: Path, content: bytes) -> None:
    """Write a whole file or leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
