"""What an ONNX file costs, layer by layer, on simulated accelerators and on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from codesign.cost import Target
from codesign.errors import InputError
from codesign.latency import Latency, RuntimeTarget
from codesign.lower import lower, network_totals
from codesign.shapes import GivenShape
from search_spaces.ops import OpKind, OpTable
from simulators.accelerator import check_values, columns


@dataclass(frozen=True, slots=True)
class Layer:
    """One op of the file.

    Attributes:
        name: the node's name.
        kind: of op, as `conv` or `linear`.
        shape_in, shape_out: channels, height, width; a product's columns stand as its width.
        macs, params: of this op, repeats included.
        activation_bytes: inputs and outputs together.
        costs: `<metric>@<target>` for every simulated target; all zero for ops that are no loop nests.
    """

    name: str
    kind: str
    shape_in: tuple[int, int, int]
    shape_out: tuple[int, int, int]
    macs: int
    params: int
    activation_bytes: float
    costs: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Profile:
    """The cost of an ONNX file; counted as `search_spaces.ops` and `codesign.cost` count during a search.

    Attributes:
        model: the file.
        inputs: shape of every input, as assumed.
        layers: one per op, in the file's order.
        metrics: totals: `macs` and `params`; `weight_bytes`, params x bits / 8; `activation_bytes`, the largest sum of
            one op's inputs and outputs; `stored_bytes`, the file's tensors as they are; `<metric>@<target>`.
        measured: per onnxruntime target, its latency with interval; the median stands in `metrics` too.
        bits, batch: what the simulated figures assume.
        uncounted: number of nodes per op type that no figure covers, measured latency apart.
        notes: what each simulator leaves out, and which of the ops it costs nothing.
    """

    model: str
    inputs: Mapping[str, tuple[int, ...]]
    layers: tuple[Layer, ...]
    metrics: Mapping[str, float]
    measured: Mapping[str, Latency]
    bits: int
    batch: int
    uncounted: Mapping[str, int]
    notes: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, object]:
        """All of it as JSON holds it."""
        return asdict(self)


def profile(
    path: str | Path,
    targets: Mapping[str, Target | RuntimeTarget] | None = None,
    *,
    shape: GivenShape = None,
    bits: int = 8,
    batch: int = 1,
) -> Profile:
    """Profile any ONNX file.

    Args:
        path: the file.
        targets: by name, as in `latency_ms@<name>`.
        shape: whole shapes of the inputs; needed where more than their first axis is free.
        bits: per weight and activation, for bytes and simulators.
        batch: images per inference, for activation bytes and simulators. `macs` are per image.

    Raises:
        InputError: the file cannot be read or run, a shape is missing, or a target's value is wrong.
    """
    from codesign.read_onnx import read_ops

    targets = targets or {}
    ops = read_ops(path, shape)
    table = ops.table
    elements = table.elements_in() + table.elements_out()
    metrics: dict[str, float] = {
        "macs": float(table.macs().sum()),
        "params": float(ops.total_params),
        "weight_bytes": ops.total_params * bits / 8,
        "activation_bytes": float(elements.max(initial=0)) * batch * bits / 8,
        "stored_bytes": float(ops.stored_bytes),
    }
    costs: list[dict[str, float]] = [{} for _ in range(len(table))]
    notes: list[str] = []
    measured: dict[str, Latency] = {}
    for name, target in targets.items():
        if isinstance(target, RuntimeTarget):
            measured[name] = _measure(Path(path), target, shape)
            metrics[f"latency_ms@{name}"] = measured[name].latency_ms
            continue
        per_layer, totals, left_out = _simulate(table, target, bits, batch)
        metrics |= {f"{metric}@{name}": value for metric, value in totals.items()}
        for row, cost in enumerate(costs):
            cost |= {f"{metric}@{name}": float(values[row]) for metric, values in per_layer.items()}
        notes += [f"{name}: {phrase}" for phrase in left_out]
    return Profile(
        model=str(path),
        inputs=ops.inputs,
        layers=tuple(_layers(table, ops.params.tolist(), (elements * batch * bits / 8).tolist(), costs)),
        metrics=metrics,
        measured=measured,
        bits=bits,
        batch=batch,
        uncounted=ops.uncounted,
        notes=tuple(notes + [f"macs: {count} {kind} ops have none" for kind, count in lower(table).uncounted.items()]),
    )


def _measure(path: Path, target: RuntimeTarget, shape: GivenShape) -> Latency:
    from codesign.latency_onnx import measure

    [latency] = measure([path], batch=target.batch, threads=target.threads, readings=target.readings, shape=shape)
    return latency


def _simulate(
    table: OpTable, target: Target, bits: int, batch: int
) -> tuple[dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]], dict[str, float], tuple[str, ...]]:
    """Costs per row, each of shape (L,), totals, and what the simulator leaves out."""
    simulator = target.simulator
    try:
        values = check_values(simulator.fields, target.values, f"targets.{target.name}")
    except ValueError as error:
        raise InputError(str(error)) from error
    accelerator = columns(simulator.fields, [values])
    # Every row as a network of its own, for its share; the whole as one network, for the total that a search computes.
    rows = OpTable(
        **{name: getattr(table, name) for name in OpTable.__slots__}
        | {
            "n_candidates": len(table),
            "candidate": np.arange(len(table), dtype=np.int64),
        }
    )
    lowered, by_row = lower(table, bits, batch), lower(rows, bits, batch)
    report = simulator.simulate(lowered.workload, accelerator)
    row_report = simulator.simulate(by_row.workload, accelerator)
    totals = {name: float(total[0, 0]) for name, total in network_totals(report.columns, lowered).items()}
    totals |= {name: float(own[0]) for name, own in report.per_accelerator.items()}
    shares = {name: share[:, 0] for name, share in network_totals(row_report.columns, by_row).items()}
    return shares, totals, report.uncounted


def _layers(
    table: OpTable, params: list[int], activation_bytes: list[float], costs: list[dict[str, float]]
) -> list[Layer]:
    macs = table.macs().tolist()
    return [
        Layer(
            name=table.labels[int(table.label[i])],
            kind=OpKind(int(table.kind[i])).name.lower(),
            shape_in=(int(table.in_channels[i]), int(table.in_height[i]), int(table.in_width[i])),
            shape_out=(int(table.out_channels[i]), int(table.out_height[i]), int(table.out_width[i])),
            macs=macs[i],
            params=params[i],
            activation_bytes=activation_bytes[i],
            costs=costs[i],
        )
        for i in range(len(table))
    ]
