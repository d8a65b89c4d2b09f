"""Three MAC counters: where they agree with the ops, and where they are known not to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codesign.profile_torch import MacCount, fvcore_macs, hooked_macs, torch_macs, used_params
from search_spaces.nasnet import NasNet
from search_spaces.ops import OpKind, total_macs

pytestmark = pytest.mark.torch

Counter = Callable[[nn.Module, Sequence[int]], MacCount]
COUNTERS: list[Counter] = [hooked_macs, fvcore_macs, torch_macs]
SPACE = NasNet(image_shape=(1, 8, 8), classes=10, blocks=3, cells=1, channels=4)


class Attention(nn.Module):
    """Four tokens of eight features: projections, and attention, fused or spelt out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            return nn.functional.scaled_dot_product_attention(q, k, v)
        return torch.matmul((q @ k.transpose(-1, -2) / 2).softmax(-1), v)


@pytest.mark.parametrize("count", COUNTERS)
@pytest.mark.parametrize("seed", range(3))
def test_each_counter_agrees_with_the_ops_on_convolutions_and_linear_layers(count: Counter, seed: int) -> None:
    codes = SPACE.sample(1, np.random.default_rng(seed))
    table = SPACE.ops(codes)
    module: Any = SPACE.build(codes[0])
    found = count(module, SPACE.image_shape)
    assert found.macs == total_macs(table)[0]
    for name, kind in (("conv", OpKind.CONV), ("linear", OpKind.LINEAR)):
        assert found.by_operator[name] == table.macs()[table.kind == kind].sum()


def test_fvcores_total_adds_two_per_element_of_batch_norm_and_nothing_else() -> None:
    codes = SPACE.sample(1, np.random.default_rng(0))
    table = SPACE.ops(codes)
    module: Any = SPACE.build(codes[0])
    found = fvcore_macs(module, SPACE.image_shape)
    norm = 2 * int(table.elements_out()[table.kind == OpKind.NORM].sum())
    assert found.by_operator["batch_norm"] == norm
    assert found.total == found.macs + norm


def test_the_other_two_charge_convolutions_and_linear_layers_alone_and_say_what_else_ran() -> None:
    codes = SPACE.sample(1, np.random.default_rng(0))
    table = SPACE.ops(codes)
    module: Any = SPACE.build(codes[0])
    for count in (hooked_macs, torch_macs):
        found = count(module, SPACE.image_shape)
        assert found.total == found.macs
        assert found.uncounted["native_batch_norm"] == (table.kind == OpKind.NORM).sum()
        assert found.uncounted["relu"] == (table.kind == OpKind.ACTIVATION).sum()
        assert "convolution" not in found.uncounted
        assert not {"view", "t", "slice", "transpose"} & set(found.uncounted)


@pytest.mark.parametrize("count", COUNTERS)
def test_no_counter_sees_fused_attention_and_each_says_so(count: Counter) -> None:
    found = count(Attention(fused=True), (4, 8))
    assert found.macs == 4 * 8 * 24
    assert sum(number for name, number in found.uncounted.items() if "scaled_dot_product" in name) == 1


def test_attention_that_is_spelt_out_is_charged_by_all_but_hooks() -> None:
    module = Attention(fused=False)
    projection, attention = 4 * 8 * 24, 2 * (2 * 4 * 4 * 4)  # 2 products, 2 heads, 4 x 4 tokens, 4 features
    assert fvcore_macs(module, (4, 8)).macs == projection + attention
    assert torch_macs(module, (4, 8)).macs == projection + attention
    hooked = hooked_macs(module, (4, 8))
    assert hooked.macs == projection
    assert hooked.uncounted["bmm"] == 2


def test_hooks_count_every_kind_of_convolution() -> None:
    module = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),  # 8 x 4 x 4 outputs, 2 x 9 products each
        nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),  # 8 x 4 x 4 inputs, 3 x 4 products each
        nn.Flatten(2),
        nn.Conv1d(6, 5, 3),  # 5 x 62 outputs, 6 x 3 products each
        nn.Linear(62, 2),  # 5 x 2 outputs, 62 products each
    )
    expected = {"conv": 8 * 16 * 18 + 8 * 16 * 12 + 5 * 62 * 18, "linear": 10 * 62}
    assert hooked_macs(module, (4, 8, 8)).by_operator == expected
    assert torch_macs(module, (4, 8, 8)).macs == sum(expected.values())


@pytest.mark.parametrize("count", [*COUNTERS, used_params])
def test_counting_leaves_the_module_as_it_was(count: Counter) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    module[2].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count(module, (1, 5, 5))
    assert [part.training for part in module.modules()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_a_count_works_on_the_meta_device() -> None:
    with torch.device("meta"):
        module = nn.Conv2d(3, 8, 3)
    assert hooked_macs(module, (3, 10, 10)).macs == torch_macs(module, (3, 10, 10)).macs == 8 * 64 * 27


def test_used_params_leave_out_what_only_training_reads() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.extra = nn.Linear(3, 2), nn.Linear(2, 7)
            self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
            self.token = nn.Parameter(torch.ones(1, 1))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.body(torch.cat([x[:, :2], self.token], dim=1)) * self.frozen
            return torch.as_tensor(self.extra(y)) if self.training else y

    assert used_params(TwoHeads(), (3,)) == 8 + 1
