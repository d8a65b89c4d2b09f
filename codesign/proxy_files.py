"""A proxy's folder: what was learned as arrays, and a manifest that says from what and how well.

DIR/manifest.json    fields, metrics, inputs seen, errors, hashes; ends with its own checksum
DIR/model.npz        arrays alone; nothing in it is executed when it is read
DIR/preset.toml      a preset of the proxy whose search options are the values it has seen
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.design_log import fields_from_json, fields_to_json
from codesign.errors import DataError, InputError
from codesign.proxy_errors import Errors
from codesign.proxy_features import Encoder
from codesign.proxy_kernel import KernelModel
from codesign.proxy_model import Learned, Output, kernel_users
from codesign.proxy_table import Table
from codesign.proxy_trees import Trees
from simulators.accelerator import Field, Value

FORMAT = "codesign-proxy-1"
MANIFEST, ARRAYS, PRESET = "manifest.json", "model.npz", "preset.toml"
MAX_SEARCHED = 64
"""Options of a field up to which the preset searches it."""


@dataclass(frozen=True, eq=False)
class SavedProxy:
    """A proxy as its folder holds it.

    Attributes:
        learned: the model.
        space, model: ids of the space and of the model that was learned.
        fields: of that model.
        inputs: the fields and what tells contexts apart.
        features: context -> feature -> value.
        n_rows, n_failed, n_repeated, n_partial: designs learned from, those of them that cannot work, and rows
            that were left out; see `Table`.
        held_out: context -> metric -> errors on designs that were not learned from.
        held_out_context: the context that was held out whole; "" if none was.
        told_right: share of held-out designs for which whether they work was predicted rightly; None if all work.
        facts: anything else that should be kept, such as the versions of tools.
    """

    learned: Learned
    space: str
    model: str
    fields: tuple[Field, ...]
    inputs: tuple[Field, ...]
    features: Mapping[str, Mapping[str, float]]
    n_rows: int
    n_failed: int
    n_repeated: int
    n_partial: int
    held_out: Mapping[str, Mapping[str, Errors]]
    held_out_context: str = ""
    told_right: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The manifest, without hashes."""
        return {
            "format": FORMAT, "space": self.space, "model": self.model, "fields": fields_to_json(self.fields),
            "inputs": fields_to_json(self.inputs), "features": {k: dict(v) for k, v in self.features.items()},
            "rows": self.n_rows, "failed": self.n_failed, "repeated": self.n_repeated, "partial": self.n_partial,
            "outputs": [_output_to_json(output) for output in self.learned.outputs],
            "seen": self.learned.encoder.to_json(), "tells_failures": self.learned.works is not None,
            "held_out": {c: {m: asdict(e) for m, e in by.items()} for c, by in self.held_out.items()},
            "held_out_context": self.held_out_context, "told_right": self.told_right, "facts": dict(self.facts),
        }  # fmt: skip


