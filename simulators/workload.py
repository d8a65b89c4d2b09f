"""Workloads: layers as loop nests, a struct of arrays.

A layer is the loop nest B x K x C x OY x OX x FY x FX: for each image of the batch, each output channel, each input
channel, each output pixel and each filter tap, one multiply-accumulate. A matrix product M x K times K x N is the layer
with out_y = M, out_channels = N, in_channels = K, and everything else 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Workload:
    """Distinct layers, one row each; every array has shape (L,) and dtype int64.

    Attributes:
        batch: images (B).
        out_channels: output channels of the whole layer (K), all groups.
        in_channels: input channels of the whole layer (C), all groups.
        out_y, out_x: output pixels (OY, OX).
        filter_y, filter_x: filter taps (FY, FX).
        stride: in both directions.
        groups: independent groups; a depthwise layer has groups = in_channels = out_channels.
        bits: bits per word of inputs and weights.
        in_y, in_x: input pixels that exist; where windows reach beyond them there is padding, or a partial last window.
        dilation: distance between neighbouring filter taps, in both directions.
    """

    batch: IntArray
    out_channels: IntArray
    in_channels: IntArray
    out_y: IntArray
    out_x: IntArray
    filter_y: IntArray
    filter_x: IntArray
    stride: IntArray
    groups: IntArray
    bits: IntArray
    in_y: IntArray
    in_x: IntArray
    dilation: IntArray

    def __len__(self) -> int:
        return len(self.batch)

    @classmethod
    def from_layers(cls, **columns: object) -> Workload:
        """A workload from scalars and arrays that are broadcast together.

        Absent columns are 1 (bits 8); absent `in_y` and `in_x` are as large as the windows reach, without padding.

        Raises:
            ValueError: an unknown column, a value below 1, or groups that do not divide the channels.
        """
        defaults: dict[str, object] = {f.name: 8 if f.name == "bits" else 1 for f in fields(cls)}
        unknown = set(columns) - set(defaults)
        if unknown:
            raise ValueError(f"unknown workload column {sorted(unknown)[0]!r}; columns are {', '.join(defaults)}")
        given = defaults | columns
        arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, dtype=np.int64)) for v in given.values()))
        named = dict(zip(defaults, arrays, strict=True))
        for axis in ("y", "x"):
            if f"in_{axis}" not in columns:
                named[f"in_{axis}"] = _reach(
                    named[f"out_{axis}"], named[f"filter_{axis}"], named["stride"], named["dilation"]
                )
        if any((column < 1).any() for column in named.values()):
            raise ValueError("every workload column must be at least 1")
        if (named["in_channels"] % named["groups"]).any() or (named["out_channels"] % named["groups"]).any():
            raise ValueError("groups must divide in_channels and out_channels")
        return cls(**named)

    @property
    def reach_y(self) -> IntArray:
        """Rows from the first tap of the first window to the last tap of the last one, padding included, shape (L,)."""
        return _reach(self.out_y, self.filter_y, self.stride, self.dilation)

    @property
    def reach_x(self) -> IntArray:
        """As `reach_y`, for the pixels of a row."""
        return _reach(self.out_x, self.filter_x, self.stride, self.dilation)

    @property
    def macs(self) -> IntArray:
        """Multiply-accumulates per layer, shape (L,)."""
        window = (self.in_channels // self.groups) * self.filter_y * self.filter_x
        return self.batch * self.out_channels * self.out_y * self.out_x * window

    def take(self, rows: IntArray) -> Workload:
        """The given rows, which may repeat."""
        return Workload(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def _reach(out: IntArray, taps: IntArray, stride: IntArray, dilation: IntArray) -> IntArray:
    return (out - 1) * stride + (taps - 1) * dilation + 1
