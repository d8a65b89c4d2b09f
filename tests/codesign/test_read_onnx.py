"""ONNX files as op tables: hand counts per op, torch's hooks for whole networks, nothing silently free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from codesign.cost import Target
from codesign.errors import InputError
from codesign.latency import RuntimeTarget
from codesign.profile import profile
from codesign.read_onnx import OnnxOps, read_ops
from search_spaces.ops import OpKind
from simulators.roofline import Roofline
from simulators.systolic import Systolic
from tests.codesign.onnx_files import linear_classifier, model_of


def tensor(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, dtype=np.float32)


def one(op: str, x: list[int | str], *weights: NDArray[np.generic], **attributes: Any) -> OnnxOps:
    """The table of a file that holds one op."""
    names = [f"w{i}" for i in range(len(weights))]
    node = helper.make_node(op, ["x", *names], ["y"], "/op", **attributes)
    return read_ops(model_of([node], {"x": x}, ["y"], dict(zip(names, weights, strict=True))))


def row(ops: OnnxOps) -> dict[str, int | str]:
    [only] = ops.table.rows()
    assert not ops.uncounted
    return only


@pytest.mark.parametrize(
    ("attributes", "weight", "macs"),
    [
        ({"pads": [1, 1, 1, 1]}, (16, 8, 3, 3), 16 * 8 * 9 * 10 * 12),
        ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, (16, 8, 3, 3), 16 * 8 * 9 * 5 * 6),
        ({"group": 4}, (16, 2, 3, 3), 16 * 2 * 9 * 8 * 10),
        ({"group": 8}, (8, 1, 5, 5), 8 * 25 * 6 * 8),
        ({"dilations": [2, 2]}, (16, 8, 3, 3), 16 * 8 * 9 * 6 * 8),
        ({"strides": [1, 2]}, (4, 8, 1, 3), 4 * 8 * 3 * 10 * 5),
        ({"auto_pad": "SAME_UPPER", "strides": [3, 3]}, (4, 8, 3, 3), 4 * 8 * 9 * 4 * 4),
    ],
)
def test_convolutions(attributes: dict[str, object], weight: tuple[int, ...], macs: int) -> None:
    ops = one("Conv", ["batch", 8, 10, 12], tensor(*weight), tensor(weight[0]), **attributes)
    found = row(ops)
    assert ops.table.macs().tolist() == [macs]
    assert ops.params.tolist() == ops.table.params().tolist() == [np.prod(weight) + weight[0]]
    assert found["stride"] == max(attributes.get("strides", [1]))  # type: ignore[call-overload]
    assert (found["in_channels"], found["in_height"], found["in_width"], found["label"]) == (8, 10, 12, "/op")


def test_convolutions_of_one_and_three_dimensions() -> None:
    assert one("Conv", [1, 8, 20], tensor(4, 8, 5)).table.macs().tolist() == [4 * 8 * 5 * 16]
    assert row(one("Conv", [1, 8, 20], tensor(4, 8, 5)))["out_height"] == 1
    assert one("Conv", [1, 2, 6, 7, 8], tensor(4, 2, 3, 3, 3)).table.macs().tolist() == [4 * 2 * 27 * 4 * 5 * 6]
    assert one("Conv", [5, 8, 20], tensor(4, 8, 5)).table.macs().tolist() == [5 * 4 * 8 * 5 * 16]


def test_a_transposed_convolution_is_charged_per_input_pixel() -> None:
    ops = one("ConvTranspose", [1, 8, 5, 6], tensor(8, 3, 4, 4), tensor(6), group=2, strides=[2, 2])
    assert ops.table.macs().tolist() == [5 * 6 * 8 * 3 * 16]
    assert ops.total_params == 8 * 3 * 16 + 6


@pytest.mark.parametrize(
    ("x", "weight", "attributes", "macs"),
    [
        (["n", 32], (32, 10), {}, 320),
        (["n", 32], (10, 32), {"transB": 1}, 320),
        ([32, 7], (32, 10), {"transA": 1}, 7 * 320),
    ],
)
def test_gemm(x: list[int | str], weight: tuple[int, int], attributes: dict[str, int], macs: int) -> None:
    ops = one("Gemm", x, tensor(*weight), tensor(10), **attributes)
    assert ops.table.macs().tolist() == [macs]
    assert ops.table.params().tolist() == ops.params.tolist() == [330]
    assert row(ops)["kind"] == "linear"


@pytest.mark.parametrize(
    ("a", "b", "kind", "macs", "repeat"),
    [
        ((1, 17, 32), (32, 64), "linear", 17 * 32 * 64, 1),
        ((1, 6, 17, 32), (6, 32, 64), "linear", 6 * 17 * 32 * 64, 6),
        ((32,), (32, 64), "linear", 32 * 64, 1),
        ((17, 32), (32,), "linear", 17 * 32, 1),
    ],
)
def test_matmul_with_weights(a: tuple[int, ...], b: tuple[int, ...], kind: str, macs: int, repeat: int) -> None:
    ops = one("MatMul", list(a), tensor(*b))
    found = row(ops)
    assert (ops.table.macs().tolist(), found["kind"], found["repeat"]) == ([macs], kind, repeat)
    assert ops.params.tolist() == ops.table.params().tolist() == [np.prod(b)]


def test_matmul_with_weights_on_the_left() -> None:
    node = helper.make_node("MatMul", ["w", "x"], ["y"])
    ops = read_ops(model_of([node], {"x": [1, 32, 5]}, ["y"], {"w": tensor(7, 32)}))
    assert (row(ops)["kind"], ops.table.macs().tolist(), ops.total_params) == ("linear", [7 * 32 * 5], 224)


def test_a_product_of_two_activations_is_counted() -> None:
    node = helper.make_node("MatMul", ["q", "k"], ["y"])
    ops = read_ops(model_of([node], {"q": ["n", 6, 17, 8], "k": ["n", 6, 8, 19]}, ["y"], {}))
    found = row(ops)
    assert (found["kind"], found["in_channels"], found["out_channels"], found["repeat"]) == ("matmul", 8, 19, 6)
    assert ops.table.macs().tolist() == [6 * 17 * 8 * 19]
    assert ops.total_params == 0


def test_a_bias_behind_a_product_belongs_to_it() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "/linear"),
        helper.make_node("Add", ["b", "h"], ["y"], "/bias"),
        helper.make_node("Add", ["y", "x"], ["z"], "/residual"),
    ]
    ops = read_ops(model_of(nodes, {"x": ["n", 5, 8]}, ["z"], {"w": tensor(8, 8), "b": tensor(8)}))
    assert [each["label"] for each in ops.table.rows()] == ["/linear", "/residual"]
    assert ops.table.params().tolist() == ops.params.tolist() == [72, 0]
    seen_twice = [*nodes, helper.make_node("Relu", ["h"], ["r"], "/relu")]
    ops = read_ops(model_of(seen_twice, {"x": ["n", 5, 8]}, ["z", "r"], {"w": tensor(8, 8), "b": tensor(8)}))
    assert [each["label"] for each in ops.table.rows()] == ["/linear", "/bias", "/residual", "/relu"]
    assert ops.total_params == 72


@pytest.mark.parametrize(
    ("op", "x", "weights", "attributes", "kind", "out"),
    [
        ("BatchNormalization", (1, 8, 5, 6), (tensor(8),) * 4, {}, "norm", (8, 5, 6)),
        ("LayerNormalization", (1, 17, 8), (tensor(8),) * 2, {}, "norm", (8, 1, 17)),
        ("Relu", (1, 8, 5, 6), (), {}, "activation", (8, 5, 6)),
        ("HardSwish", (1, 8, 5, 6), (), {}, "activation", (8, 5, 6)),
        ("Softmax", (1, 2, 5, 6), (), {}, "activation", (2, 5, 6)),
        ("MaxPool", (1, 8, 6, 6), (), {"kernel_shape": [2, 2], "strides": [2, 2]}, "max_pool", (8, 3, 3)),
        ("AveragePool", (1, 8, 6, 6), (), {"kernel_shape": [3, 3]}, "avg_pool", (8, 4, 4)),
        ("GlobalAveragePool", (1, 8, 6, 6), (), {}, "global_pool", (8, 1, 1)),
        ("ReduceMean", (1, 8, 6, 6), (np.array([2, 3]),), {"keepdims": 0}, "global_pool", (8, 1, 1)),
        ("Add", (1, 8, 6, 6), (tensor(1),), {}, "activation", (8, 6, 6)),
        ("Add", (1, 8, 6, 6), (tensor(1, 8, 6, 6),), {}, "add", (8, 6, 6)),
    ],
)
def test_ops_without_macs(
    op: str, x: tuple[int, ...], weights: tuple[NDArray[np.generic], ...], attributes: dict[str, object], kind: str,
    out: tuple[int, int, int],
) -> None:  # fmt: skip
    ops = one(op, list(x), *weights, **attributes)
    found = row(ops)
    assert found["kind"] == kind
    assert (found["out_channels"], found["out_height"], found["out_width"]) == out
    assert ops.table.macs().tolist() == [0]
    if kind == "norm":
        assert ops.total_params == 16  # scale and shift; running statistics are none


def test_concatenation_and_sums_of_activations() -> None:
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["c"], "/concat", axis=1),
        helper.make_node("Sum", ["c", "c", "c"], ["d"], "/sum"),
    ]
    ops = read_ops(model_of(nodes, {"a": ["n", 3, 4, 4], "b": ["n", 5, 4, 4]}, ["d"], {}))
    assert ops.table.kind.tolist() == [OpKind.CONCAT, OpKind.ADD]
    assert ops.table.out_channels.tolist() == [8, 8]
    assert ops.table.repeat.tolist() == [1, 2]


def test_what_has_no_row_is_uncounted_and_views_are_free() -> None:
    shape = np.array([1, -1, 8], dtype=np.int64)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Einsum", ["r", "r"], ["e"], equation="bij,bik->bjk"),
        helper.make_node("LSTM", ["r", "w", "u"], ["l"], hidden_size=4),
        helper.make_node("Sin", ["e"], ["s1"]),
        helper.make_node("Sin", ["s1"], ["s2"]),
        helper.make_node("Relu", ["s2"], ["y"]),
    ]
    tensors: dict[str, NDArray[np.generic]] = {"shape": shape, "w": tensor(1, 16, 8), "u": tensor(1, 16, 4)}
    ops = read_ops(model_of(nodes, {"x": ["n", 4, 8]}, ["y", "l"], tensors))
    assert ops.uncounted == {"Einsum": 1, "LSTM": 1, "Sin": 2}
    assert ops.total_params == ops.other_params == 16 * 8 + 16 * 4
    assert len(ops.table) == 1


def test_foreign_domains_and_unknown_shapes_are_uncounted() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], domain="org.example"),
        helper.make_node("Conv", ["h", "w"], ["y"]),
    ]
    ops = read_ops(model_of(nodes, {"x": [1, 8, 5, 5]}, ["y"], {"w": tensor(8, 8, 1, 1)}, domains=("org.example",)))
    assert ops.uncounted == {"org.example.Conv": 1, "Conv of unknown shape": 1}
    assert len(ops.table) == 0


def test_shapes_that_do_not_fit_make_no_row() -> None:
    ops = one("MatMul", [1, 5], tensor(6, 7))
    assert ops.uncounted == {"MatMul of unknown shape": 1}
    assert (len(ops.table), ops.total_params) == (0, 42)


def test_arithmetic_on_shapes_costs_nothing_and_shapes_are_found_by_running() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["one"], ["o"], value=helper.make_tensor("v", TensorProto.INT64, [1], [1])),
        helper.make_node("Mul", ["s", "o"], ["t"]),
        helper.make_node("Expand", ["token", "t"], ["e"]),
        helper.make_node("Concat", ["e", "x"], ["c"], axis=1),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    tensors = {"one": np.array([3]), "token": tensor(1, 1, 1), "w": tensor(4, 6)}
    ops = read_ops(model_of(nodes, {"x": ["n", 5, 4]}, ["y"], tensors))
    assert not ops.uncounted
    assert ops.table.macs().tolist() == [0, 10 * 4 * 6]
    assert ops.total_params == 25


def test_quantised_layers() -> None:
    def int8(*shape: int) -> NDArray[np.int8]:
        return np.ones(shape, dtype=np.int8)

    scale, zero = np.array(0.1, dtype=np.float32), np.array(0, dtype=np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("QLinearConv", ["xq", "s", "z", "w", "s", "z", "s", "z", "b"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "s", "z"], ["y"]),
        helper.make_node("DequantizeLinear", ["w2q", "s", "z"], ["w2"]),
        helper.make_node("Conv", ["y", "w2"], ["out"]),
    ]
    tensors: dict[str, NDArray[np.generic]] = {
        "s": scale, "z": zero, "w": int8(6, 8, 3, 3), "b": np.ones(6, dtype=np.int32), "w2q": int8(4, 6, 1, 1),
    }  # fmt: skip
    ops = read_ops(model_of(nodes, {"x": ["n", 8, 5, 5]}, ["out"], tensors))
    assert ops.table.macs().tolist() == [6 * 8 * 9 * 9, 4 * 6 * 9]
    assert ops.params.tolist() == [6 * 72 + 6, 24]
    assert ops.uncounted == {"QuantizeLinear": 1, "DequantizeLinear": 1}
    assert ops.stored_bytes == 4 + 1 + 432 + 24 + 24


def test_a_shared_weight_counts_once_and_a_constant_weight_counts() -> None:
    constant = helper.make_node("Constant", [], ["w2"], value=onnx.numpy_helper.from_array(tensor(8, 8)))
    zeros = helper.make_node("Constant", [], ["b2"], value=onnx.numpy_helper.from_array(0 * tensor(8)))
    nodes = [
        constant, zeros,
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Gemm", ["b", "w2", "b2"], ["c"]),
        helper.make_node("Mul", ["c", "gain"], ["y"]),
    ]  # fmt: skip
    ops = read_ops(model_of(nodes, {"x": ["n", 8]}, ["y"], {"w": tensor(8, 8), "gain": tensor(8)}))
    assert ops.params.tolist() == [64, 0, 64]
    assert ops.other_params == 8
    assert ops.uncounted == {"Mul": 1}


def test_weights_that_the_file_computes_count() -> None:
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["shape"], ["w"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5])
        ),
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("Conv", ["h", "w"], ["y"]),
    ]
    ops = read_ops(model_of(nodes, {"x": ["n", 8, 5, 5]}, ["y"], {"shape": np.array([8, 8, 1, 1])}))
    assert ops.params.tolist() == [64, 0]


LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


@pytest.mark.skipif(not LIGHT.is_dir(), reason="this build of onnx ships no model files")
@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("resnet50", 4_089_184_256, 25_557_032),  # both as published with torchvision
        ("vgg19", 19_632_062_464, 143_667_240),
        ("squeezenet", 349_151_936, 1_235_496),
    ],
)
def test_published_networks(name: str, macs: int, params: int) -> None:
    ops = read_ops(LIGHT / f"light_{name}.onnx")
    assert (ops.table.macs().sum(), ops.total_params) == (macs, params)
    assert not ops.uncounted


def test_free_axes_need_a_shape() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = model_of([node], {"x": ["n", 3, "h", "w_"]}, ["y"], {"w": tensor(8, 3, 3, 3)})
    with pytest.raises(InputError, match="its axis 2 is free"):
        read_ops(model)
    ops = read_ops(model, shape=(1, 3, 10, 12))
    assert ops.table.macs().tolist() == [8 * 27 * 8 * 10]
    assert ops.inputs == {"x": (1, 3, 10, 12)}
    with pytest.raises(InputError, match="axis 1 is 3, not 4"):
        read_ops(model, shape={"x": (1, 4, 10, 12)})


def test_unreadable_files_are_wrong_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    contents = [
        b"",
        b"text",
        rng.bytes(2000),
        linear_classifier()[:-7],
        onnx.ModelProto(ir_version=8).SerializeToString(),
    ]
    for content in contents:
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(InputError, match=r"m\.onnx: "):
            read_ops(tmp_path / "m.onnx")
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(InputError):
            read_ops(path)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_file_is_read_or_refused(capfd: pytest.CaptureFixture[str]) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["h"], "/conv", group=2), helper.make_node("Relu", ["h"], ["y"])]
    whole = model_of(nodes, {"x": ["n", 4, 5, 5]}, ["y"], {"w": tensor(2, 2, 1, 1), "b": tensor(2)})
    rng = np.random.default_rng(0)
    n_refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), size=2):
            damaged[place] ^= 1 << int(rng.integers(8))
        try:
            read_ops(bytes(damaged))
        except InputError:
            n_refused += 1
    assert 50 < n_refused < 250
    assert capfd.readouterr() == ("", "")


def test_a_profile_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["h", "w2"], ["h2"], "/again", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h2"], ["r"], "/relu"),
        helper.make_node("Sin", ["r"], ["y"], "/sin"),
    ]
    path.write_bytes(
        model_of(nodes, {"x": ["n", 8, 6, 6]}, ["y"], {"w": tensor(8, 8, 3, 3), "w2": 2 * tensor(8, 8, 3, 3)})
    )
    edge = Target("edge", Systolic(), {"rows": 4, "columns": 4})
    bound = Target("bound", Roofline(), {})
    found = profile(path, {"edge": edge, "bound": bound, "cpu": RuntimeTarget(readings=6)}, batch=2)
    macs = 8 * 8 * 9 * 36
    assert [(layer.name, layer.kind, layer.macs, layer.params) for layer in found.layers] == [
        ("/conv", "conv", macs, 576), ("/again", "conv", macs, 576), ("/relu", "activation", 0, 0),
    ]  # fmt: skip
    assert found.metrics["macs"] == 2 * macs
    assert found.metrics["params"] == found.metrics["weight_bytes"] == 1152
    assert found.metrics["stored_bytes"] == 4 * 1152
    assert found.metrics["activation_bytes"] == 2 * (8 * 36 + 8 * 36)
    for metric in ("latency_cycles@edge", "dram_bytes@bound"):
        shares = [layer.costs[metric] for layer in found.layers]
        assert shares[0] == shares[1] > 0 == shares[2]
        assert found.metrics[metric] == sum(shares)
    assert found.metrics["latency_cycles@bound"] <= found.metrics["latency_cycles@edge"]
    assert found.metrics["latency_ms@cpu"] == found.measured["cpu"].latency_ms > 0
    assert found.uncounted == {"Sin": 1}
    assert any(note.startswith("edge: ") for note in found.notes)
    assert "macs: 1 activation ops have none" in found.notes
    assert profile(path).metrics.keys() == {"macs", "params", "weight_bytes", "activation_bytes", "stored_bytes"}
    with pytest.raises(InputError, match=r"targets\.edge.*did you mean 'rows'"):
        profile(path, {"edge": Target("edge", Systolic(), {"row": 4})})


@pytest.mark.torch
def test_whole_networks_equal_torchs_own_count(tmp_path: Path) -> None:
    import torch

    from codesign.convert_torch_onnx import to_onnx
    from tests.codesign.small_networks_torch import Normalised, SmallTransformer, macs_by_hooks, seeded

    for network in (seeded(0), seeded(1, channels=12, cells=3), Normalised(SmallTransformer(), (0.0,) * 3, (1.0,) * 3)):
        (tmp_path / "m.onnx").write_bytes(to_onnx(network, (3, 8, 8)))
        found = profile(tmp_path / "m.onnx")
        attention = sum(layer.macs for layer in found.layers if layer.kind == "matmul")
        assert found.metrics["macs"] - attention == macs_by_hooks(network, torch.zeros(1, 3, 8, 8))
        assert found.metrics["params"] == sum(parameter.numel() for parameter in network.parameters())
        assert sum(layer.params for layer in found.layers) == found.metrics["params"]
        if attention:
            assert attention == 2 * (2 * 5 * 5 * 8)  # two products of 2 heads, 5 tokens and 8 channels
            assert found.uncounted.keys() <= {"Transpose", "Split", "Gather", "Slice", "Mul", "Div", "Erf", "Sub"}
        else:
            assert not found.uncounted
