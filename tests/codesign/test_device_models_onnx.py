"""ONNX models of single units: they run, have the shapes they are of, and take no detour through another layout."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from codesign.device_bench_onnx import OnnxBench, this_machine
from codesign.device_models_onnx import empty_model, unit_model, without_border_reorders
from codesign.device_units import (
    ABSORBED,
    SIGNATURE_COLUMNS,
    WITH_ACTIVATION,
    WITH_ADD,
    classes_of,
    unit_text,
    units_of,
)
from codesign.session_onnx import RUNTIME_VERSION, open_session, optimised, random_inputs
from search_spaces.nasnet import NasNet
from search_spaces.networks import mobilenetv2, vit_tiny
from search_spaces.ops import OpKind
from tests.codesign.onnx_files import linear_classifier

BLOCK = 16


def signature(kind: OpKind, fused: int = 0, **columns: int) -> list[int]:
    """A unit of 32 channels on 8 x 8 pixels, unless told otherwise."""
    values = dict.fromkeys(SIGNATURE_COLUMNS, 1) | {"kind": int(kind), "fused": fused, "bias": 0}
    values |= dict.fromkeys(("in_channels", "out_channels"), 32)
    values |= dict.fromkeys(("in_height", "in_width", "out_height", "out_width"), 8)
    values |= columns
    return [values[name] for name in SIGNATURE_COLUMNS]


def nodes_of(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def made_by(model: bytes) -> tuple[int, ...]:
    session = open_session(model)
    [result] = session.run(random_inputs(session, 1, np.random.default_rng(0)))
    return result.shape


THREE = {"kernel_height": 3, "kernel_width": 3}
HALF = {"stride": 2, "out_height": 4, "out_width": 4}


@pytest.mark.parametrize(
    ("unit", "shape"),
    [
        (signature(OpKind.CONV, **THREE), (1, 32, 8, 8)),
        (signature(OpKind.CONV, out_channels=48, **THREE, **HALF), (1, 48, 4, 4)),
        (signature(OpKind.CONV, **HALF), (1, 32, 4, 4)),
        (signature(OpKind.CONV, groups=32, kernel_height=1, kernel_width=7), (1, 32, 8, 8)),
        (signature(OpKind.CONV, WITH_ACTIVATION, **THREE), (1, 32, 8, 8)),
        (signature(OpKind.CONV, WITH_ADD | WITH_ACTIVATION, **THREE), (1, 32, 8, 8)),
        (signature(OpKind.CONV, in_channels=3, out_channels=5, **THREE), (1, 16, 8, 8)),  # padded to a block
        (signature(OpKind.CONV, out_height=2, out_width=2, kernel_height=4, kernel_width=4, stride=4), (1, 32, 2, 2)),
        (signature(OpKind.LINEAR, out_channels=10, in_height=1, in_width=1, out_height=1, out_width=1), (1, 10)),
        (signature(OpKind.LINEAR, WITH_ACTIVATION, in_height=1, out_height=1, bias=1), (1, 8, 32)),
        (signature(OpKind.MATMUL, out_channels=12, in_height=1, out_height=1), (1, 8, 12)),
        (signature(OpKind.NORM), (1, 32, 8, 8)),
        (signature(OpKind.ACTIVATION), (1, 32, 8, 8)),
        (signature(OpKind.ACTIVATION, ABSORBED), (1, 32, 8, 8)),
        (signature(OpKind.MAX_POOL, **THREE), (1, 32, 8, 8)),
        (signature(OpKind.AVG_POOL, kernel_height=2, kernel_width=2, **HALF), (1, 32, 4, 4)),
        (signature(OpKind.GLOBAL_POOL, out_height=1, out_width=1), (1, 32, 1, 1)),
        (signature(OpKind.ADD), (1, 32, 8, 8)),
        (signature(OpKind.CONCAT, out_channels=33), (1, 33, 8, 8)),
        (signature(OpKind.SUBSAMPLE, **HALF), (1, 32, 4, 4)),
    ],
    ids=lambda value: unit_text(value) if isinstance(value, list) else None,
)
def test_units_run(unit: list[int], shape: tuple[int, ...]) -> None:
    model = unit_model(unit, np.random.default_rng(0))
    assert not {"ReorderInput", "ReorderOutput"} & set(nodes_of(model))
    made = made_by(model)
    if unit[SIGNATURE_COLUMNS.index("kind")] == OpKind.CONV and made != shape:  # machines without blocks, or of 8
        assert (made[0], made[2:]) == (shape[0], shape[2:])
        assert unit[SIGNATURE_COLUMNS.index("out_channels")] <= made[1] <= shape[1]
    else:
        assert made == shape


def test_what_is_fused_is_one_kernel() -> None:
    both = unit_model(signature(OpKind.CONV, WITH_ADD | WITH_ACTIVATION, **THREE), np.random.default_rng(0))
    assert len(nodes_of(both)) == 1
    assert len(onnx.load_from_string(both).graph.input) == 2
    assert nodes_of(empty_model()) == ["Relu"]


def test_only_reorders_at_the_borders_go() -> None:
    plain = linear_classifier()
    assert without_border_reorders(plain) == plain
    model = optimised(
        unit_model(signature(OpKind.AVG_POOL, kernel_height=2, kernel_width=2, **HALF), np.random.default_rng(0))
    )
    assert made_by(without_border_reorders(model)) == (1, 32, 4, 4)


def test_units_of_networks_have_models() -> None:
    for table in (mobilenetv2(32), vit_tiny(32)):
        units = units_of(table)
        some = np.unique(classes_of(units.signatures), return_index=True)[1]
        for row in some:
            assert made_by(unit_model(units.signatures[row].tolist(), np.random.default_rng(0)))


def test_units_take_time() -> None:
    bench = OnnxBench(NasNet(image_shape=(1, 8, 8), classes=10), (1, 8, 8), 1)
    small = signature(OpKind.CONV, **THREE)
    large = signature(
        OpKind.CONV, **{**THREE, **dict.fromkeys(("in_height", "in_width", "out_height", "out_width"), 64)}
    )
    ms = bench.units(np.array([small, large]), seed=0)
    assert ms.shape == (2,)
    assert 0 < bench.empty(0) < ms[1]
    assert 4 * ms[0] < ms[1]


def test_the_machine_is_named() -> None:
    machine = this_machine(2)
    assert (machine.threads, machine.runtime) == (2, f"onnxruntime {RUNTIME_VERSION}")
    assert machine.cpu
    assert machine.cores >= 1


@pytest.mark.torch
@pytest.mark.slow
def test_networks_take_time() -> None:
    space = NasNet(image_shape=(1, 8, 8), classes=10, blocks=2, cells=1, channels=(2, 32))
    bench = OnnxBench(space, (1, 8, 8), 1)
    codes = np.zeros((2, len(space.choices)), dtype=np.int64)
    codes[:, 2] = space.operations.index("conv3x3")
    codes[1, -1] = 1
    first, second = bench.networks(codes, seed=0), bench.networks(codes, seed=1)
    assert 0 < first[0] < first[1]
    assert 0 < second[0] < second[1]
