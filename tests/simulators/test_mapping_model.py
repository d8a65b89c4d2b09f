"""The design problem of mapping one layer."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from simulators.accelerator import columns
from simulators.mapping_model import MappingModel, random_designs
from simulators.workload import Workload

SMALL = Workload.from_layers(in_channels=6, out_channels=4, out_y=4)


def test_every_loop_order_is_exactly_one_choice() -> None:
    model = MappingModel(SMALL, "zigzag-tpu-like", (1,))
    base = {f"pes_{d}": 1 for d in ("D1", "D2")} | {"tile_0_K": 4, "tile_0_C": 6, "tile_0_OY": 4}
    found = {
        tuple(d for d, _ in model.mapping(base | {"order_0_0": a, "order_0_1": b}).order)
        for a in range(3)
        for b in range(2)
    }
    assert found == set(permutations(("K", "C", "OY")))


def test_tiles_and_unrolling_are_those_chosen() -> None:
    model = MappingModel(SMALL, "zigzag-tpu-like", (2,))
    mapping = model.mapping(
        {"pes_D1": 2, "parallel_D1": "K", "pes_D2": 2, "parallel_D2": "C", "tile_0_C": 2, "tile_0_OY": 4}
    )
    assert dict(mapping.spatial["O"][1]) == {"K": 2.0, "C": 2.0}
    assert mapping.order == (("C", 2.0), ("OY", 4.0), ("K", 2.0), ("C", 2.0))
    assert mapping.bounds("I") == (2, 4)


def test_designs_one_by_one_equal_the_batch_and_inputs_are_left_alone() -> None:
    model = MappingModel(base="eyeriss-like")
    designs = random_designs(model, 12, np.random.default_rng(0))
    before = {name: values.copy() for name, values in designs.items()}
    report = model.evaluate(designs)
    assert all((designs[name] == values).all() for name, values in before.items())
    for i in range(12):
        one = model.evaluate({name: values[i : i + 1] for name, values in designs.items()})
        assert one.reasons == [report.reasons[i]]
        for name, values in report.metrics.items():
            assert np.array_equal(one.metrics[name], values[i : i + 1], equal_nan=True)


def test_a_design_that_does_not_fit_has_a_reason_and_no_figures() -> None:
    model = MappingModel(base="eyeriss-like")
    report = model.evaluate(random_designs(model, 300, np.random.default_rng(1)))
    fails = np.array([bool(reason) for reason in report.reasons])
    assert 0 < fails.sum() < 300
    for values in report.metrics.values():
        assert (np.isnan(values) == fails).all()
    assert any("weight_buffer" in reason for reason in report.reasons)


def test_metrics_agree_with_one_another() -> None:
    model = MappingModel()
    report = model.evaluate(columns(model.fields, [{}, {"pes_D1": 8}]))
    assert report.reasons == ["", ""]
    product = report.metrics["latency_cycles"] * report.metrics["energy_uj"]
    assert report.metrics["edp_uj_cycles"] == pytest.approx(product)
    assert report.metrics["area_mm2"][1] < report.metrics["area_mm2"][0]
    # 64 x 64 x 56 x 56 x 9 multiply-accumulates on 256 PEs
    assert report.metrics["latency_cycles"][0] >= 64 * 64 * 56 * 56 * 9 / 256


def test_no_designs_and_wrong_designs() -> None:
    model = MappingModel(SMALL)
    empty = model.evaluate(random_designs(model, 0, np.random.default_rng(0)))
    assert all(len(values) == 0 for values in empty.metrics.values())
    designs = dict(random_designs(model, 2, np.random.default_rng(0)))
    designs["tile_0_K"] = np.array([1, 3])
    with pytest.raises(ValueError, match=r"tile_0_K: 3 is not one of 1, 2, 4"):
        model.evaluate(designs)
    with pytest.raises(ValueError, match="one layer"):
        MappingModel(Workload.from_layers(in_channels=[1, 2]))
    with pytest.raises(ValueError, match="hierarchy"):
        MappingModel(SMALL, "edge-lik")
    with pytest.raises(ValueError, match="pe_options"):
        MappingModel(SMALL, pe_options=())
