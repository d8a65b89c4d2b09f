"""A systolic array: compute cycles, exactly those of SCALE-Sim 3.0.0, in closed form.

A layer becomes a matrix product with E output pixels (times the batch), F filters and a window of W words. An array of
R x C PEs unrolls two of the three in space and streams the third, T, through time (Samajdar et al. 2020, section III):

    dataflow                 Sr  Sc  T
    os  outputs stay         E   F   W
    ws  weights stay         W   F   E
    is  inputs stay          W   E   F

It takes n = ceil(Sr/R) ceil(Sc/C) folds. A fold of `os` takes p = T + R + C - 2 cycles (the skew in and across); `ws`
and `is` first load the stationary operand, R cycles more. The layer takes n p - 1 cycles. Groups run one after another.

Three habits are SCALE-Sim's rather than an array's, and are kept so that figures agree with it to the cycle:
the "- 1" (it reports the number of the last cycle); every fold lasts as long as one that fills the whole array, even a
partial one; folds do not overlap, so that the next weights are never loaded while this fold still computes. Its compute
utilisation of `ws` and `is` divides by C - 1 cycles more per fold than its cycle count has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulators.accelerator import Columns, Field, count_accelerators
from simulators.report import CostReport
from simulators.workload import FloatArray, Workload

DATAFLOWS = ("os", "ws", "is")

BLOCK = 8_192  # elements worked on at once: temporaries that stay in a core's cache and cost no system call


class GemmModel(Protocol):
    """A quantity of one matrix product on one array, such as `scalesim_cycles`."""

    def __call__(
        self,
        pixels: ArrayLike,
        filters: ArrayLike,
        window: ArrayLike,
        rows: ArrayLike,
        columns: ArrayLike,
        dataflow: str,
        /,
    ) -> FloatArray:
        """See `scalesim_cycles`."""
        ...


class Systolic:
    """Compute cycles of an R x C systolic array with output, weight or input stationary dataflow.

    Metrics: `latency_cycles` and `latency_ms` (cycles over the clock) add up over layers; `pes` and `scratchpad_kib`
    are the accelerator's own. Scratchpad sizes do not change the cycles: stalls on DRAM are not modelled.
    """

    id: ClassVar[str] = "systolic-v1"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("rows", "int", "PEs", 16, lowest=1, doc="rows of the array, R"),
        Field("columns", "int", "PEs", 16, lowest=1, doc="columns of the array, C"),
        Field("dataflow", "str", "", "ws", allowed=DATAFLOWS, doc="which operand stays: outputs, weights or inputs"),
        Field("clock_ghz", "float", "GHz", 0.2, lowest=1e-6, doc="clock of the array"),
        Field("ifmap_kib", "int", "KiB", 32, lowest=0, doc="scratchpad of the input activations"),
        Field("filter_kib", "int", "KiB", 32, lowest=0, doc="scratchpad of the weights"),
        Field("ofmap_kib", "int", "KiB", 16, lowest=0, doc="scratchpad of the outputs"),
    )
    metrics: ClassVar[tuple[str, ...]] = ("latency_ms", "latency_cycles", "pes", "scratchpad_kib")
    uncounted: ClassVar[tuple[str, ...]] = (
        "DRAM traffic: stalls on it, the first fill and the last drain of the scratchpads",
        "energy and area",
        "word width: a PE does one multiply-accumulate a cycle at any number of bits",
        "ops that are not matrix products: pooling, element-wise, normalisation, activation",
    )

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """Cycles and latency of every layer on every array; see `Simulator.simulate`."""
        cycles = _over_accelerators(scalesim_cycles, workload, accelerators, paired)
        if (workload.groups > 1).any():
            cycles *= workload.groups if paired else workload.groups[:, None]
        clock_ghz = accelerators["clock_ghz"].astype(np.float64)
        scratchpad = sum(accelerators[name].astype(np.float64) for name in ("ifmap_kib", "filter_kib", "ofmap_kib"))
        return CostReport(
            columns={"latency_ms": cycles / (clock_ghz * 1e6), "latency_cycles": cycles},
            per_accelerator={"pes": _pes(accelerators), "scratchpad_kib": np.asarray(scratchpad)},
            uncounted=self.uncounted,
        )

    def utilisation(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> dict[str, FloatArray]:
        """How well each layer uses each array: fractions in 0..1, of the shapes that `simulate` gives.

        They do not add up over layers, so they are no part of a report. A grouped layer is as each of its groups.

        Returns:
            `mapping_efficiency`, `compute_utilisation` (the functions below) and `overall_utilisation`, the layer's
            multiply-accumulates over the PE-cycles it takes (above 1 by SCALE-Sim's missing cycle on a single PE).
        """
        cycles = self.simulate(workload, accelerators, paired=paired).columns["latency_cycles"]
        pe_cycles = np.maximum(cycles, 1.0) * _pes(accelerators)
        macs = workload.macs.astype(np.float64)
        return {
            "mapping_efficiency": _over_accelerators(mapping_efficiency, workload, accelerators, paired),
            "compute_utilisation": _over_accelerators(compute_utilisation, workload, accelerators, paired),
            "overall_utilisation": (macs if paired else macs[:, None]) / pe_cycles,
        }


def scalesim_cycles(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """Compute cycles of a matrix product: n p - 1, SCALE-Sim's total cycles minus its stalls.

    Args:
        pixels, filters, window: E, F and W, whole numbers of at least 1, broadcast together with the next two.
        rows, columns: R and C of the array.
        dataflow: one of `DATAFLOWS`.

    Returns:
        Cycles as float64: whole numbers, exact below 2**53, free of integer overflow above. (The quotient of two whole
        numbers below 2**52 never rounds up to the next whole number, so the ceilings are exact.)

    Raises:
        ValueError: unknown dataflow.
    """
    space_rows, space_columns, time = _unrolled(pixels, filters, window, dataflow)
    n_folds = _ceil_divide(space_rows, rows) * _ceil_divide(space_columns, columns)
    return np.asarray(n_folds * (time + _overhead(rows, columns, dataflow)) - 1.0)


def mapping_efficiency(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """Share of PEs with work, averaged over the folds: Sr Sc / (n R C), in 0..1. Arguments as `scalesim_cycles`."""
    space_rows, space_columns, _ = _unrolled(pixels, filters, window, dataflow)
    n_folds = _ceil_divide(space_rows, rows) * _ceil_divide(space_columns, columns)
    n_pes = np.asarray(rows, np.float64) * np.asarray(columns, np.float64)
    return np.asarray(space_rows * space_columns / (n_folds * n_pes))


def compute_utilisation(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, rows: ArrayLike, columns: ArrayLike, dataflow: str
) -> FloatArray:
    """SCALE-Sim's compute utilisation, in 0..1: mapping efficiency times T over the length of a fold.

    The length is p for `os`, but T + 2R + 2C - 3, which is p + C - 1, for `ws` and `is`.
    Arguments as `scalesim_cycles`.
    """
    efficiency = mapping_efficiency(pixels, filters, window, rows, columns, dataflow)
    _, _, time = _unrolled(pixels, filters, window, dataflow)
    length = time + _overhead(rows, columns, dataflow)
    if dataflow != "os":
        length = length + np.asarray(columns, np.float64) - 1.0
    return np.asarray(efficiency * time / length)


def output_size(size: ArrayLike, kernel: ArrayLike, stride: ArrayLike) -> NDArray[np.int64]:
    """Output pixels along one axis as SCALE-Sim counts them: ceil((size - kernel + stride) / stride), size padded.

    It rounds up, so that a last partial window counts; convolutions of deep-learning frameworks round down.
    """
    size, kernel, stride = (np.asarray(value, dtype=np.int64) for value in (size, kernel, stride))
    return np.asarray(-(-(size - kernel + stride) // stride))


def gemm_shape(workload: Workload) -> tuple[FloatArray, FloatArray, FloatArray]:
    """E, F and W of one group of each layer, shape (L,) each; the batch is part of E."""
    pixels = workload.batch.astype(np.float64) * workload.out_y * workload.out_x
    filters = (workload.out_channels // workload.groups).astype(np.float64)
    window = (workload.in_channels // workload.groups).astype(np.float64) * workload.filter_y * workload.filter_x
    return pixels, filters, window


def _unrolled(
    pixels: ArrayLike, filters: ArrayLike, window: ArrayLike, dataflow: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sr, Sc and T."""
    e, f, w = (np.asarray(value, dtype=np.float64) for value in (pixels, filters, window))
    if dataflow == "os":
        return e, f, w
    if dataflow == "ws":
        return w, f, e
    if dataflow == "is":
        return w, e, f
    raise ValueError(f"dataflow: {dataflow!r} is not one of {', '.join(DATAFLOWS)}")


def _overhead(rows: ArrayLike, columns: ArrayLike, dataflow: str) -> FloatArray:
    """p - T: skew across the array, and loading the stationary operand."""
    skew = np.asarray(rows, np.float64) * (1.0 if dataflow == "os" else 2.0)
    return np.asarray(skew + np.asarray(columns, np.float64) - 2.0)


def _ceil_divide(size: FloatArray, side: ArrayLike) -> FloatArray:
    return np.asarray(np.ceil(np.true_divide(size, side)))


def _pes(accelerators: Columns) -> FloatArray:
    return np.asarray(accelerators["rows"].astype(np.float64) * accelerators["columns"].astype(np.float64))


def _over_accelerators(model: GemmModel, workload: Workload, accelerators: Columns, paired: bool) -> FloatArray:
    """A model of one matrix product, for every layer on every accelerator: (L, A), or (L,) when paired."""
    n_layers, n_accelerators = len(workload), count_accelerators(Systolic.fields, accelerators)
    if paired and n_layers != n_accelerators:
        raise ValueError(f"paired: {n_layers} layers and {n_accelerators} accelerators; give one for each")
    e, f, w = gemm_shape(workload)
    rows, columns = accelerators["rows"].astype(np.float64), accelerators["columns"].astype(np.float64)
    result = np.empty(n_layers if paired else (n_layers, n_accelerators))
    for dataflow in np.unique(accelerators["dataflow"]):
        for part in _blocks(np.flatnonzero(accelerators["dataflow"] == dataflow), BLOCK):
            if paired:
                result[part] = model(e[part], f[part], w[part], rows[part], columns[part], str(dataflow))
                continue
            step = BLOCK // len(part)
            for at in (slice(start, start + step) for start in range(0, n_layers, step)):
                sizes = e[at, None], f[at, None], w[at, None]
                result[at, part] = model(*sizes, rows[part], columns[part], str(dataflow))
    return result


def _blocks(indices: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
