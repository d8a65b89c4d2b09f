"""What a device runs of an op table: units, each with the signature that decides how long it takes.

A unit is an op with its shapes and with what runtimes fuse into it. Two rules of fusion are certain or nearly so: a
batch norm is folded into the convolution before it and costs nothing; an activation or addition right behind a
convolution (an activation right behind a linear layer) becomes part of its kernel, if the convolution's result goes
nowhere else. An op table does not say who reads what, so the second is a guess: the convolution's signature notes what
may be fused, what may be absorbed remains as a unit of its own, and the fit learns what it costs on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.lower import row_keys
from search_spaces.ops import IntArray, OpKind, OpTable

FloatArray = NDArray[np.float64]

SHAPE_COLUMNS = (
    "in_channels", "out_channels", "in_height", "in_width", "out_height", "out_width", "kernel_height", "kernel_width",
    "stride", "groups", "bias",
)  # fmt: skip
SIGNATURE_COLUMNS = ("kind", "fused", *SHAPE_COLUMNS)
"""Columns of a signature, in order."""

WITH_ACTIVATION, WITH_ADD, ABSORBED = 1, 2, 4
"""Bits of `fused`: of a convolution or linear layer, what may be part of its kernel; of another op, that it may be."""

CLASSES = (
    "convolution 1x1", "convolution", "grouped convolution", "linear", "matmul", "norm", "activation",
    "absorbed activation", "max pool", "average pool", "global pool", "add", "absorbed add", "concat", "subsample",
)  # fmt: skip
"""Kinds of units that share a correction."""
ABSORBED_CLASSES = (CLASSES.index("absorbed activation"), CLASSES.index("absorbed add"))
_CLASS_OF_KIND = {
    OpKind.CONV: "convolution", OpKind.LINEAR: "linear", OpKind.MATMUL: "matmul", OpKind.NORM: "norm",
    OpKind.ACTIVATION: "activation", OpKind.MAX_POOL: "max pool", OpKind.AVG_POOL: "average pool",
    OpKind.GLOBAL_POOL: "global pool", OpKind.ADD: "add", OpKind.CONCAT: "concat", OpKind.SUBSAMPLE: "subsample",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a batch of networks, equal ones once.

    Attributes:
        signatures: shape (S, 13), distinct rows of `SIGNATURE_COLUMNS`, sorted.
        network, signature, count: shape (P,): network `network[i]` has unit `signature[i]` `count[i]` times.
        n_networks: networks in the batch.
    """

    signatures: IntArray
    network: IntArray
    signature: IntArray
    count: IntArray
    n_networks: int

    def counts(self) -> IntArray:
        """How often each network has each unit, shape (n_networks, S)."""
        dense = np.zeros((self.n_networks, len(self.signatures)), dtype=np.int64)
        dense[self.network, self.signature] = self.count
        return dense


def units_of(table: OpTable) -> Units:
    """The units of a batch of candidates; rows of the table stand in execution order within each."""
    rows, fused = _fused(table)
    columns = [table.kind[rows], fused, *(getattr(table, name)[rows] for name in SHAPE_COLUMNS)]
    signature_key, _ = row_keys(columns)
    distinct, first, signature = np.unique(signature_key, return_index=True, return_inverse=True)
    signatures = np.stack([column[first] for column in columns], axis=1)
    pair = table.candidate[rows] * max(1, len(distinct)) + signature
    pairs, inverse = np.unique(pair, return_inverse=True)
    count = np.bincount(inverse, weights=table.repeat[rows], minlength=len(pairs)).astype(np.int64)
    network, of = np.divmod(pairs, max(1, len(distinct)))
    return Units(signatures, network, of, count, table.n_candidates)


def _fused(table: OpTable) -> tuple[IntArray, IntArray]:
    """The rows that are units, in the table's order, and what is fused in each."""
    is_folded = _follows(table, np.arange(len(table))) & (table.kind == OpKind.NORM)
    is_folded &= np.roll(table.kind, 1) == OpKind.CONV
    rows = np.flatnonzero(~is_folded)
    kind, follows = table.kind[rows], _follows(table, rows)
    is_conv, is_layer = kind == OpKind.CONV, (kind == OpKind.CONV) | (kind == OpKind.LINEAR)
    is_add = follows & (kind == OpKind.ADD) & _shifted(is_conv)
    is_activation = follows & (kind == OpKind.ACTIVATION)
    behind_layer, behind_add = is_activation & _shifted(is_layer), is_activation & _shifted(is_add)
    fused = np.where(is_add | behind_layer | behind_add, ABSORBED, 0)
    fused[:-1] += WITH_ADD * is_add[1:] + WITH_ACTIVATION * behind_layer[1:]
    fused[:-2] += WITH_ACTIVATION * behind_add[2:]
    return rows, fused


