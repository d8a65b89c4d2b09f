"""Weights on disk: exact, atomic, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from codesign.checkpoint_torch import load_weights, read_tensors, save_weights, state_of, write_tensors
from codesign.errors import StoreError

pytestmark = pytest.mark.torch


def _network(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(4 * width, 2))


def test_weights_round_trip(tmp_path: Path) -> None:
    network, other = _network(), _network()
    network(torch.rand(8, 1, 4, 4))  # moves the running statistics
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    path = tmp_path / "deep" / "weights.safetensors"
    save_weights(path, network)
    load_weights(path, other)
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    save_weights(path, state_of(other))
    load_weights(path, network)
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"], "nothing temporary is left"


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    save_weights(tmp_path / "w.safetensors", network)
    load_weights(tmp_path / "w.safetensors", network)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, {"epoch": 1})

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(path, {"a": torch.zeros(2)}, {"epoch": 2})
    monkeypatch.undo()
    tensors, content = read_tensors(path)
    assert content == {"epoch": 1}
    assert torch.equal(tensors["a"], torch.ones(2))
    assert list(tmp_path.iterdir()) == [path]


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    network = _network()
    before = state_of(network)
    save_weights(path, _network(5))
    with pytest.raises(StoreError, match=r"another network: 0\.weight has shape \(5, 1, 3, 3\), .* \(and 6 more\)"):
        load_weights(path, network)
    save_weights(path, nn.Sequential(*list(_network())[:1]))
    with pytest.raises(StoreError, match=r"1\.weight is missing"):
        load_weights(path, network)
    save_weights(path, nn.Sequential(*_network(), nn.Linear(2, 2)))
    with pytest.raises(StoreError, match=r"4\.(weight|bias) is unknown to the network \(and 1 more\)"):
        load_weights(path, network)
    for name, value in before.items():
        assert torch.equal(value, network.state_dict()[name]), "the network is left as it was"


@pytest.mark.parametrize("kept", [0, 5, 100, -10])
def test_damaged_files(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(StoreError, match="no such file"):
        load_weights(path, _network())
    save_weights(path, _network())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"w\.safetensors: not a safetensors file, or a damaged one"):
        load_weights(path, _network())
