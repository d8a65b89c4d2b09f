"""NASNet-A as published: cells from the paper's figure 4, settings and outputs from TF-slim's `nasnet.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from search_spaces.nasnet import NasNet
from search_spaces.nasnet_cell import Block, Cell, NasNetGenotype, check_name


@dataclass(frozen=True, slots=True)
class Architecture:
    """A published network: its genotype, and the space that gives it its plan."""

    genotype: NasNetGenotype
    space: NasNet


def named(name: str) -> Architecture:
    """The published architecture of that name. Raises ValueError for an unknown one."""
    check_name("architecture", name, tuple(ARCHITECTURES))
    return ARCHITECTURES[name]


NASNET_A_NORMAL: Final = Cell(
    (
        Block(0, 1, "sep5x5", "sep3x3"),
        Block(1, 1, "sep5x5", "sep3x3"),
        Block(0, 1, "avgpool3x3", "identity"),
        Block(1, 1, "avgpool3x3", "avgpool3x3"),
        Block(0, 0, "sep3x3", "identity"),
    ),
    outputs=(1, 2, 3, 4, 5, 6),
)
"""The normal cell of NASNet-A: it also passes on state 1."""

NASNET_A_REDUCTION: Final = Cell(
    (
        Block(0, 1, "sep5x5", "sep7x7"),
        Block(0, 1, "maxpool3x3", "sep7x7"),
        Block(0, 1, "avgpool3x3", "sep5x5"),
        Block(3, 2, "identity", "avgpool3x3"),
        Block(2, 0, "sep3x3", "maxpool3x3"),
    ),
    outputs=(3, 4, 5, 6),
)
"""The reduction cell of NASNet-A: it also outputs state 3, which a block reads."""


def _nasnet_a(cells: int, channels: int, space: NasNet) -> Architecture:
    return Architecture(NasNetGenotype(NASNET_A_NORMAL, NASNET_A_REDUCTION, cells, channels), space)


ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        "nasnet-a-cifar": _nasnet_a(
            6,
            32,
            NasNet(
                image_shape=(3, 32, 32), classes=10, cells=6, channels=32, auxiliary=True, drop_path_keep=0.6
            ),
        ),
        "nasnet-a-mobile": _nasnet_a(
            4,
            44,
            NasNet(
                image_shape=(3, 224, 224), classes=1000, cells=4, channels=44, stem="imagenet", stem_multiplier=1.0,
                auxiliary=True, dropout_keep=0.5,
            ),
        ),
        "nasnet-a-large": _nasnet_a(
            6,
            168,
            NasNet(
                image_shape=(3, 331, 331), classes=1000, cells=6, channels=168, stem="imagenet",
                skip_reduction_input=True, auxiliary=True, drop_path_keep=0.7, dropout_keep=0.5,
            ),
        ),
    }
)  # fmt: skip
"""NASNet-A as published, with TF-slim's settings: 6@768 on CIFAR, 4@1056 (Mobile) and 6@4032 (Large) on ImageNet."""
