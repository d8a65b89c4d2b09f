"""Ops to workloads: the distinct layers of a batch of candidates, and totals per network.

Candidates of one space share most of their layers. `lower` keeps each distinct loop nest once, with a sparse incidence
(network, layer, count); a simulator costs the distinct layers, and the totals are scatter-added back. Nothing here
loops over candidates or ops in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.ops import OpKind, OpTable
from simulators.accelerator import Columns
from simulators.simulator import Simulator
from simulators.workload import FloatArray, IntArray, Workload

LOOP_NESTS = (OpKind.CONV, OpKind.LINEAR, OpKind.MATMUL)
"""The ops that are loop nests of multiply-accumulates; a workload holds no others."""

_WORKLOAD_COLUMNS = {  # column of the workload: column of the op table
    "out_channels": "out_channels", "in_channels": "in_channels", "out_y": "out_height", "out_x": "out_width",
    "filter_y": "kernel_height", "filter_x": "kernel_width", "stride": "stride", "groups": "groups",
    "in_y": "in_height", "in_x": "in_width",
}  # fmt: skip

_LARGEST_RADIX = 2**62


@dataclass(frozen=True, slots=True)
class Lowered:
    """A batch of networks as distinct layers.

    Attributes:
        workload: the distinct layers, sorted by their columns, so that the order of a network's layers does not depend
            on the other networks of the batch.
        network, layer, count: shape (P,), int64: network `network[i]` has layer `layer[i]` `count[i]` times. Each
            (network, layer) pair stands once; sorted by layer, then network.
        n_networks: networks in the batch, those without any layer included.
        uncounted: number of ops, repeats included, of each kind that no loop nest stands for (`max_pool`, `add`, ...).
    """

    workload: Workload
    network: IntArray
    layer: IntArray
    count: IntArray
    n_networks: int
    uncounted: Mapping[str, int]


def lower(table: OpTable, bits: int = 8, batch: int = 1) -> Lowered:
    """The distinct layers of a batch of candidates.

    Args:
        table: ops of the candidates, in any order.
        bits: per word of inputs and weights.
        batch: images per inference.

    Raises:
        ValueError: `bits` or `batch` below 1.
    """
    if bits < 1 or batch < 1:
        raise ValueError(f"bits {bits} and batch {batch} must be at least 1")
    is_nest = np.zeros(max(OpKind) + 1, dtype=bool)
    is_nest[list(LOOP_NESTS)] = True
    rows = np.flatnonzero(is_nest[table.kind])
    columns = {name: getattr(table, source)[rows] for name, source in _WORKLOAD_COLUMNS.items()}
    network, layer, count, first = _incidence(list(columns.values()), table.candidate[rows], table.repeat[rows])
    constants = (("batch", batch), ("bits", bits), ("dilation", 1))  # an op table has no dilation
    distinct = {name: column[first] for name, column in columns.items()}
    constant = {name: np.full(len(first), value, dtype=np.int64) for name, value in constants}
    return Lowered(
        workload=Workload(**distinct, **constant),
        network=network,
        layer=layer,
        count=count,
        n_networks=table.n_candidates,
        uncounted=_uncounted(table, is_nest),
    )


def network_totals(columns: Mapping[str, FloatArray], lowered: Lowered) -> dict[str, FloatArray]:
    """Sums over the layers of each network.

    Args:
        columns: of a `CostReport`, each of shape (L, A).
        lowered: whose distinct layers were simulated.

    Returns:
        Each of shape (n_networks, A). A network's layers are added in one fixed order, so its total is the same number
        in every batch.
    """
    totals = {}
    for name, column in columns.items():
        total = np.empty((lowered.n_networks, column.shape[1]))
        for a in range(column.shape[1]):
            total[:, a] = _sum_over_networks(lowered, column[:, a][lowered.layer])
        totals[name] = total
    return totals


def paired_totals(
    simulator: Simulator, lowered: Lowered, accelerators: Columns, accelerator: IntArray
) -> dict[str, FloatArray]:
    """Sums over the layers of each network, every network on an accelerator of its own.

    Each distinct (layer, accelerator) pair is simulated once.

    Args:
        simulator: the cost model.
        lowered: the networks.
        accelerators: distinct accelerators, one array of shape (A,) per field.
        accelerator: shape (n_networks,), which of them each network runs on.

    Returns:
        The report's columns, each of shape (n_networks,).
    """
    n_accelerators = len(next(iter(accelerators.values())))
    key = lowered.layer * n_accelerators + accelerator[lowered.network]
    pairs, inverse = np.unique(key, return_inverse=True)
    workload = lowered.workload.take(pairs // n_accelerators)
    paired_with = {name: column[pairs % n_accelerators] for name, column in accelerators.items()}
    report = simulator.simulate(workload, paired_with, paired=True)
    return {name: _sum_over_networks(lowered, column[inverse]) for name, column in report.columns.items()}


def distinct_rows(columns: Sequence[NDArray[np.generic]]) -> tuple[IntArray, IntArray]:
    """Equal rows of a struct of arrays.

    Args:
        columns: at least one, all of shape (n,); numbers or text.

    Returns:
        `first`, shape (u,), one row of each kind, and `kind`, shape (n,), which of them each row equals.
    """
    ranks = [np.unique(column, return_inverse=True)[1].astype(np.int64) for column in columns]
    _, first, kind = np.unique(row_keys(ranks)[0], return_index=True, return_inverse=True)
    return first, kind


def row_keys(columns: Sequence[IntArray]) -> tuple[IntArray, int]:
    """One integer per row, equal for equal rows and ordered as the rows are (lexicographically, first column first).

    Args:
        columns: at least one, all of shape (n,), values of at least 0.

    Returns:
        Keys, shape (n,), and a number below 2**62 that all of them are smaller than.
    """
    key, radix = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        values, span = column, int(column.max(initial=0)) + 1
        if radix * span > _LARGEST_RADIX:
            key, radix = _ranks(key)
        if radix * span > _LARGEST_RADIX:
            values, span = _ranks(column)
        key, radix = key * span + values, radix * span
    return key, radix


def _ranks(values: IntArray) -> tuple[IntArray, int]:
    """Each value's place among the distinct ones, and how many there are."""
    distinct, ranks = np.unique(values, return_inverse=True)
    return ranks.astype(np.int64), len(distinct)