def save_proxy(saved: SavedProxy, folder: Path, table: Table) -> None:
    """Write a proxy's folder; the manifest comes last, so that a folder with one is whole.

    Args:
        saved: the proxy.
        folder: new, empty, or holding an older proxy, which is replaced.
        table: what was learned from, for the preset.

    Raises:
        InputError: the folder cannot be written.
    """
    held = io.BytesIO()
    np.savez(held, **_arrays(saved.learned))  # type: ignore[arg-type]  # every value is an array
    data = held.getvalue()
    manifest = saved.to_json() | {"arrays_sha256": hashlib.sha256(data).hexdigest()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        _write(folder / ARRAYS, data)
        _write(folder / PRESET, _preset_text(saved, table).encode())
        _write(folder / MANIFEST, (json.dumps(_sealed(manifest), indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise InputError(f"--out: {str(folder)!r} cannot be written: {error.strerror or error}") from error


def load_proxy(path: Path) -> SavedProxy:
    """The proxy in a folder, given the folder or its manifest.

    Raises:
        DataError: there is none, a file was changed or damaged, or it is of another format.
    """
    folder = path.parent if path.name == MANIFEST else path
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        data = (folder / ARRAYS).read_bytes()
    except OSError as error:
        raise DataError(f"{str(folder)!r} holds no proxy: {Path(error.filename).name}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{str(folder / MANIFEST)!r} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{str(folder / MANIFEST)!r} is not of format {FORMAT}")
    if manifest != _sealed({name: value for name, value in manifest.items() if name != "checksum"}):
        raise DataError(f"{str(folder / MANIFEST)!r} was changed after it was written: its checksum does not match")
    if hashlib.sha256(data).hexdigest() != manifest["arrays_sha256"]:
        raise DataError(f"{str(folder / ARRAYS)!r} was changed after it was written: its hash does not match")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        return _from_json(manifest, arrays)
    except DataError as error:
        raise DataError(f"the proxy in {str(folder)!r} cannot be used: {error}") from error
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"the proxy in {str(folder)!r} cannot be used: {error}") from error


def _arrays(learned: Learned) -> dict[str, NDArray[np.generic]]:
    arrays: dict[str, NDArray[np.generic]] = {}
    if learned.kernel is not None:
        arrays |= learned.kernel.to_arrays("kernel")
    for (metric, name), trees in learned.trees.items():
        arrays |= trees.to_arrays(f"trees.{metric}.{name}")
    if learned.works is not None:
        arrays |= learned.works.to_arrays("works")
    return arrays


def _from_json(manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]) -> SavedProxy:
    encoder = Encoder.from_json(manifest["seen"])
    outputs = tuple(Output(**record) for record in manifest["outputs"])
    users = kernel_users(outputs)
    kernel = KernelModel.from_arrays(arrays, "kernel") if users else None
    if kernel is not None and (len(kernel.weights), len(kernel.mean)) != (encoder.n_base, len(users)):
        raise DataError("the kernel model does not fit the inputs or the outputs")
    trees = {
        (output.metric, name): Trees.from_arrays(arrays, f"trees.{output.metric}.{name}", encoder.n_plain)
        for output in outputs
        for name in output.weights
        if name != "kernel"
    }
    works = Trees.from_arrays(arrays, "works", encoder.n_plain) if manifest["tells_failures"] else None
    fields = fields_from_json(manifest["fields"])
    inputs = fields_from_json(manifest["inputs"])
    if [spec.name for spec in inputs] != [given.name for given in encoder.inputs]:
        raise DataError("the inputs learned do not fit the fields")
    held_out = {c: {m: Errors(**e) for m, e in by.items()} for c, by in manifest["held_out"].items()}
    return SavedProxy(
        Learned(encoder, outputs, kernel, trees, works), manifest["space"], manifest["model"], fields, inputs,
        manifest["features"], manifest["rows"], manifest["failed"], manifest["repeated"], manifest["partial"],
        held_out, manifest["held_out_context"], manifest["told_right"], manifest["facts"],
    )  # fmt: skip


def _output_to_json(output: Output) -> dict[str, Any]:
    return {**asdict(output), "weights": dict(output.weights), "validation": dict(output.validation)}


def _sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with the hash of what it says, whatever its layout."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return {**manifest, "checksum": hashlib.sha256(text.encode()).hexdigest()}


def _preset_text(saved: SavedProxy, table: Table) -> str:
    """A preset for the proxy: the commonest value of each field, and every value seen as an option."""
    seen = {given.name: given for given in saved.learned.encoder.inputs}
    values: list[tuple[str, Value]] = []
    search: list[tuple[str, Sequence[Value]]] = []
    for spec in saved.fields:
        ranked = Counter(np.asarray(table.designs[spec.name]).tolist())
        common = spec.default if spec.default in ranked else ranked.most_common(1)[0][0]
        values.append((spec.name, spec.check(common)))
        options = seen[spec.name].options
        if 1 < len(options) <= MAX_SEARCHED:
            search.append((spec.name, [spec.check(option) for option in options]))
    description = f"what a proxy of {saved.model} has learned from {saved.n_rows} designs"
    lines = ['simulator = "proxy"', f"description = {_toml(description)}", "", "[values]"]
    lines += [f"{_toml(name)} = {_toml(value)}" for name, value in values]
    lines += ["", "[search]"] if search else []
    lines += [f"{_toml(name)} = [{', '.join(_toml(option) for option in options)}]" for name, options in search]
    return "\n".join(lines) + "\n"


def _toml(value: Value) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return str(value)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)
