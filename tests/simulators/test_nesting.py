"""What must hold between the simulators, and of each of them: bounds, monotony, additivity, independence.

What is compared: a roofline of as many multiply-accumulates per cycle as the other model has PEs and, where a bandwidth
is compared too, of as many bytes per cycle as it has from DRAM. Layers are those of the shipped networks and random
ones. Where a published tool's own figures break an order, the order is held for the physical mode, or for the part that
keeps it, and a test pins the tool's counter-example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.registry import lookup, names
from codesign.testing.simulators import check_simulator, random_workload
from simulators.accelerator import Columns, columns
from simulators.dataflow import Dataflow
from simulators.design import OnWorkload
from simulators.mapping_model import MappingModel, random_designs
from simulators.networks import load_network, network_names
from simulators.roofline import Roofline
from simulators.simulator import Simulator
from simulators.spatial import Spatial
from simulators.spatial_evaluate import evaluate
from simulators.spatial_hierarchy import load_hierarchy
from simulators.spatial_nest import layers_of, nests_of
from simulators.spatial_numbers import SIZES, WIDTHS, numbers_for
from simulators.systolic import Systolic
from simulators.workload import FloatArray, IntArray, Workload

UNLIMITED = 1e30  # bytes per cycle
ROUNDING = 1 + 1e-12
SEEDS = st.integers(0, 2**32 - 1)

Record = Mapping[str, Any]


def shipped() -> list[str]:
    """Registered simulators of this package, by id."""
    return [name for name in names("simulators") if lookup("simulators", name).__module__.startswith("simulators.")]


def costs(model: Simulator, layers: Workload, accelerators: list[Record] | Columns) -> Mapping[str, FloatArray]:
    given_as_records = isinstance(accelerators, list)
    table = columns(model.fields, accelerators) if given_as_records else accelerators  # type: ignore[arg-type]
    return model.simulate(layers, table).columns  # type: ignore[arg-type]


def bound(layers: Workload, pes: FloatArray, bytes_per_cycle: FloatArray) -> Mapping[str, FloatArray]:
    rates = zip(pes.tolist(), bytes_per_cycle.tolist(), strict=True)
    return costs(Roofline(), layers, [{"macs_per_cycle": m, "dram_bytes_per_cycle": b} for m, b in rates])


def arrays(rng: np.random.Generator, n: int, **fixed: object) -> list[Record]:
    """Systolic arrays of all dataflows, small scratchpads and low bandwidths among them."""
    highest = {"rows": 64, "columns": 64, "ifmap_kib": 128, "filter_kib": 128, "ofmap_kib": 64}
    found: list[Record] = []
    for i in range(n):
        sizes = {name: int(2 ** rng.uniform(0, np.log2(most))) for name, most in highest.items()}
        bandwidth = float(rng.integers(1, 64))
        found.append(
            {**sizes, "dataflow": ("os", "ws", "is")[i % 3], "dram_bytes_per_cycle": bandwidth, "bandwidth": "limited"}
            | fixed
        )
    return found


def column(records: list[Record], name: str) -> FloatArray:
    return np.array([record[name] for record in records], dtype=np.float64)


def check_systolic_chain(layers: Workload, rng: np.random.Generator) -> None:
    """roofline <= physical; roofline, of compute <= physical, unlimited <= SCALE-Sim's closed form <= its event model.

    SCALE-Sim gives the last cycle's number, one less than the cycles of each of a layer's groups and images; in os it
    leaves out that results shift out of the array, which takes as many cycles as it has rows.
    """
    limited = arrays(rng, 9, mode="physical")
    pes = column(limited, "rows") * column(limited, "columns")
    physical = costs(Systolic(), layers, limited)
    lowest = bound(layers, pes, column(limited, "dram_bytes_per_cycle"))
    for name in ("latency_cycles", "dram_bytes"):
        assert (lowest[name] <= physical[name] * ROUNDING).all()
    unlimited: list[Record] = [{**record, "bandwidth": "unlimited"} for record in limited]
    compute = costs(Systolic(), layers, unlimited)["latency_cycles"]
    assert (bound(layers, pes, np.full(9, UNLIMITED))["latency_cycles"] <= compute * ROUNDING).all()
    assert (compute <= physical["latency_cycles"] * ROUNDING).all()
    closed = costs(Systolic(), layers, [{**record, "mode": "scalesim"} for record in unlimited])["latency_cycles"]
    shifting = np.where([record["dataflow"] == "os" for record in limited], column(limited, "rows"), 0.0)
    runs = (layers.batch * layers.groups)[:, None]
    assert (compute <= closed + runs * (1 + shifting)).all()
    few, rows = limited[:3], np.argsort(layers.macs)[: 3 * len(layers) // 4]  # event models of the largest take long
    events = costs(Systolic(), layers.take(rows), [{**record, "mode": "scalesim"} for record in few])
    assert (closed[rows, :3] <= events["latency_cycles"]).all()


@settings(max_examples=4)
@given(SEEDS)
def test_roofline_then_systolic_then_events_on_random_layers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_systolic_chain(random_workload(12, rng), rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", network_names())
def test_roofline_then_systolic_then_events_on_networks(name: str) -> None:
    check_systolic_chain(load_network(name)[0], np.random.default_rng(0))


def check_spatial_bound(layers: Workload, base: str) -> None:
    """roofline <= spatial, with the PEs and the DRAM port (one, for both directions) of a hierarchy."""
    (port,) = load_hierarchy(base).memories[-1].ports
    report = Spatial().simulate(layers, columns(Spatial.fields, [{"base": base}]))
    lowest = bound(layers, report.per_accelerator["pes"], np.array([port.max_bits / 8]))
    for name in ("latency_cycles", "dram_bytes"):
        assert (lowest[name] <= report.columns[name] * ROUNDING).all()
    assert (report.columns["compute_cycles"] <= report.columns["latency_cycles"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("base", ["edge-like", "eyeriss-like", "tpu-like"])
def test_the_roofline_bounds_spatial(base: str) -> None:
    check_spatial_bound(random_workload(30, np.random.default_rng(1)), base)
    check_spatial_bound(load_network("resnet18-64")[0], base)
    check_spatial_bound(load_network("mobilenetv2-96")[0], base)


@settings(max_examples=10)
@given(SEEDS)
def test_the_roofline_bounds_every_mapping(seed: int) -> None:
    model = MappingModel()
    designs = random_designs(model, 200, np.random.default_rng(seed))
    found = model.evaluate(designs).metrics["latency_cycles"]
    layers, _ = load_network("resnet18-224")
    (port,) = load_hierarchy("edge-like").memories[-1].ports
    pes = designs["pes_D1"].astype(np.float64) * designs["pes_D2"].astype(np.float64)
    lowest = bound(layers.take(np.array([1])), pes, np.full(200, port.max_bits / 8))["latency_cycles"][0]
    works = ~np.isnan(found)
    assert works.any()
    assert (lowest[works] <= found[works] * ROUNDING).all()


def machines(rng: np.random.Generator, n: int) -> list[Record]:
    return [
        {
            "dataflow": ("kcp_ws", "ckp_ws", "rs", "xp_ws", "yxp_os", "ykp_os")[i % 6],
            "pes": int(rng.choice([64, 128, 256, 512])),
            "noc_elements_per_cycle": int(rng.integers(1, 100)),
            "offchip_elements_per_cycle": int(rng.integers(1, 40)),
        }
        for i in range(n)
    ]


@pytest.mark.parametrize("name", network_names())
def test_the_roofline_bounds_the_dataflow_model_on_networks(name: str) -> None:
    layers, _ = load_network(name)
    some = machines(np.random.default_rng(0), 12)
    found = costs(Dataflow(), layers, some)
    lowest = bound(layers, column(some, "pes"), column(some, "offchip_elements_per_cycle"))
    assert (lowest["latency_cycles"] <= found["latency_cycles"]).all()
    assert (lowest["dram_bytes"] <= found["dram_elements"]).all()  # an element is a byte, as in these networks


@settings(max_examples=10)
@given(SEEDS)
def test_the_roofline_of_compute_bounds_the_dataflow_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, some = random_workload(20, rng), machines(rng, 6)
    found = costs(Dataflow(), layers, some)["latency_cycles"]
    assert (bound(layers, column(some, "pes"), np.full(6, UNLIMITED))["latency_cycles"] <= found).all()


def test_maestro_does_not_charge_all_of_a_tiny_layers_dram_traffic() -> None:
    """A depthwise 1 x 1 layer moves 104 inputs, 8 weights and 104 outputs; MAESTRO has the weights come for nothing."""
    layer = Workload.from_layers(in_channels=8, out_channels=8, groups=8, out_y=13)
    found = costs(Dataflow(), layer, [{"offchip_elements_per_cycle": 1, "noc_elements_per_cycle": 10**6}])
    assert found["dram_elements"].item() == bound(layer, np.array([256.0]), np.array([1.0]))["latency_cycles"] == 216
    assert found["latency_cycles"].item() == 208


FASTER: Mapping[str, tuple[str, ...]] = {
    "dataflow": ("noc_elements_per_cycle", "offchip_elements_per_cycle", "l1_bytes", "l2_bytes", "clock_ghz"),
    "roofline": ("macs_per_cycle", "dram_bytes_per_cycle", "clock_ghz"),
    "systolic": ("ifmap_kib", "filter_kib", "ofmap_kib", "dram_bytes_per_cycle", "clock_ghz"),
}
FACTORS = st.integers(2, 5)


def some_of(model: str, rng: np.random.Generator, n: int) -> Columns:
    """Random accelerators of a simulator whose mappings are given, not searched."""
    if model == "systolic":
        return columns(Systolic.fields, arrays(rng, n, mode="physical"))
    if model == "dataflow":
        return columns(Dataflow.fields, machines(rng, n))
    rates = {"macs_per_cycle": rng.uniform(1, 1e4, n), "dram_bytes_per_cycle": rng.uniform(0.1, 100, n)}
    base = columns(Roofline.fields, [{}] * n)
    return {**base, **rates}


def test_every_simulator_is_held_to_these() -> None:
    assert {name.rpartition("-v")[0] for name in shipped()} == {*FASTER, "spatial"}


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, fields in FASTER.items() for name in fields])
@settings(max_examples=6)
@given(SEEDS, FACTORS)
def test_more_bandwidth_scratchpad_or_clock_is_never_slower(model: str, name: str, seed: int, factor: int) -> None:
    rng = np.random.default_rng(seed)
    simulator: Simulator = lookup("simulators", model)()
    layers, before = random_workload(15, rng), some_of(model, rng, 6)
    after = {**before, name: before[name] * np.asarray(factor, dtype=before[name].dtype)}
    slow, fast = (costs(simulator, layers, accelerators)["latency_ms"] for accelerators in (before, after))
    assert (fast <= slow * ROUNDING).all()
    if name == "clock_ghz":
        np.testing.assert_allclose(fast * factor, slow, rtol=1e-12)


@settings(max_examples=6)
@given(SEEDS, FACTORS, st.sampled_from(["weight_buffer_kib", "global_kib", "buffer_bits", "global_bits", "dram_bits"]))
def test_a_given_mapping_is_never_slower_with_more_memory_or_bandwidth(seed: int, factor: int, name: str) -> None:
    """Of the spatial model: its mapper searches, so that only a mapping that is given can be held to this."""
    rng, model, hierarchy = np.random.default_rng(seed), MappingModel(), load_hierarchy("edge-like")
    designs = random_designs(model, 30, rng)
    mappings = [model.mapping({key: values[i].item() for key, values in designs.items()}) for i in range(30)]
    layers = layers_of(load_network("resnet18-224")[0].take(np.ones(30, dtype=np.int64)))
    nests = nests_of(layers, hierarchy, mappings)
    own = {
        "weight_buffer_kib": 32.0,
        "global_kib": 128.0,
        "buffer_bits": 128.0,
        "global_bits": 256.0,
        "dram_bits": 32.0,
    }
    found = []
    for times in (1, factor):
        values = {key: np.zeros(30) for key in (*SIZES, *WIDTHS)} | {name: np.full(30, own[name] * times)}
        found.append(evaluate(nests, hierarchy, numbers_for(hierarchy, values, layers.input_bits)))
    assert (found[1].fits | ~found[0].fits).all()
    assert (found[1].latency_cycles[found[0].fits] <= found[0].latency_cycles[found[0].fits] * ROUNDING).all()


def test_scalesim_is_slower_with_more_scratchpad() -> None:
    """SCALE-Sim's prefetch window grows with its buffer: each shift of it loads more than is needed, and waits."""
    layer = Workload.from_layers(
        batch=4, in_channels=16, out_channels=36, groups=2, out_y=13, out_x=18, filter_y=5, filter_x=5
    )
    base = {"rows": 4, "columns": 24, "dataflow": "os", "ifmap_kib": 5, "ofmap_kib": 3}
    sizes: list[Record] = [
        {**base, "filter_kib": kib, "dram_bytes_per_cycle": 12.0, "bandwidth": "limited"} for kib in (2, 4)
    ]
    assert costs(Systolic(), layer, sizes)["latency_cycles"].tolist() == [[144352, 187624]]
    physical = costs(Systolic(), layer, [{**record, "mode": "physical"} for record in sizes])["latency_cycles"][0]
    assert physical[1] <= physical[0]


