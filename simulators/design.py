"""Design models: whatever gives figures to a batch of designs, be they accelerators, memory controllers or mappings.

A `Simulator` costs layers on accelerators; here the workload (a trace, a task graph, a network) is part of the model,
so that every design problem looks alike to an environment, a search or a learned proxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from simulators.accelerator import Columns, Field, HasFields, Preset, Value, check_values, columns, count_accelerators
from simulators.report import CostReport
from simulators.simulator import Simulator
from simulators.workload import FloatArray, IntArray, Workload


@dataclass(frozen=True, slots=True)
class DesignReport:
    """Figures of A designs.

    Attributes:
        metrics: by name with unit (`latency_ns`, `energy_pj`, `area_mm2`), each of shape (A,); NaN where a design
            cannot work, never a number that stands for failure.
        reasons: A texts, "" for a design that works, else why it cannot.
        uncounted: what the model leaves out of every figure, as short phrases.
    """

    metrics: Mapping[str, FloatArray]
    reasons: Sequence[str]
    uncounted: tuple[str, ...] = field(default=())


class DesignModel(HasFields, Protocol):
    """A pure function from designs to figures, vectorised over designs."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, with units; all of them are costs, the smaller the better, or neutral counts."""
        ...

    def evaluate(self, designs: Columns) -> DesignReport:
        """Figures of designs.

        Args:
            designs: one array of shape (A,) for each of `fields`, as `accelerator.columns` makes them; A may be 0.

        Raises:
            ValueError: a column is missing or shapes differ.
        """
        ...


@dataclass(frozen=True)
class OnWorkload:
    """A simulator with a fixed network as a design model: figures of whole networks on each accelerator.

    Attributes:
        simulator: the cost model.
        workload: the network's distinct layers.
        count: shape (L,), how often each layer occurs; None means once each.
    """

    simulator: Simulator
    workload: Workload
    count: IntArray | None = None

    def __post_init__(self) -> None:
        """Refuse counts that do not fit the layers."""
        if self.count is not None and self.count.shape != (len(self.workload),):
            raise ValueError(f"count has shape {self.count.shape}, the workload {len(self.workload)} layers")

    @property
    def id(self) -> str:
        """The simulator's id."""
        return self.simulator.id

    @property
    def fields(self) -> tuple[Field, ...]:
        """The simulator's fields."""
        return self.simulator.fields

    @property
    def metrics(self) -> tuple[str, ...]:
        """The simulator's metrics."""
        return self.simulator.metrics

    def evaluate(self, designs: Columns) -> DesignReport:
        """Layer figures times counts, summed over the network; see `DesignModel.evaluate`."""
        report: CostReport = self.simulator.simulate(self.workload, designs)
        n_designs = count_accelerators(self.fields, designs)
        count = np.ones(len(self.workload)) if self.count is None else self.count.astype(np.float64)
        totals = {name: _in_order(count, column) for name, column in report.columns.items()}
        metrics = {name: (totals | dict(report.per_accelerator))[name] for name in self.metrics}
        return DesignReport(metrics, [""] * n_designs, report.uncounted)


def _in_order(count: FloatArray, column: FloatArray) -> FloatArray:
    """Sum of count x row over the layers, shape (A,): always in one order, where a matrix product's depends on A."""
    total = np.zeros(column.shape[1])
    for n, row in zip(count, column, strict=True):
        total += n * row
    return total


def whole_space(model: DesignModel) -> Preset:
    """A preset that searches every field of a model over all values it allows; the base design has the defaults.

    Raises:
        ValueError: a field allows values without end; list options in a preset.
    """
    for f in model.fields:
        if not f.allowed:
            raise ValueError(f"{model.id}.{f.name} may be any {f.kind}; list its options in a preset")
    values = {f.name: f.default for f in model.fields}
    search = {f.name: f.allowed for f in model.fields if len(f.allowed) > 1}
    return Preset("whole-space", model.id, "every field, every value", values, search)


def design_columns(fields: Sequence[Field], base: Mapping[str, Value], searched: Columns) -> Columns:
    """Designs that share everything but the searched fields.

    Args:
        fields: of the model.
        base: values of one design; absent fields take their defaults.
        searched: field -> values, each of shape (A,).

    Raises:
        ValueError: an unknown field, a wrong value or shapes that differ.
    """
    for name in searched:
        check_values(fields, {name: base.get(name, next((f.default for f in fields if f.name == name), 0))})
    n_designs = len(next(iter(searched.values()))) if searched else 1
    shared = columns(fields, [check_values(fields, base)])
    every = {name: np.repeat(value, n_designs) for name, value in shared.items()}
    every |= {name: np.asarray(values).astype(every[name].dtype.type) for name, values in searched.items()}
    count_accelerators(fields, every)
    return every
