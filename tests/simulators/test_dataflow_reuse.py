"""The compiled analysis: against a walk of the loop nest with explicit sets, and against its own Python version."""

from __future__ import annotations

from itertools import product
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.testing.simulators import check_simulator
from simulators.accelerator import columns
from simulators.dataflow import Dataflow, analyse, layer_table
from simulators.dataflow_reuse import COLUMNS
from simulators.directives import encode_directives, parse_directives, shipped_dataflows
from simulators.workload import Workload

from .test_dataflow import uncompiled

__all__ = ["uncompiled"]

pytestmark = pytest.mark.slow  # compiles the analysis once

NEST = ("K", "C", "Y", "X")  # of a 1 x 1 convolution
TENSORS = {"input": ("C", "Y", "X"), "filter": ("K", "C"), "output": ("K", "Y", "X")}
Nest = tuple[tuple[str, ...], dict[str, int], dict[str, int], str, int]


@st.composite
def nests(draw: st.DrawFn) -> Nest:
    """Loop order, chunk size and number of chunks per dimension, the one spread in space, and over how many."""
    order = tuple(draw(st.permutations(NEST)))
    size = {name: draw(st.integers(1, 2)) for name in NEST}
    count = {name: draw(st.integers(1, 3)) for name in NEST}
    return order, size, count, draw(st.sampled_from(NEST)), draw(st.integers(1, 3))


def text_of(nest: Nest) -> str:
    order, size, _, spread, _ = nest
    maps = [f"{'Spatial' if d == spread else 'Temporal'}Map({size[d]},{size[d]}) {d}" for d in order]
    return "; ".join(maps)


def layer_of(nest: Nest) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    _, size, count, spread, n_sub = nest
    extent = {name: size[name] * count[name] * (n_sub if name == spread else 1) for name in NEST}
    return layer_table(extent["K"], extent["C"], 1, 1, extent["Y"], extent["X"])


def walk(nest: Nest) -> tuple[dict[str, int], dict[str, int], int]:
    """Elements every tensor moves, of them those moved when a loop it does not depend on steps, and products.

    Every step, each sub-cluster holds its chunks alone; elements wanted by several are moved once.
    """
    order, size, count, spread, n_sub = nest
    moved, at_restarts, products = dict.fromkeys(TENSORS, 0), dict.fromkeys(TENSORS, 0), 0
    held: dict[tuple[str, int], set[tuple[int, ...]]] = {}
    last: tuple[int, ...] | None = None
    for index in product(*(range(count[name]) for name in order)):
        stepped = None if last is None else next(name for name, i, j in zip(order, index, last, strict=True) if i > j)
        wanted = {tensor: set[tuple[int, ...]]() for tensor in TENSORS}
        for sub in range(n_sub):
            chunk = {}
            for name, i in zip(order, index, strict=True):
                start = (i * n_sub + sub if name == spread else i) * size[name]
                chunk[name] = range(start, start + size[name])
            for tensor, names in TENSORS.items():
                elements = set(product(*(chunk[name] for name in names)))
                wanted[tensor] |= elements - (held.get((tensor, sub), set()) if tensor != "output" else set())
                held[tensor, sub] = elements
            products += int(np.prod([len(part) for part in chunk.values()]))
        for tensor, names in TENSORS.items():
            moved[tensor] += len(wanted[tensor])
            at_restarts[tensor] += len(wanted[tensor]) if stepped is not None and stepped not in names else 0
        last = index
    return moved, at_restarts, products


@settings(max_examples=150, deadline=None)
@given(nests())
def test_traffic_is_that_of_a_walk_through_the_nest(nest: Nest) -> None:
    """MAESTRO takes the start-over of an inner loop for free; where there is none, its counts are the true ones."""
    moved, at_restarts, products = walk(nest)
    found = {k: v.item() for k, v in analyse(text_of(nest), layer_of(nest), [(nest[4], 4, 4)]).items()}
    for tensor in ("input", "filter"):
        assert found[f"{tensor}_l2_read"] == moved[tensor] - at_restarts[tensor]
    assert found["output_l2_write"] == moved["output"]
    assert found["num_macs"] == products


@pytest.mark.parametrize("order", [("C", "Y", "X", "K"), ("Y", "X", "C", "K")])
@pytest.mark.parametrize("spread", NEST)
def test_inputs_that_no_outer_loop_restarts_are_read_as_often_as_the_walk_says(
    order: tuple[str, ...], spread: str
) -> None:
    nest = (order, dict.fromkeys(NEST, 2), {"K": 3, "C": 2, "Y": 2, "X": 3}, spread, 2)
    moved, at_restarts, _ = walk(nest)
    assert at_restarts["input"] == 0
    assert analyse(text_of(nest), layer_of(nest), [(2, 4, 4)])["input_l2_read"].item() == moved["input"]


@settings(max_examples=60, deadline=None)
@given(nests(), st.sampled_from(NEST), st.integers(1, 4))
def test_what_a_cluster_does_inside_does_not_change_what_enters_it(nest: Nest, inner: str, pes: int) -> None:
    plain = analyse(text_of(nest), layer_of(nest), [(nest[4], 4, 4)])
    text = f"{text_of(nest)}; Cluster({pes}, P); SpatialMap(1,1) {inner}"
    nested = analyse(text, layer_of(nest), [(nest[4] * pes, 4, 4)])
    for name in ("input_l2_read", "filter_l2_read", "output_l2_write", "num_macs", "l2_bytes_req"):
        assert nested[name] == plain[name]
    assert nested["runtime_cycles"] * nest[4] * pes >= nested["num_macs"]


