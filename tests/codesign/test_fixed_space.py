"""One network, many accelerators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codesign.assemble import assemble
from codesign.cost import CostEvaluator, Target
from codesign.errors import InputError
from codesign.fixed_space import FixedNetwork
from codesign.job import parse_job
from search_spaces.ops import total_macs
from simulators.accelerator import load_preset
from simulators.systolic import Systolic

JOB = {
    "name": "size-an-array",
    "space": {"type": "fixed", "network": "resnet18", "image_size": 64},
    "targets": {"edge": {"type": "systolic", "preset": "edge-16x16", "search": True}},
    "objectives": {"minimize": ["latency_ms@edge", "pes@edge"]},
    "search": {"strategy": "random", "trials": 10},
    "evaluate": {"type": "cost"},
}


def test_the_searched_part_is_the_accelerator(tmp_path: Path) -> None:
    parts = assemble(parse_job(JOB), tmp_path, tmp_path)
    codes = parts.space.sample(20, np.random.default_rng(0))
    assert all(name.startswith("edge.") for name in (choice.name for choice in parts.space.choices))
    metrics = parts.evaluator.evaluate(codes).metrics
    assert parts.space.size == np.prod([len(choice.options) for choice in parts.space.choices])
    assert len(set(metrics["macs"])) == 1
    assert len(set(metrics["latency_ms@edge"])) > 5
    mutated = parts.space.mutate(codes, np.random.default_rng(1))
    assert ((mutated != codes).sum(axis=1) == 1).all()
    genotype = parts.space.decode(codes[0])
    assert genotype["network"] == {"network": "resnet18"}
    assert (parts.space.encode(genotype) == codes[0]).all()


def test_batches_cost_what_one_costs() -> None:
    space = FixedNetwork("mobilenetv2", image_size=96)
    preset = load_preset("edge-16x16", Systolic())
    cost = CostEvaluator(space, {"edge": Target("edge", Systolic(), preset.values)})
    one, many = (cost.evaluate(np.zeros((n, 0), dtype=np.int64)) for n in (1, 7))
    for name, values in many.items():
        assert values.shape == (7,)
        assert (values == one[name]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "resnet81"}, "'resnet18'"),
        ({"network": "resnet18", "image_size": 8}, "image_size 8"),
        ({"network": "absent.onnx"}, "absent.onnx"),
    ],
)
def test_wrong_networks_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        FixedNetwork(**options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_it_is_not_trained() -> None:
    with pytest.raises(InputError, match="costed, not trained"):
        FixedNetwork("resnet18").build(np.zeros(0, dtype=np.int64))


def test_an_onnx_file_counts_as_its_own_ops(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    weight = onnx.numpy_helper.from_array(np.ones((8, 3, 3, 3), dtype=np.float32), "w")
    shapes = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s)
        for n, s in (("x", [1, 3, 16, 16]), ("y", [1, 8, 16, 16]))
    ]
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    space = FixedNetwork("net.onnx", job_folder=tmp_path)
    assert total_macs(space.ops(np.zeros((2, 0), dtype=np.int64))).tolist() == [16 * 16 * 8 * 27] * 2


def test_a_job_may_list_its_own_options(tmp_path: Path) -> None:
    edge = {"type": "systolic", "preset": "edge-16x16", "search": {"rows": [8, 24], "clock_ghz": [0.1, 0.2, 0.4]}}
    parts = assemble(parse_job(JOB | {"targets": {"edge": edge}}), tmp_path, tmp_path)
    assert [(c.name, c.options) for c in parts.space.choices] == [
        ("edge.rows", (8, 24)),
        ("edge.clock_ghz", (0.1, 0.2, 0.4)),
    ]


def test_a_job_may_ask_for_few_metrics(tmp_path: Path) -> None:
    edge = {"type": "systolic", "preset": "edge-16x16", "search": True, "metrics": ["latency_ms", "pes"]}
    parts = assemble(parse_job(JOB | {"targets": {"edge": edge}}), tmp_path, tmp_path)
    assert [name for name in parts.metrics if "@" in name] == ["latency_ms@edge", "pes@edge"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"type": "systolic", "preset": "edge-16x16", "metrics": ["latency_s"]}, "did you mean 'latency_ms'"),
        ({"type": "roofline", "preset": "roofline-edge", "metrics": ["latency_ms"]}, "always computes all"),
        ({"type": "systolic", "preset": "edge-16x16", "metrics": ["latency_ms"]}, "'pes@edge'"),
    ],
)
def test_wrong_metrics_are_refused(tmp_path: Path, target: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        assemble(parse_job(JOB | {"targets": {"edge": target}}), tmp_path, tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"row": [8]}, "'rows'"),
        ({"rows": [0]}, "search.rows: 0"),
        ({"rows": []}, "no options"),
        ({"rows": [8, 8]}, "twice"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, search: dict[str, list[int]], message: str) -> None:
    edge = {"type": "systolic", "preset": "edge-16x16", "search": search}
    with pytest.raises(InputError) as caught:
        assemble(parse_job(JOB | {"targets": {"edge": edge}}), tmp_path, tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith("targets.edge")
