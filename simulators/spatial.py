"""Arrays with a memory hierarchy, each layer on the best mapping found: latency, energy, DRAM traffic.

An accelerator is one of the hierarchies in `hierarchies/` (`base`), with as many of its sizes and bandwidths replaced
as wanted: a field of 0 keeps the hierarchy's own. For each distinct pair of a layer and an accelerator the mapper
(`spatial_mapper`) searches loop orders, tiles and which memory holds which loops, for the three best looking of twelve
spatial mappings. The cost of a mapping is ZigZag's (`spatial_cost`, `spatial_latency`), but never below what its
busiest port and the bytes of its operands allow.

Words are as wide as a layer's `bits`, sums twice that; registers hold words, buffers hold KiB. Of the inputs only
pixels that exist are moved. A product of two activations (attention) counts its second factor as weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.accelerator import Columns, Field, columns, count_accelerators
from simulators.mapping import Mapping as LoopMapping
from simulators.report import CostReport
from simulators.spatial_cost import Numbers
from simulators.spatial_hierarchy import (
    DIMENSIONS,
    OPERANDS,
    READ_LOW,
    WRITE_LOW,
    Hierarchy,
    hierarchy_names,
    load_hierarchy,
)
from simulators.spatial_mapper import (
    FAST,
    OBJECTIVES,
    Effort,
    Found,
    Objective,
    objective_of,
    search_mappings,
    take_numbers,
)
from simulators.spatial_nest import Layers, layers_of, mapping_at
from simulators.spatial_numbers import (
    BUFFERS,
    REGISTERS,
    SIZES,
    WIDTHS,
    area_mm2,
    check_fields,
    numbers_for,
    on_chip_kib,
)
from simulators.spatial_numbers import take as take_values
from simulators.spatial_unroll import narrower, unrolling_choices
from simulators.workload import FloatArray, IntArray, Workload

_FIGURES = ("latency_cycles", "compute_cycles", "energy_pj", "dram_bytes")
_PAIRS = 256  # pairs mapped at once
_CHOICES, _SEARCHED = 12, 3  # spatial mappings of a pair that are glanced at, and searched
_GLANCE = Effort(loops=4, orders=12, kept=1, rounds=0, fine_loops=4)
_KEPT = "0: as the base has it"


@dataclass(frozen=True, slots=True)
class MappedLayer:
    """One layer on one accelerator.

    Attributes:
        mapping: the mapping found, readable.
        figures: latency_cycles, compute_cycles, energy_pj, dram_bytes.
        accesses: memory -> operand -> accesses in the four directions (`spatial_hierarchy.DIRECTIONS`).
    """

    mapping: LoopMapping
    figures: Mapping[str, float]
    accesses: Mapping[str, Mapping[str, tuple[float, ...]]]


def _fields() -> tuple[Field, ...]:
    names = tuple(hierarchy_names())
    result = [
        Field("base", "str", "", "edge-like", allowed=names, doc="memory hierarchy that the other fields change"),
        Field("pe_rows", "int", "PEs", 0, lowest=0, doc=f"PEs along the first array dimension; {_KEPT}"),
        Field("pe_columns", "int", "PEs", 0, lowest=0, doc=f"PEs along the second array dimension; {_KEPT}"),
    ]
    result += [
        Field(n, "int", "words", 0, lowest=0, doc=f"{_phrase(n)} of one PE or group; {_KEPT}") for n in REGISTERS
    ]
    result += [Field(n, "float", "KiB", 0.0, lowest=0.0, doc=f"{_phrase(n)}; {_KEPT}") for n in BUFFERS]
    result += [Field(n, "float", "bits/cycle", 0.0, lowest=0.0, doc=f"width of a port; {_KEPT}") for n in WIDTHS]
    result += [
        Field("clock_ghz", "float", "GHz", 0.2, lowest=1e-6, doc="clock of array and memories"),
        Field("mapping_objective", "str", "", "latency", allowed=OBJECTIVES, doc="what each layer's mapping minimises"),
    ]
    return tuple(result)


def _phrase(name: str) -> str:
    return name.removesuffix("_kib").removesuffix("_words").replace("_", " ")


@dataclass(frozen=True)
class Spatial:
    """Layers on arrays with memory hierarchies.

    Metrics that add up over layers: `latency_ms`, `latency_cycles`, `compute_cycles` (what an array that never waits
    takes), `stall_cycles` (the rest: waiting, first loads, last stores), `energy_uj` (multiply-accumulates and all
    memories), `dram_bytes`. Of the accelerator: `pes`, `scratchpad_kib` (all buffers), `area_mm2`, `peak_gmacs_per_s`.

    Attributes:
        effort: of the mapper, for each pair of a layer and an accelerator.
    """

    effort: Effort = FAST

    id: ClassVar[str] = "spatial-v1"
    fields: ClassVar[tuple[Field, ...]] = _fields()
    metrics: ClassVar[tuple[str, ...]] = (
        "latency_ms", "latency_cycles", "compute_cycles", "stall_cycles", "energy_uj", "dram_bytes",
        "pes", "scratchpad_kib", "area_mm2", "peak_gmacs_per_s",
    )  # fmt: skip
    monotone: ClassVar[tuple[str, ...]] = ()  # a search finds each layer's mapping: no figure must grow with the layer
    uncounted: ClassVar[tuple[str, ...]] = (
        "mappings that the search does not find, and overlap of one layer with the next",
        "energy and delay of the network between memories and PEs, of control, leakage, DRAM refresh and row misses",
        "area of DRAM, wiring and control",
        "ops that are not matrix products: pooling, element-wise, normalisation, activation",
    )

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """Cost of every layer on every accelerator; see `Simulator.simulate`.

        Raises:
            ValueError: also if a size is given that the base has no memory for, or a layer fits no mapping.
        """
        n_layers, n_accelerators = len(workload), count_accelerators(self.fields, accelerators)
        if paired and n_layers != n_accelerators:
            raise ValueError(f"paired: {n_layers} layers and {n_accelerators} accelerators; give one for each")
        values = _values(accelerators)
        shape = (n_layers,) if paired else (n_layers, n_accelerators)
        at_layer = np.arange(n_layers) if paired else np.repeat(np.arange(n_layers), n_accelerators)
        at_accelerator = np.arange(n_accelerators) if paired else np.tile(np.arange(n_accelerators), n_layers)
        flat = self._pairs(workload, accelerators, at_layer, at_accelerator)
        figures = {name: figure.reshape(shape) for name, figure in flat.items()}
        own = _of_accelerators(accelerators, values)
        cycles, compute = figures["latency_cycles"], figures["compute_cycles"]
        clock_ghz = values["clock_ghz"]
        return CostReport(
            columns={
                "latency_ms": cycles / (clock_ghz * 1e6),
                "latency_cycles": cycles,
                "compute_cycles": compute,
                "stall_cycles": cycles - compute,
                "energy_uj": figures["energy_pj"] * 1e-6,
                "dram_bytes": figures["dram_bytes"],
            },
            per_accelerator=own | {"peak_gmacs_per_s": own["pes"] * clock_ghz},
            uncounted=self.uncounted,
        )

    def map_layer(self, workload: Workload, layer: int, accelerator: Mapping[str, object]) -> MappedLayer:
        """The mapping that `simulate` counts for one layer, as readable data.

        Args:
            workload: holds the layer.
            layer: its number.
            accelerator: values of its fields; absent ones take their defaults.

        Raises:
            ValueError: a wrong field or value, or no mapping fits.
        """
        one = columns(self.fields, [accelerator])
        hierarchy = load_hierarchy(str(one["base"][0]))
        values = _values(one)
        check_fields(hierarchy, values)
        layers = layers_of(workload.take(np.array([layer])))
        best = _best_of_choices(layers, hierarchy, values, _objective(one["mapping_objective"][0]), self.effort)
        found, index = best.found, int(best.pick[0])
        accesses: dict[str, dict[str, tuple[float, ...]]] = {}
        for op in OPERANDS:
            for level, name in enumerate(hierarchy.level_names(op)):
                counts = found.costs.accesses.words[op][level, :, index]
                accesses.setdefault(name, {})[op] = tuple(map(float, counts))
        return MappedLayer(
            mapping_at(found.nests, index), {name: float(f[0]) for name, f in best.figures.items()}, accesses
        )

    def _pairs(
        self, workload: Workload, accelerators: Columns, at_layer: IntArray, at_accelerator: IntArray
    ) -> dict[str, FloatArray]:
        """Figures of pairs of a layer and an accelerator, each distinct pair mapped once."""
        layer_key = _distinct([getattr(workload, f.name) for f in fields(workload)])
        keyed = [f.name for f in self.fields if f.name != "clock_ghz"]
        accelerator_key = _distinct([accelerators[name] for name in keyed])
        pair = layer_key[at_layer] * (len(accelerator_key) + 1) + accelerator_key[at_accelerator]
        _, first, back = np.unique(pair, return_index=True, return_inverse=True)
        result = {name: np.zeros(len(first)) for name in _FIGURES}
        layers, values = layers_of(workload), _values(accelerators)
        some_layers, some = at_layer[first], at_accelerator[first]
        group = _distinct([accelerators["base"][some], accelerators["mapping_objective"][some]])
        for g in np.unique(group):
            members = np.flatnonzero(group == g)
            hierarchy = load_hierarchy(str(accelerators["base"][some[members[0]]]))
            objective = _objective(accelerators["mapping_objective"][some[members[0]]])
            check_fields(hierarchy, take_values(values, some[members]))
            for start in range(0, len(members), _PAIRS):
                part = members[start : start + _PAIRS]
                here, at = layers.take(some_layers[part]), take_values(values, some[part])
                for name, figure in _best_of_choices(here, hierarchy, at, objective, self.effort).figures.items():
                    result[name][part] = figure
        return {name: figure[back] for name, figure in result.items()}


@dataclass(frozen=True, slots=True)
class _Best:
    """Mappings of P pairs: all that were found, for each pair the index of its best, and that one's figures."""

    found: Found
    pick: IntArray
    figures: dict[str, FloatArray]


