"""The simulator of arrays with memory hierarchies and searched mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from simulators.accelerator import columns, load_preset, preset_names
from simulators.mapping import Mapping as LoopMapping
from simulators.networks import load_network
from simulators.report import CostReport
from simulators.roofline import Roofline
from simulators.spatial import Spatial
from simulators.spatial_evaluate import evaluate
from simulators.spatial_hierarchy import OPERANDS, hierarchy_names, load_hierarchy
from simulators.spatial_mapper import Effort
from simulators.spatial_nest import layers_of, nests_of
from simulators.spatial_numbers import SIZES, WIDTHS, numbers_for
from simulators.workload import Workload

QUICK = Spatial(Effort(loops=4, orders=12, kept=1, rounds=1, fine_loops=5))
LAYERS = Workload.from_layers(
    in_channels=[16, 32, 24, 48, 64], out_channels=[32, 32, 40, 96, 10], out_y=[14, 9, 7, 12, 1],
    out_x=[14, 9, 7, 1, 1], filter_y=[3, 3, 1, 1, 1], filter_x=[3, 3, 1, 1, 1], stride=[1, 2, 1, 1, 1],
    groups=[1, 32, 8, 1, 1], in_y=[14, 17, 7, 12, 1], in_x=[14, 17, 7, 1, 1], bits=[8, 8, 8, 16, 8],
)  # fmt: skip


def simulate(workload: Workload, *accelerators: Mapping[str, object], simulator: Spatial = QUICK) -> CostReport:
    return simulator.simulate(workload, columns(Spatial.fields, accelerators))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_larger_layers_of_a_real_network_cost_more_in_what_is_minimised(objective: str) -> None:
    network, _ = load_network("resnet18-64")
    accelerator = {"base": "edge-like", "mapping_objective": objective}
    metric = {"latency": "latency_cycles", "energy": "energy_uj"}[objective]
    small = simulate(network, accelerator, simulator=Spatial()).columns[metric]
    for name in ("batch", "in_channels", "out_channels", "bits"):
        larger = replace(network, **{name: 2 * getattr(network, name)})
        assert (simulate(larger, accelerator, simulator=Spatial()).columns[metric] >= small).all(), name


@pytest.mark.parametrize("base", hierarchy_names())
def test_figures_of_every_base_are_sound(base: str) -> None:
    report = simulate(LAYERS, {"base": base})
    c, own = report.columns, report.per_accelerator
    assert c["latency_cycles"] == pytest.approx(c["compute_cycles"] + c["stall_cycles"])
    assert (c["stall_cycles"] >= 0).all()
    assert (c["compute_cycles"] * own["pes"] >= LAYERS.macs[:, None]).all()
    assert c["latency_ms"] == pytest.approx(c["latency_cycles"] / 0.2e6)
    assert own["peak_gmacs_per_s"] == pytest.approx(0.2 * own["pes"])
    assert own["area_mm2"][0] > 0
    assert own["scratchpad_kib"][0] > 0


@pytest.mark.parametrize("base", ["edge-like", "eyeriss-like", "tpu-like"])
def test_never_below_the_roofline(base: str) -> None:
    accelerators = columns(Spatial.fields, [{"base": base, "dram_bits": bits} for bits in (16.0, 64.0, 512.0)])
    report = QUICK.simulate(LAYERS, accelerators)
    pes = float(report.per_accelerator["pes"][0])
    fields = [{"macs_per_cycle": pes, "dram_bytes_per_cycle": bits / 8} for bits in (16.0, 64.0, 512.0)]
    bound = Roofline().simulate(LAYERS, columns(Roofline.fields, fields))
    for name in ("latency_cycles", "dram_bytes"):
        assert (bound.columns[name] <= report.columns[name] * (1 + 1e-12)).all(), name


def test_wider_dram_and_a_faster_clock_are_never_slower() -> None:
    for base in ("edge-like", "zigzag-tpu-like"):
        cycles = simulate(LAYERS, *({"base": base, "dram_bits": b} for b in (16.0, 32.0, 64.0))).columns[
            "latency_cycles"
        ]
        assert (np.diff(cycles, axis=1) <= 1e-9 * cycles[:, :-1]).all()
        clocks = simulate(LAYERS, *({"base": base, "clock_ghz": ghz} for ghz in (0.1, 0.4))).columns
        assert (clocks["latency_ms"][:, 1] < clocks["latency_ms"][:, 0]).all()
        assert (clocks["energy_uj"][:, 1] == clocks["energy_uj"][:, 0]).all()


@pytest.mark.slow
def test_a_larger_buffer_is_hardly_ever_slower_for_the_mappings_found() -> None:
    network, count = load_network("mobilenetv2-96")
    sizes = ({"base": "edge-like", "global_kib": kib} for kib in (64.0, 128.0, 256.0))
    cycles = count @ simulate(network, *sizes, simulator=Spatial()).columns["latency_cycles"]
    assert (cycles[1:] <= 1.02 * cycles[:-1]).all()


def test_pairs_repeats_and_order_change_nothing() -> None:
    accelerators = columns(
        Spatial.fields, [{"base": "edge-like"}, {"base": "eyeriss-like", "mapping_objective": "edp"}]
    )
    whole = QUICK.simulate(LAYERS, accelerators)
    rows, chosen = np.array([3, 0, 3, 1]), np.array([1, 0, 1, 0])
    some = {name: values[chosen] for name, values in accelerators.items()}
    paired = QUICK.simulate(LAYERS.take(rows), some, paired=True)
    alone = QUICK.simulate(LAYERS.take(rows[:1]), {name: values[1:] for name, values in accelerators.items()})
    for name, values in whole.columns.items():
        assert (paired.columns[name] == values[rows, chosen]).all(), name
        assert alone.columns[name][0, 0] == values[3, 1], name


def test_zero_means_as_the_base_has_it() -> None:
    own = {
        "pe_rows": 16, "pe_columns": 16, "weight_register_words": 1, "output_register_words": 1,
        "weight_buffer_kib": 32.0, "global_kib": 128.0, "buffer_bits": 128.0, "global_bits": 256.0, "dram_bits": 32.0,
    }  # fmt: skip
    report = simulate(LAYERS, {}, own)
    for values in (*report.columns.values(), *report.per_accelerator.values()):
        assert values[..., 0] == pytest.approx(values[..., 1])


def test_costs_follow_sizes() -> None:
    report = simulate(LAYERS, {}, {"global_kib": 512.0}, {"pe_rows": 32}, {"weight_register_words": 8})
    area = report.per_accelerator["area_mm2"]
    assert (area[1:] > area[0]).all()
    assert report.per_accelerator["pes"].tolist() == [256, 256, 512, 256]
    assert report.per_accelerator["scratchpad_kib"].tolist() == [160, 544, 160, 160]
    hierarchy, values = load_hierarchy("edge-like"), {name: np.zeros(3) for name in (*SIZES, *WIDTHS)}
    values["global_kib"], values["dram_bits"] = np.array([128.0, 512.0, 8192.0]), np.array([0.0, 64.0, 0.0])
    numbers = numbers_for(hierarchy, values, np.array([8.0, 8.0, 16.0]))
    assert (np.diff(numbers.read_pj[3]) > 0).all()
    assert numbers.read_pj[4].tolist() == [128.0, 256.0, 128.0]
    assert numbers.bits[0].tolist() == [8, 8, 16]
    assert numbers.port_max[0][0].tolist() == [8, 8, 16]
    assert numbers.mac_pj[0] == hierarchy.mac_pj < numbers.mac_pj[2]


def test_padding_is_not_moved_and_words_have_width() -> None:
    layer = {"in_channels": 32, "out_channels": 32, "out_y": 14, "out_x": 14, "filter_y": 3, "filter_x": 3}
    workload = Workload.from_layers(**layer, in_y=[14, 16], in_x=[14, 16])
    traffic = simulate(workload, {}).columns["dram_bytes"][:, 0]
    assert traffic[1] - traffic[0] == 32 * (16 * 16 - 14 * 14)
    wide = simulate(Workload.from_layers(**layer, bits=[8, 16]), {}).columns
    assert (wide["dram_bytes"][1] >= 2 * wide["dram_bytes"][0]).all()
    assert (wide["energy_uj"][1] > wide["energy_uj"][0]).all()


def test_a_mapped_layer_is_the_one_that_is_counted() -> None:
    accelerator = {"base": "edge-like", "global_kib": 64.0}
    report = simulate(LAYERS, accelerator)
    hierarchy = load_hierarchy("edge-like")
    mapped = QUICK.map_layer(LAYERS, 0, accelerator)
    assert mapped.figures["latency_cycles"] == report.columns["latency_cycles"][0, 0]
    assert mapped.figures["energy_pj"] * 1e-6 == pytest.approx(report.columns["energy_uj"][0, 0])
    assert isinstance(mapped.mapping, LoopMapping)
    assert "in parallel" in mapped.mapping.describe(hierarchy)
    assert set(mapped.accesses["dram"]) == set(OPERANDS)
    values = {name: np.zeros(1) for name in (*SIZES, *WIDTHS)} | {"global_kib": np.array([64.0])}
    layers = layers_of(LAYERS.take(np.array([0])))
    costs = evaluate(
        nests_of(layers, hierarchy, [mapped.mapping]), hierarchy, numbers_for(hierarchy, values, np.array([8.0]))
    )
    assert costs.energy_pj[0] == pytest.approx(mapped.figures["energy_pj"])


def test_the_objective_is_what_is_minimised() -> None:
    by = simulate(LAYERS, *({"mapping_objective": o} for o in ("latency", "energy")), simulator=Spatial()).columns
    assert (by["latency_cycles"][:, 0] <= by["latency_cycles"][:, 1]).all()
    assert (by["energy_uj"][:, 1] <= by["energy_uj"][:, 0]).all()


def test_wrong_fields_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"input_buffer_kib: hierarchy 'edge-like' has no such memory; it has global_kib"
    ):
        simulate(LAYERS, {"input_buffer_kib": 8.0})
    with pytest.raises(ValueError, match="did you mean 'edge-like'"):
        simulate(LAYERS, {"base": "edge-lik"})
    with pytest.raises(ValueError, match="no mapping fits the memories of edge-like"):
        simulate(LAYERS, {"global_kib": 0.001})
    with pytest.raises(ValueError, match="paired"):
        QUICK.simulate(LAYERS, columns(Spatial.fields, [{}]), paired=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("spatial-")])
def test_presets_and_the_ends_of_their_search_work(name: str) -> None:
    preset = load_preset(name, Spatial())
    ends = [{k: options[i] for k, options in preset.search.items()} for i in (0, -1)]
    report = simulate(LAYERS, *({**preset.values, **end} for end in ends))
    assert (report.per_accelerator["area_mm2"][1] > report.per_accelerator["area_mm2"][0]).all()
    assert np.isfinite(report.columns["energy_uj"]).all()