layers = st.tuples(
    st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 5]), st.integers(5, 20), st.integers(5, 20),
    st.sampled_from([1, 2, 3]), st.booleans(),
)  # fmt: skip
machines = st.tuples(st.integers(64, 300), st.integers(1, 80), st.integers(1, 80))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(shipped_dataflows())), layers, machines)
def test_compiled_and_python_versions_agree(
    uncompiled: ModuleType, flow: str, layer: tuple[int, ...], machine: tuple[int, int, int]
) -> None:
    k, c, r, y, x, stride, is_depthwise = layer
    table = layer_table(1 if is_depthwise else k, c, r, r, y, x, stride, stride, is_depthwise)
    program = encode_directives(parse_directives(shipped_dataflows()[flow].directives))
    result = np.zeros((1, 1, len(COLUMNS)))
    uncompiled.analyse_pairs(program, table, np.array([machine]), True, result)
    found = analyse(flow, table, [machine])
    assert [found[name].item() for name in COLUMNS] == result[0, 0].tolist()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(shipped_dataflows())), layers, machines, st.integers(1, 40), st.integers(1, 40))
def test_more_bandwidth_is_never_slower(
    flow: str, layer: tuple[int, ...], machine: tuple[int, int, int], more_noc: int, more_dram: int
) -> None:
    k, c, r, y, x, stride, is_depthwise = layer
    table = layer_table(1 if is_depthwise else k, c, r, r, y, x, stride, stride, is_depthwise)
    pes, noc, dram = machine
    found = analyse(flow, table, [machine, (pes, noc + more_noc, dram), (pes, noc, dram + more_dram)])["runtime_cycles"]
    assert (found[0, 1:] <= found[0, 0]).all()


@pytest.mark.parametrize("flow", sorted(shipped_dataflows()))
def test_unit_stride_without_partial_chunks_counts_every_product_once(flow: str) -> None:
    """3 x 3 windows overlap here; channels, rows and columns divide by what the dataflow spreads."""
    is_depthwise = flow.endswith("dpt")
    table = layer_table(1 if is_depthwise else 64, 64, 3, 3, 34, 34, depthwise=is_depthwise)
    macs = (1 if is_depthwise else 64) * 64 * 9 * 32 * 32
    pes = {"rs": 3 * 32, "xp_ws": 32, "xp_ws_dpt": 32}.get(flow, 256)
    assert analyse(flow, table, [(pes, 64, 16)])["num_macs"] == macs


def test_simulator_keeps_its_promises() -> None:
    check_simulator(Dataflow())


def test_groups_and_batch_are_repeats_and_depthwise_layers_have_a_dataflow_of_their_own() -> None:
    accelerators = columns(Dataflow.fields, [{}, {"dataflow": "yxp_os"}, {"l1_bytes": 8, "l2_bytes": 64}])
    one = {"in_channels": 16, "out_channels": 32, "out_y": 9, "out_x": 7, "filter_y": 3, "filter_x": 3}
    workload = Workload.from_layers(
        in_channels=[16, 64, 64], out_channels=[32, 128, 64], groups=[1, 4, 64], batch=[1, 5, 1],
        out_y=9, out_x=7, filter_y=3, filter_x=3,
    )  # fmt: skip
    report = Dataflow().simulate(workload, accelerators)
    alone = Dataflow().simulate(Workload.from_layers(**one), accelerators)
    for name, values in report.columns.items():
        times = 1 if name.endswith("overflow_bytes") else 20
        np.testing.assert_allclose(values[1], times * alone.columns[name][0], rtol=1e-12)
    depthwise = layer_table(1, 64, 3, 3, 11, 9, depthwise=True)
    found = analyse("dpt", depthwise, [(256, 64, 16)])
    assert report.columns["latency_cycles"][2, 0] == found["runtime_cycles"].item()
    assert report.columns["latency_cycles"][2, 1] != report.columns["latency_cycles"][2, 0]
    assert (report.columns["macs"] == workload.macs[:, None]).all()
    assert (report.columns["l1_overflow_bytes"][:, 2] > report.columns["l1_overflow_bytes"][:, 0]).all()
    assert report.columns["l2_overflow_bytes"][2, 2] == found["l2_bytes_req"].item() - 64
    assert report.per_accelerator["area_um2"][2] < report.per_accelerator["area_um2"][0]


def test_blocks_of_pairs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = Workload.from_layers(in_channels=np.arange(3, 40), out_channels=24, out_y=6, out_x=6)
    accelerators = columns(
        Dataflow.fields, [{"pes": pes, "dataflow": f} for pes in (64, 100) for f in ("rs", "kcp_ws")]
    )
    whole = Dataflow().simulate(workload, accelerators).columns
    monkeypatch.setattr("simulators.dataflow.BLOCK", 10)
    for name, values in Dataflow().simulate(workload, accelerators).columns.items():
        np.testing.assert_array_equal(values, whole[name])
