"""The fixed part of a NASNet: stem, places of the cells, sizes, filters.

Follows TF-slim's `nasnet.py`: N normal cells, then twice a reduction cell and N normal cells. Filters double wherever
the size halves. An ImageNet stem is a strided convolution and two reduction cells at F/4 and F/2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from search_spaces.nasnet_cell import check_name

Stem = Literal["cifar", "imagenet"]
Size = tuple[int, int]
"""Height and width in pixels."""

STEMS: Final = ("cifar", "imagenet")
N_STAGES: Final = 3
AUXILIARY_WINDOW: Final = 5
AUXILIARY_STRIDE: Final = 3
AUXILIARY_CHANNELS: Final = (128, 768)
AUXILIARY_WEIGHT: Final = 0.4
"""Weight of the auxiliary head's loss in training."""


@dataclass(frozen=True, slots=True)
class Site:
    """The place of one cell.

    Attributes:
        name: such as "stage 1 cell 0".
        stage: 0, 1 or 2; stem cells belong to stage 0.
        index: of a normal cell within its stage; -1 for a reduction cell.
        quarters: filters in quarters of F: 4 means F.
        size_in, size_out: of the current input and of the cell's output.
        size_previous: of state 1 before it is brought to `size_in`; None for the first cell, whose state 1 is its
            current input.
    """

    name: str
    stage: int
    index: int
    quarters: int
    size_in: Size
    size_out: Size
    size_previous: Size | None

    @property
    def is_reduction(self) -> bool:
        """Whether it holds the reduction cell."""
        return self.index < 0

    @property
    def opens_stage(self) -> bool:
        """Whether it is the normal cell that follows a reduction of stage 1 or 2."""
        return self.stage > 0 and self.index == 0

    def filters(self, channels: int) -> int:
        """Filters of the cell's operations for F = `channels`."""
        return channels * self.quarters // 4


@dataclass(frozen=True, slots=True)
class Macro:
    """Settings that every network of a space shares; `NasNet` documents them."""

    image_shape: tuple[int, int, int]
    classes: int
    stem: Stem = "cifar"
    stem_multiplier: float = 3.0
    skip_reduction_input: bool = False
    auxiliary: bool = False
    drop_path_keep: float = 1.0
    dropout_keep: float = 1.0

    def __post_init__(self) -> None:
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape: {self.image_shape} is not allowed; use (channels, height, width), all >= 1")
        if self.classes < 1:
            raise ValueError(f"classes: {self.classes} is not allowed; use at least 1")
        check_name("stem", self.stem, STEMS)
        if not self.stem_multiplier > 0:
            raise ValueError(f"stem_multiplier: {self.stem_multiplier} is not allowed; use a number above 0")
        for key, keep in (("drop_path_keep", self.drop_path_keep), ("dropout_keep", self.dropout_keep)):
            if not 0 < keep <= 1:
                raise ValueError(f"{key}: {keep} is not allowed; use a probability above 0 and up to 1")
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Every reduction must have something to reduce, and the auxiliary head something to pool."""
        height, width = self.image_shape[1:]
        if min(self.stem_size) < 1:
            raise ValueError(f"image_shape: {height} x {width} pixels are too few for the imagenet stem's convolution")
        for site in self.sites(1):
            if site.is_reduction and min(site.size_in) < 2:
                raise ValueError(
                    f"image_shape: {height} x {width} pixels are too few; {site.name} would have to halve "
                    f"{site.size_in[0]} x {site.size_in[1]} (the {self.stem} stem needs at least {self._least_side()})"
                )
        if self.auxiliary and min(self.auxiliary_size) < AUXILIARY_WINDOW:
            raise ValueError(
                f"auxiliary: the auxiliary head pools {AUXILIARY_WINDOW} x {AUXILIARY_WINDOW} pixels, and images of "
                f"{height} x {width} leave it {self.auxiliary_size[0]} x {self.auxiliary_size[1]}; use false"
            )

    def _least_side(self) -> int:
        n_halvings = N_STAGES - 1 + (2 if self.stem == "imagenet" else 0)
        side = (1 << n_halvings - 1) + 1  # one pixel more than what the earlier halvings bring to 1
        return 2 * side + 1 if self.stem == "imagenet" else side

    @property
    def stem_size(self) -> Size:
        """Size after the stem's convolution: unpadded with stride 2, or padded with stride 1."""
        height, width = self.image_shape[1:]
        return ((height - 1) // 2, (width - 1) // 2) if self.stem == "imagenet" else (height, width)

    def stem_filters(self, channels: int) -> int:
        """Filters of the stem's convolution for F = `channels`."""
        return int((32 if self.stem == "imagenet" else channels) * self.stem_multiplier)

    def check_channels(self, channels: int) -> None:
        """Raise ValueError unless every cell and the stem's convolution have filters for F = `channels`."""
        if self.stem == "imagenet" and channels % 4:
            raise ValueError(f"channels: {channels} is not allowed; the stem cells have F / 4: use a multiple of 4")
        if self.stem_filters(channels) < 1:
            raise ValueError(
                f"stem_multiplier: {self.stem_multiplier} leaves the stem without filters; use a larger number"
            )

    @property
    def auxiliary_size(self) -> Size:
        """Size of what the auxiliary head reads: the output of the cell before the last reduction."""
        return [site for site in self.sites(1) if not site.is_reduction][-2].size_out

    def sites(self, cells: int) -> tuple[Site, ...]:
        """The places of all cells, in order, for `cells` normal cells between reductions."""
        return tuple(self._walk(cells))

    def _walk(self, cells: int) -> Iterator[Site]:
        plan = [(f"stem cell {i}", 0, -1, 2**i) for i in range(2)] if self.stem == "imagenet" else []
        for stage in range(N_STAGES):
            plan += [(f"reduction {stage - 1}", stage, -1, 4 << stage)] if stage else []
            plan += [(f"stage {stage} cell {i}", stage, i, 4 << stage) for i in range(cells)]
        older: Size | None = None  # of the last output but one
        size = self.stem_size
        for name, stage, index, quarters in plan:
            size_out = ((size[0] + 1) // 2, (size[1] + 1) // 2) if index < 0 else size
            yield Site(name, stage, index, quarters, size, size_out, older)
            older, size = size, size_out
