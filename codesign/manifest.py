"""What is written beside an exported model: everything needed to check it, and where it came from.

The file is JSON for people and programs, and its last line is the SHA-256 of all bytes before that line, so that a
change to the manifest is noticed like a change to the model. It guards against accidents and careless edits; who can
rewrite both files can also rewrite the sum. Standard library alone: verifying needs no more than onnxruntime.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from codesign.errors import InputError, VerificationError

FORMAT = "codesign-model-1"
"""Changes whenever a reader of the old format would misread the new one."""

PREPROCESSING = (
    "raw pixel values as float32, NCHW, on the scale of the data set (0..255 for 8-bit images); "
    "normalisation by mean and std is inside the file"
)

_OPENING = f'{{\n  "format": "{FORMAT[:-1]}'.encode()
_TAIL = ',\n  "checksum": "sha256:{}"\n}}\n'


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model: its file's name, SHA-256 and size, and what kind of ONNX it is."""

    file: str
    sha256: str
    bytes: int
    opset: int
    ir_version: int
    producer: str


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output; a free axis is given by its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a caller must do to the pixels, and the mean and std per channel that the file itself applies."""

    description: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ParityRow:
    """The largest difference between onnxruntime and torch at one batch size and optimiser level."""

    batch: int
    level: str
    max_abs_difference: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Probe:
    """Reproducible inputs with torch's outputs for them; see `codesign.probe.probe_images`.

    Attributes:
        seed: of the pixels.
        batch: how many images.
        low, high: range of the pixels.
        absolute, relative: outputs may differ by `absolute + relative * max |expected|`.
        outputs: expected outputs, one row per image.
    """

    seed: int
    batch: int
    low: float
    high: float
    absolute: float
    relative: float
    outputs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy on the whole test split, measured in onnxruntime.

    Attributes:
        correct, n: images classified correctly, and images.
        value: correct / n.
        low, high: 95% Wilson interval of the accuracy.
        close_calls: images whose two largest outputs lie within the tolerance; another processor may decide them
            differently, and no others.
        runtime: what measured it.
    """

    correct: int
    n: int
    value: float
    low: float
    high: float
    close_calls: int
    runtime: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the model came from.

    Attributes:
        data_name, data_fingerprint: the data set.
        code_version, code_sha256: codesign's version, and the hash of its and the search spaces' sources.
        tools: versions of the libraries that took part.
    """

    data_name: str
    data_fingerprint: str
    code_version: str
    code_sha256: str
    tools: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of it; see the parts.

    Attributes:
        metrics: what the search measured, with intervals where it has them.
        genotype: the candidate.
        facts: whatever else the exporter was given.
        how_to_verify: in words.
    """

    format: str
    model: ModelFile
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    accuracy: Accuracy
    metrics: Mapping[str, object]
    genotype: Mapping[str, object]
    facts: Mapping[str, object]
    parity: tuple[ParityRow, ...]
    probe: Probe
    origin: Origin
    how_to_verify: str

    def to_bytes(self) -> bytes:
        """The manifest as its file holds it, checksum included."""
        text = json.dumps(asdict(self), indent=2, allow_nan=False)
        text = re.sub(r'\[\n\s+([^\[\]{}"]*?)\n\s*\]', lambda found: f"[{' '.join(found[1].split())}]", text)
        body = text.removesuffix("\n}").encode()
        return body + _TAIL.format(hashlib.sha256(body).hexdigest()).encode()


def parse_manifest(data: bytes, name: str) -> Manifest:
    """The manifest in a file's bytes.

    Args:
        data: the file.
        name: what to call it in messages.

    Raises:
        InputError: this is no manifest, or one of another format.
        VerificationError: it was changed after it was written.
    """
    n_tail = len(_TAIL.format("0" * 64))
    body, tail = data[:-n_tail], data[-n_tail:]
    if tail != _TAIL.format(hashlib.sha256(body).hexdigest()).encode():
        if data.startswith(_OPENING) or b'"checksum": "sha256:' in tail:
            raise VerificationError(
                f"{name}: the manifest was changed after it was written: its checksum does not match"
            )
        raise InputError(f"{name}: this is not a manifest of an exported model")
    content = json.loads(data)
    if content.get("format") != FORMAT:
        raise InputError.about(f"{name}: format", content.get("format"), [FORMAT])
    del content["checksum"]
    built = _build(Manifest, content, name)
    assert isinstance(built, Manifest)
    return built


def plain(value: object, place: str) -> object:
    """A value as JSON holds it: NumPy's numbers and arrays become numbers and lists.

    Raises:
        InputError: it is, or holds, something JSON cannot (an object, NaN, a key that is no text); `place` names it.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError.about(f"{place}: key", key, "text")
        return {key: plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), place)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError.about(place, value, "a finite number")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError.about(place, value, "text, numbers, lists and mappings of them")


def code_sha256() -> str:
    """Hash of the sources of `search_spaces` and `codesign`: the code that defines a network and trains it."""
    digest = hashlib.sha256()
    for package in ("codesign", "search_spaces"):
        spec = find_spec(package)
        for root in sorted(spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(root).rglob("*.py")):
                name, source = f"{package}/{path.relative_to(root).as_posix()}".encode(), path.read_bytes()
                digest.update(b"%d %s %d %s" % (len(name), name, len(source), source))
    return digest.hexdigest()


def code_version() -> str:
    """The installed version of codesign."""
    try:
        return version("codesign")
    except PackageNotFoundError:
        return "not installed"


def _build(kind: object, value: object, place: str) -> object:
    """The value read back as `kind`: a dataclass, tuple, mapping, union or plain type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        if wrong := sorted(set(value) ^ {field.name for field in fields(kind)}):
            raise VerificationError(f"{place}: the manifest lacks, or should not have, {wrong[0]!r}")
        return kind(**{name: _build(hints[name], item, f"{place}: {name}") for name, item in value.items()})
    if origin is tuple and isinstance(value, list):
        return tuple(_build(arguments[0], item, place) for item in value)
    if origin is not None and origin not in (tuple, types.UnionType) and isinstance(value, dict):
        return value
    allowed = arguments if origin is types.UnionType else (kind,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) in allowed:
        return value
    raise VerificationError(f"{place}: {value!r} is not what a manifest holds there")
