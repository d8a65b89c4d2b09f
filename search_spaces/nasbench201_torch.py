"""Networks of NAS-Bench-201 cells as torch modules.

As the authors' `TinyNetwork`: a convolution of 3x3 with batch norm, three stages of equal cells, residual blocks of
stride 2 between them, batch norm, ReLU, global average pooling, a linear classifier. Convolutions in cells are ReLU,
convolution without bias, batch norm; average pools of 3x3 leave padding out of the mean.

Departure: images whose sides are no multiple of 4 (the authors have none) are halved by rounding up everywhere; the
shortcut's pool then averages what is left at the border.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from search_spaces.nasbench201_cell import EDGE_NAMES, EDGES, N_NODES, NONE, POOL
from search_spaces.nasbench201_ops import KERNELS, stages
from search_spaces.ops import IntArray


class ReluConvNorm(nn.Sequential):
    """ReLU, a convolution without bias that keeps the size up to its stride, batch norm."""

    def __init__(self, reads: int, writes: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(reads, writes, kernel, stride, kernel // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(writes))


class CellModule(nn.Module):
    """One cell: every node is the sum of its incoming edges, and nothing where all of them are zero."""

    def __init__(self, cell: IntArray, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        self._sources: list[list[tuple[str, int]]] = [[] for _ in range(N_NODES)]
        for name, (source, target), operation in zip(EDGE_NAMES, EDGES, cell.tolist(), strict=True):
            if operation == NONE:
                continue
            self._sources[target].append((name, source))
            self.edges[name] = _operation(operation, channels)

    def forward(self, images: Tensor) -> Tensor:
        """The last node, of the input's shape."""
        nodes: list[Tensor | None] = [images]
        for sources in self._sources[1:]:
            total: Tensor | None = None
            for name, source in sources:
                read = nodes[source]
                # an operation on a node that is nothing works on zeros, as in the published network
                value = cast(Tensor, self.edges[name](torch.zeros_like(images) if read is None else read))
                total = value if total is None else total + value
            nodes.append(total)
        return torch.zeros_like(images) if nodes[-1] is None else nodes[-1]


class ResidualBlock(nn.Module):
    """Two convolutions of 3x3, the first of stride 2, beside an average pool and a 1x1 convolution."""

    def __init__(self, reads: int, writes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.convs = nn.Sequential(ReluConvNorm(reads, writes, 3, stride=2), ReluConvNorm(writes, writes, 3))
        pool = nn.AvgPool2d(2, 2, ceil_mode=any(side % 2 for side in size))
        self.shortcut = nn.Sequential(pool, nn.Conv2d(reads, writes, 1, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        """Half the size."""
        return cast(Tensor, self.shortcut(images) + self.convs(images))


class NasBench201Module(nn.Module):
    """The network of one cell: images (B, C, H, W) to logits (B, classes).

    Args:
        cell: shape (6,), operation of each edge; each is built, dead or not.
        image_shape: channels, height, width.
        classes: number of logits.
        channels: of the first stage.
        depth: cells per stage.
    """

    def __init__(
        self, cell: IntArray, image_shape: tuple[int, int, int], classes: int, channels: int, depth: int
    ) -> None:
        super().__init__()
        plan = stages(image_shape, channels)
        self.stem = nn.Sequential(
            nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.stages = nn.ModuleList()
        for number, stage in enumerate(plan):
            layers: list[nn.Module] = [CellModule(cell, stage.channels) for _ in range(depth)]
            if number:
                before = plan[number - 1]
                layers.insert(0, ResidualBlock(before.channels, stage.channels, (before.height, before.width)))
            self.stages.append(nn.Sequential(*layers))
        self.norm = nn.BatchNorm2d(plan[-1].channels)
        self.classifier = nn.Linear(plan[-1].channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        features: Tensor = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        pooled = torch.relu(self.norm(features)).mean(dim=(2, 3))
        return cast(Tensor, self.classifier(pooled))


def _operation(operation: int, channels: int) -> nn.Module:
    if operation in KERNELS:
        return ReluConvNorm(channels, channels, KERNELS[operation])
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False) if operation == POOL else nn.Identity()
