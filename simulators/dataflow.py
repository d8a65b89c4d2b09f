"""A PE array under dataflow directives: cycles, energy and accesses of every buffer, as MAESTRO gives them.

PEs with an L1 scratchpad each sit behind networks on chip and one L2 scratchpad, in clusters as the directives say
(see `directives`); which operand is fetched how often follows from the directives alone (see `dataflow_reuse`, which
also lists what is odd in MAESTRO's counts). Cycles: computing, transfers on the networks and DRAM overlap (double
buffering), except for the first case. Energy: accesses of L1 and L2, and one unit for each multiply-accumulate.

Source: Kwon et al. 2019 (MAESTRO) and its repository, snapshot of August 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulators.accelerator import Columns, Field, count_accelerators
from simulators.dataflow_reuse import COLUMNS, analyse_pairs
from simulators.directives import EXTENTS, encode_directives, find_dataflow, parse_directives
from simulators.report import CostReport
from simulators.workload import FloatArray, IntArray, Workload

BLOCK = 8_192  # pairs of layer and accelerator worked on at once, for the sake of memory

TENSORS = ("input", "filter", "output")

L1_ENERGY, L2_ENERGY = 1.68, 18.61  # energy of an access over that of a multiply-accumulate (MAESTRO)
MAC_ENERGY_NJ = 0.00023
MAC_AREA_UM2, MAC_POWER_MW = 283.0, 1.2223
SRAM_AREA_UM2_PER_BYTE, SRAM_POWER_MW_PER_BYTE = 0.104, 0.00345
BUS_AREA_UM2, BUS_POWER_MW = 101.7938, 0.8
ARBITER_AREA_UM2, ARBITER_POWER_MW = 395.473, 0.34


class Dataflow:
    """Layers on a PE array under one of the shipped dataflows, or under directives of one's own.

    Metrics: `latency_ms`, `latency_cycles`, `energy_pj`, `macs` (exact), `maestro_macs` (as MAESTRO counts, which
    departs from the exact number on some layers), `l1_accesses` and `l2_accesses` (elements read or written),
    `dram_elements` (inputs and weights into L2, outputs out of it, each once), and `l1_overflow_bytes` and
    `l2_overflow_bytes`, by how much the double-buffered need exceeds what there is (0: the layer fits), add up over
    layers; `pes`, `area_um2` and `power_mw` are the accelerator's own. An element is a byte.

    Depthwise layers (as many groups as input and as output channels) run under the dataflow that the shipped one names
    for them. The groups of other layers, and the images of a batch, run one after another.
    """

    id: ClassVar[str] = "dataflow-v1"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("dataflow", "str", "", "kcp_ws", doc="name of a shipped dataflow, or directives"),
        Field("pes", "int", "PEs", 256, lowest=1, doc="processing elements, one multiply-accumulate a cycle each"),
        Field("l1_bytes", "int", "B", 512, lowest=1, doc="scratchpad of one PE"),
        Field("l2_bytes", "int", "B", 131_072, lowest=1, doc="shared scratchpad"),
        Field(
            "noc_elements_per_cycle", "int", "elements/cycle", 64, lowest=1, doc="bandwidth of every network on chip"
        ),
        Field("offchip_elements_per_cycle", "int", "elements/cycle", 16, lowest=1, doc="bandwidth of DRAM"),
        Field("clock_ghz", "float", "GHz", 1.0, lowest=1e-6, doc="clock of the array"),
    )
    metrics: ClassVar[tuple[str, ...]] = (
        "latency_ms", "latency_cycles", "energy_pj", "macs", "maestro_macs", "l1_accesses", "l2_accesses",
        "dram_elements", "l1_overflow_bytes", "l2_overflow_bytes", "pes", "area_um2", "power_mw",
    )  # fmt: skip
    uncounted: ClassVar[tuple[str, ...]] = (
        "energy of DRAM and of the networks on chip",
        "buffers too small for the tiles: cycles are as if they fit, see the overflow",
        "word width: an element is a byte",
        "dilation: taps are taken as neighbours",
        "ops that are not matrix products: pooling, element-wise, normalisation, activation",
    )

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """Cost of every layer on every accelerator; see `Simulator.simulate`.

        Raises:
            ValueError: as stated there, and for wrong directives or fewer PEs than one cluster has.
        """
        n_layers, n_accelerators = len(workload), count_accelerators(self.fields, accelerators)
        if paired and n_layers != n_accelerators:
            raise ValueError(f"paired: {n_layers} layers and {n_accelerators} accelerators; give one for each")
        is_depthwise = _is_depthwise(workload)
        repeats = (workload.batch * np.where(is_depthwise, 1, workload.groups)).astype(np.float64)
        layers = _layers(workload, is_depthwise)
        shape = (n_layers,) if paired else (n_layers, n_accelerators)
        columns = {name: np.empty(shape) for name in self.metrics[:10]}
        flows = np.asarray(accelerators["dataflow"])
        for flow in np.unique(flows):
            shipped = find_dataflow(str(flow))
            machines = np.flatnonzero(flows == flow)
            for depthwise, text in ((False, shipped.directives), (True, shipped.depthwise)):
                rows = np.flatnonzero(is_depthwise == depthwise)
                self._fill(columns, text, layers, repeats, rows, accelerators, machines, paired)
        columns["macs"][:] = workload.macs if paired else workload.macs[:, None]
        clock_ghz = accelerators["clock_ghz"].astype(np.float64)
        np.divide(columns["latency_cycles"], clock_ghz * 1e6, out=columns["latency_ms"])
        pes, noc = accelerators["pes"], accelerators["noc_elements_per_cycle"]
        area, power = area_and_power(pes, noc, accelerators["l1_bytes"], accelerators["l2_bytes"])
        own = {"pes": pes.astype(np.float64), "area_um2": area, "power_mw": power}
        return CostReport(columns, own, self.uncounted)

    @staticmethod
    def _fill(
        columns: Mapping[str, FloatArray],
        text: str,
        layers: IntArray,
        repeats: FloatArray,
        rows: IntArray,
        accelerators: Columns,
        machines: IntArray,
        paired: bool,
    ) -> None:
        """Write the columns of the given layers and machines, all under one dataflow, block by block."""
        if paired:
            rows = machines = np.intersect1d(rows, machines)
        if not len(rows) or not len(machines):
            return
        bandwidths = ("noc_elements_per_cycle", "offchip_elements_per_cycle")
        hardware = np.stack([accelerators[name].astype(np.int64) for name in ("pes", *bandwidths)], axis=1)
        step = BLOCK if paired else max(BLOCK // len(machines), 1)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            on = some if paired else machines
            found = analyse(text, layers[some], hardware[on], paired=paired)
            per_layer = repeats[some] if paired else repeats[some, None]
            place = some if paired else np.ix_(some, on)
            reads = {name: sum(found[f"{t}_{name}"] for t in TENSORS) for name in _ACCESSES}
            columns["latency_cycles"][place] = found["runtime_cycles"] * per_layer
            columns["maestro_macs"][place] = found["num_macs"] * per_layer
            columns["energy_pj"][place] = 1e3 * energy_nj(found) * per_layer
            for level in ("l1", "l2"):
                columns[f"{level}_accesses"][place] = (reads[f"{level}_read"] + reads[f"{level}_write"]) * per_layer
                room = accelerators[f"{level}_bytes"][on].astype(np.float64)
                columns[f"{level}_overflow_bytes"][place] = np.maximum(found[f"{level}_bytes_req"] - room, 0.0)
            moved = found["input_l2_write"] + found["filter_l2_write"] + found["output_l2_read"]
            columns["dram_elements"][place] = moved * per_layer


_ACCESSES = ("l1_read", "l1_write", "l2_read", "l2_write")


def layer_table(
    k: ArrayLike,
    c: ArrayLike,
    r: ArrayLike,
    s: ArrayLike,
    y: ArrayLike,
    x: ArrayLike,
    stride_y: ArrayLike = 1,
    stride_x: ArrayLike = 1,
    depthwise: ArrayLike = False,
) -> IntArray:
    """Layers for `analyse`, shape (L, 9): extents of K, C, R, S and of the inputs' Y, X, strides, depthwise or not.

    Raises:
        ValueError: an extent below 1, or an input smaller than the filter.
    """
    given = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v)) for v in (k, c, r, s, y, x, stride_y, stride_x)))
    sizes = np.stack([v.astype(np.int64) for v in given], axis=1)
    flags = np.broadcast_to(np.atleast_1d(np.asarray(depthwise, dtype=np.int64)), len(sizes))
    if (sizes < 1).any():
        raise ValueError(f"layers: extents and strides must be at least 1, not {sizes.min()}")
    if (sizes[:, 4:6] < sizes[:, 2:4]).any():
        raise ValueError("layers: an input (Y, X) is smaller than its filter (R, S)")
    return np.concatenate([sizes, flags[:, None]], axis=1)


def analyse(dataflow: str, layers: IntArray, hardware: ArrayLike, *, paired: bool = False) -> dict[str, FloatArray]:
    """Everything MAESTRO says of layers under one dataflow.

    Args:
        dataflow: directives, or the name of a shipped dataflow (its part for depthwise layers is not looked at).
        layers: shape (L, 9), as `layer_table` makes them.
        hardware: shape (A, 3): PEs, elements per cycle of the networks on chip and of DRAM.
        paired: layer i on accelerator i alone.

    Returns:
        The columns of MAESTRO's own table by its names, each of shape (L, A), or (L,) when paired: cycles, elements,
        elements per cycle, bytes. Nothing is scaled for a batch.

    Raises:
        ValueError: wrong directives, a layer that has no chunk as large as its filter, or hardware below 1 or with
            fewer PEs than one cluster.
    """
    directives = parse_directives(find_dataflow(dataflow).directives)
    program = encode_directives(directives)
    machines = np.asarray(hardware, dtype=np.int64).reshape(-1, 3)
    if (machines < 1).any():
        raise ValueError(f"hardware: PEs and bandwidths must be at least 1, not {machines.min()}")
    if paired and len(machines) != len(layers):
        raise ValueError(f"paired: {len(layers)} layers and {len(machines)} accelerators; give one for each")
    in_cluster = np.ones(len(layers), dtype=np.int64)
    for directive in directives:
        if directive.kind == "Cluster":
            of = directive.size.of
            in_cluster *= layers[:, EXTENTS.index(of)] if of else directive.size.number
    pes = machines[:, 0] if paired else np.full(len(layers), machines[:, 0].min(initial=np.iinfo(np.int64).max))
    for short in np.flatnonzero(in_cluster > pes)[:1]:
        raise ValueError(
            f"pes: {pes[short]} is too few for dataflow {dataflow!r}; use at least the {in_cluster[short]} of a cluster"
        )
    result = np.empty((len(layers), 1 if paired else len(machines), len(COLUMNS)))
    analyse_pairs(program, np.ascontiguousarray(layers, dtype=np.int64), machines, paired, result)
    if paired:
        result = result[:, 0]
    if not (result[..., 0] > 0).all():
        raise ValueError(f"dataflow: {dataflow!r} gives a layer no chunk that holds a whole filter")
    return {name: result[..., i] for i, name in enumerate(COLUMNS)}


def energy_nj(found: Mapping[str, NDArray[np.float64]]) -> FloatArray:
    """MAESTRO's "total energy consumption" in nJ: the accesses and multiply-accumulates that `analyse` counts."""
    l1 = sum(found[f"{t}_l1_{way}"] for t in TENSORS for way in ("read", "write"))
    l2 = sum(found[f"{t}_l2_{way}"] for t in TENSORS for way in ("read", "write"))
    return np.asarray((l1 * L1_ENERGY + l2 * L2_ENERGY + found["num_macs"]) * MAC_ENERGY_NJ)


