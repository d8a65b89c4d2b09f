"""Ops: what a network computes, as a struct of arrays over a whole batch of candidates.

One row per op. Spaces emit the table without torch; profilers count MACs and parameters from it, and
`codesign.lower` turns it into a workload for the simulators.

Counting conventions (the ones that reproduce published figures): MACs are the multiply-accumulates of
convolutions and linear layers alone; parameters are trainable ones (batch-norm scale and shift, not its
running statistics).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


class OpKind(IntEnum):
    """What an op computes. Only CONV, LINEAR and MATMUL have MACs; CONV, LINEAR and NORM have parameters."""

    CONV = 0
    LINEAR = 1
    MATMUL = 2  # two activations, as in attention: in_channels = K, out_channels = N, out_height x out_width = M
    NORM = 3
    ACTIVATION = 4
    MAX_POOL = 5
    AVG_POOL = 6
    GLOBAL_POOL = 7
    ADD = 8
    CONCAT = 9
    SUBSAMPLE = 10  # keeps every stride-th pixel: the 1x1 pooling of a factorised reduction


@dataclass(frozen=True, slots=True)
class OpTable:
    """The ops of a batch of candidates, in execution order within each candidate.

    Every array has shape (L,) and dtype int64, one row per op. Spatial sizes are unpadded.

    Attributes:
        n_candidates: how many candidates the table describes.
        candidate: which candidate the op belongs to, 0..n_candidates-1.
        kind: an `OpKind`.
        in_channels, out_channels: channels (LINEAR: features; ADD and CONCAT: those of the result).
        in_height, in_width, out_height, out_width: spatial size (LINEAR: 1 x 1, or 1 x tokens).
        kernel_height, kernel_width, stride, groups: 1 where they mean nothing.
        bias: 1 if the op has a bias vector of `out_channels` values, else 0.
        repeat: how many times this very op occurs (at least 1).
        label: index into `labels`, a readable place such as "cell 3, block 1, left: sep3x3".
        labels: the names that `label` points to.
    """

    n_candidates: int
    candidate: IntArray
    kind: IntArray
    in_channels: IntArray
    out_channels: IntArray
    in_height: IntArray
    in_width: IntArray
    out_height: IntArray
    out_width: IntArray
    kernel_height: IntArray
    kernel_width: IntArray
    stride: IntArray
    groups: IntArray
    bias: IntArray
    repeat: IntArray
    label: IntArray
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kind)

    def macs(self) -> IntArray:
        """Multiply-accumulates per row, shape (L,), repeats included."""
        pixels = self.out_height * self.out_width
        conv = self.out_channels * (self.in_channels // self.groups) * self.kernel_height * self.kernel_width
        counted = np.isin(self.kind, (OpKind.CONV, OpKind.LINEAR, OpKind.MATMUL))
        return np.where(counted, pixels * conv * self.repeat, 0)

    def params(self) -> IntArray:
        """Trainable parameters per row, shape (L,), repeats included."""
        weights = self.out_channels * (self.in_channels // self.groups) * self.kernel_height * self.kernel_width
        bias = self.bias * self.out_channels
        is_weighted = np.isin(self.kind, (OpKind.CONV, OpKind.LINEAR))
        per_row = np.where(is_weighted, weights + bias, np.where(self.kind == OpKind.NORM, 2 * self.out_channels, 0))
        return per_row * self.repeat

    def elements_in(self) -> IntArray:
        """Activation elements read per single op, shape (L,)."""
        operands = np.where(self.kind == OpKind.ADD, 2, 1)
        return self.in_channels * self.in_height * self.in_width * operands

    def elements_out(self) -> IntArray:
        """Activation elements written per single op, shape (L,)."""
        return self.out_channels * self.out_height * self.out_width

    def per_candidate(self, values: IntArray) -> IntArray:
        """Sum of a per-row quantity over each candidate, shape (n_candidates,). Exact for integers."""
        total = np.zeros(self.n_candidates, dtype=values.dtype)
        np.add.at(total, self.candidate, values)
        return total

    def max_per_candidate(self, values: IntArray) -> IntArray:
        """Largest per-row value of each candidate, shape (n_candidates,)."""
        largest = np.zeros(self.n_candidates, dtype=values.dtype)
        np.maximum.at(largest, self.candidate, values)
        return largest

    def select(self, rows: NDArray[np.bool_] | IntArray) -> OpTable:
        """The given rows as a table of the same candidates."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return OpTable(n_candidates=self.n_candidates, labels=self.labels, **columns)

    def rows(self) -> Iterator[dict[str, int | str]]:
        """One readable record per op, for listings."""
        for i in range(len(self)):
            record: dict[str, int | str] = {name: int(getattr(self, name)[i]) for name in COLUMNS}
            record["kind"] = OpKind(int(self.kind[i])).name.lower()
            record["label"] = self.labels[int(self.label[i])] if self.labels else ""
            yield record


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(OpTable) if f.name not in ("n_candidates", "labels"))
"""The array columns of an `OpTable`, in order."""


class OpTableBuilder:
    """Collects blocks of op rows and joins them into one `OpTable`, sorted by candidate, order kept."""

    def __init__(self, n_candidates: int) -> None:
        self._n_candidates = n_candidates
        self._blocks: list[dict[str, IntArray]] = []
        self._labels: dict[str, int] = {}

    def add(self, candidates: IntArray, kind: OpKind, label: str, **columns: int | IntArray) -> None:
        """Append one op for each of the given candidates.

        Args:
            candidates: shape (k,), the candidates that have this op.
            kind: what it computes.
            label: a readable place.
            columns: the remaining columns of `OpTable`, scalars or arrays of shape (k,); `kernel_*`, `stride`,
                `groups` and `repeat` default to 1, `bias` to 0.
        """
        if len(candidates) == 0:
            return
        values: dict[str, int | IntArray] = {
            "kernel_height": 1, "kernel_width": 1, "stride": 1, "groups": 1, "bias": 0, "repeat": 1,
            **columns,
            "candidate": candidates, "kind": int(kind), "label": self._labels.setdefault(label, len(self._labels)),
        }  # fmt: skip
        block = {name: np.broadcast_to(np.asarray(values[name], dtype=np.int64), candidates.shape) for name in COLUMNS}
        self._blocks.append(block)

    def build(self) -> OpTable:
        """The finished table."""
        if self._blocks:
            joined = {name: np.concatenate([block[name] for block in self._blocks]) for name in COLUMNS}
            order = np.argsort(joined["candidate"], kind="stable")
            joined = {name: column[order] for name, column in joined.items()}
        else:
            joined = {name: np.zeros(0, dtype=np.int64) for name in COLUMNS}
        return OpTable(n_candidates=self._n_candidates, labels=tuple(self._labels), **joined)


def total_macs(table: OpTable) -> IntArray:
    """MACs of each candidate, shape (n_candidates,)."""
    return table.per_candidate(table.macs())


def total_params(table: OpTable) -> IntArray:
    """Trainable parameters of each candidate, shape (n_candidates,)."""
    return table.per_candidate(table.params())


def join_labels(parts: Iterable[str]) -> str:
    """A label from its non-empty parts."""
    return ", ".join(part for part in parts if part)
