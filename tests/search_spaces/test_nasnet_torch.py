"""NASNet modules against their ops and against published figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from codesign.convert_torch_onnx import to_onnx
from codesign.profile_torch import hooked_macs, used_params
from codesign.testing.spaces import check_space
from search_spaces.nasnet import NasNet
from search_spaces.nasnet_cell import Block, Cell, NasNetGenotype
from search_spaces.nasnet_published import NASNET_A_NORMAL, NASNET_A_REDUCTION, named
from search_spaces.nasnet_torch import FactorisedReduction, Half, NasNetModule, Parts
from search_spaces.ops import OpKind, OpTable

pytestmark = pytest.mark.torch

DIGITS = NasNet(image_shape=(1, 8, 8), classes=10, blocks=3, cells=(1, 2), channels=(4, 8))
IMAGENET_LIKE = NasNet(image_shape=(3, 41, 38), classes=7, blocks=2, cells=2, channels=8, stem="imagenet")
NASNET_A_SMALL = NasNetGenotype(NASNET_A_NORMAL, NASNET_A_REDUCTION, 1, 4)
KINDS: dict[type[nn.Module], OpKind] = {
    nn.Conv2d: OpKind.CONV,
    nn.Linear: OpKind.LINEAR,
    nn.BatchNorm2d: OpKind.NORM,
    nn.AvgPool2d: OpKind.AVG_POOL,
    nn.MaxPool2d: OpKind.MAX_POOL,
}
Shape = tuple[int, ...]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def module_of(space: NasNet, genotype: NasNetGenotype, device: str = "cpu") -> NasNetModule:
    with torch.device(device):
        module = space.build_architecture(genotype)
    assert isinstance(module, NasNetModule)
    return module


def some_codes(space: NasNet, n: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return space.sample(n, np.random.default_rng(seed))


def op_shapes(table: OpTable) -> Counter[Shape]:
    """Kind, channels in and out, kernel, stride, groups, sizes in and out of every op that is a module."""
    rows = np.isin(table.kind, list(KINDS.values()))
    names = ["kind", "in_channels", "out_channels", "kernel_height", "kernel_width", "stride", "groups"]
    names += ["in_height", "in_width", "out_height", "out_width"]
    return Counter(zip(*(getattr(table, name)[rows].tolist() for name in names), strict=True))


def hooked_shapes(module: nn.Module, image_shape: Shape) -> Counter[Shape]:
    """The same, as the modules see it."""
    seen: Counter[Shape] = Counter()

    def record(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kernel, stride, groups = (1, 1), 1, 1
        if isinstance(layer, nn.Conv2d):
            kernel, stride, groups = (layer.kernel_size[0], layer.kernel_size[1]), layer.stride[0], layer.groups
        elif isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
            kernel, stride = (layer.kernel_size, layer.kernel_size), layer.stride  # type: ignore[assignment]
        sizes = (*inputs[0].shape[2:], *output.shape[2:]) if output.ndim == 4 else (1, 1, 1, 1)
        channels = (inputs[0].shape[1], output.shape[1])
        seen[(int(KINDS[type(layer)]), *channels, *kernel, int(stride), groups, *sizes)] += 1

    for layer in module.modules():
        if type(layer) in KINDS:
            layer.register_forward_hook(record)
    with torch.no_grad():
        module.eval()(torch.zeros(1, *image_shape, device=next(module.parameters()).device))
    return seen


@pytest.mark.parametrize(
    ("name", "params", "macs", "auxiliary"),
    [
        ("nasnet-a-cifar", 3_346_538, 544_333_312, 1_631_498),
        ("nasnet-a-mobile", 5_289_978, 563_638_816, 2_411_240),
        ("nasnet-a-large", 88_753_150, 23_783_414_658, 4_567_784),
    ],
)
def test_modules_of_nasnet_a_hold_the_published_counts_to_the_unit(
    name: str, params: int, macs: int, auxiliary: int
) -> None:
    architecture = named(name)
    module = module_of(architecture.space, architecture.genotype, "meta")
    assert used_params(module, architecture.space.image_shape) == params
    assert sum(p.numel() for p in module.parameters()) == params + auxiliary
    assert hooked_macs(module, architecture.space.image_shape).macs == macs
    table = architecture.space.architecture_ops(architecture.genotype)
    assert hooked_shapes(module, architecture.space.image_shape) == op_shapes(table)


def test_stages_of_the_cifar_module_have_the_shapes_of_tf_slim() -> None:
    architecture = named("nasnet-a-cifar")
    module = module_of(architecture.space, architecture.genotype, "meta")
    shapes: list[Shape] = []
    for layer in (module.stem, *(module.cells[i] for i in (5, 6, 12, 13, 19))):
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    module.eval()(torch.zeros(1, 3, 32, 32, device="meta"))
    assert shapes == [(96, 32, 32), (192, 32, 32), (256, 16, 16), (384, 16, 16), (512, 8, 8), (768, 8, 8)]


@pytest.mark.parametrize(
    "space",
    [
        DIGITS,
        replace(DIGITS, skip_reduction_input=True, channels=(3, 5)),
        IMAGENET_LIKE,
        replace(IMAGENET_LIKE, skip_reduction_input=True, cells=(1, 3), stem_multiplier=0.5),
    ],
)
def test_random_modules_have_the_ops_shapes_macs_and_params(space: NasNet) -> None:
    codes = some_codes(space, 12)
    table = space.ops(codes)
    for i, code in enumerate(codes):
        module = space.build(code)
        assert isinstance(module, nn.Module)
        assert hooked_shapes(module, space.image_shape) == op_shapes(table.select(table.candidate == i))
    check_space(space, np.random.default_rng(1), n=6, build=6)


@pytest.mark.parametrize("outputs", [(0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("combine", ["add", "concat"])
def test_stated_outputs_that_pass_on_an_input_have_the_ops_shapes(outputs: Shape, combine: str) -> None:
    cell = Cell((Block(0, 1, "identity", "sep3x3", combine),), outputs)
    genotype = NasNetGenotype(cell, cell, 2, 6)
    module = module_of(DIGITS, genotype)
    assert hooked_shapes(module, (1, 8, 8)) == op_shapes(DIGITS.architecture_ops(genotype))


def test_every_operation_keeps_or_halves_any_size() -> None:
    parts = Parts({"eps": 1e-5, "momentum": 0.1})
    for name in NasNet(image_shape=(1, 8, 8), classes=2).operations:
        for stride in (1, 2):
            for writes in (4, 6):
                image = torch.randn(2, 4, 5, 8)
                expected = (2, writes, 5, 8) if stride == 1 else (2, writes, 3, 4)
                assert parts.operation(name, 4, writes, stride)(image).shape == expected, (name, stride, writes)


def test_average_pools_leave_padding_out_of_the_mean() -> None:
    pool = Parts({"eps": 1e-5, "momentum": 0.1}).operation("avgpool3x3", 2, 2, 1)
    assert torch.equal(pool(torch.ones(1, 2, 4, 4)), torch.ones(1, 2, 4, 4))


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (4, 7), (5, 5)])
def test_a_factorised_reduction_reads_even_pixels_and_odd_pixels(size: tuple[int, int]) -> None:
    """Against TF-slim's way: pad below and right, shift by one, take every second pixel."""
    reduction = FactorisedReduction(Parts({"eps": 0.0, "momentum": 0.1}), 3, 5, size).eval()
    image = torch.randn(2, 3, *size)
    shifted = nn.functional.pad(image, (0, 1, 0, 1))[:, :, 1:, 1:]
    halves = [reduction.first(image)[:, :, ::2, ::2], reduction.second(shifted)[:, :, ::2, ::2]]
    torch.testing.assert_close(reduction(image), torch.cat(halves, dim=1))
    assert halves[0].shape[1] == 2