def _shifted(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of each row, the flag of the row before."""
    return np.concatenate([np.zeros(1, dtype=np.bool_), flags[:-1]])[: len(flags)]


def _follows(table: OpTable, rows: IntArray) -> NDArray[np.bool_]:
    """Whether each row may read what the row before makes: same candidate, fitting shape, equally often."""
    result = np.zeros(len(rows), dtype=np.bool_)
    before, behind = rows[:-1], rows[1:]
    result[1:] = (table.candidate[before] == table.candidate[behind]) & (table.repeat[before] == table.repeat[behind])
    for made, read in (("out_channels", "in_channels"), ("out_height", "in_height"), ("out_width", "in_width")):
        result[1:] &= getattr(table, made)[before] == getattr(table, read)[behind]
    return result


def classes_of(signatures: IntArray) -> IntArray:
    """Which of `CLASSES` each signature belongs to, shape (S,)."""
    of_kind = np.zeros(max(OpKind) + 1, dtype=np.int64)
    for op_kind, name in _CLASS_OF_KIND.items():
        of_kind[op_kind] = CLASSES.index(name)
    kind, fused = signatures[:, 0], signatures[:, 1]
    window = column(signatures, "kernel_height") * column(signatures, "kernel_width")
    result = of_kind[kind]
    is_conv = kind == OpKind.CONV
    result[is_conv & (window == 1)] = CLASSES.index("convolution 1x1")
    result[is_conv & (column(signatures, "groups") > 1)] = CLASSES.index("grouped convolution")
    is_absorbed = (fused & ABSORBED) > 0
    result[is_absorbed & (kind == OpKind.ACTIVATION)] = CLASSES.index("absorbed activation")
    result[is_absorbed & (kind == OpKind.ADD)] = CLASSES.index("absorbed add")
    return result


def column(signatures: IntArray, name: str) -> IntArray:
    """One column of signatures, shape (S,)."""
    return np.asarray(signatures[:, SIGNATURE_COLUMNS.index(name)])


def work_of(signatures: IntArray) -> FloatArray:
    """Multiply-accumulates, elements read, elements written and weights of each unit, shape (S, 4)."""
    of = {name: column(signatures, name) for name in SIGNATURE_COLUMNS}
    is_counted = np.isin(of["kind"], (OpKind.CONV, OpKind.LINEAR, OpKind.MATMUL))
    weights = of["out_channels"] * (of["in_channels"] // of["groups"]) * of["kernel_height"] * of["kernel_width"]
    pixels = of["out_height"] * of["out_width"]
    read = of["in_channels"] * of["in_height"] * of["in_width"] * np.where(of["kind"] == OpKind.ADD, 2, 1)
    macs = np.where(is_counted, pixels * weights, 0)
    return np.stack([macs, read, pixels * of["out_channels"], np.where(is_counted, weights, 0)], axis=1).astype(
        np.float64
    )


def unit_text(signature: Sequence[int]) -> str:
    """A signature for people: `convolution 3x3, 16x32x32 to 32x16x16, stride 2, with activation`."""
    of = dict(zip(SIGNATURE_COLUMNS, (int(value) for value in signature), strict=True))
    name = CLASSES[int(classes_of(np.array([signature], dtype=np.int64))[0])].removesuffix(" 1x1")
    window = f" {of['kernel_height']}x{of['kernel_width']}" if of["kernel_height"] * of["kernel_width"] > 1 else ""
    made, read = (
        "x".join(str(of[f"{side}_{axis}"]) for axis in ("channels", "height", "width")) for side in ("out", "in")
    )
    parts = [f"{name}{window}", read if made == read else f"{read} to {made}"]
    parts += [f"stride {of['stride']}"] if of["stride"] > 1 else []
    parts += ["with addition"] if of["fused"] & WITH_ADD else []
    parts += ["with activation"] if of["fused"] & WITH_ACTIVATION else []
    return ", ".join(parts)
