"""Mapping one layer as a design problem: every choice of the mapping, and the number of PEs, is a field.

This is the problem of GAMMA (Kao and Krishna, ICCAD 2020) and of ArchGym's MAESTRO environment, stated so that a design
means one mapping and every mapping of the space is some design. Time is cut into tiers: tier 0 are the loops inside the
innermost buffers, the last tier those inside the outermost memories. With d a loop of the layer that is longer than 1:

- `pes_A`: PEs along array dimension A; `parallel_A`: the loop unrolled over it;
- `tile_T_d`: iterations of loop d in tier T, a divisor of the loop; a tile that is larger than what is left of the loop
  ends with it, and the last tier takes what the others leave;
- `order_T_i`: which of the loops not yet placed in tier T comes next, counted from 0, from the inside out. The numbers
  are those of a Lehmer code: every order of n loops is exactly one choice of n - 1 of them.

Registers in the PEs are no tier: they keep as many of the innermost loops as they hold.

A design whose tiles do not fit a memory has no figures (NaN) and says why. Figures are those of `spatial_evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.accelerator import Columns, Field, Value, columns, count_accelerators
from simulators.design import DesignReport
from simulators.mapping import Mapping as LoopMapping
from simulators.networks import load_network
from simulators.spatial_allocate import allocate
from simulators.spatial_cost import Numbers
from simulators.spatial_evaluate import BLOCK, NestCosts, evaluate
from simulators.spatial_hierarchy import DIMENSIONS, OPERANDS, Hierarchy, load_hierarchy
from simulators.spatial_nest import PAD, Layers, Nests, drain, fan_out, fractional, layers_of, mapping_at
from simulators.spatial_numbers import REGISTERS, SIZES, WIDTHS, area_mm2, numbers_for
from simulators.workload import FloatArray, IntArray, Workload

_PES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class MappingModel:
    """Mappings of one layer on one hierarchy.

    Metrics: `latency_cycles`, `energy_uj`, `edp_uj_cycles` (their product), `area_mm2` of PEs, registers and buffers.

    Attributes:
        layer: a workload of one layer, or the number of one of the network's distinct layers.
        base: name of the hierarchy.
        pe_options: numbers of PEs to choose from, along each array dimension; the hierarchy's own is always one.
        network: where a numbered layer is from: a shipped network or a .csv file. Layer 1 of ResNet-18 is the one that
            ArchGym's environment maps by default.

    Raises:
        ValueError: not one layer, an unknown network, number or hierarchy, or a number of PEs below 1.
    """

    @dataclass(frozen=True)
    class Options:
        """What a job may set."""

        layer: int = 1
        base: str = "edge-like"
        pe_options: tuple[int, ...] = _PES
        network: str = "resnet18-224"

    layer: Workload | int = 1
    base: str = "edge-like"
    pe_options: tuple[int, ...] = _PES
    network: str | Path = "resnet18-224"

    id: ClassVar[str] = "mapping-v1"
    metrics: ClassVar[tuple[str, ...]] = ("latency_cycles", "energy_uj", "edp_uj_cycles", "area_mm2")
    uncounted: ClassVar[tuple[str, ...]] = (
        "energy and delay of the network between memories and PEs, of control, and leakage",
        "area of DRAM, wiring and control",
        "mappings that cut the loops of two operands in different places",
    )

    def __post_init__(self) -> None:
        """Refuse anything but one layer, and numbers of PEs below 1."""
        if len(self._layer) != 1:
            raise ValueError(f"layer: a workload of one layer is needed, not of {len(self._layer)}")
        if not self.pe_options or min(self.pe_options) < 1:
            raise ValueError(f"pe_options: {self.pe_options} is not allowed; use numbers of at least 1")
        _ = self._hierarchy  # an unknown name is refused here

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """What describes one design; see the module."""
        result = []
        names = [DIMENSIONS[d] for d in self._loops]
        for a, (name, size) in enumerate(self._hierarchy.array.items()):
            options = tuple(sorted({*self.pe_options, size}))
            result.append(Field(f"pes_{name}", "int", "PEs", size, allowed=options, doc=f"PEs along {name}"))
            wanted = [loop for loop, _ in self._hierarchy.spatial.get(name, ()) if loop in names]
            default = wanted[0] if wanted else names[a % len(names)]
            text = f"loop unrolled over {name}"
            result.append(Field(f"parallel_{name}", "str", "", default, allowed=tuple(names), doc=text))
        for tier in range(self._n_tiers - 1):
            for d in self._loops:
                options = _divisors(int(self._layers.sizes[d, 0]))
                text = f"iterations of loop {DIMENSIONS[d]} in tier {tier}"
                result.append(Field(f"tile_{tier}_{DIMENSIONS[d]}", "int", "", 1, allowed=options, doc=text))
        for tier in range(self._n_tiers):
            for i in range(len(names) - 1):
                text = f"which loop left comes next in tier {tier}, from the inside out"
                allowed = tuple(range(len(names) - i))
                result.append(Field(f"order_{tier}_{i}", "int", "", 0, allowed=allowed, doc=text))
        return tuple(result)

    def evaluate(self, designs: Columns) -> DesignReport:
        """Figures of designs; see `DesignModel.evaluate`.

        Raises:
            ValueError: a column is missing, shapes differ, or a value is not one of a field's.
        """
        n_designs = count_accelerators(self.fields, designs)
        metrics = {name: np.full(n_designs, np.nan) for name in self.metrics}
        reasons = [""] * n_designs
        for start in range(0, n_designs, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n_designs))
            nests, pes = self._nests({name: values[rows] for name, values in designs.items()})
            costs = self._costs(nests)
            area = area_mm2(self._hierarchy, _as_the_base_has(len(rows)), pes)
            energy_uj = costs.energy_pj * 1e-6
            cycles = costs.latency.bounded_cycles
            figures = (cycles, energy_uj, cycles * energy_uj, area)
            for name, values in zip(self.metrics, figures, strict=True):
                metrics[name][rows] = np.where(costs.fits, values, np.nan)
            for row in np.flatnonzero(~costs.fits):
                reasons[start + row] = self._reason(costs, int(row))
        return DesignReport(metrics, reasons, self.uncounted)

    def mapping(self, design: Mapping[str, Value]) -> LoopMapping:
        """The mapping that one design stands for, whether it fits or not.

        Raises:
            ValueError: an unknown field or a wrong value.
        """
        nests, _ = self._nests(columns(self.fields, [design]))
        return mapping_at(nests, 0)

    @cached_property
    def _layer(self) -> Workload:
        if isinstance(self.layer, Workload):
            return self.layer
        layers, _ = load_network(self.network)
        if not 0 <= self.layer < len(layers):
            raise ValueError(f"layer: {self.layer} is not allowed; {str(self.network)!r} has 0 to {len(layers) - 1}")
        return layers.take(np.array([self.layer]))

    @cached_property
    def _hierarchy(self) -> Hierarchy:
        return load_hierarchy(self.base)

    @cached_property
    def _layers(self) -> Layers:
        return layers_of(self._layer)

    @cached_property
    def _loops(self) -> tuple[int, ...]:
        """Loop dimensions longer than 1; the first one if there is none."""
        longer = tuple(int(d) for d in np.flatnonzero(self._layers.sizes[:, 0] > 1))
        return longer or (0,)

    @cached_property
    def _numbers(self) -> Numbers:
        return numbers_for(self._hierarchy, _as_the_base_has(1), self._layers.input_bits)

    @cached_property
    def _n_tiers(self) -> int:
        return max(len(self._hierarchy.levels(op)) - self._has_registers(op) for op in OPERANDS)

    def _has_registers(self, operand: str) -> bool:
        return self._hierarchy.memories[self._hierarchy.levels(operand)[0]].field in REGISTERS

    def _costs(self, nests: Nests) -> NestCosts:
        return evaluate(nests, self._hierarchy, self._numbers)

    def _nests(self, designs: Columns) -> tuple[Nests, FloatArray]:
        """Designs as nests, and PEs along each array dimension."""
        self._check(designs)
        hierarchy, loops = self._hierarchy, np.array(self._loops)
        n = len(designs[self.fields[0].name])
        pes = np.array([designs[f"pes_{name}"].astype(np.float64) for name in hierarchy.array])
        sizes = np.repeat(self._layers.sizes, n, axis=1)
        unrolling = np.ones((len(pes), 8, n))
        for a, name in enumerate(hierarchy.array):
            chosen = designs[f"parallel_{name}"]
            for d in loops:
                left = np.ceil(sizes[d] / unrolling[:, d].prod(axis=0))
                unrolling[a, d] = np.where(chosen == DIMENSIONS[d], np.minimum(pes[a], left), 1.0)
        layers = self._layers.take(np.zeros(n, dtype=np.int64))
        left = np.ceil(sizes / unrolling.prod(axis=0))[loops]
        dims, steps = [], []
        for tier in range(self._n_tiers):
            taken = left
            if tier < self._n_tiers - 1:
                tile = np.array([designs[f"tile_{tier}_{DIMENSIONS[d]}"].astype(np.float64) for d in loops])
                taken = np.minimum(tile, left)
                left = np.ceil(left / taken)
            order = self._order(designs, tier, n)
            dims.append(loops[order])
            steps.append(np.take_along_axis(taken, order, axis=0))
        loop_sizes = np.concatenate(steps)
        loop_dims = np.where(loop_sizes > 1.0, np.concatenate(dims), PAD).astype(np.int8)
        spatial = fan_out(hierarchy, fractional(layers, unrolling))
        full = np.ones((len(hierarchy.memories), 1))
        filled = allocate(layers, hierarchy, self._numbers, spatial, loop_dims, loop_sizes, full)
        bounds = {op: self._bounds(op, filled[op]) for op in OPERANDS}
        return Nests(layers, loop_dims, loop_sizes, bounds, spatial, drain(hierarchy, unrolling)), pes

    def _check(self, designs: Columns) -> None:
        for field in self.fields:
            wrong = ~np.isin(designs[field.name], np.array(field.allowed))
            if wrong.any():
                field.check(designs[field.name][int(np.flatnonzero(wrong)[0])])

    def _order(self, designs: Columns, tier: int, n: int) -> NDArray[np.intp]:
        """Loop indices of a tier from the inside out, shape (loops, n), from the digits of a Lehmer code."""
        n_loops = len(self._loops)
        left = np.repeat(np.arange(n_loops)[:, None], n, axis=1)
        result = np.empty((n_loops, n), dtype=np.intp)
        for i in range(n_loops):
            digit = designs[f"order_{tier}_{i}"].astype(np.intp) if i < n_loops - 1 else np.zeros(n, dtype=np.intp)
            result[i] = np.take_along_axis(left, digit[None], axis=0)[0]
            keep = np.arange(n_loops - i)[:, None] != digit
            left = left.T[keep.T].reshape(n, n_loops - i - 1).T
        return result

    def _bounds(self, operand: str, filled: NDArray[np.intp]) -> NDArray[np.intp]:
        """The top level of an operand holds the last tier, the next the one before, the innermost buffer all the rest.

        Registers are filled as in `filled`, shape (levels, n).
        """
        n_levels, n = filled.shape
        ends = (np.arange(n_levels) + 1 + self._n_tiers - n_levels) * len(self._loops)
        result = np.repeat(ends[:, None], n, axis=1)
        if self._has_registers(operand):
            result[0] = np.minimum(filled[0], result[1])
        return result

    def _reason(self, costs: NestCosts, row: int) -> str:
        names = [self._hierarchy.memories[i].name for i in np.flatnonzero(~costs.fits_by_memory[:, row])]
        return f"tiles do not fit {', '.join(names)}"


def _as_the_base_has(n: int) -> dict[str, FloatArray]:
    return {name: np.zeros(n) for name in (*SIZES, *WIDTHS)}


def _divisors(number: int) -> tuple[int, ...]:
    return tuple(d for d in range(1, number + 1) if number % d == 0)


def random_designs(model: MappingModel, n: int, rng: np.random.Generator) -> Columns:
    """Designs with every field drawn evenly from its options.

    Args:
        model: gives the fields.
        n: designs.
        rng: draws them.
    """
    result: dict[str, NDArray[np.generic]] = {}
    for field in model.fields:
        picks: IntArray = rng.integers(len(field.allowed), size=n)
        result[field.name] = np.array(field.allowed)[picks]
    return result