@pytest.mark.parametrize("name", ["dataflow", "roofline", "systolic"])
def test_figures_add_over_layers(name: str) -> None:
    simulator: Simulator = lookup("simulators", name)()
    rng = np.random.default_rng(5)
    layers, accelerators = random_workload(10, rng), some_of(name, rng, 5)
    count: IntArray = rng.integers(1, 6, 10)
    each = costs(simulator, layers, accelerators)
    whole = OnWorkload(simulator, layers, count).evaluate(accelerators).metrics
    first, last = np.arange(4), np.arange(4, 10)
    parts = [OnWorkload(simulator, layers.take(r), count[r]).evaluate(accelerators).metrics for r in (first, last)]
    repeated = OnWorkload(simulator, layers.take(np.repeat(np.arange(10), count))).evaluate(accelerators).metrics
    for metric, figures in each.items():
        by_hand = sum(n * row for n, row in zip(count.tolist(), figures, strict=True))
        for found in (whole[metric], parts[0][metric] + parts[1][metric], repeated[metric]):
            np.testing.assert_allclose(found, by_hand, rtol=1e-12)


@pytest.mark.parametrize("name", FASTER)
def test_batches_orders_and_pairs(name: str) -> None:
    check_simulator(lookup("simulators", name)(), np.random.default_rng(7))


