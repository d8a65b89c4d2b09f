"""A systolic array with three scratchpads: exactly as SCALE-Sim 3.0.0 has it, or as it could be built.

A layer becomes a matrix product with E output pixels, F filters and a window of W words. An array of R x C PEs unrolls
two of the three in space and streams the third, T, through time (Samajdar et al. 2020, section III):

    dataflow                 Sr  Sc  T
    os  outputs stay         E   F   W
    ws  weights stay         W   F   E
    is  inputs stay          W   E   F

Mode `scalesim` gives SCALE-Sim's figures to the word and to the cycle: `scalesim_closed` where a closed form is proven
equal, else `scalesim_events`. Habits of the tool rather than of an array are kept: it reports the number of the last
cycle; every fold lasts as long as one that fills the whole array; folds do not overlap; a wait for DRAM counts twice;
buffers empty themselves when full (docs/systolic.md lists them). Batch and groups, which it does not have, are one run
each. Mode `physical` drops the habits: see `systolic_physical`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as dataclass_fields
from difflib import get_close_matches
from typing import ClassVar

import numpy as np

from simulators.accelerator import Columns, Field, count_accelerators
from simulators.energy import dram_kinds
from simulators.report import CostReport, Lazy
from simulators.scalesim_closed import (
    DATAFLOWS,
    compute_utilisation,
    mapping_efficiency,
    output_size,
    scalesim_cycles,
)
from simulators.scalesim_costs import ScaleSimCosts, gemm_shape, over_accelerators
from simulators.systolic_energy import systolic_area_mm2, systolic_energy_uj
from simulators.systolic_physical import physical_report
from simulators.workload import FloatArray, IntArray, Workload

__all__ = [
    "DATAFLOWS",
    "MODES",
    "Systolic",
    "compute_utilisation",
    "gemm_shape",
    "mapping_efficiency",
    "output_size",
    "scalesim_cycles",
]

MODES = ("scalesim", "physical")

COLUMNS = (
    "latency_ms", "latency_cycles", "stall_cycles", "sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes",
    "dram_ifmap_reads", "dram_filter_reads", "dram_ofmap_writes", "dram_bytes", "energy_uj",
)  # fmt: skip
PER_ACCELERATOR = ("pes", "scratchpad_kib", "area_mm2")
METRICS = (*COLUMNS, *PER_ACCELERATOR)

_WORDS = COLUMNS[3:9]
_SCALESIM_UNCOUNTED = (
    "the first fill of the scratchpads and their last drain (mode scalesim)",
    "DRAM latency, refresh and row misses: bandwidth alone",
    "in dram_bytes and stalls: that a spilled partial sum is wider than a word and is read back (energy_uj has it)",
    "static power; clock tree, control and the interconnect between scratchpads and array",
    "word width: a PE does one multiply-accumulate a cycle at any number of bits",
    "ops that are not matrix products: pooling, element-wise, normalisation, activation",
)
_CLOSED_FORM = "closed form"


class Systolic:
    """Costs of an R x C systolic array with output, weight or input stationary dataflow.

    Metrics of a layer: latency (stalls included) and the stalls in it; words read from and written to the scratchpads
    and DRAM (partial sums included), bytes of DRAM; energy (`systolic_energy`). Metrics of the array: PEs, KiB of
    scratchpads, area. Every one is computed when it is asked for: cycles and scratchpad words have closed forms;
    DRAM words, and latency at a limited bandwidth, may need the event model, and energy needs DRAM words. The report's
    `provenance` tells which way a column was found.

    A word has the layer's `bits`: a scratchpad of S KiB holds floor(8192 S / bits) of them, and in mode scalesim b
    bytes per cycle are max(1, floor(8 b / bits)) words per cycle for each operand. (SCALE-Sim's words have 8 bits.)

    Attributes:
        metrics: what reports hold; by default all.

    Args:
        metrics: the only ones to report, so that a search does not pay for others.

    Raises:
        ValueError: an unknown or repeated metric.
    """

    id: ClassVar[str] = "systolic-v2"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("rows", "int", "PEs", 16, lowest=1, doc="rows of the array, R"),
        Field("columns", "int", "PEs", 16, lowest=1, doc="columns of the array, C"),
        Field("dataflow", "str", "", "ws", allowed=DATAFLOWS, doc="which operand stays: outputs, weights or inputs"),
        Field("clock_ghz", "float", "GHz", 0.2, lowest=1e-6, doc="clock of the array"),
        Field("ifmap_kib", "int", "KiB", 32, lowest=1, doc="scratchpad of the input activations"),
        Field("filter_kib", "int", "KiB", 32, lowest=1, doc="scratchpad of the weights"),
        Field("ofmap_kib", "int", "KiB", 16, lowest=1, doc="scratchpad of the outputs"),
        Field("mode", "str", "", "scalesim", allowed=MODES, doc="SCALE-Sim's figures, or those of a real array"),
        Field("bandwidth", "str", "", "unlimited", allowed=("unlimited", "limited"), doc="whether DRAM can stall"),
        Field("dram_bytes_per_cycle", "float", "B/cycle", 10.0, lowest=0.01, doc="DRAM bandwidth where it is limited"),
        Field("tech_nm", "float", "nm", 45.0, lowest=22.0, doc="technology, for energy and area"),
        Field("pe_bits", "int", "bits", 8, lowest=1, doc="word width that PEs and scratchpads are built for, for area"),
        Field("dram_kind", "str", "", "ddr3", allowed=dram_kinds(), doc="DRAM, for its energy per bit"),
    )
    monotone: ClassVar[tuple[str, ...]] = COLUMNS[:6]
    """Metrics that are never smaller for a larger layer: SCALE-Sim's flushes may fall better for one."""
    monotone_where: ClassVar[Mapping[str, str]] = {"mode": "scalesim", "bandwidth": "unlimited"}
    """Fields of the accelerators for which that holds: elsewhere stalls may shrink, hidden behind more compute."""
    metrics: tuple[str, ...] = METRICS

    def __init__(self, metrics: Iterable[str] = METRICS) -> None:
        self.metrics = tuple(metrics)
        for name in self.metrics:
            if name not in METRICS:
                close = get_close_matches(name, METRICS, n=1, cutoff=0.5)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"metrics: {name!r} is not one of {', '.join(METRICS)}{hint}")
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics: {', '.join(self.metrics)} names one twice")

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """Costs of every layer on every array; see `Simulator.simulate`.

        The report's columns are computed when they are asked for, from copies of the arrays.
        """
        accelerators = {f.name: np.array(accelerators[f.name]) for f in self.fields if f.name in accelerators}
        workload = Workload(**{f.name: getattr(workload, f.name).copy() for f in dataclass_fields(workload)})
        parts = _parts(workload, accelerators, paired)
        by_array: dict[str, Callable[[], FloatArray]] = {
            "pes": lambda: _pes(accelerators),
            "scratchpad_kib": lambda: _scratchpad_kib(accelerators),
            "area_mm2": lambda: systolic_area_mm2(accelerators),
        }
        columns = tuple(name for name in self.metrics if name in COLUMNS)
        return CostReport(
            columns=Lazy(columns, parts.column),
            per_accelerator=Lazy(tuple(n for n in self.metrics if n in PER_ACCELERATOR), lambda name: by_array[name]()),
            uncounted=parts.uncounted,
            provenance=Lazy(columns, parts.provenance),
        )

    def utilisation(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> dict[str, FloatArray]:
        """How well each layer uses each array, by SCALE-Sim's measures: fractions, of the shapes that `simulate` gives.

        They do not add up over layers, so they are no part of a report. A grouped layer is as each of its groups.

        Returns:
            `mapping_efficiency`, `compute_utilisation` (see `scalesim_closed`) and `overall_utilisation`, the layer's
            multiply-accumulates over the PE-cycles it takes (above 1 by SCALE-Sim's missing cycle on a single PE).
        """
        cycles = _parts(workload, accelerators, paired).column("latency_cycles")
        pe_cycles = np.maximum(cycles, 1.0) * _pes(accelerators)
        macs = workload.macs.astype(np.float64)
        return {
            "mapping_efficiency": over_accelerators(mapping_efficiency, workload, accelerators, paired),
            "compute_utilisation": over_accelerators(compute_utilisation, workload, accelerators, paired),
            "overall_utilisation": (macs if paired else macs[:, None]) / pe_cycles,
        }


class _ScaleSim:
    """Columns of accelerators of mode scalesim."""

    uncounted = _SCALESIM_UNCOUNTED

    def __init__(self, workload: Workload, accelerators: Columns, paired: bool) -> None:
        self._workload, self._accelerators, self._paired = workload, accelerators, paired
        self._costs = ScaleSimCosts(workload, accelerators, paired=paired)

    def column(self, name: str) -> FloatArray:
        if name == "latency_ms":
            return self._costs.column("latency_cycles") / (self._accelerators["clock_ghz"].astype(np.float64) * 1e6)
        if name == "dram_bytes":
            words = sum((self._costs.column(name) for name in _WORDS[3:]), start=np.zeros(()))
            bytes_per_word = self._workload.bits / 8.0
            return np.asarray(words * (bytes_per_word if self._paired else bytes_per_word[:, None]))
        if name == "energy_uj":
            counts = {word: self._costs.column(word) for word in _WORDS}
            return systolic_energy_uj(self._workload, self._accelerators, counts, paired=self._paired)
        return self._costs.column(name)

    def provenance(self, name: str) -> str:
        needs = {"latency_ms": ("latency_cycles",), "dram_bytes": _WORDS[3:], "energy_uj": _WORDS}.get(name, (name,))
        followed = max(self._costs.n_followed(need) for need in needs)
        n_layers, n_arrays = len(self._workload), len(self._accelerators["rows"])
        pairs = n_layers if self._paired else n_layers * n_arrays
        return f"{_CLOSED_FORM}; event model for {followed} of {pairs} pairs" if followed else _CLOSED_FORM


class _Physical:
    """Columns of accelerators of mode physical."""

    def __init__(self, workload: Workload, accelerators: Columns, paired: bool) -> None:
        limited = accelerators["bandwidth"] == "limited"
        bytes_per_cycle = np.where(limited, accelerators["dram_bytes_per_cycle"], np.inf)
        accelerators = {**accelerators, "dram_bytes_per_cycle": bytes_per_cycle}
        self._columns, _, self.uncounted = physical_report(workload, accelerators, paired=paired)

    def column(self, name: str) -> FloatArray:
        return self._columns[name]

    def provenance(self, name: str) -> str:
        return _CLOSED_FORM


class _Mixed:
    """Columns of accelerators of both modes."""

    def __init__(self, workload: Workload, accelerators: Columns, paired: bool) -> None:
        self._shape = (len(workload),) if paired else (len(workload), len(accelerators["rows"]))
        self._parts: list[tuple[IntArray, _ScaleSim | _Physical]] = []
        for mode, model in (("scalesim", _ScaleSim), ("physical", _Physical)):
            which = np.flatnonzero(accelerators["mode"] == mode)
            own = {name: values[which] for name, values in accelerators.items()}
            self._parts.append((which, model(workload.take(which) if paired else workload, own, paired)))
        self.uncounted = tuple(dict.fromkeys(phrase for _, part in self._parts for phrase in part.uncounted))

    def column(self, name: str) -> FloatArray:
        result = np.empty(self._shape)
        for which, part in self._parts:
            result[..., which] = part.column(name)
        return result

    def provenance(self, name: str) -> str:
        phrases = (f"{mode}: {part.provenance(name)}" for mode, (_, part) in zip(MODES, self._parts, strict=True))
        return "; ".join(phrases)


def _parts(workload: Workload, accelerators: Columns, paired: bool) -> _ScaleSim | _Physical | _Mixed:
    n_layers, n_accelerators = len(workload), count_accelerators(Systolic.fields, accelerators)
    if paired and n_layers != n_accelerators:
        raise ValueError(f"paired: {n_layers} layers and {n_accelerators} accelerators; give one for each")
    is_scalesim = accelerators["mode"] == "scalesim"
    if is_scalesim.all():
        return _ScaleSim(workload, accelerators, paired)
    return _Mixed(workload, accelerators, paired) if is_scalesim.any() else _Physical(workload, accelerators, paired)


def _pes(accelerators: Columns) -> FloatArray:
    return np.asarray(accelerators["rows"].astype(np.float64) * accelerators["columns"].astype(np.float64))


def _scratchpad_kib(accelerators: Columns) -> FloatArray:
    sizes = (accelerators[name].astype(np.float64) for name in ("ifmap_kib", "filter_kib", "ofmap_kib"))
    return np.asarray(sum(sizes))
