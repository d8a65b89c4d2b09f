"""An export is proven or not written; what its manifest says is true."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from codesign import export_torch_onnx
from codesign.convert_torch_onnx import to_onnx
from codesign.errors import InputError, VerificationError
from codesign.export_torch_onnx import ABSOLUTE, RELATIVE, export_model
from codesign.intervals import wilson_interval
from codesign.manifest import parse_manifest
from codesign.probe import probe_images
from codesign.verify_onnx import verify
from tests.codesign.small_networks_torch import Normalised, image_data, seeded

pytestmark = pytest.mark.torch

DATA = image_data()
FACTS: dict[str, object] = {
    "genotype": {"cells": [1, 2]},
    "metrics": {"accuracy": {"value": np.float32(0.5), "low": 0.25, "high": 0.75}},
    "run": {"trial": 3},
}


def network() -> nn.Module:
    return Normalised(seeded(0), DATA.mean, DATA.std)


def test_an_export_verifies_and_says_what_is_true(tmp_path: Path) -> None:
    exported = network().train()
    manifest = export_model(exported, DATA, tmp_path / "deep" / "net.onnx", FACTS)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["net.manifest.json", "net.onnx"]
    assert exported.training

    model = (tmp_path / "deep" / "net.onnx").read_bytes()
    assert model == to_onnx(network(), DATA.image_shape)
    assert manifest == parse_manifest((tmp_path / "deep" / "net.manifest.json").read_bytes(), "m")
    assert (manifest.model.file, manifest.model.bytes) == ("net.onnx", len(model))
    assert manifest.model.sha256 == hashlib.sha256(model).hexdigest()
    assert manifest.model.opset == onnx.load_from_string(model).opset_import[0].version
    assert (manifest.preprocessing.mean, manifest.preprocessing.std) == (DATA.mean, DATA.std)
    assert manifest.classes == DATA.classes
    assert manifest.origin.data_fingerprint == DATA.fingerprint
    assert manifest.genotype == FACTS["genotype"]
    assert manifest.metrics == FACTS["metrics"]
    assert manifest.facts == {"run": {"trial": 3}}
    assert verify(tmp_path / "deep" / "net.onnx", data=DATA).accuracy == manifest.accuracy


def test_accuracy_is_that_of_torch(tmp_path: Path) -> None:
    accuracy = export_model(network(), DATA, tmp_path, FACTS).accuracy
    with torch.no_grad():
        guesses = network().eval()(torch.from_numpy(DATA.test.images).float()).argmax(1).numpy()
    correct = int((guesses == DATA.test.labels).sum())
    assert accuracy.close_calls == 0
    assert (accuracy.correct, accuracy.n, accuracy.value) == (correct, 60, correct / 60)
    assert (accuracy.low, accuracy.high) == wilson_interval(correct, 60)


def test_parity_is_shown_at_every_batch_and_level(tmp_path: Path) -> None:
    rows = export_model(network(), DATA, tmp_path, FACTS).parity
    assert {(row.batch, row.level) for row in rows} == {
        (batch, level) for batch in (1, 2, 7) for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL")
    }
    assert all(0 <= row.max_abs_difference <= row.tolerance < 0.1 for row in rows)


def test_the_probe_holds_torchs_outputs(tmp_path: Path) -> None:
    probe = export_model(network(), DATA, tmp_path, FACTS).probe
    images = torch.from_numpy(probe_images(probe.seed, (7, 3, 8, 8), 0.0, 255.0))
    with torch.no_grad():
        expected = network().eval()(images).numpy()
    np.testing.assert_array_equal(np.array(probe.outputs, dtype=np.float32), expected)
    assert (probe.absolute, probe.relative) == (ABSOLUTE, RELATIVE)


def test_a_folder_gets_both_files_and_a_second_export_replaces_them(tmp_path: Path) -> None:
    export_model(network(), DATA, tmp_path / "out", FACTS)
    first = (tmp_path / "out" / "manifest.json").read_bytes()
    export_model(network(), DATA, tmp_path / "out", FACTS)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == first
    export_model(Normalised(seeded(1), DATA.mean, DATA.std), DATA, tmp_path / "out", FACTS)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "model.onnx"]
    assert (tmp_path / "out" / "manifest.json").read_bytes() != first
    verify(tmp_path / "out")


def test_images_of_any_range(tmp_path: Path) -> None:
    data = image_data(dtype=np.float32)
    data.test.images[:] = data.test.images / 255 - 0.5
    probe = export_model(Normalised(seeded(0), (0.0,) * 3, (0.3,) * 3), data, tmp_path, {}).probe
    assert (probe.low, probe.high) == (data.test.images.min(), data.test.images.max())
    verify(tmp_path)


class Branching(nn.Module):
    """Traced at batch 2, where alone it is right."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images[:, :1].mean((2, 3)) if images.shape[0] == 2 else images[:, :1].amax((2, 3))
        return pixels * self.weight


