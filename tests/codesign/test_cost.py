"""Costs of candidates against arithmetic by hand, a loop, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import cost
from codesign.cost import CostEvaluator, Target
from codesign.errors import InputError
from codesign.joint import JointSpace
from simulators.accelerator import Preset, Value, columns, load_preset
from simulators.roofline import Roofline
from simulators.simulator import Simulator
from simulators.systolic import Systolic, scalesim_cycles
from tests.codesign.tiny_network import TinyNetwork

SPACE = TinyNetwork()
EDGE = Target("edge", Systolic(), {"rows": 4, "columns": 4, "clock_ghz": 0.1})
BOUND = Target("bound", Roofline(), {"macs_per_cycle": 16, "clock_ghz": 0.1})
FIXED = CostEvaluator(SPACE, {"edge": EDGE, "bound": BOUND})
SEARCHED = Preset("p", "systolic", "", {}, {"rows": (4, 8), "dataflow": ("os", "ws", "is"), "clock_ghz": (0.1, 0.25)})
JOINT = CostEvaluator(JointSpace(SPACE, {"edge": SEARCHED}), {"edge": EDGE, "bound": BOUND})


def test_by_hand() -> None:
    # 3x3, 3 -> 8 channels at 8x8 with batch norm; a max pooling; twice 64x8 times 8x64; 8 -> 10 classifier with bias
    found = FIXED.evaluate(np.array([[1, 1, 0, 0, 1]]))
    macs = 64 * 27 * 8 + 2 * 64 * 8 * 64 + 80
    params = 27 * 8 + 2 * 8 + 90
    assert found["macs"].tolist() == [macs]
    assert found["params"].tolist() == [params]
    assert found["weight_bytes"].tolist() == [params]
    assert found["activation_bytes"].tolist() == [8 * 64 + 64 * 64]  # the attention product
    cycles = (  # on 4 x 4, weights stationary: window x filters in space, pixels in time
        7 * 2 * (64 + 8 + 4 - 2) - 1 + 2 * (2 * 16 * (64 + 8 + 4 - 2) - 1) + 2 * 3 * (1 + 8 + 4 - 2) - 1
    )
    assert found["latency_cycles@edge"].tolist() == [cycles]
    assert found["latency_ms@edge"] == pytest.approx([cycles / 1e5])
    assert found["pes@edge"].tolist() == [16]
    assert found["peak_gmacs_per_s@bound"] == pytest.approx([1.6])


def test_metrics_are_named_and_complete() -> None:
    assert FIXED.metrics[:4] == ("macs", "params", "weight_bytes", "activation_bytes")
    assert {"latency_ms@edge", "pes@edge", "latency_ms@bound", "dram_bytes@bound"} <= set(FIXED.metrics)
    for evaluator in (FIXED, JOINT):
        found = evaluator.evaluate(evaluator.space.sample(7, np.random.default_rng(0)))
        assert tuple(found) == evaluator.metrics
        for values in found.values():
            assert values.shape == (7,)
            assert values.dtype == np.float64
            assert (np.isfinite(values) & (values >= 0)).all()


def test_no_targets_and_no_candidates() -> None:
    assert CostEvaluator(SPACE).metrics == ("macs", "params", "weight_bytes", "activation_bytes")
    for evaluator in (CostEvaluator(SPACE), FIXED, JOINT):
        nobody = evaluator.space.sample(0, np.random.default_rng(0))
        assert {name: values.shape for name, values in evaluator.evaluate(nobody).items()} == dict.fromkeys(
            evaluator.metrics, (0,)
        )


def test_bits_and_batch() -> None:
    codes = SPACE.sample(5, np.random.default_rng(0))
    one = FIXED.evaluate(codes)
    wide = CostEvaluator(SPACE, {"bound": BOUND}, bits=16, batch=3).evaluate(codes)
    assert wide["macs"].tolist() == one["macs"].tolist()
    assert wide["weight_bytes"].tolist() == (2 * one["weight_bytes"]).tolist()
    assert wide["activation_bytes"].tolist() == (6 * one["activation_bytes"]).tolist()
    assert (wide["dram_bytes@bound"] > 2 * one["dram_bytes@bound"]).all()
    assert (wide["dram_bytes@bound"] < 6 * one["dram_bytes@bound"]).all()  # weights once for the whole batch


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_joint_costs_are_those_of_a_fixed_target_one_by_one(seed: int) -> None:
    space = JOINT.space
    assert isinstance(space, JointSpace)
    codes = space.sample(6, np.random.default_rng(seed))
    found = JOINT.evaluate(codes)
    networks, knobs = space.split(codes)
    for i in range(6):
        own: dict[str, Value] = {name: values[i].item() for name, values in knobs["edge"].items()}
        target = Target("edge", Systolic(), {**EDGE.values, **own})
        alone = CostEvaluator(SPACE, {"edge": target, "bound": BOUND}).evaluate(networks[i : i + 1])
        for name, values in alone.items():
            assert found[name][i] == values[0], name


def test_joint_costs_equal_a_loop_over_ops() -> None:
    space = JOINT.space
    assert isinstance(space, JointSpace)
    codes = space.sample(25, np.random.default_rng(1))
    found = JOINT.evaluate(codes)
    networks, knobs = space.split(codes)
    table = SPACE.ops(networks)
    expected = np.zeros(25)
    for op in range(len(table)):
        if table.macs()[op] == 0:
            continue
        i, groups = int(table.candidate[op]), int(table.groups[op])
        cycles = scalesim_cycles(
            table.out_height[op] * table.out_width[op],
            table.out_channels[op] // groups,
            table.in_channels[op] // groups * table.kernel_height[op] * table.kernel_width[op],
            int(knobs["edge"]["rows"][i].item()),
            4,
            str(knobs["edge"]["dataflow"][i]),
        )
        expected[i] += float(cycles) * groups * int(table.repeat[op])
    assert found["latency_cycles@edge"].tolist() == expected.tolist()
    assert found["pes@edge"].tolist() == (4 * knobs["edge"]["rows"].astype(float)).tolist()


@pytest.mark.parametrize("evaluator", [FIXED, JOINT], ids=["fixed", "joint"])
def test_figures_do_not_depend_on_the_batch(evaluator: CostEvaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = evaluator.space.sample(50, np.random.default_rng(2))
    whole = evaluator.evaluate(codes)
    order = np.random.default_rng(3).permutation(50)
    shuffled = evaluator.evaluate(codes[order])
    monkeypatch.setattr(cost, "BLOCK", 7)
    in_blocks = evaluator.evaluate(codes)
    for name, values in whole.items():
        assert shuffled[name].tolist() == values[order].tolist(), name
        assert in_blocks[name].tolist() == values.tolist(), name


def test_the_bound_bounds() -> None:
    """Equal peak and clock, bandwidth aside: the roofline is never slower than the array."""
    peak = Target("peak", Roofline(), {"macs_per_cycle": 16, "clock_ghz": 0.1, "dram_bytes_per_cycle": 1e30})
    found = CostEvaluator(SPACE, {"edge": EDGE, "peak": peak}).evaluate(SPACE.sample(40, np.random.default_rng(0)))
    assert (found["latency_ms@peak"] <= found["latency_ms@edge"]).all()


def test_presets_serve_as_targets() -> None:
    simulators: list[tuple[str, Simulator]] = [("edge-16x16", Systolic()), ("roofline-edge", Roofline())]
    targets, presets = {}, {}
    for name, simulator in simulators:
        presets[name] = load_preset(name, simulator)
        targets[name] = Target(name, simulator, presets[name].values)
    evaluator = CostEvaluator(JointSpace(SPACE, presets), targets)
    found = evaluator.evaluate(evaluator.space.sample(30, np.random.default_rng(0)))
    assert len(set(found["pes@edge-16x16"].tolist())) > 3
    assert len(set(found["peak_gmacs_per_s@roofline-edge"].tolist())) > 3


def test_what_is_not_counted_is_said() -> None:
    phrases = FIXED.uncounted(np.array([[0, 0, 0, 0, 1], [0, 0, 2, 0, 0]]))
    assert any(p.startswith("edge: DRAM") for p in phrases)
    assert any(p.startswith("bound: ") for p in phrases)
    assert "every target: norm ops (4 in 2 networks)" in phrases
    assert "every target: max_pool ops (1 in 2 networks)" in phrases
    assert not any("avg_pool" in p for p in phrases)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"row": 4}, r"targets\.edge: 'row' is not one of .*did you mean 'rows'\?"),
        ({"rows": 0}, r"targets\.edge\.rows: 0 is not allowed; use an integer of at least 1"),
        ({"dataflow": "rs"}, r"targets\.edge\.dataflow: 'rs' is not one of os, ws, is"),
    ],
)
def test_a_wrong_target_is_refused_before_anything_runs(values: dict[str, Value], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CostEvaluator(SPACE, {"edge": Target("edge", Systolic(), values)})


def test_a_search_that_does_not_fit_its_target_is_refused() -> None:
    with pytest.raises(InputError, match=r"targets: 'edgy' is not one of edge; did you mean 'edge'\?"):
        CostEvaluator(JointSpace(SPACE, {"edgy": SEARCHED}), {"edge": EDGE})
    wrong = Preset("p", "systolic", "", {}, {"rows": (4, 0)})
    with pytest.raises(InputError, match=r"targets\.edge\.rows: 0 is not allowed"):
        CostEvaluator(JointSpace(SPACE, {"edge": wrong}), {"edge": EDGE})


def test_columns_of_a_target_hold_one_accelerator() -> None:
    assert columns(Systolic.fields, [EDGE.values])["rows"].tolist() == [4]
