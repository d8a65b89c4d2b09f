"""The mapper: as good as an exhaustive search where that is possible, and independent of what else is searched."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from simulators.spatial_evaluate import evaluate
from simulators.spatial_hierarchy import OPERANDS, load_hierarchy
from simulators.spatial_mapper import (
    FAST,
    OBJECTIVES,
    Effort,
    Objective,
    objective_of,
    search_mappings,
    temporal_factors,
)
from simulators.spatial_nest import (
    Nests,
    default_unrolling,
    drain,
    fan_out,
    fractional,
    layers_of,
    mapping_at,
    nests_of,
)
from simulators.spatial_unroll import narrower, unrolling_choices
from simulators.workload import Workload

LAYERS = layers_of(
    Workload.from_layers(
        in_channels=[64, 96, 32, 3], out_channels=[64, 24, 32, 32], out_y=[14, 7, 14, 20], out_x=[14, 7, 14, 20],
        filter_y=[3, 1, 3, 3], filter_x=[3, 1, 3, 3], groups=[1, 1, 32, 1], stride=[1, 1, 1, 2],
    )
)  # fmt: skip


def test_factors_are_merged_from_the_smallest() -> None:
    assert temporal_factors((1, 1, 12, 1, 7, 1, 1, 1), 8) == ((2, 2), (2, 2), (2, 3), (4, 7))
    assert temporal_factors((1, 1, 12, 1, 7, 1, 1, 1), 3) == ((2, 3), (2, 4), (4, 7))
    assert temporal_factors((1, 1, 12, 1, 7, 1, 1, 1), 1) == ((2, 12), (4, 7))
    assert temporal_factors((1,) * 8, 6) == ()


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_in_an_exhaustive_search_is_better(objective: Objective) -> None:
    hierarchy = load_hierarchy("zigzag-tpu-like")
    layer = layers_of(Workload.from_layers(in_channels=64, out_channels=64, out_y=6, filter_y=3))
    unrolling = default_unrolling(layer, hierarchy)
    factors = temporal_factors(tuple(int(s) for s in np.ceil(layer.sizes / unrolling.prod(axis=0))[:, 0]), 8)
    n = len(factors)
    orders = np.array(sorted({tuple(factors[i] for i in order) for order in permutations(range(n))}))
    cuts = {
        op: [c for c in product(range(n + 1), repeat=len(hierarchy.levels(op)) - 1) if list(c) == sorted(c)]
        for op in OPERANDS
    }
    every = list(product(range(len(orders)), *(range(len(cuts[op])) for op in OPERANDS)))
    at = np.array(every).T
    bounds = {}
    for i, op in enumerate(OPERANDS, start=1):
        inner = np.array(cuts[op], dtype=np.intp).reshape(len(cuts[op]), -1)[at[i]].T
        bounds[op] = np.concatenate([inner, np.full((1, len(every)), n)])
    chosen = orders[at[0]].transpose(2, 1, 0)
    spatial = fan_out(hierarchy, fractional(layer, unrolling))
    nests = Nests(
        layer, chosen[0].astype(np.int8), chosen[1].astype(float), bounds, spatial, drain(hierarchy, unrolling)
    )
    costs = evaluate(nests, hierarchy)
    best = objective_of(costs, objective)[costs.fits].min()
    found = search_mappings(layer, hierarchy, unrolling, objective)
    assert objective_of(found.costs, objective)[0] <= best * (1 + 1e-9)
    assert found.n_evaluated[0] < len(every)


def test_layers_together_give_what_each_gives_alone() -> None:
    hierarchy = load_hierarchy("eyeriss-like")
    unrolling = default_unrolling(LAYERS, hierarchy)
    together = search_mappings(LAYERS, hierarchy, unrolling, "edp", FAST)
    for i in range(len(LAYERS)):
        row = np.array([i])
        alone = search_mappings(LAYERS.take(row), hierarchy, unrolling[:, :, row], "edp", FAST)
        assert mapping_at(alone.nests, 0) == mapping_at(together.nests, i)
        assert alone.costs.energy_pj[0] == together.costs.energy_pj[i]
        assert alone.n_evaluated[0] == together.n_evaluated[i]


def test_the_mapping_found_has_the_figures_stated_and_fits() -> None:
    hierarchy = load_hierarchy("zigzag-ascend-like")
    found = search_mappings(LAYERS, hierarchy, default_unrolling(LAYERS, hierarchy), "energy", FAST)
    assert found.costs.fits.all()
    mappings = [mapping_at(found.nests, i) for i in range(len(LAYERS))]
    again = evaluate(nests_of(LAYERS, hierarchy, mappings), hierarchy)
    assert again.latency_cycles == pytest.approx(found.costs.latency_cycles)
    assert again.energy_pj == pytest.approx(found.costs.energy_pj)


@pytest.mark.slow
def test_more_effort_is_never_worse() -> None:
    hierarchy = load_hierarchy("edge-like")
    unrolling = default_unrolling(LAYERS, hierarchy)
    little = search_mappings(LAYERS, hierarchy, unrolling, "latency", Effort(4, 6, 1, 0, 4))
    more = search_mappings(LAYERS, hierarchy, unrolling, "latency")
    assert (more.costs.latency_cycles <= little.costs.latency_cycles).all()


def test_layers_that_fit_nowhere_are_named_or_left_out() -> None:
    hierarchy = load_hierarchy("zigzag-edge-tpu-like")
    wide = layers_of(Workload.from_layers(in_channels=8, out_channels=[8, 8], bits=[8, 16]))  # 8-bit registers
    unrolling = default_unrolling(wide, hierarchy)
    with pytest.raises(ValueError, match="layer 1: no mapping fits"):
        search_mappings(wide, hierarchy, unrolling, "latency", FAST)
    assert search_mappings(wide, hierarchy, unrolling, "latency", FAST, allow_missing=True).found.tolist() == [0]


def test_unrolling_choices_start_with_the_default_and_use_more_of_the_array() -> None:
    hierarchy = load_hierarchy("zigzag-meta-prototype")
    gemm = layers_of(Workload.from_layers(batch=64, in_channels=128, out_channels=256))
    choices = unrolling_choices(gemm, hierarchy, 3)[0]
    assert (choices[:, :, 0] == default_unrolling(gemm, hierarchy)[:, :, 0]).all()
    used = choices.prod(axis=(0, 1))
    assert choices.shape[2] > 1
    assert (used[1:] >= used[0]).all()
    assert used.max() > used[0]
    sizes = np.array(list(hierarchy.array.values()))
    assert (choices.prod(axis=1) <= sizes[:, None]).all()
    assert (narrower(choices).prod(axis=(0, 1)) < used).all()


def test_default_unrolling_fills_an_array_dimension_loop_by_loop() -> None:
    hierarchy = load_hierarchy("eyeriss-like")
    assert hierarchy.spatial["D1"] == (("FY", 12), ("C", 12))
    layer = layers_of(Workload.from_layers(in_channels=64, out_y=20, filter_y=3))
    unrolling = default_unrolling(layer, hierarchy)[:, :, 0]
    assert (unrolling[0, 6], unrolling[0, 3], unrolling[1, 4]) == (3, 4, 14)
    assert fractional(layer, unrolling[:, :, None])[1, 4, 0] == 10.0  # 20 rows in 2 tiles
