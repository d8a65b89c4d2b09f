"""Runs trained networks: normalisation inside the module, batched prediction, accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codesign.data.dataset import Images, Split
from codesign.errors import InputError, TrialError
from codesign.recipe import Recipe

_BATCH_PIXELS = {"cpu": 1 << 16, "cuda": 1 << 21}  # 64 images of 32 x 32: more fall out of a processor's caches


class Normalized(nn.Module):
    """A network that takes raw images: float32 in the data's own units, normalised inside.

    What is exported thus needs no preprocessing but a change of type.

    Args:
        network: takes normalised images, shape (B, C, H, W).
        mean: of each channel, in the data's units.
        std: of each channel, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(f"mean {tuple(mean)} and std {tuple(std)} must have one value per channel, std above 0")
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Any:
        """What the network returns for raw images, shape (B, C, H, W)."""
        return self.network((images - self.mean) / self.std)


def predict(network: nn.Module, images: Images, recipe: Recipe) -> NDArray[np.float32]:
    """Logits of raw images.

    Args:
        network: takes raw images (see `Normalized`); runs where its weights are, in evaluation mode.
        images: shape (n, C, H, W), uint8 or float32.
        recipe: how many threads.

    Returns:
        Shape (n, n_classes), float32.

    Raises:
        TrialError: a logit is NaN or infinite.
    """
    with torch_threads(recipe.threads):
        logits = _logits(network, as_tensor(images))
    return logits.numpy()


def evaluate_accuracy(network: nn.Module, split: Split, recipe: Recipe) -> float:
    """Share of a split whose largest logit is its label's, 0 to 1. See `predict` for arguments and errors."""
    logits = predict(network, split.images, recipe)
    return float((logits.argmax(axis=1) == split.labels).mean())


def as_tensor(array: NDArray[Any]) -> Tensor:
    """A tensor on an array's memory, which may be read only: it must not be written to."""
    # `torch.from_numpy` would warn of read-only memory, such as that of arrays shared between processes.
    return torch.from_dlpack(np.ascontiguousarray(array))  # type: ignore[attr-defined]


def to_input(images: Tensor) -> Tensor:
    """Images as networks take them: float32, and on a CPU with channels last, which its convolutions run faster on."""
    layout = torch.channels_last if images.device.type == "cpu" else torch.contiguous_format
    return images.to(torch.float32, memory_format=layout)


def resolve_device(recipe: Recipe) -> torch.device:
    """The device that a recipe means. Raises InputError if it asks for CUDA where there is none."""
    if recipe.device == "cpu" or (recipe.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError.about("device", recipe.device, "cpu or auto: torch finds no CUDA device here")
    return torch.device("cuda", torch.cuda.current_device())


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Let torch use so many threads, then put back what was set before."""
    before = torch.get_num_threads()
    if before == n_threads:
        yield
        return
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    parameter = next(network.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    batch = max(16, _BATCH_PIXELS.get(device.type, 1 << 16) // (images.shape[2] * images.shape[3]))
    was_training = network.training
    network.eval()
    try:
        parts = torch.split(images, batch)
        logits = torch.cat([network(to_input(part.to(device))).cpu() for part in parts])
    finally:
        network.train(was_training)
    if not torch.isfinite(logits).all():
        raise TrialError("the network's outputs hold NaN or infinite values")
    return logits
