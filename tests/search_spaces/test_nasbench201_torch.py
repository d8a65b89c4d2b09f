"""Modules of NAS-Bench-201: what they compute, and that merged cells compute the same."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from torch import nn

from codesign.testing import check_space
from search_spaces.nasbench201 import NasBench201
from search_spaces.nasbench201_cell import all_cells, cell_index, classes, remove_dead, representatives
from search_spaces.nasbench201_torch import CellModule, NasBench201Module, ReluConvNorm

pytestmark = pytest.mark.torch

CHANNELS = 3


def cell_module(cell: np.ndarray) -> CellModule:
    module = CellModule(cell, CHANNELS).double().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return module


def convolutions(module: CellModule, kernel: int) -> list[ReluConvNorm]:
    edges = [edge for edge in module.edges.values() if isinstance(edge, ReluConvNorm)]
    return [edge for edge in edges if edge[1].kernel_size == (kernel, kernel)]


def can_compute_the_same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether some assignment of the first cell's weights makes the second give the same output."""
    one, other = cell_module(first), cell_module(second)
    images = torch.randn(2, CHANNELS, 5, 5, dtype=torch.float64)
    wanted = one(images)
    for kernel in (1, 3):
        if len(convolutions(one, kernel)) != len(convolutions(other, kernel)):
            return False
    for orders in product(*(permutations(convolutions(one, kernel)) for kernel in (1, 3))):
        for kernel, order in zip((1, 3), orders, strict=True):
            for source, target in zip(order, convolutions(other, kernel), strict=True):
                target.load_state_dict(source.state_dict())
        if torch.allclose(other(images), wanted, rtol=1e-9, atol=1e-9):
            return True
    return False


def test_merged_cells_compute_the_same_with_some_assignment_of_weights() -> None:
    torch.manual_seed(0)
    live = np.unique(remove_dead(all_cells()), axis=0)
    chosen = representatives()[cell_index(live)]
    differing = np.flatnonzero((chosen != live).any(axis=1) & ((live == 2) | (live == 3)).any(axis=1))
    for row in np.random.default_rng(0).permutation(differing)[:40].tolist():
        assert can_compute_the_same(live[row], chosen[row]), (live[row], chosen[row])


def test_cells_of_different_classes_do_not_compute_the_same() -> None:
    torch.manual_seed(1)
    kinds = classes()
    cells = all_cells()[kinds.members[kinds.begin]]
    chosen = representatives()[cell_index(cells)]
    by_content: dict[tuple[int, ...], list[np.ndarray]] = {}  # the hard pairs: the same operations, placed otherwise
    for cell in chosen:
        by_content.setdefault(tuple(sorted(cell[cell > 1].tolist())), []).append(cell)
    rng = np.random.default_rng(1)
    groups = [group for group in by_content.values() if len(group) > 1]
    for _ in range(40):
        group = groups[int(rng.integers(len(groups)))]
        first, second = rng.choice(len(group), 2, replace=False).tolist()
        assert not can_compute_the_same(group[first], group[second]), (group[first], group[second])


def test_dead_edges_change_nothing_in_a_cell() -> None:
    torch.manual_seed(2)
    cell = np.array([0, 3, 2, 1, 0, 4])  # 2<-1 reads nothing: its convolution gives its batch norm's shift alone
    whole, live = cell_module(cell), cell_module(remove_dead(cell[None])[0])
    live.load_state_dict(
        {name: value for name, value in whole.state_dict().items() if not name.startswith("edges.2<-1")}
    )
    dead = whole.edges["2<-1"]
    state = dead.state_dict()
    for name in ("2.bias", "2.running_mean"):
        state[name].zero_()
    images = torch.randn(1, CHANNELS, 6, 6, dtype=torch.float64)
    assert torch.allclose(whole(images), live(images))


def test_average_pools_leave_padding_out_and_nothing_gives_zeros() -> None:
    images = torch.ones(1, CHANNELS, 4, 4, dtype=torch.float64)
    assert torch.equal(cell_module(np.array([0, 0, 0, 4, 0, 0]))(images), images)
    assert torch.equal(cell_module(np.array([1, 1, 1, 1, 1, 1]))(images), 4 * images)  # four paths
    assert not cell_module(np.array([3, 3, 1, 0, 0, 0]))(images).any()


@pytest.mark.parametrize("merge", [True, False])
def test_modules_compute_what_ops_list(merge: bool) -> None:
    check_space(NasBench201(merge_equal=merge), np.random.default_rng(0), n=8, build=2)
    small = NasBench201(image_shape=(1, 9, 14), channels=2, cells=1, merge_equal=merge)
    check_space(small, np.random.default_rng(1), n=8, build=8)


def test_every_part_of_a_network_learns() -> None:
    torch.manual_seed(3)
    network = NasBench201(channels=2, cells=2).build(np.array([3, 2, 4, 1, 3, 2]))
    assert isinstance(network, NasBench201Module)
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_odd_sizes_are_halved_upwards() -> None:
    network = NasBench201(image_shape=(3, 9, 7), channels=2, cells=1).build(np.array([0, 0, 0, 3, 0, 0]))
    assert isinstance(network, NasBench201Module)
    assert network.stages[0:2][1](torch.randn(1, 2, 9, 7)).shape == (1, 4, 5, 4)
    assert network(torch.randn(2, 3, 9, 7)).shape == (2, 10)