def _best_of_choices(
    layers: Layers, hierarchy: Hierarchy, values: Mapping[str, FloatArray], objective: Objective, effort: Effort
) -> _Best:
    """The best mapping of each of P pairs, over its spatial mappings.

    Where none fits, the spatial mappings are made narrower, half a loop at a time.

    Raises:
        ValueError: nothing fits, even without any spatial unrolling.
    """
    choices = unrolling_choices(layers, hierarchy, _CHOICES, _pes(hierarchy, values))
    owner = np.repeat(np.arange(len(layers)), [choice.shape[2] for choice in choices])
    unrolling = np.concatenate(choices, axis=2)
    here = layers.take(owner)
    numbers = numbers_for(hierarchy, take_values(values, owner), here.input_bits)
    glance = search_mappings(here, hierarchy, unrolling, objective, _GLANCE, numbers, allow_missing=True, bounded=True)
    promise = np.full(len(owner), np.inf)
    promise[glance.found] = objective_of(glance.costs, objective, bounded=True)
    ranked = np.lexsort((promise, owner))
    best = np.sort(ranked[np.arange(len(owner)) - np.searchsorted(owner, owner) < _SEARCHED])
    owner, unrolling = owner[best], unrolling[:, :, best]
    here, numbers = layers.take(owner), take_numbers(numbers, best)
    while True:
        found = search_mappings(
            here, hierarchy, unrolling, objective, effort, numbers, allow_missing=True, bounded=True
        )
        missing = np.setdiff1d(np.arange(len(layers)), owner[found.found])
        if not len(missing):
            break
        again = np.isin(owner, missing)
        if (unrolling[:, :, again] == 1.0).all():
            sizes = ", ".join(f"{d} {s:.0f}" for d, s in zip(DIMENSIONS, layers.sizes[:, missing[0]], strict=True))
            raise ValueError(f"layer {sizes}: no mapping fits the memories of {hierarchy.name}")
        unrolling[:, :, again] = narrower(unrolling[:, :, again])
    pairs = owner[found.found]
    order = np.lexsort((objective_of(found.costs, objective, bounded=True), pairs))
    pick = order[np.searchsorted(pairs[order], np.arange(len(layers)))]
    least_bytes, least_cycles = _least(here.take(found.found), hierarchy, numbers, found.found)
    figures = {
        "latency_cycles": np.maximum(found.costs.latency.bounded_cycles, least_cycles),
        "compute_cycles": found.costs.latency.temporal_cycles,
        "energy_pj": found.costs.energy_pj,
        "dram_bytes": np.maximum(_top_bytes(found, hierarchy, numbers), least_bytes),
    }
    return _Best(found, pick, {name: figure[pick] for name, figure in figures.items()})


