"""NASNets as torch modules.

Everything is ReLU, convolution, batch norm, in this order; convolutions have no bias. Padding is symmetric, where
TensorFlow pads the right and lower edge more when it strides: shapes and counts are the same. Average pools leave
padding out of the mean. Batch-norm constants are TF-slim's: decay 0.9 and epsilon 1e-5 for the cifar stem, 0.9997 and
1e-3 for the imagenet stem. Convolutions start from He's normal distribution by fan-out; the classifiers keep torch's
initialisation, since TF-slim's makes the first logits large.

Source: Zoph et al. 2018; TF-slim's `nasnet.py` and `nasnet_utils.py`.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.nasnet_cell import N_INPUTS, Cell, NasNetGenotype
from search_spaces.nasnet_macro import (
    AUXILIARY_CHANNELS,
    AUXILIARY_STRIDE,
    AUXILIARY_WEIGHT,
    AUXILIARY_WINDOW,
    Macro,
    Site,
    Size,
)

_NORM = {"cifar": {"eps": 1e-5, "momentum": 0.1}, "imagenet": {"eps": 1e-3, "momentum": 3e-4}}
_CONV_KERNELS: dict[str, tuple[tuple[int, int], ...]] = {
    "identity": ((1, 1),),
    "conv1x1": ((1, 1),),
    "conv3x3": ((3, 3),),
    "conv1x3_3x1": ((1, 3), (3, 1)),
    "conv1x7_7x1": ((1, 7), (7, 1)),
}
_SIDE = {"3x3": 3, "5x5": 5, "7x7": 7}


class Parts:
    """Makes the convolutions and norms of one network."""

    def __init__(self, norm: dict[str, float]) -> None:
        self._norm = norm

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """A batch norm."""
        return nn.BatchNorm2d(channels, eps=self._norm["eps"], momentum=self._norm["momentum"])

    def conv(
        self, reads: int, writes: int, kernel: Size = (1, 1), stride: int = 1, groups: int = 1, dilation: int = 1
    ) -> nn.Conv2d:
        """A convolution that keeps the size, up to its stride."""
        padding = (dilation * (kernel[0] // 2), dilation * (kernel[1] // 2))
        conv = nn.Conv2d(reads, writes, kernel, stride, padding, dilation, groups, bias=False)
        return _initialised(conv)

    def project(self, reads: int, writes: int) -> nn.Sequential:
        """1x1 convolution and norm."""
        return nn.Sequential(self.conv(reads, writes), self.norm(writes))

    def operation(self, name: str, reads: int, writes: int, stride: int) -> nn.Module:
        """An operation of a block, without the ReLU that its input may need; see `needs_relu`."""
        if name.startswith("sep"):
            return self._separable(_SIDE[name[3:]], reads, writes, stride)
        if "pool" in name:
            return self._pool(name, reads, writes, stride)
        if name == "dilated3x3":
            return nn.Sequential(self.conv(reads, writes, (3, 3), stride, dilation=2), self.norm(writes))
        if name == "identity" and stride == 1 and reads == writes:
            return nn.Identity()
        first, *rest = _CONV_KERNELS[name]
        layers: list[nn.Module] = [self.conv(reads, writes, first, stride), self.norm(writes)]
        for kernel in rest:
            layers += [nn.ReLU(), self.conv(writes, writes, kernel), self.norm(writes)]
        return nn.Sequential(*layers)

    def _separable(self, side: int, reads: int, writes: int, stride: int) -> nn.Sequential:
        """Depthwise and 1x1 convolution, applied twice, the stride on the first."""
        return nn.Sequential(
            self.conv(reads, reads, (side, side), stride, groups=reads),
            self.conv(reads, writes),
            self.norm(writes),
            nn.ReLU(),
            self.conv(writes, writes, (side, side), groups=writes),
            self.conv(writes, writes),
            self.norm(writes),
        )

    def _pool(self, name: str, reads: int, writes: int, stride: int) -> nn.Module:
        side = _SIDE[name[-3:]]
        pool: nn.Module
        if name.startswith("avg"):
            pool = nn.AvgPool2d(side, stride, side // 2, count_include_pad=False)
        else:
            pool = nn.MaxPool2d(side, stride, side // 2)
        return pool if reads == writes else nn.Sequential(pool, self.conv(reads, writes), self.norm(writes))


def needs_relu(name: str, reads: int, writes: int, stride: int) -> bool:
    """Whether an operation starts with a ReLU: convolutions do, pools and a plain identity do not."""
    return "pool" not in name and not (name == "identity" and stride == 1 and reads == writes)


class FactorisedReduction(nn.Module):
    """Halves the size: one 1x1 convolution on every second pixel, one on those shifted by one, concatenated, norm."""

    def __init__(self, parts: Parts, reads: int, writes: int, size: Size) -> None:
        super().__init__()
        self.first = parts.conv(reads, writes // 2)
        self.second = parts.conv(reads, writes - writes // 2)
        self.norm = parts.norm(writes)
        self._pad = (0, size[1] % 2, 0, size[0] % 2)  # an odd size has one shifted pixel less

    def forward(self, x: Tensor) -> Tensor:
        """(B, reads, H, W) to (B, writes, ceil(H / 2), ceil(W / 2))."""
        shifted = x[:, :, 1::2, 1::2]
        if any(self._pad):
            shifted = functional.pad(shifted, self._pad)
        halves = (self.first(x[:, :, ::2, ::2]), self.second(shifted))
        return self.norm(torch.cat(halves, dim=1))  # type: ignore[no-any-return]


class Half(nn.Module):
    """One operation of a block on one state, with drop path.

    Attributes:
        source: the state it reads.
        needs_relu: whether it must be given the state's ReLU.
        keep: probability that an example keeps this branch in training.
    """

    def __init__(self, parts: Parts, name: str, source: int, reads: int, writes: int, stride: int) -> None:
        super().__init__()
        self.operation = parts.operation(name, reads, writes, stride)
        self.source = source
        self.needs_relu = needs_relu(name, reads, writes, stride)
        self.can_drop = name != "identity"
        self.keep = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """The operation's result; in training some examples' results are 0 and the others are divided by `keep`."""
        y: Tensor = self.operation(x)
        if self.training and self.can_drop and self.keep < 1:
            mask = y.new_empty((len(y), 1, 1, 1)).bernoulli_(self.keep)
            y = y * (mask / self.keep)
        return y


class CellModule(nn.Module):
    """One cell in its place.

    Attributes:
        out_channels: channels of its output.
    """

    def __init__(
        self, parts: Parts, cell: Cell, site: Site, filters: int, current_channels: int, previous_channels: int | None
    ) -> None:
        """A cell that reads outputs of so many channels; `previous_channels` is None for the first cell."""
        super().__init__()
        self.input = parts.project(current_channels, filters) if cell.reads(0) else None
        self.reads_previous = cell.reads(1)
        self.previous: nn.Module | None = None
        states = [filters, filters]
        if previous_channels is None:
            states[1] = current_channels
        elif not self.reads_previous:
            pass
        elif site.size_previous is not None and site.size_previous != site.size_in:
            self.previous = FactorisedReduction(parts, previous_channels, filters, site.size_previous)
        elif previous_channels != filters:
            self.previous = parts.project(previous_channels, filters)
        self.halves = nn.ModuleList()
        self.is_concat = [block.combine == "concat" for block in cell.blocks]
        for block, is_concat in zip(cell.blocks, self.is_concat, strict=True):
            for name, source in ((block.left_op, block.left), (block.right_op, block.right)):
                stride = 2 if site.is_reduction and source < N_INPUTS else 1
                self.halves.append(Half(parts, name, source, states[source], filters, stride))
            states.append(filters * (1 + is_concat))
        self.outputs = cell.outputs
        self.matches = nn.ModuleDict()  # inputs that are passed on, brought to the shape of the output
        for source in (state for state in cell.outputs if state < N_INPUTS):
            if site.is_reduction:
                self.matches[str(source)] = FactorisedReduction(parts, states[source], filters, site.size_in)
            elif states[source] != filters:
                self.matches[str(source)] = parts.project(states[source], filters)
        self.out_channels = sum(states[state] if state >= N_INPUTS else filters for state in cell.outputs)

    def forward(self, previous: Tensor, current: Tensor) -> Tensor:
        """The cell's output from the last output but one and the last output; one that it does not read is ignored."""
        states = [current if self.input is None else self.input(functional.relu(current))]
        states.append(previous if self.previous is None else self.previous(functional.relu(previous)))
        rectified: dict[int, Tensor] = {}
        made: list[Tensor] = []
        for module in self.halves:
            half = cast(Half, module)
            state = states[half.source]
            if half.needs_relu:
                if half.source not in rectified:
                    rectified[half.source] = functional.relu(state)
                state = rectified[half.source]
            made.append(half(state))
            if len(made) == 2:
                is_concat = self.is_concat[len(states) - N_INPUTS]
                states.append(torch.cat(made, dim=1) if is_concat else made[0] + made[1])
                made = []
        outputs = [self.matches[str(s)](states[s]) if str(s) in self.matches else states[s] for s in self.outputs]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


