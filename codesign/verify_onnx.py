"""Checks an exported model against its manifest with onnxruntime and NumPy alone: no torch, no onnx, no search."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.data.dataset import Dataset, Split
from codesign.errors import InputError, VerificationError
from codesign.intervals import wilson_interval
from codesign.manifest import Accuracy, Manifest, Probe, TensorSpec, parse_manifest
from codesign.probe import agrees, largest_difference, probe_images, tolerance
from codesign.session_onnx import LEVELS, RUNTIME_VERSION, Port, Session, open_session

BATCHES = (1, 2, 7)
"""Batch sizes that parity is shown at: the usual one, the one traced with, and one that is neither."""

_CHUNK = 256  # images per inference when a whole split is classified

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What was checked, all of it with success.

    Attributes:
        model, manifest_file: the two files.
        manifest: its content.
        checks: one sentence per check.
        max_abs_difference, tolerance: the largest difference seen between the probe's outputs and the expected ones,
            and what is allowed.
        runtime: "onnxruntime" and its version.
        accuracy: measured anew, where data was given.
    """

    model: Path
    manifest_file: Path
    manifest: Manifest
    checks: tuple[str, ...]
    max_abs_difference: float
    tolerance: float
    runtime: str
    accuracy: Accuracy | None

    def __str__(self) -> str:
        return "\n".join([f"{self.model}: verified with {self.runtime}", *(f"  {check}" for check in self.checks)])


def verify(path: str | Path, data: Dataset | None = None, *, threads: int = 1) -> VerificationReport:
    """Check a model against its manifest.

    Args:
        path: the .onnx file, its manifest, or the folder that holds `model.onnx` and `manifest.json`.
        data: if given, the accuracy on its test split is measured again and compared.
        threads: of onnxruntime.

    Raises:
        InputError: the model or its manifest is missing, or what lies there is no manifest.
        VerificationError: either file was changed, or the model does not compute what the manifest says.
    """
    model_path, manifest_path = _find(Path(path))
    manifest = parse_manifest(_read(manifest_path), str(manifest_path))
    model_path = model_path or manifest_path.parent / _plain_name(manifest.model.file, manifest_path)
    model = _read(model_path)
    checks = ["the manifest is as it was written", _check_bytes(model, manifest, model_path)]
    sessions = open_levels(model, threads)
    checks.append(_check_ports(sessions["ORT_ENABLE_ALL"], manifest, model_path))
    difference, allowed = _check_probe(sessions, manifest, model_path)
    batches = ", ".join(map(str, BATCHES))
    checks.append(f"the probe's outputs differ by {difference:.2g} (allowed {allowed:.2g}) at batch {batches}")
    accuracy = None
    if data is not None:
        accuracy = _check_accuracy(sessions["ORT_ENABLE_ALL"], manifest, data, model_path)
        checks.append(f"accuracy on the test split: {accuracy.correct} of {accuracy.n}, as the manifest says")
    runtime = f"onnxruntime {RUNTIME_VERSION}"
    return VerificationReport(
        model_path, manifest_path, manifest, tuple(checks), difference, allowed, runtime, accuracy
    )


def open_levels(model: bytes, threads: int) -> dict[str, Session]:
    """The model at onnxruntime's lowest and highest optimiser level.

    Raises:
        VerificationError: onnxruntime cannot open it.
    """
    try:
        return {level: open_session(model, threads=threads, level=level) for level in LEVELS}
    except InputError as error:
        raise VerificationError(str(error)) from error


def classify(session: Session, split: Split, absolute: float, relative: float) -> Accuracy:
    """Accuracy of a model on a whole split.

    Args:
        session: one input of raw images, one output of a score per class.
        split: images and labels.
        absolute, relative: tolerance of an output, as in `Probe`; it says which images are close calls.
    """
    correct = close_calls = 0
    for start in range(0, len(split), _CHUNK):
        rows = slice(start, start + _CHUNK)
        scores = run_images(session, np.asarray(split.images[rows], dtype=np.float32))
        correct += int((scores.argmax(axis=1) == split.labels[rows]).sum())
        runner_up, best = np.sort(scores.astype(np.float64), axis=1)[:, -2:].T
        allowed = absolute + relative * np.abs(scores).max(axis=1)
        close_calls += int((best - runner_up <= 2 * allowed).sum())
    low, high = wilson_interval(correct, len(split))
    runtime = f"onnxruntime {RUNTIME_VERSION}"
    return Accuracy(correct, len(split), correct / len(split), low, high, close_calls, runtime)


