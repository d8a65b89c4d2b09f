"""No candidate undercuts the bounds: whole small spaces, pairings of ops, and accelerators of every kind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from scipy.sparse.csgraph import maximum_bipartite_matching  # type: ignore[import-untyped]

from codesign.cost import CostEvaluator, Target
from codesign.cost_only import Simulated
from codesign.expressions import parse_budget
from codesign.feasible_bounds import bounds_of
from codesign.feasible_problem import BoolArray, Problem
from codesign.feasible_search import distinct_codes
from codesign.joint import JointSpace
from codesign.trial import FloatArray
from search_spaces.nasnet import NasNet
from search_spaces.nasnet_cell import OPERATIONS
from search_spaces.ops import IntArray, OpKind, OpTable
from search_spaces.space import NetworkSpace
from simulators.accelerator import Preset
from simulators.roofline import Roofline
from simulators.spatial import Spatial
from simulators.systolic import Systolic

SHAPES: dict[str, dict[str, object]] = {
    "cifar": {},
    "one stem filter per filter": {"stem_multiplier": 1.0},
    "two stem filters per filter": {"stem_multiplier": 2.0},
    "a stem narrower than the cells": {"stem_multiplier": 0.5},
    "imagenet": {"stem": "imagenet", "image_shape": (3, 36, 36), "channels": (4, 8)},
    "skipping inputs": {"skip_reduction_input": True},
}
SLOW_SHAPES = [name if name == "skipping inputs" else pytest.param(name, marks=pytest.mark.slow) for name in SHAPES]
ALLOWED = (("maxpool3x3", "sep3x3"), ("identity", "conv3x3"), ("sep5x5", "sep3x3"), ("conv1x7_7x1", "dilated3x3"))


def nasnet(**options: object) -> NasNet:
    defaults: dict[str, object] = {
        "image_shape": (1, 8, 8), "classes": 10, "blocks": 1, "cells": (1, 2), "channels": (4, 6),
    }  # fmt: skip
    return NasNet(**(defaults | options))  # type: ignore[arg-type]


def problem(space: NetworkSpace | JointSpace, targets: Mapping[str, Target], *texts: str) -> Problem:
    cost = CostEvaluator(space, targets)
    return Problem(space, tuple(parse_budget(text) for text in texts), (), (Simulated(cost),), cost)


def is_bounded(values: FloatArray, bounds: FloatArray, is_upper: BoolArray) -> BoolArray:
    """Whether each candidate is no better than at least one row of the bounds in all budgets, shape (n,)."""
    sign = np.where(is_upper, 1.0, -1.0)
    low, high = np.unique(sign * bounds, axis=0), sign * values
    parts: list[FloatArray] = np.array_split(high, 20)
    return np.concatenate([np.any(np.all(low <= part[:, None], axis=2), axis=1) for part in parts])


METRICS = ("params <= 1", "macs <= 1", "activation_bytes <= 1", "latency_ms@edge <= 1", "latency_cycles@peak <= 1")


@pytest.mark.parametrize("operations", ALLOWED, ids="-".join)
@pytest.mark.parametrize("shape", SLOW_SHAPES)
def test_every_network_of_a_small_space_is_bounded_in_all_metrics_at_once(
    shape: str, operations: tuple[str, ...]
) -> None:
    edge = Target("edge", Systolic(("latency_ms",)), {"rows": 4, "columns": 8, "dataflow": "os"})
    space = nasnet(operations=operations, **SHAPES[shape])
    made = problem(space, {"edge": edge, "peak": Target("peak", Roofline(), {})}, *METRICS)
    codes = distinct_codes(space)
    bounds = bounds_of(made)
    assert bounds is not None
    values = made.values(codes)
    assert is_bounded(values, bounds.values, made.is_upper).all()
    least = bounds.values.min(axis=0)
    if shape != "a stem narrower than the cells" and "dilated3x3" not in operations:
        assert (least[:2] > 0.5 * values.min(axis=0)[:2]).all(), "bounds far below any candidate prove little"


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_larger_cells_are_bounded_even_the_cheapest(shape: str) -> None:
    space = nasnet(blocks=3, cells=(1, 3), **SHAPES[shape])
    made = problem(space, {}, *METRICS[:3])
    bounds = bounds_of(made)
    assert bounds is not None
    rng = np.random.default_rng(0)
    for column in range(3):  # descend towards the cheapest
        codes = space.sample(400, rng)
        for _ in range(8):
            values = made.values(codes)
            assert is_bounded(values, bounds.values, made.is_upper).all()
            best = codes[np.argsort(values[:, column], kind="stable")[:100]]
            codes = np.concatenate([best, space.mutate(np.repeat(best, 3, axis=0), rng)])


def rows_of(table: OpTable, candidate: int) -> dict[str, IntArray]:
    rows = (table.candidate == candidate) & np.isin(table.kind, (OpKind.CONV, OpKind.LINEAR, OpKind.NORM))
    names = ("kind", "groups", "out_height", "out_width", "in_height", "in_width", "kernel_height", "kernel_width")
    found = {name: getattr(table, name)[rows] for name in (*names, "stride", "in_channels", "out_channels")}
    for name in ("in_channels", "out_channels"):
        found[name] = found[name] // found["groups"]
    return found


def can_be_paired(below: dict[str, IntArray], above: dict[str, IntArray]) -> bool:
    """Whether each op of the floor has an op of the candidate of its own that is no smaller."""
    fits: BoolArray = below["kind"][:, None] == above["kind"]
    for name in below.keys() - {"kind"}:
        fits &= below[name][:, None] <= above[name]
    if len(below["kind"]) > len(above["kind"]):
        return False
    matched = maximum_bipartite_matching(csr_matrix(fits.astype(np.int8)), perm_type="column")
    return bool((matched >= 0).all())


@pytest.mark.parametrize("shape", SLOW_SHAPES)
@pytest.mark.parametrize("operations", [OPERATIONS, *ALLOWED], ids=lambda names: f"{len(names)} {names[0]}")
def test_ops_of_the_floor_are_paired_with_larger_ones(shape: str, operations: tuple[str, ...]) -> None:
    space = nasnet(blocks=2, operations=operations, cells=2, **SHAPES[shape])
    table = space.floor().table
    floor = [rows_of(table, i) for i in range(table.n_candidates)]
    codes = space.sample(8, np.random.default_rng(1))
    ops = space.ops(codes)
    for i in range(len(codes)):
        own = rows_of(ops, i)
        assert any(can_be_paired(below, own) for below in floor), space.decode(codes[i])


EDGE = {"rows": (4, 16), "columns": (8, 16), "dataflow": ("os", "ws")}


def preset(simulator: str, values: dict[str, object], search: Mapping[str, tuple[object, ...]]) -> Preset:
    return Preset("made-up", simulator, "", values, search)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["scalesim", "physical"])
@pytest.mark.parametrize("bandwidth", ["unlimited", "limited"])
def test_every_pair_of_network_and_accelerator_is_bounded(mode: str, bandwidth: str) -> None:
    values: dict[str, object] = {"mode": mode, "bandwidth": bandwidth}
    joint = JointSpace(nasnet(operations=("conv1x1", "maxpool3x3")), {"edge": preset("systolic-v2", values, EDGE)})
    targets = {"edge": Target("edge", Systolic(("latency_ms", "area_mm2", "pes")), values)}  # type: ignore[arg-type]
    made = problem(joint, targets, "latency_ms@edge <= 1", "area_mm2@edge <= 1", "params <= 1", "pes@edge >= 64")
    bounds = bounds_of(made)
    assert bounds is not None
    assert np.isfinite(bounds.values).all()
    values_seen = made.values(joint.sample(600, np.random.default_rng(2)))
    assert is_bounded(values_seen, bounds.values, made.is_upper).all()
    area = np.unique(bounds.values[:, 1])
    assert set(np.unique(values_seen[:, 1])) == set(area), "what depends on the accelerator alone is exact"
    assert "the best accelerator of the space" in bounds.reasons[1]


def test_two_searched_accelerators_are_bounded_each() -> None:
    presets = {name: preset("systolic-v2", {}, EDGE) for name in ("a", "b")}
    joint = JointSpace(nasnet(operations=("conv1x1",), cells=1, channels=4), presets)
    targets = {name: Target(name, Systolic(("latency_ms", "area_mm2")), {}) for name in presets}
    made = problem(joint, targets, "latency_ms@a <= 1", "area_mm2@a <= 1", "latency_ms@b <= 1", "params <= 1")
    bounds = bounds_of(made)
    assert bounds is not None
    values = made.values(joint.sample(300, np.random.default_rng(3)))
    assert is_bounded(values, bounds.values, made.is_upper).all()


def test_too_many_pairs_are_bounded_by_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codesign.feasible_bounds.MOST_CASES", 10)
    joint = JointSpace(nasnet(operations=("conv1x1",)), {"edge": preset("systolic-v2", {}, EDGE)})
    targets = {"edge": Target("edge", Systolic(("latency_ms", "area_mm2")), {})}
    made = problem(joint, targets, "latency_ms@edge <= 1", "area_mm2@edge <= 1", "params <= 1")
    bounds = bounds_of(made)
    assert bounds is not None
    assert bounds.values.shape == (8, 3)
    values = made.values(joint.sample(300, np.random.default_rng(3)))
    assert is_bounded(values, bounds.values, made.is_upper).all()


@pytest.mark.slow
def test_a_simulator_that_searches_mappings_is_bounded_by_its_peak_alone() -> None:
    space = nasnet(operations=("conv1x1", "identity"), cells=1, channels=4)
    target = Target("soc", Spatial(), {})
    made = problem(space, {"soc": target}, "latency_ms@soc <= 1", "latency_cycles@soc <= 1", "energy_uj@soc <= 1")
    bounds = bounds_of(made)
    assert bounds is not None
    values = made.values(space.sample(12, np.random.default_rng(4)))
    assert is_bounded(values, bounds.values, made.is_upper).all()
    assert (bounds.values[:, :2] > 0).all()
    assert np.isneginf(bounds.values[:, 2]).all(), "energy has no bound: a larger layer may be mapped better"


class Plain(NasNet):
    """A space that knows no floor."""

    def floor(self) -> None:  # type: ignore[override]
        return None


def test_without_a_floor_only_the_accelerator_is_bounded() -> None:
    space = Plain(image_shape=(1, 8, 8), classes=10, blocks=1, cells=1, channels=4)
    targets = {"edge": Target("edge", Systolic(), {})}
    made = problem(space, targets, "params <= 1", "latency_ms@edge <= 1", "area_mm2@edge <= 0.1")
    bounds = bounds_of(made)
    assert bounds is not None
    assert np.isneginf(bounds.values[0, 0])
    assert bounds.values[0, 1] <= 0
    assert bounds.values[0, 2] == made.values(space.sample(1, np.random.default_rng(0)))[0, 2]
    assert bounds_of(problem(space, {}, "params <= 1", "macs <= 2")) is None
