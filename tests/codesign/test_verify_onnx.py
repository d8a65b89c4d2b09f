"""A model and its manifest verify as they were written, and not after any change."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.data.dataset import Dataset, Split
from codesign.errors import CodesignError, InputError, VerificationError
from codesign.manifest import Manifest, TensorSpec, parse_manifest, plain
from codesign.probe import largest_difference, probe_images
from codesign.verify_onnx import verify
from tests.codesign.onnx_files import dataset, linear_classifier, manifest_for, write_pair

MODEL = linear_classifier()
DATA = dataset()
MANIFEST = manifest_for(MODEL, DATA)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_pair(tmp_path, MODEL, MANIFEST)


def test_a_true_pair_verifies(model: Path) -> None:
    report = verify(model)
    assert report.manifest == MANIFEST
    assert report.max_abs_difference <= report.tolerance
    assert report.accuracy is None
    assert f"{len(MODEL)} bytes" in str(report)


def test_accuracy_is_measured_again(model: Path) -> None:
    report = verify(model, data=DATA)
    assert report.accuracy is not None
    said = replace(report.accuracy, runtime="numpy")
    assert said == MANIFEST.accuracy  # which NumPy counted
    assert 0.6 < said.low < said.value < said.high < 0.9


def test_model_manifest_and_folder_name_the_same_pair(model: Path) -> None:
    for path in (model, model.parent, model.with_name("manifest.json")):
        assert verify(path).model == model


def test_a_named_pair_lies_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(MODEL)
    (tmp_path / "net.manifest.json").write_bytes(manifest_for(MODEL, DATA, "net.onnx").to_bytes())
    for name in ("net.onnx", "net.manifest.json"):
        assert verify(tmp_path / name).manifest_file == tmp_path / "net.manifest.json"


def test_neither_torch_nor_onnx_is_loaded(model: Path) -> None:
    code = (
        "import sys; from codesign.verify_onnx import verify; verify(sys.argv[1]);"
        "print(sorted({'torch', 'onnx', 'ray', 'optuna', 'pydantic', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_flipped_bit_anywhere_in_the_model_is_caught(model: Path) -> None:
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(MODEL), size=40):
        flipped = bytearray(MODEL)
        flipped[place] ^= 1 << int(rng.integers(8))
        model.write_bytes(flipped)
        with pytest.raises(VerificationError, match="SHA-256"):
            verify(model)


def test_a_flipped_bit_anywhere_in_the_manifest_is_caught() -> None:
    written = MANIFEST.to_bytes()
    rng = np.random.default_rng(1)
    for place in range(len(written)):
        flipped = bytearray(written)
        flipped[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(VerificationError, match="changed after it was written"):
            parse_manifest(bytes(flipped), "m")


@given(st.integers(0, len(MODEL) - 1), st.integers(1, 255))
@settings(max_examples=20, deadline=None)
def test_a_changed_byte_fails_with_either_file(tmp_path_factory: pytest.TempPathFactory, place: int, bits: int) -> None:
    folder = tmp_path_factory.mktemp("pair")
    write_pair(folder, MODEL, MANIFEST)
    for name in ("model.onnx", "manifest.json"):
        content = bytearray((folder / name).read_bytes())
        content[place % len(content)] ^= bits
        (folder / name).write_bytes(content)
        with pytest.raises(VerificationError):
            verify(folder)


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_cut_file_is_caught(model: Path, cut: int) -> None:
    model.write_bytes(MODEL[:-cut])
    with pytest.raises(VerificationError, match="bytes"):
        verify(model)
    model.write_bytes(MODEL)
    model.with_name("manifest.json").write_bytes(MANIFEST.to_bytes()[:-cut])
    with pytest.raises(VerificationError, match="changed"):
        verify(model)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"inputs": (TensorSpec("pixels", "float32", ("batch", 2, 4, 4)),)}, "inputs"),
        ({"inputs": (TensorSpec("images", "uint8", ("batch", 2, 4, 4)),)}, "inputs"),
        ({"outputs": (TensorSpec("logits", "float32", ("batch", 4)),)}, "outputs"),
        ({"outputs": (TensorSpec("logits", "float32", (1, 3)),)}, "outputs"),
        ({"probe": replace(MANIFEST.probe, seed=6)}, "probe"),
        ({"probe": replace(MANIFEST.probe, outputs=(*MANIFEST.probe.outputs[:-1], (0.0, 0.0, 0.0)))}, "probe"),
        ({"probe": replace(MANIFEST.probe, outputs=tuple(row[:2] for row in MANIFEST.probe.outputs))}, "probe"),
        ({"model": replace(MANIFEST.model, file="../model.onnx")}, "leads out"),
    ],
)
def test_a_manifest_that_tells_lies_with_a_right_checksum_is_caught(
    model: Path, part: dict[str, object], message: str
) -> None:
    lying: Manifest = replace(MANIFEST, **part)  # type: ignore[arg-type]
    model.with_name("manifest.json").write_bytes(lying.to_bytes())
    with pytest.raises(VerificationError, match=message):
        verify(model.parent)


def test_another_model_with_its_own_hash_fails_the_probe(tmp_path: Path) -> None:
    other = linear_classifier(seed=1)
    write_pair(tmp_path, other, manifest_for(other, DATA))  # whose probe is the first classifier's
    with pytest.raises(VerificationError, match="probe's outputs differ"):
        verify(tmp_path)


def test_wrong_count_of_correct_images_is_caught(model: Path) -> None:
    accuracy = replace(MANIFEST.accuracy, correct=MANIFEST.accuracy.correct + 1)
    model.with_name("manifest.json").write_bytes(replace(MANIFEST, accuracy=accuracy).to_bytes())
    assert verify(model).accuracy is None
    with pytest.raises(VerificationError, match="test images are right"):
        verify(model, data=DATA)


def test_a_close_call_may_be_decided_otherwise(model: Path) -> None:
    accuracy = replace(MANIFEST.accuracy, correct=MANIFEST.accuracy.correct + 1, close_calls=1)
    model.with_name("manifest.json").write_bytes(replace(MANIFEST, accuracy=accuracy).to_bytes())
    assert verify(model, data=DATA).accuracy is not None


def test_other_data_is_refused(model: Path) -> None:
    test = Split(DATA.test.images, (DATA.test.labels + 1) % 3)
    other = Dataset.of("other", DATA.train, DATA.validation, test, DATA.classes)
    with pytest.raises(VerificationError, match="fingerprint"):
        verify(model, data=other)


def test_missing_and_foreign_files_are_wrong_input(model: Path, tmp_path: Path) -> None:
    manifest = model.with_name("manifest.json")
    for content in (b"", b"{", b"not json", b'{"a": 1}', b"[]" * 200):
        manifest.write_bytes(content)
        with pytest.raises(InputError, match="not a manifest"):
            verify(model)
    manifest.unlink()
    for path in (model, tmp_path, tmp_path / "none.onnx", tmp_path / "none.json", tmp_path / "none"):
        with pytest.raises(InputError, match="there is no such file"):
            verify(path)


def test_a_newer_format_is_named(model: Path) -> None:
    newer = replace(MANIFEST, format="codesign-model-9")
    model.with_name("manifest.json").write_bytes(newer.to_bytes())
    with pytest.raises(InputError, match="codesign-model-9"):
        verify(model)


def test_manifest_round_trips_and_is_plain_json() -> None:
    written = MANIFEST.to_bytes()
    assert parse_manifest(written, "m") == MANIFEST
    content = json.loads(written)
    assert list(content)[-1] == "checksum"
    assert content["facts"] == {"note": "é [1,\n 2]"}
    assert parse_manifest(written, "m").to_bytes() == written


@pytest.mark.parametrize("broken", ["lacks", "extra", "type"])
def test_a_sealed_manifest_of_the_wrong_form_is_refused(broken: str) -> None:
    if broken == "type":
        bad = replace(MANIFEST, classes=(1, 2, 3))  # type: ignore[arg-type]
    elif broken == "extra":
        bad = replace(MANIFEST, probe=MANIFEST.parity[0])  # type: ignore[arg-type]
    else:
        bad = replace(MANIFEST, probe=None)  # type: ignore[arg-type]
    with pytest.raises(VerificationError, match="m: "):
        parse_manifest(bad.to_bytes(), "m")


def test_plain_takes_numpy_and_refuses_what_json_cannot_hold() -> None:
    given_facts = {"a": np.float64(0.5), "b": np.arange(3), "c": (1, None, True), "d": {"e": "text"}}
    assert plain(given_facts, "facts") == {"a": 0.5, "b": [0, 1, 2], "c": [1, None, True], "d": {"e": "text"}}
    for value, place in (({"x": float("nan")}, "facts.x"), ([object()], r"facts\[0\]"), ({1: 2}, "facts: key")):
        with pytest.raises(InputError, match=place):
            plain(value, "facts")


def test_probe_images_are_the_published_bytes() -> None:
    import hashlib

    drawn = hashlib.shake_128(b"codesign probe 3").digest(24)
    assert probe_images(3, (2, 3, 2, 2), 0.0, 255.0).ravel().tolist() == [float(byte) for byte in drawn]
    scaled = probe_images(3, (2, 3, 2, 2), -1.0, 1.0).ravel()
    assert scaled == pytest.approx(np.array(list(drawn)) / 127.5 - 1, abs=1e-6)


def test_differences_in_shape_or_value_are_infinite_where_they_cannot_be_measured() -> None:
    zeros = np.zeros((2, 3), dtype=np.float32)
    assert largest_difference(zeros, zeros + 2) == 2.0
    assert largest_difference(zeros, zeros[:1]) == np.inf
    assert largest_difference(zeros, zeros * np.nan) == np.inf
    assert issubclass(VerificationError, CodesignError)