def _top_bytes(found: Found, hierarchy: Hierarchy, numbers: Numbers) -> FloatArray:
    """Bytes through the ports of every operand's outermost memory, shape (F,)."""
    total = np.zeros(len(found.found))
    for op in OPERANDS:
        memory = hierarchy.levels(op)[-1]
        for direction in range(4):
            port = hierarchy.memories[memory].port_of(op, direction)
            if port is not None:
                width = numbers.port_max[memory][port][found.found]
                total += found.costs.accesses.words[op][-1, direction] * width / 8.0
    return total


def _least(layers: Layers, hierarchy: Hierarchy, numbers: Numbers, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Bytes of each layer's operands, each once, and cycles that their outermost ports need for them, shape (F,).

    The cost of a mapping may count a little less: averages over tiles that are not full are rounded.
    """
    sizes = dict(zip(DIMENSIONS, layers.sizes, strict=True))
    channels = sizes["B"] * sizes["G"]
    bits = {
        "I": channels * sizes["C"] * layers.in_y * layers.in_x * layers.input_bits,
        "W": sizes["G"] * sizes["K"] * sizes["C"] * sizes["FY"] * sizes["FX"] * layers.weight_bits,
        "O": channels * sizes["K"] * sizes["OY"] * sizes["OX"] * layers.output_bits,
    }
    cycles: dict[tuple[int, int], FloatArray] = {}
    for op, moved in bits.items():
        memory = hierarchy.levels(op)[-1]
        port = hierarchy.memories[memory].port_of(op, WRITE_LOW if op == "O" else READ_LOW)
        if port is not None:
            needed = moved / numbers.port_max[memory][port][rows]
            cycles[memory, port] = cycles.get((memory, port), np.zeros(len(layers))) + needed
    total: FloatArray = sum(bits.values(), start=np.zeros(len(layers)))
    return total / 8.0, np.maximum.reduce([np.zeros(len(layers)), *cycles.values()])


def _of_accelerators(accelerators: Columns, values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """PEs, KiB of buffers and area of each accelerator."""
    result = {name: np.zeros(len(accelerators["base"])) for name in ("pes", "scratchpad_kib", "area_mm2")}
    for base in np.unique(accelerators["base"]):
        members = np.flatnonzero(accelerators["base"] == base)
        hierarchy, here = load_hierarchy(str(base)), take_values(values, members)
        check_fields(hierarchy, here)
        pes = _pes(hierarchy, here)
        result["pes"][members] = pes.prod(axis=0)
        result["scratchpad_kib"][members] = on_chip_kib(hierarchy, here)
        result["area_mm2"][members] = area_mm2(hierarchy, here, pes)
    return result


def _pes(hierarchy: Hierarchy, values: Mapping[str, FloatArray]) -> FloatArray:
    """PEs along each array dimension, shape (array dimensions, P)."""
    n = len(values["pe_rows"])
    pes = np.repeat(np.array([[float(size)] for size in hierarchy.array.values()]), n, axis=1)
    for a, name in enumerate(("pe_rows", "pe_columns")[: len(pes)]):
        pes[a] = np.where(values[name] > 0, values[name], pes[a])
    return pes


def _values(accelerators: Columns) -> dict[str, FloatArray]:
    """The numeric fields as floats."""
    names = ("pe_rows", "pe_columns", *SIZES, *WIDTHS, "clock_ghz")
    return {name: accelerators[name].astype(np.float64) for name in names}


def _objective(name: object) -> Objective:
    text = str(name)
    if text not in OBJECTIVES:
        raise ValueError(f"mapping_objective: {text!r} is not one of {', '.join(OBJECTIVES)}")
    return text


def _distinct(arrays: Sequence[NDArray[np.generic]]) -> IntArray:
    """A number for each row of some columns, equal for equal rows."""
    key = np.zeros(len(arrays[0]), dtype=np.int64)
    for array in arrays:
        _, code = np.unique(array, return_inverse=True)
        _, key = np.unique(key * (int(code.max(initial=0)) + 1) + code, return_inverse=True)
    return np.asarray(key, dtype=np.int64)
