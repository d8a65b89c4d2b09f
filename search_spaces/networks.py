"""Published networks as op tables, for costing and for sizing accelerators; they are not trained here.

Layer shapes follow the papers and torchvision's layout (stride on the 3x3 of a ResNet-50 bottleneck); batch norms,
activations and pooling are listed so that nothing is left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from search_spaces.ops import IntArray, OpKind, OpTable, OpTableBuilder

_ONE: IntArray = np.zeros(1, dtype=np.int64)


class _Network:
    """Lists the ops of one network while its shape flows through."""

    def __init__(self, channels: int, size: int) -> None:
        self._builder = OpTableBuilder(1)
        self.channels, self.size = channels, size

    def add(self, kind: OpKind, label: str, **columns: int) -> None:
        shape = {
            "in_channels": self.channels, "out_channels": self.channels,
            "in_height": self.size, "in_width": self.size, "out_height": self.size, "out_width": self.size,
        }  # fmt: skip
        self._builder.add(_ONE, kind, label, **(shape | columns))

    def conv(self, label: str, out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        """A convolution padded by half its kernel, its batch norm and its activation; the shape moves on."""
        size = (self.size + 2 * (kernel // 2) - kernel) // stride + 1
        self.add(
            OpKind.CONV, label, out_channels=out, out_height=size, out_width=size, kernel_height=kernel,
            kernel_width=kernel, stride=stride, groups=groups,
        )  # fmt: skip
        self.channels, self.size = out, size
        self.add(OpKind.NORM, f"{label}, norm")
        if act:
            self.add(OpKind.ACTIVATION, f"{label}, activation")

    def pool(self, label: str, kernel: int, stride: int) -> None:
        size = (self.size + 2 * (kernel // 2) - kernel) // stride + 1
        self.add(
            OpKind.MAX_POOL, label, out_height=size, out_width=size, kernel_height=kernel, kernel_width=kernel,
            stride=stride,
        )  # fmt: skip
        self.size = size

    def head(self, classes: int) -> None:
        """Global pooling and a classifier with bias."""
        self.add(OpKind.GLOBAL_POOL, "pool", out_height=1, out_width=1)
        self.size = 1
        self.linear("classifier", self.channels, classes, 1)

    def linear(self, label: str, features: int, out: int, tokens: int, repeat: int = 1) -> None:
        self.add(
            OpKind.LINEAR, label, in_channels=features, out_channels=out, in_height=1, in_width=tokens, out_height=1,
            out_width=tokens, bias=1, repeat=repeat,
        )  # fmt: skip

    def table(self) -> OpTable:
        return self._builder.build()


def resnet18(size: int = 224, classes: int = 1000) -> OpTable:
    """ResNet-18 (He et al. 2016, table 1)."""
    return _resnet(size, classes, (2, 2, 2, 2), is_bottleneck=False)


def resnet50(size: int = 224, classes: int = 1000) -> OpTable:
    """ResNet-50 (He et al. 2016, table 1), stride on the 3x3 convolution."""
    return _resnet(size, classes, (3, 4, 6, 3), is_bottleneck=True)


def _resnet(size: int, classes: int, depths: tuple[int, ...], *, is_bottleneck: bool) -> OpTable:
    net = _Network(3, size)
    net.conv("stem", 64, 7, 2)
    net.pool("stem, pool", 3, 2)
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        out = width * 4 if is_bottleneck else width
        for block in range(depth):
            label, stride = f"stage {stage + 1}, block {block + 1}", 2 if block == 0 and stage > 0 else 1
            entered = net.channels, net.size
            if is_bottleneck:
                net.conv(f"{label}, reduce", width, 1)
                net.conv(f"{label}, conv", width, 3, stride)
                net.conv(f"{label}, expand", out, 1, act=False)
            else:
                net.conv(f"{label}, conv 1", width, 3, stride)
                net.conv(f"{label}, conv 2", width, 3, act=False)
            left = net.size
            if stride > 1 or entered[0] != out:
                net.channels, net.size = entered
                net.conv(f"{label}, shortcut", out, 1, stride, act=False)
            net.channels, net.size = out, left
            net.add(OpKind.ADD, f"{label}, add")
            net.add(OpKind.ACTIVATION, f"{label}, activation")
    net.head(classes)
    return net.table()


def mobilenetv2(size: int = 224, classes: int = 1000) -> OpTable:
    """MobileNetV2 at width 1 (Sandler et al. 2018, table 2)."""
    net = _Network(3, size)
    net.conv("stem", 32, 3, 2)
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for stage, (expansion, out, depth, first_stride) in enumerate(stages):
        for block in range(depth):
            label, stride = f"stage {stage + 1}, block {block + 1}", first_stride if block == 0 else 1
            entered, hidden = net.channels, net.channels * expansion
            if expansion > 1:
                net.conv(f"{label}, expand", hidden, 1)
            net.conv(f"{label}, depthwise", hidden, 3, stride, groups=hidden)
            net.conv(f"{label}, project", out, 1, act=False)
            if stride == 1 and entered == out:
                net.add(OpKind.ADD, f"{label}, add")
    net.conv("last", 1280, 1)
    net.head(classes)
    return net.table()


def vit_tiny(size: int = 224, classes: int = 1000) -> OpTable:
    """ViT-Tiny with patches of 16 x 16 (Touvron et al. 2021, table 1): width 192, 3 heads, 12 blocks.

    Attention products are MATMUL, once per head. Class token and positions are parameters of no op.
    """
    width, heads, depth = 192, 3, 12
    grid = size // 16
    tokens = grid * grid + 1
    net = _Network(3, size)
    patches = {"out_channels": width, "out_height": grid, "out_width": grid, "kernel_height": 16, "kernel_width": 16}
    net.add(OpKind.CONV, "patches", **patches, stride=16, bias=1)
    flat = {"in_channels": width, "out_channels": width, "in_height": 1, "out_height": 1}
    flat |= {"in_width": tokens, "out_width": tokens}
    head = {"in_height": 1, "out_height": 1, "in_width": tokens, "out_width": tokens, "repeat": heads * depth}
    net.add(OpKind.NORM, "blocks, norm", **flat, repeat=2 * depth)
    net.linear("blocks, queries, keys and values", width, 3 * width, tokens, depth)
    net.add(OpKind.MATMUL, "blocks, scores", in_channels=width // heads, out_channels=tokens, **head)
    net.add(OpKind.ACTIVATION, "blocks, softmax", in_channels=tokens, out_channels=tokens, **head)
    net.add(OpKind.MATMUL, "blocks, mix", in_channels=tokens, out_channels=width // heads, **head)
    net.linear("blocks, projection", width, width, tokens, depth)
    net.linear("blocks, expand", width, 4 * width, tokens, depth)
    wide = flat | {"in_channels": 4 * width, "out_channels": 4 * width}
    net.add(OpKind.ACTIVATION, "blocks, activation", **wide, repeat=depth)
    net.linear("blocks, contract", 4 * width, width, tokens, depth)
    net.add(OpKind.ADD, "blocks, add", **flat, repeat=2 * depth)
    net.add(OpKind.NORM, "norm", **flat)
    net.linear("classifier", width, classes, 1)
    return net.table()


NETWORKS: Mapping[str, Callable[[int, int], OpTable]] = {
    "mobilenetv2": mobilenetv2,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "vit-tiny": vit_tiny,
}
"""Name -> op table of a network for square images of a size and a number of classes."""