class AuxiliaryHead(nn.Module):
    """The classifier that training adds before the last reduction."""

    def __init__(self, parts: Parts, reads: int, classes: int, size: Size) -> None:
        super().__init__()
        narrow, wide = AUXILIARY_CHANNELS
        height, width = ((side - AUXILIARY_WINDOW) // AUXILIARY_STRIDE + 1 for side in size)
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(AUXILIARY_WINDOW, AUXILIARY_STRIDE),
            parts.conv(reads, narrow),
            parts.norm(narrow),
            nn.ReLU(),
            _initialised(nn.Conv2d(narrow, wide, (height, width), bias=False)),
            parts.norm(wide),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(wide, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, classes)."""
        return self.layers(x)  # type: ignore[no-any-return]


class NasNetModule(nn.Module):
    """A whole network.

    Attributes:
        auxiliary: the auxiliary head, or None.
        auxiliary_weight: what to multiply its loss with.
    """

    def __init__(self, genotype: NasNetGenotype, macro: Macro) -> None:
        """The network of a genotype under a plan, in training mode, weights from torch's global generator."""
        super().__init__()
        parts = Parts(_NORM[macro.stem])
        image_channels = macro.image_shape[0]
        last, older, older_before = macro.stem_filters(genotype.channels), None, None
        stride = 2 if macro.stem == "imagenet" else 1
        stem = nn.Conv2d(image_channels, last, 3, stride, padding=2 - stride, bias=False)  # imagenet: unpadded
        self.stem = nn.Sequential(_initialised(stem), parts.norm(last))
        self.cells = nn.ModuleList()
        self._reads_before_reduction: list[bool] = []
        auxiliary_channels = 0
        is_live = _live_cells(genotype, macro)
        for site in macro.sites(genotype.cells):
            if site.is_reduction:
                older_before, auxiliary_channels = older, last
            skips = macro.skip_reduction_input and site.opens_stage
            cell = genotype.reduction if site.is_reduction else genotype.normal
            filters = site.filters(genotype.channels)
            if is_live[len(self.cells)]:
                module = CellModule(parts, cell, site, filters, last, older_before if skips else older)
                self.cells.append(module)
                last, older = module.out_channels, last
            else:  # its output reaches nothing: the cells after it never look at what stands in its place
                self.cells.append(nn.Identity())
                last, older = 0, last
            self._reads_before_reduction.append(skips)
        self.dropout = nn.Dropout(1 - macro.dropout_keep) if macro.dropout_keep < 1 else nn.Identity()
        self.classifier = nn.Linear(last, macro.classes)
        self.auxiliary_weight = AUXILIARY_WEIGHT
        self.auxiliary: AuxiliaryHead | None = None
        if macro.auxiliary:
            self.auxiliary = AuxiliaryHead(parts, auxiliary_channels, macro.classes, macro.auxiliary_size)
        self._auxiliary_at = len(self.cells) - genotype.cells - 2  # the cell before the last reduction
        self._is_reduction = [site.is_reduction for site in macro.sites(genotype.cells)]
        self._drop_path_keep = macro.drop_path_keep

    def set_progress(self, fraction: float) -> None:
        """Set the drop-path probabilities for a point of training.

        Branch results in cell l of L are kept with probability 1 - fraction (l + 1) / L (1 - drop_path_keep):
        ScheduledDropPath, linear in training time and in depth.

        Args:
            fraction: of training that is done, 0..1.

        Raises:
            ValueError: the fraction is outside 0..1.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction: {fraction} is not allowed; use 0..1")
        for depth, cell in enumerate(self.cells, start=1):
            keep = 1 - fraction * depth / len(self.cells) * (1 - self._drop_path_keep)
            if isinstance(cell, CellModule):
                for half in cell.halves:
                    cast(Half, half).keep = keep

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, classes) of images; in training with an auxiliary head a pair: logits, auxiliary logits."""
        last: Tensor = self.stem(images)
        if last.device.type == "cpu":  # halves the time of a training step; the weights stay contiguous for storage
            last = last.contiguous(memory_format=torch.channels_last)
        older = older_before = last
        auxiliary: Tensor | None = None
        for i, cell in enumerate(self.cells):
            if self._is_reduction[i]:
                older_before = older
            if isinstance(cell, CellModule):
                older, last = last, cell(older_before if self._reads_before_reduction[i] else older, last)
            else:
                older = last
            if self.training and self.auxiliary is not None and i == self._auxiliary_at:
                auxiliary = self.auxiliary(last)
        features = functional.relu(last).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(features))
        return logits if auxiliary is None else (logits, auxiliary)


def _live_cells(genotype: NasNetGenotype, macro: Macro) -> list[bool]:
    """Whether each cell's output reaches a classifier, the auxiliary one included."""
    sites = macro.sites(genotype.cells)
    older = older_before = last = -1  # the stem
    inputs: list[tuple[int, int]] = []
    for place, site in enumerate(sites):
        if site.is_reduction:
            older_before = older
        inputs.append((last, older_before if macro.skip_reduction_input and site.opens_stage else older))
        older, last = last, place
    live = {len(sites) - 1} | ({len(sites) - genotype.cells - 2} if macro.auxiliary else set())
    for place in reversed(range(len(sites))):
        if place in live:
            cell = genotype.reduction if sites[place].is_reduction else genotype.normal
            live |= {source for state, source in enumerate(inputs[place]) if cell.reads(state)}
    return [place in live for place in range(len(sites))]


def _initialised(conv: nn.Conv2d) -> nn.Conv2d:
    """He's normal initialisation by fan-out; torch's own counts a depthwise fan-out `groups` times too large."""
    fan_out = conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels // conv.groups
    nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    return conv