class Unbounded(Branching):
    """Infinite outputs in both runtimes: agreement that proves nothing."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1].mean((2, 3)) * self.weight / torch.zeros(1)


class ThreeClasses(Branching):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1].mean((2, 3)) * self.weight[:, :3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(Branching(), "batch 1"), (Unbounded(), "inf"), (ThreeClasses(), r"it must be \(1, 4\)")],
)
def test_disagreement_writes_nothing(tmp_path: Path, wrong: nn.Module, message: str) -> None:
    with pytest.raises(VerificationError, match=message) as caught:
        export_model(wrong, DATA, tmp_path / "net.onnx", FACTS)
    assert "nothing was written" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_conversion_that_is_off_by_little_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nearly(exported: nn.Module, shape: tuple[int, int, int]) -> bytes:
        with torch.no_grad():
            exported.network.classifier.bias += 0.01  # type: ignore[operator, union-attr]
            model = to_onnx(exported, shape)
            exported.network.classifier.bias -= 0.01  # type: ignore[union-attr]
        return model

    monkeypatch.setattr(export_torch_onnx, "to_onnx", nearly)
    with pytest.raises(VerificationError, match="more than the allowed"):
        export_model(network(), DATA, tmp_path, FACTS)
    assert not list(tmp_path.iterdir())


def test_a_bad_place_or_fact_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("work was done")

    monkeypatch.setattr(export_torch_onnx, "to_onnx", never)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    for out in (
        tmp_path / "file" / "net.onnx",
        tmp_path / "file",
        Path("/proc/none/net.onnx"),
        tmp_path / "folder.onnx",
    ):
        with pytest.raises(InputError, match=r"cannot be written to|is in the way"):
            export_model(network(), DATA, out, FACTS)
    for facts, place in (
        ({"metrics": {"a": float("inf")}}, "metrics.a"),
        ({"x": object()}, "facts.x"),
        ({"genotype": 1}, "genotype"),
    ):
        with pytest.raises(InputError, match=place):
            export_model(network(), DATA, tmp_path, facts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.onnx"]


def test_a_failed_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_model(network(), DATA, tmp_path, FACTS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("codesign.export_torch_onnx.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        export_model(Normalised(seeded(1), DATA.mean, DATA.std), DATA, tmp_path, FACTS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_how_to_verify_can_be_followed_by_hand(tmp_path: Path) -> None:
    """The manifest's own instructions, with nothing of codesign."""
    import onnxruntime

    export_model(network(), DATA, tmp_path, FACTS)
    raw = (tmp_path / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    assert "SHAKE-128" in manifest["how_to_verify"]
    body = raw[: raw.rindex(b",")]
    assert f"sha256:{hashlib.sha256(body).hexdigest()}" == manifest["checksum"]
    probe = manifest["probe"]
    shape = [probe["batch"], *manifest["inputs"][0]["shape"][1:]]
    drawn = hashlib.shake_128(f"codesign probe {probe['seed']}".encode()).digest(int(np.prod(shape)))
    pixels = np.frombuffer(drawn, np.uint8) * ((probe["high"] - probe["low"]) / 255) + probe["low"]
    session = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"images": pixels.astype(np.float32).reshape(shape)})
    expected = np.array(probe["outputs"])
    allowed = probe["absolute"] + probe["relative"] * np.abs(expected).max()
    assert np.abs(found - expected).max() <= allowed
