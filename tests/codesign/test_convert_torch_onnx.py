"""Networks as ONNX bytes: the same numbers, the same names, the same bytes, and nothing else."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from codesign import convert_torch_onnx
from codesign.convert_torch_onnx import OPSET, to_onnx
from codesign.errors import TrialError
from codesign.session_onnx import open_session
from tests.codesign.small_networks_torch import Normalised, SmallTransformer, seeded

pytestmark = pytest.mark.torch

SHAPE = (3, 8, 8)


def initialisers(model: bytes) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(model).graph.initializer}


def assert_agrees(network: nn.Module, model: bytes, batch: int = 5) -> None:
    images = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        expected = network.eval()(images).numpy()
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        found = open_session(model, level=level).run({"images": images.numpy()})[0].astype(np.float32)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_input_output_opset_and_free_batch() -> None:
    model = to_onnx(seeded(0), SHAPE, input_name="pixels", output_name="scores")
    session = open_session(model)
    assert [(port.name, port.dtype, port.shape) for port in session.inputs] == [
        ("pixels", "float32", ("batch", 3, 8, 8))
    ]
    assert [(port.name, port.dtype, port.shape) for port in session.outputs] == [("scores", "float32", ("batch", 4))]
    assert [(each.domain, each.version) for each in onnx.load_from_string(model).opset_import] == [("", OPSET)]


def test_it_computes_what_torch_computes() -> None:
    for network in (Normalised(seeded(0), (100.0, 110.0, 120.0), (60.0, 61.0, 62.0)), SmallTransformer()):
        assert_agrees(network, to_onnx(network, SHAPE))


def test_equal_networks_give_equal_bytes() -> None:
    first = to_onnx(seeded(1), SHAPE)
    to_onnx(seeded(2, cells=3), SHAPE)  # whatever counters torch keeps have moved on
    assert to_onnx(seeded(1), SHAPE) == first
    assert to_onnx(seeded(2), SHAPE) != first


def test_every_module_keeps_its_mode() -> None:
    network = seeded(0).train()
    network.cells[0].eval()
    before = [module.training for module in network.modules()]
    statistics = network.stem_norm.running_mean.clone()  # type: ignore[union-attr]
    to_onnx(network, SHAPE)
    assert [module.training for module in network.modules()] == before
    assert torch.equal(network.stem_norm.running_mean, statistics)  # type: ignore[arg-type]
    assert torch.backends.mha.get_fastpath_enabled()


def test_nothing_is_said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to_onnx(seeded(0), SHAPE)
    assert capfd.readouterr() == ("", "")
    assert not caught
    assert not caplog.records
    assert logging.root.manager.disable == logging.NOTSET


def test_initialisers_are_the_networks_tensors_under_their_names() -> None:
    network = Normalised(seeded(0), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    tensors = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name not in ("mean", "std") and not name.endswith("num_batches_tracked")
    }
    found = initialisers(to_onnx(network, SHAPE))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_tensors_of_equal_value_stay_apart() -> None:
    network = Normalised(convert_small(), (0.0,) * 3, (1.0,) * 3)  # all batch norms have weight 1 and bias 0
    names = {name for name, _ in network.named_parameters()}
    assert names <= initialisers(to_onnx(network, SHAPE)).keys()


def convert_small() -> nn.Module:
    return nn.Sequential(
        *[nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)) for _ in range(3)], nn.Flatten()
    )


def test_a_shared_tensor_stands_once() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 192))
    network[3].weight = network[1].weight
    model = to_onnx(network, SHAPE)
    assert sum(value.size for value in initialisers(model).values()) == 192 * 192 + 2 * 192
    assert_agrees(network, model)


def test_nodes_are_named_after_modules_and_no_path_or_trace_is_left() -> None:
    model = to_onnx(seeded(0), SHAPE)
    names = [node.name for node in onnx.load_from_string(model).graph.node]
    assert "/stem/Conv" in names
    assert "/cells.1/depthwise/Conv" in names
    assert len(set(names)) == len(names)
    for trace in (b".py", b"site-packages", str(Path.cwd()).encode()):
        assert trace not in model


def test_a_branch_on_data_becomes_one_path() -> None:
    """Tracing takes the branch it sees; that is why an export compares several batches."""

    class Branching(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) if images.shape[0] == 2 else images.amax((2, 3))

    with pytest.raises(AssertionError):
        assert_agrees(Branching(), to_onnx(Branching(), SHAPE))


@pytest.mark.slow
def test_the_newer_exporter_serves_where_the_tracing_one_is_gone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = torch.onnx.export

    def newer(model: nn.Module, args: tuple[torch.Tensor], **options: object) -> object:
        return real(model, args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.onnx, "export", newer)
    assert not convert_torch_onnx._has_tracing_exporter()
    network = Normalised(seeded(0), (100.0, 110.0, 120.0), (60.0, 61.0, 62.0)).train()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, again = to_onnx(network, SHAPE), to_onnx(network, SHAPE)
    assert network.training
    assert capfd.readouterr() == ("", "")
    assert not caught
    assert model == again
    assert {name for name, _ in network.named_parameters()} <= initialisers(model).keys()
    assert "mean" not in initialisers(model)
    assert open_session(model).inputs[0].shape == ("batch", 3, 8, 8)
    assert_agrees(network, model)
    assert b".py" not in model


@pytest.mark.slow
def test_what_neither_exporter_knows_is_a_trial_error() -> None:
    class Unknown(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            eigenvalues: torch.Tensor = torch.linalg.eigvals(images[:, 0])
            return eigenvalues.real

    with pytest.raises(TrialError, match="cannot be converted to ONNX"):
        to_onnx(Unknown(), SHAPE)


@pytest.mark.slow
def test_another_process_gives_the_same_bytes() -> None:
    code = (
        "import hashlib, sys; from tests.codesign.small_networks_torch import seeded;"
        "from codesign.convert_torch_onnx import to_onnx;"
        "print(hashlib.sha256(to_onnx(seeded(1), (3, 8, 8))).hexdigest())"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == hashlib.sha256(to_onnx(seeded(1), SHAPE)).hexdigest()