@pytest.mark.slow
def test_batches_orders_and_pairs_with_searched_mappings() -> None:
    """As `check_simulator` has it, for fewer pairs, and not that larger layers cost more: the search may find less."""
    rng, model = np.random.default_rng(3), Spatial()
    layers = random_workload(6, rng)
    records: list[Record] = [
        {"base": "edge-like", "pe_rows": 8},
        {"base": "tpu-like", "mapping_objective": "energy"},
        {"base": "edge-like", "global_kib": 64.0, "mapping_objective": "edp"},
    ]
    table = columns(Spatial.fields, records)
    whole = model.simulate(layers, table).columns
    rows, places = rng.permutation(6), rng.permutation(3)
    shuffled = model.simulate(layers.take(rows), {name: values[places] for name, values in table.items()}).columns
    pairs = rng.integers(0, 6, 12), rng.integers(0, 3, 12)
    paired = model.simulate(
        layers.take(pairs[0]), {name: values[pairs[1]] for name, values in table.items()}, paired=True
    ).columns
    for metric, figures in whole.items():
        assert np.array_equal(shuffled[metric], figures[np.ix_(rows, places)])
        assert np.array_equal(paired[metric], figures[pairs])
        for i in range(6):
            one = model.simulate(layers.take(np.array([i])), columns(Spatial.fields, records[1:2])).columns[metric]
            assert one.item() == figures[i, 1]


@settings(max_examples=4)
@given(SEEDS)
def test_sixteen_bit_words_never_cost_less(seed: int) -> None:
    """Single counts of words may fall: another loop order may be the best one."""
    rng = np.random.default_rng(seed)
    narrow = replace(random_workload(10, rng), bits=np.full(10, 8))
    wide = replace(narrow, bits=np.full(10, 16))
    for name in ("roofline", "systolic"):
        accelerators = some_of(name, np.random.default_rng(seed), 4)
        simulator: Simulator = lookup("simulators", name)()
        before, after = costs(simulator, narrow, accelerators), costs(simulator, wide, accelerators)
        for metric in ("latency_cycles", "dram_bytes"):
            assert (before[metric] <= after[metric] * ROUNDING).all()
