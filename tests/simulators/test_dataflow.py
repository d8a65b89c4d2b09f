"""The dataflow model: MAESTRO's figures, and what it refuses. The kernel runs uncompiled here: the same, slower."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

from simulators import compile_numba
from simulators.accelerator import columns
from simulators.dataflow import Dataflow, activity_energy_nj, analyse, area_and_power, energy_nj, layer_table
from simulators.directives import encode_directives, find_dataflow, parse_directives
from simulators.workload import Workload

KERNELS = ("simulators.dataflow_levels", "simulators.dataflow_reuse")

# What MAESTRO (snapshot of August 2022) prints. Dataflow; K, C, R = S, Y = X, stride, depthwise; PEs, elements a cycle
# on chip and of DRAM; then cycles, multiply-accumulates, bytes of L2 and L1 needed, L2 reads of inputs and filters, L2
# writes of outputs, average required bandwidth, PEs at work, arithmetic intensity.
SHI = "TemporalMap(1,1) C; SpatialMap(Sz(R),1) Y; TemporalMap(10,8) X; Cluster(8, P); SpatialMap(Sz(S),1) X;"
SHI += " TemporalMap(Sz(R),Sz(R)) R; TemporalMap(Sz(S),Sz(S)) S;"
MAESTRO = [
    ("kcp_ws", 64, 3, 7, 224, 2, False, 64, 64, 16,
     41060741, 111776448, 590, 294, 32659347, 9408, 760384, 0.795619, 3, 3.5),
    ("kcp_ws", 256, 256, 3, 14, 1, False, 256, 256, 64,
     1658880, 84934656, 5768, 54, 8221248, 589824, 147456, 17.0724, 256, 12),
    ("kcp_ws", 1000, 2048, 7, 7, 1, False, 64, 64, 16,
     12544000, 100352000, 12546, 294, 97219136, 100352000, 32000, 42.0006, 64, 0.5),
    ("kcp_ws", 128, 256, 1, 56, 2, False, 64, 64, 16,
     3211264, 25690112, 258, 6, 25681984, 32768, 401408, 21.3538, 64, 1),
    ("dpt", 1, 192, 3, 14, 1, True, 256, 256, 64, 7776, 248832, 7294, 54, 96768, 1728, 27504, 76, 192, 3),
    ("dpt", 1, 96, 3, 112, 2, True, 256, 256, 64, 81675, 2613600, 3646, 54, 1758240, 864, 287375, 64.6136, 96, 1.5),
    ("yxp_os", 16, 32, 1, 112, 1, False, 64, 64, 16,
     401408, 6422528, 258, 6, 6421568, 512, 6422528, 32.0025, 64, 1),
    ("yxp_os", 32, 3, 1, 224, 2, False, 256, 256, 64,
     21505, 1193472, 514, 6, 1189504, 96, 1193472, 55.503, 112, 1),
    ("yxp_os_dpt", 1, 32, 3, 112, 1, True, 64, 64, 16,
     94080, 3484800, 626, 54, 1199500, 288, 387200, 17.3892, 62.8571, 2.25),
    (SHI, 1, 960, 3, 7, 1, True, 256, 256, 64, 9601, 216000, 278, 54, 40383, 8640, 24000, 5.10521, 25, 4.41176),
    (SHI, 1, 576, 3, 14, 2, True, 64, 64, 16, 12674, 342144, 532, 54, 164790, 5184, 69696, 14.7535, 28, 1.35),
]  # fmt: skip
# Accesses that the repository of MAESTRO publishes for ResNet-50 on 256 PEs (jupyter_notebook/data/Resnet50_rs_pe256):
# K, C, R = S, Y = X, stride; L2 reads of inputs and filters, L2 writes of outputs, multiply-accumulates, bytes of L2.
ROW_STATIONARY = (
    "TemporalMap(2,2) K; TemporalMap(4,4) C; TemporalMap(Sz(R),Sz(R)) R; SpatialMap(Sz(R),1) Y; TemporalMap(Sz(S),1) X;"
    "Cluster(3, P); SpatialMap(1,1) X; SpatialMap(1,1) S;"
)
PUBLISHED = [
    (64, 3, 7, 224, 2, 15925551, 9408, 1492864, 110750976, 26254),
    (64, 64, 1, 56, 1, 6413664, 4096, 3211264, 12845056, 688),
    (64, 64, 3, 56, 1, 17902872, 36864, 2985984, 107495424, 4248),
    (128, 256, 1, 56, 2, 12854128, 32768, 6422528, 25690112, 352),
    (256, 512, 1, 28, 2, 12902968, 131072, 6422528, 25690112, 184),
    (256, 256, 3, 14, 1, 14234544, 589824, 2359296, 84934656, 1056),
]
CHECKED = (
    "runtime_cycles", "num_macs", "l2_bytes_req", "l1_bytes_req", "input_l2_read", "filter_l2_read", "output_l2_write",
    "avg_bw_req", "avg_utilized_pes", "arithmetic_intensity",
)  # fmt: skip


@pytest.fixture(scope="module")
def uncompiled() -> ModuleType:
    """`dataflow_reuse` as it is without numba."""
    kept, compiled = {name: sys.modules.pop(name) for name in KERNELS}, compile_numba.compiled
    compile_numba.compiled = lambda function: function
    try:
        return import_module(KERNELS[-1])
    finally:
        compile_numba.compiled = compiled
        sys.modules.update(kept)
        for name, module in kept.items():
            setattr(sys.modules["simulators"], name.rpartition(".")[2], module)


@pytest.mark.parametrize("row", MAESTRO, ids=[f"{row[0][:10]}-{row[10]}" for row in MAESTRO])
def test_figures_are_those_of_maestro(uncompiled: ModuleType, row: tuple[str | int | float, ...]) -> None:
    program = encode_directives(parse_directives(find_dataflow(str(row[0])).directives))
    k, c, r, y, stride, is_depthwise, *hardware = map(int, row[1:10])
    layer = layer_table(k, c, r, r, y, y, stride, stride, is_depthwise)
    result = np.zeros((1, 1, len(uncompiled.COLUMNS)))
    uncompiled.analyse_pairs(program, layer, np.array([hardware]), True, result)
    found = dict(zip(uncompiled.COLUMNS, result[0, 0], strict=True))
    assert [float(f"{found[name]:.6g}") if found[name] % 1 else found[name] for name in CHECKED] == list(row[10:])
    for tensor in ("input", "filter", "output"):
        assert found[f"{tensor}_l1_read"] == found["num_macs"]
    assert found["input_l2_write"] == c * y * y
    assert found["output_l2_read"] == (c if is_depthwise else k) * (y - r + 1) ** 2


@pytest.mark.parametrize("row", PUBLISHED, ids=[f"{row[0]}-{row[1]}" for row in PUBLISHED])
def test_accesses_are_those_that_maestro_publishes(uncompiled: ModuleType, row: tuple[int, ...]) -> None:
    k, c, r, y, stride, *expected = row
    program = encode_directives(parse_directives(ROW_STATIONARY))
    result = np.zeros((1, 1, len(uncompiled.COLUMNS)))
    layer = layer_table(k, c, r, r, y, y, stride, stride)
    uncompiled.analyse_pairs(program, layer, np.array([(256, 1024, 64)]), True, result)
    found = dict(zip(uncompiled.COLUMNS, result[0, 0], strict=True))
    assert [found[name] for name in (*CHECKED[4:7], "num_macs", "l2_bytes_req")] == expected


def test_energy_area_and_power_are_those_of_maestro() -> None:
    """Two rows of one of its tables; its energy holds the L1 accesses of the layer before, none for the first."""
    found = {
        "input_l2_read": 32659347.0, "input_l2_write": 150528.0, "filter_l2_read": 9408.0, "filter_l2_write": 9408.0,
        "output_l2_read": 3041536.0, "output_l2_write": 760384.0,
    }  # fmt: skip
    as_arrays = {name: np.array(value) for name, value in found.items()}
    assert f"{activity_energy_nj(as_arrays, 0):.6g}" == "143771"
    second = {
        "input_l2_read": 12841024.0, "input_l2_write": 200704.0, "filter_l2_read": 4096.0, "filter_l2_write": 4096.0,
        "output_l2_read": 200704.0, "output_l2_write": 200704.0,
    }  # fmt: skip
    before = 4 * 111776448 + 32659347 + 9408
    energy = activity_energy_nj({name: np.array(value) for name, value in second.items()}, before)
    assert f"{energy:.6g}" == "242102"
    area, power = area_and_power([64, 64], 64, [294, 6], [590, 258])
    assert [f"{value:.6g}" for value in area] == ["8.5409e+06", "8.53894e+06"]
    assert [f"{value:.6g}" for value in power] == ["196.61", "131.874"]


def test_energy_is_that_of_every_access_and_product() -> None:
    names = [f"{t}_{level}_{way}" for t in ("input", "filter", "output") for level in ("l1", "l2") for way in _WAYS]
    found = {name: np.array(10.0 if "_l1_" in name else 1.0) for name in names} | {"num_macs": np.array(1000.0)}
    assert energy_nj(found) == pytest.approx((60 * 1.68 + 6 * 18.61 + 1000) * 0.00023)


_WAYS = ("read", "write")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((1, 1, 3, 3, 2, 5), "smaller than its filter"), ((1, 0, 1, 1, 2, 5), "at least 1, not 0")],
)
def test_impossible_layers_are_refused(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_table(*sizes)


def test_impossible_hardware_is_refused() -> None:
    layers = layer_table([8, 8], 8, 1, 1, [4, 5], 4)
    with pytest.raises(ValueError, match="pes: 63 is too few for dataflow 'kcp_ws'; use at least the 64"):
        analyse("kcp_ws", layers, [(64, 8, 8), (63, 8, 8)])
    with pytest.raises(ValueError, match="pes: 2 is too few for dataflow 'rs'; use at least the 3"):
        analyse("rs", layer_table(8, 8, [1, 3], 1, 9, 9), [(1, 8, 8), (2, 8, 8)], paired=True)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        analyse("kcp_ws", layers, [(64, 0, 8)])
    with pytest.raises(ValueError, match="2 layers and 1 accelerators"):
        analyse("kcp_ws", layers, [(64, 8, 8)], paired=True)
    accelerators = columns(Dataflow.fields, [{"dataflow": "kcp"}])
    with pytest.raises(ValueError, match="did you mean 'kcp_ws'"):
        Dataflow().simulate(Workload.from_layers(), accelerators)
