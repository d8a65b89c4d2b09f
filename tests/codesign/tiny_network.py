"""A small space of networks for tests of what is built on spaces: every kind of op, without torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search_spaces.ops import IntArray, OpKind, OpTable, OpTableBuilder
from search_spaces.space import Choice, Genotype, NetworkSpace


class TinyNetwork(NetworkSpace):
    """1 to 3 convolutions of 8 x 8 pixels with batch norm, perhaps a pooling, two attention products, a classifier.

    The second and third convolution are depthwise if `kind` says so. Equal networks: `kind` means nothing at depth 1.
    """

    choices = (
        Choice("channels", (4, 8, 12)),
        Choice("kernel", (1, 3, 5)),
        Choice("depth", (1, 2, 3)),
        Choice("kind", ("full", "depthwise")),
        Choice("pool", ("none", "max", "avg")),
    )

    def decode(self, code: IntArray) -> Genotype:
        return {choice.name: choice.options[int(i)] for choice, i in zip(self.choices, code, strict=True)}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        options = [(choice.options, genotype[choice.name]) for choice in self.choices]
        return np.array([values.index(value) for values, value in options], dtype=np.int64)

    def canonical(self, codes: IntArray) -> IntArray:
        result = codes.copy()
        result[result[:, 2] == 0, 3] = 0
        return result

    def ops(self, codes: IntArray) -> OpTable:
        builder = OpTableBuilder(len(codes))
        everyone = np.arange(len(codes))
        channels = np.array(self.choices[0].options, dtype=np.int64)[codes[:, 0]]
        kernel = np.array(self.choices[1].options, dtype=np.int64)[codes[:, 1]]
        image = {"in_height": 8, "in_width": 8, "out_height": 8, "out_width": 8}
        for depth in range(3):
            some = everyone[codes[:, 2] >= depth]
            inputs = np.where(depth > 0, channels, 3)[some]
            groups = np.where((codes[:, 3] == 1) & (depth > 0), channels, 1)[some]
            own: dict[str, int | IntArray] = {"out_channels": channels[some], **image}
            sides = {"kernel_height": kernel[some], "kernel_width": kernel[some]}
            builder.add(some, OpKind.CONV, f"conv {depth}", in_channels=inputs, groups=groups, **own, **sides)
            builder.add(some, OpKind.NORM, f"norm {depth}", in_channels=channels[some], **own)
        tokens = {"in_height": 8, "in_width": 8, "out_height": 8, "out_width": 8, "repeat": 2}
        builder.add(everyone, OpKind.MATMUL, "scores", in_channels=channels, out_channels=64, **tokens)
        for option, kind in ((1, OpKind.MAX_POOL), (2, OpKind.AVG_POOL)):
            some = everyone[codes[:, 4] == option]
            builder.add(some, kind, "pool", in_channels=channels[some], out_channels=channels[some], **image)
        flat = {"in_height": 1, "in_width": 1, "out_height": 1, "out_width": 1, "bias": 1}
        builder.add(everyone, OpKind.LINEAR, "classifier", in_channels=channels, out_channels=10, **flat)
        return builder.build()

    def build(self, code: IntArray) -> object:
        raise NotImplementedError("tests of costs build no module")