def test_the_auxiliary_head_speaks_in_training_alone() -> None:
    space = NasNet(image_shape=(3, 32, 32), classes=10, auxiliary=True)
    module = module_of(space, NASNET_A_SMALL)
    images = torch.randn(2, 3, 32, 32)
    output = module.train()(images)
    assert isinstance(output, tuple)
    assert [tuple(part.shape) for part in output] == [(2, 10), (2, 10)]
    assert module.auxiliary_weight == 0.4
    assert module.eval()(images).shape == (2, 10)
    assert module_of(replace(space, auxiliary=False), NASNET_A_SMALL).train()(images).shape == (2, 10)


def test_the_auxiliary_head_reads_the_cell_before_the_last_reduction() -> None:
    space = NasNet(image_shape=(3, 32, 32), classes=10, auxiliary=True)
    module = module_of(space, replace(NASNET_A_SMALL, cells=2))
    seen: list[Tensor] = []
    module.cells[4].register_forward_hook(lambda _, __, output: seen.append(output))
    assert module.auxiliary is not None
    module.auxiliary.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.train()(torch.randn(2, 3, 32, 32))
    assert seen[0] is seen[1]
    assert [site.name for site in space.macro.sites(2)][4:6] == ["stage 1 cell 1", "reduction 1"]


