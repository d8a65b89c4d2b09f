"""Small torch networks that between them use what exporters and profilers trip over."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from codesign.data.dataset import Dataset, Split


class Normalised(nn.Module):
    """Raw pixels in, logits out: mean and std are buffers."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network((images - self.mean) / self.std)
        return logits


class Cell(nn.Module):
    """Two branches, added or concatenated."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch: torch.Tensor = self.norm(self.pointwise(self.depthwise(x)))
        pooled: torch.Tensor = self.pool(x)
        return x + torch.relu(branch) + pooled


class SmallCnn(nn.Module):
    """Separable, grouped and dilated convolutions, pooling, concatenation, dropout."""

    def __init__(self, channels: int = 8, cells: int = 2, in_channels: int = 3, n_classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        self.cells = nn.ModuleList([Cell(channels, 3 + 2 * (i % 2)) for i in range(cells)])
        self.reduce = nn.Conv2d(2 * channels, channels, (3, 1), stride=2, padding=2, dilation=2, groups=2)
        self.average = nn.AvgPool2d(2)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(channels, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = y = self.stem_norm(self.stem(x))
        for cell in self.cells:
            y = cell(y)
        y = self.average(self.reduce(torch.cat([first, y], dim=1)))
        return self.classifier(self.dropout(y.mean((2, 3))))  # type: ignore[no-any-return]


class SmallTransformer(nn.Module):
    """One block with attention, a class token and learned positions."""

    def __init__(self, width: int = 16, heads: int = 2, patch: int = 4, size: int = 8, n_classes: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width))
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        batch, tokens, width = x.shape
        q, k, v = (
            self.qkv(self.norm(x)).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        weights = torch.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, width))
        return self.classifier((x + self.mlp(x))[:, 0])  # type: ignore[no-any-return]


def seeded(seed: int, **options: int) -> SmallCnn:
    """A network whose batch norms are as if trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SmallCnn(**options)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    assert tensor is not None
                    nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def image_data(seed: int = 0, n_test: int = 60, dtype: type[np.generic] = np.uint8) -> Dataset:
    """Random images of 3 x 8 x 8 in 4 classes."""
    rng = np.random.default_rng(seed)
    splits = []
    for n in (30, 10, n_test):
        images = rng.integers(0, 256, size=(n, 3, 8, 8))
        splits.append(Split(images.astype(dtype), rng.integers(0, 4, size=n)))
    train, validation, test = splits
    return Dataset.of("made up", train, validation, test, classes=("a", "b", "c", "d"))


def macs_by_hooks(network: nn.Module, images: torch.Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers, per image, counted while torch runs them."""
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output[0].numel() * module.in_features

    handles = [module.register_forward_hook(count) for module in network.modules()]
    with torch.no_grad():
        network.eval()(images)
    for handle in handles:
        handle.remove()
    return total
