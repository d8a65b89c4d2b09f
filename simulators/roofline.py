"""Roofline: the lower bound on latency that peak compute and DRAM bandwidth set (Williams et al. 2009)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simulators.accelerator import Columns, Field, count_accelerators
from simulators.report import CostReport
from simulators.workload import FloatArray, Workload


class Roofline:
    """Latency of each layer = max(compute at peak rate, ideal DRAM traffic at full bandwidth).

    Metrics: `latency_cycles` (not rounded), `latency_ms` and `dram_bytes` add up over layers; `peak_gmacs_per_s` and
    `dram_gb_per_s` are the accelerator's own.
    """

    id: ClassVar[str] = "roofline-v1"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("macs_per_cycle", "float", "MACs/cycle", 256.0, lowest=1e-6, doc="peak multiply-accumulates per cycle"),
        Field("dram_bytes_per_cycle", "float", "bytes/cycle", 4.0, lowest=1e-6, doc="DRAM bandwidth, both directions"),
        Field("clock_ghz", "float", "GHz", 0.2, lowest=1e-6, doc="clock that the two rates refer to"),
    )
    metrics: ClassVar[tuple[str, ...]] = (
        "latency_ms", "latency_cycles", "dram_bytes", "peak_gmacs_per_s", "dram_gb_per_s",
    )  # fmt: skip
    uncounted: ClassVar[tuple[str, ...]] = (
        "anything that keeps an accelerator below its peak: mapping, fill and drain, stalls, repeated DRAM traffic",
        "energy and area",
        "ops that are not matrix products: pooling, element-wise, normalisation, activation",
    )

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """The bound for every layer on every accelerator; see `Simulator.simulate`."""
        n_layers, n_accelerators = len(workload), count_accelerators(self.fields, accelerators)
        if paired and n_layers != n_accelerators:
            raise ValueError(f"paired: {n_layers} layers and {n_accelerators} accelerators; give one for each")
        macs_per_cycle, bytes_per_cycle, clock_ghz = (accelerators[f.name].astype(np.float64) for f in self.fields)
        macs, traffic = workload.macs.astype(np.float64), ideal_dram_bytes(workload)
        if not paired:
            macs, traffic = macs[:, None], traffic[:, None]
        cycles = np.maximum(macs / macs_per_cycle, traffic / bytes_per_cycle)
        return CostReport(
            columns={
                "latency_ms": cycles / (clock_ghz * 1e6),
                "latency_cycles": cycles,
                "dram_bytes": np.broadcast_to(traffic, cycles.shape),
            },
            per_accelerator={
                "peak_gmacs_per_s": macs_per_cycle * clock_ghz,
                "dram_gb_per_s": bytes_per_cycle * clock_ghz,
            },
            uncounted=self.uncounted,
        )


def ideal_dram_bytes(workload: Workload) -> FloatArray:
    """Fewest bytes that a layer moves: inputs, weights and outputs once each, shape (L,).

    A workload does not hold its padding. Counted are the (out - 1) min(stride, filter) + 1 input rows (and columns)
    that padding of less than half the filter on either side leaves at least; so the figure remains a lower bound.
    """
    rows = (workload.out_y - 1) * np.minimum(workload.stride, workload.filter_y) + 1
    columns = (workload.out_x - 1) * np.minimum(workload.stride, workload.filter_x) + 1
    inputs = workload.batch.astype(np.float64) * workload.in_channels * rows * columns
    window = (workload.in_channels // workload.groups).astype(np.float64) * workload.filter_y * workload.filter_x
    outputs = workload.batch.astype(np.float64) * workload.out_channels * workload.out_y * workload.out_x
    return np.asarray((inputs + window * workload.out_channels + outputs) * workload.bits / 8.0)