def activity_energy_nj(found: Mapping[str, NDArray[np.float64]], l1_accesses: ArrayLike) -> FloatArray:
    """MAESTRO's column "activity count-based energy", nJ: without multiply-accumulates and reads of outputs from L2.

    Args:
        found: as `analyse` gives them.
        l1_accesses: elements. MAESTRO takes those of the layer before in its file (0 for the first), unless the
            dataflow has a single level, in which case they are the layer's own.
    """
    l2 = sum(found[f"{t}_l2_{way}"] for t in TENSORS for way in ("read", "write")) - found["output_l2_read"]
    return np.asarray((np.asarray(l1_accesses) * L1_ENERGY + l2 * L2_ENERGY) * MAC_ENERGY_NJ)


def area_and_power(
    pes: ArrayLike, noc_elements_per_cycle: ArrayLike, l1_bytes: ArrayLike, l2_bytes: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Area in um2 and power in mW of PEs, scratchpads, a bus and its matrix arbiter, as MAESTRO has them (28 nm)."""
    n, width, l1, l2 = (np.asarray(v, dtype=np.float64) for v in (pes, noc_elements_per_cycle, l1_bytes, l2_bytes))
    sram = l1 * n + l2
    bus = 14.662 * n + 28.895
    arbiter = 1.2886 * n**2 + 5.5814 * n - 23.711
    area = MAC_AREA_UM2 * n + SRAM_AREA_UM2_PER_BYTE * sram + BUS_AREA_UM2 * bus * width
    area = area + np.maximum(ARBITER_AREA_UM2 * arbiter, ARBITER_AREA_UM2)
    power = MAC_POWER_MW * n + SRAM_POWER_MW_PER_BYTE * sram + BUS_POWER_MW * bus / 1000 * width
    power = power + np.maximum(ARBITER_POWER_MW * arbiter / 1000, ARBITER_POWER_MW)
    return np.asarray(area), np.asarray(power)


def _is_depthwise(workload: Workload) -> NDArray[np.bool_]:
    one_each = (workload.in_channels == workload.groups) & (workload.out_channels == workload.groups)
    return np.asarray(one_each & (workload.groups > 1))


def _layers(workload: Workload, is_depthwise: NDArray[np.bool_]) -> IntArray:
    """One group of every layer (all channels of a depthwise one), with the input that its windows reach."""
    y, x = ((getattr(workload, f"out_{a}") - 1) * workload.stride + getattr(workload, f"filter_{a}") for a in "yx")
    k = workload.out_channels // workload.groups
    c = np.where(is_depthwise, workload.in_channels, workload.in_channels // workload.groups)
    r, s = workload.filter_y, workload.filter_x
    return layer_table(k, c, r, s, y, x, workload.stride, workload.stride, is_depthwise)