def run_images(session: Session, images: FloatArray) -> FloatArray:
    """The model's one output for a batch of raw images.

    Raises:
        VerificationError: onnxruntime fails on this batch.
    """
    try:
        output = session.run({session.inputs[0].name: images})[0]
    except InputError as error:
        raise VerificationError(str(error)) from error
    return np.asarray(output, dtype=np.float32)


def worst_difference(
    run: Callable[[FloatArray], FloatArray], images: FloatArray, expected: FloatArray, batch: int
) -> float:
    """The largest difference between what `run` gives for the images, `batch` at a time, and the expected outputs."""
    chunks: Iterator[tuple[FloatArray, FloatArray]] = (
        (images[start : start + batch], expected[start : start + batch])
        for start in range(0, len(images) - len(images) % batch, batch)
    )
    return max(largest_difference(run(inputs), outputs) for inputs, outputs in chunks)


def port_specs(ports: tuple[Port, ...]) -> tuple[TensorSpec, ...]:
    """A session's inputs or outputs as the manifest holds them."""
    return tuple(TensorSpec(port.name, port.dtype, port.shape) for port in ports)


def manifest_path_of(model: Path) -> Path:
    """Where the manifest of a model lies: `M.manifest.json` beside `M.onnx`."""
    return model.with_name(f"{model.stem}.manifest.json")


def _find(path: Path) -> tuple[Path | None, Path]:
    """The model's path, or None if the manifest is to tell it, and the manifest's."""
    if path.is_dir():
        return None, path / "manifest.json"
    if path.suffix == ".json":
        return None, path
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    beside = manifest_path_of(path)
    in_folder = path.with_name("manifest.json")
    if not beside.is_file() and path.name == "model.onnx" and in_folder.is_file():
        return path, in_folder
    return path, beside


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such file; an exported model and its manifest lie side by side"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: it cannot be read: {error.strerror}") from error


def _plain_name(name: str, manifest_path: Path) -> str:
    if Path(name).name != name:
        raise VerificationError(f"{manifest_path}: the model's name {name!r} leads out of the manifest's folder")
    return name


def _check_bytes(model: bytes, manifest: Manifest, path: Path) -> str:
    if len(model) != manifest.model.bytes:
        raise VerificationError(f"{path}: {len(model)} bytes, the manifest says {manifest.model.bytes}")
    found = hashlib.sha256(model).hexdigest()
    if found != manifest.model.sha256:
        raise VerificationError(f"{path}: its SHA-256 is {found}, the manifest says {manifest.model.sha256}")
    return f"the model is as it was written: {len(model)} bytes, SHA-256 {found[:12]}..."


def _check_ports(session: Session, manifest: Manifest, path: Path) -> str:
    for side, found, said in (
        ("inputs", port_specs(session.inputs), manifest.inputs),
        ("outputs", port_specs(session.outputs), manifest.outputs),
    ):
        if found != said:
            raise VerificationError(f"{path}: its {side} are {found}, the manifest says {said}")
    return "names, types and shapes of inputs and outputs are as the manifest says"


def _check_probe(sessions: dict[str, Session], manifest: Manifest, path: Path) -> tuple[float, float]:
    probe: Probe = manifest.probe
    shape = [size for size in manifest.inputs[0].shape[1:] if isinstance(size, int)]
    images = probe_images(probe.seed, (probe.batch, *shape), probe.low, probe.high)
    expected = np.array(probe.outputs, dtype=np.float32)
    allowed = tolerance(expected, probe.absolute, probe.relative)
    worst = 0.0
    for level, session in sessions.items():
        for batch in BATCHES:
            difference = worst_difference(partial(run_images, session), images, expected, batch)
            if not agrees(difference, allowed):
                raise VerificationError(
                    f"{path}: at batch {batch} and {level} the probe's outputs differ by {difference:.3g} from the "
                    f"manifest's, more than the allowed {allowed:.3g}"
                )
            worst = max(worst, difference)
    return worst, allowed


def _check_accuracy(session: Session, manifest: Manifest, data: Dataset, path: Path) -> Accuracy:
    if data.fingerprint != manifest.origin.data_fingerprint:
        raise VerificationError(
            f"{path}: data set {data.name!r} has fingerprint {data.fingerprint}, the manifest's, "
            f"{manifest.origin.data_name!r}, {manifest.origin.data_fingerprint}"
        )
    said = manifest.accuracy
    found = classify(session, data.test, manifest.probe.absolute, manifest.probe.relative)
    if found.n != said.n or abs(found.correct - said.correct) > said.close_calls:
        raise VerificationError(
            f"{path}: {found.correct} of {found.n} test images are right, the manifest says {said.correct} of {said.n}"
        )
    return found