def test_drop_path_is_linear_in_time_and_depth_and_spares_identities() -> None:
    space = replace(DIGITS, drop_path_keep=0.6)
    module = module_of(space, NASNET_A_SMALL)
    halves = [[m for m in cell.modules() if isinstance(m, Half)] for cell in module.cells]
    assert all(half.keep == 1 for cell in halves for half in cell)
    module.set_progress(0.5)
    assert [cell[0].keep for cell in halves] == pytest.approx([1 - 0.5 * (i + 1) / 5 * 0.4 for i in range(5)])
    module.set_progress(1.0)
    assert halves[-1][0].keep == pytest.approx(0.6)
    names = [name for block in NASNET_A_NORMAL.blocks for name in (block.left_op, block.right_op)]
    assert [half.can_drop for half in halves[0]] == [name != "identity" for name in names]
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="fraction"):
            module.set_progress(wrong)


def test_drop_path_drops_whole_examples_and_keeps_the_mean() -> None:
    half = Half(Parts({"eps": 1e-5, "momentum": 0.1}), "avgpool3x3", 0, 3, 3, 1)
    half.keep = 0.75
    images = torch.ones(4000, 3, 2, 2)
    made = half.train()(images)
    per_example = made.flatten(1)
    assert torch.equal(per_example.min(dim=1).values, per_example.max(dim=1).values)
    assert sorted(set(per_example[:, 0].tolist())) == pytest.approx([0, 1 / 0.75])
    assert float(made.mean()) == pytest.approx(1, abs=0.04)
    assert torch.equal(half.eval()(images), images)


def test_only_training_is_random() -> None:
    space = replace(DIGITS, drop_path_keep=0.5, dropout_keep=0.5)
    module = module_of(space, NASNET_A_SMALL)
    module.set_progress(1.0)
    images = torch.randn(8, 1, 8, 8)
    assert not torch.equal(module(images), module(images))
    module.eval()
    assert torch.equal(module(images), module(images))
    torch.testing.assert_close(module(images)[:3], module(images[:3]), rtol=1e-4, atol=1e-4)


def test_depthwise_weights_start_as_wide_as_dense_ones_of_the_same_window() -> None:
    parts = Parts({"eps": 1e-5, "momentum": 0.1})
    depthwise = parts.conv(512, 512, (3, 3), groups=512).weight
    assert float(depthwise.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)


def test_batch_norm_constants_follow_the_stem() -> None:
    def constants(space: NasNet) -> set[tuple[float, float | None]]:
        module = module_of(space, replace(NASNET_A_SMALL, channels=8))
        return {(m.eps, m.momentum) for m in module.modules() if isinstance(m, nn.BatchNorm2d)}

    assert constants(DIGITS) == {(1e-5, 0.1)}
    assert constants(IMAGENET_LIKE) == {(1e-3, 3e-4)}


def test_a_module_learns_digits_sized_images() -> None:
    module: Any = DIGITS.build(some_codes(DIGITS, 1, seed=3)[0])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for p in module.parameters())
    assert all(p.is_contiguous() for p in module.parameters())  # as safetensors wants them


@pytest.mark.parametrize(
    "space", [replace(DIGITS, image_shape=(1, 7, 8)), replace(IMAGENET_LIKE, image_shape=(3, 21, 21))]
)
def test_the_onnx_file_computes_the_same_at_every_batch_size(space: NasNet) -> None:
    module = module_of(space, replace(NASNET_A_SMALL, channels=4)).eval()
    images = torch.randn(3, *space.image_shape)
    session = onnxruntime.InferenceSession(to_onnx(module, space.image_shape), providers=["CPUExecutionProvider"])
    for n in (1, 2, 3):
        (logits,) = session.run(None, {"images": images[:n].numpy()})
        with torch.no_grad():
            expected = module(images[:n])
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-3, atol=1e-3)
