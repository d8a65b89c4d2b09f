"""Weights and checkpoints as safetensors: one file, never pickle, replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from codesign.errors import StoreError

_KEY = "codesign"


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights and buffers as tensors of their own on the CPU, in the usual memory order."""
    return {name: _own(value) for name, value in network.state_dict().items()}


def save_weights(path: Path, weights: nn.Module | Mapping[str, Tensor]) -> None:
    """Write a network's weights (or a state dictionary), atomically; folders are made."""
    write_tensors(path, state_of(weights) if isinstance(weights, nn.Module) else weights)


def load_weights(path: Path, network: nn.Module) -> None:
    """Read weights into a network.

    Raises:
        StoreError: the file is missing or damaged, or does not fit the network; the network is then left as it was.
    """
    tensors, _ = read_tensors(path)
    restore(network, tensors, str(path))


def restore(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a network. Raises StoreError if they do not fit; the network is then left as it was."""
    own = network.state_dict()
    differences = [f"{name} is missing" for name in own if name not in tensors]
    differences += [f"{name} is unknown to the network" for name in tensors if name not in own]
    differences += [
        f"{name} has shape {tuple(tensors[name].shape)}, the network's has {tuple(value.shape)}"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if differences:
        others = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise StoreError(f"{where}: weights of another network: {differences[0]}{others}")
    network.load_state_dict(dict(tensors))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any] | None = None) -> None:
    """Write tensors and JSON-able content as one file, atomically: a reader finds the old or the new one, whole."""
    metadata = {_KEY: json.dumps(content)} if content is not None else None
    encoded = safetensors.torch.save({name: _own(value) for name, value in tensors.items()}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(encoded)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and content of a file written by `write_tensors`. Raises StoreError if it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = file.metadata() or {}
        content = json.loads(metadata.get(_KEY, "{}"))
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(f"{path}: not a safetensors file, or a damaged one ({error})") from error
    return tensors, content


def _own(value: Tensor) -> Tensor:
    """A copy that shares no memory: tied weights would otherwise be refused by the format."""
    return value.detach().cpu().clone().contiguous()