def _incidence(
    columns: Sequence[IntArray], candidate: IntArray, repeat: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """network, layer and count of `Lowered`, and a row that shows each distinct layer, shape (L,).

    One sort does both: by layer, then candidate.
    """
    layer_key, radix = row_keys(columns)
    if len(layer_key) == 0:
        return layer_key, layer_key, layer_key, layer_key
    n_candidates = int(candidate.max()) + 1
    if radix * n_candidates > _LARGEST_RADIX:
        layer_key, radix = _ranks(layer_key)
    key = layer_key * n_candidates + candidate
    order = np.argsort(key)
    key = key[order]
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    count = np.add.reduceat(repeat[order], starts)
    layer_key, network = np.divmod(key[starts], n_candidates)
    is_new_layer = np.append(True, layer_key[1:] != layer_key[:-1])
    return network, np.cumsum(is_new_layer) - 1, count, order[starts[is_new_layer]]


def _sum_over_networks(lowered: Lowered, values: FloatArray) -> FloatArray:
    """Sum of count x value over each network; `values` has shape (P,)."""
    total = np.bincount(lowered.network, weights=values * lowered.count, minlength=lowered.n_networks)
    return total.astype(np.float64, copy=False)


def _uncounted(table: OpTable, is_nest: NDArray[np.bool_]) -> dict[str, int]:
    totals = np.bincount(table.kind, weights=table.repeat, minlength=len(is_nest)).astype(np.int64)
    return {kind.name.lower(): int(totals[kind]) for kind in OpKind if not is_nest[kind] and totals[kind] > 0}
