"""Made-up landscapes on chains: their exact fronts against all networks, and their formula against a slow one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from codesign.compare_chain import (
    FBNET,
    HIGH,
    LOW,
    NOISE,
    Block,
    ChainCost,
    ChainForesight,
    ChainLosses,
    ChainSpace,
    Landscape,
    exact_front,
)
from codesign.errors import DataError
from codesign.pareto import hypervolume, is_nondominated
from codesign.testing.spaces import check_space

SMALL = ChainSpace(5, (Block("small", 3, 1), Block("large", 5, 6), Block("skip", 0, 0)))
EVERY = np.array(list(itertools.product(range(3), repeat=5)), dtype=np.int64)


def cost_of(seed: int, space: ChainSpace = SMALL) -> ChainCost:
    rng = np.random.default_rng(seed)
    return ChainCost(rng.gamma(2.0, size=(len(space.choices), len(space.blocks))), 1.5)


@pytest.mark.parametrize("seed", range(8))
def test_the_front_is_that_of_all_networks(seed: int) -> None:
    landscape, cost = Landscape.drawn(SMALL, seed), cost_of(seed)
    losses = ChainLosses(landscape, cost, noisy=False)(EVERY)
    true = losses[is_nondominated(losses, keep_duplicates=False)]
    codes, found = exact_front(landscape, cost, bins=20_000)
    assert found == pytest.approx(ChainLosses(landscape, cost, noisy=False)(codes))
    assert found[np.argsort(found[:, 1])] == pytest.approx(true[np.argsort(true[:, 1])])
    coarse = exact_front(landscape, cost, bins=60)[1]
    reference = losses.max(axis=0) + 1
    assert 0.95 * hypervolume(true, reference) <= hypervolume(coarse, reference) <= hypervolume(true, reference) + 1e-9


def test_no_search_finds_more_than_the_front_of_the_large_space() -> None:
    space = ChainSpace(22)
    landscape, cost = Landscape.drawn(space, 3), cost_of(3, space)
    codes, front = exact_front(landscape, cost)
    assert len(codes) > 100
    assert (np.diff(front[:, 1]) > 0).all()
    assert (np.diff(front[:, 0]) < 0).all()
    rng = np.random.default_rng(0)
    near = codes[rng.integers(0, len(codes), 3000)]
    losses = ChainLosses(landscape, cost, noisy=False)(space.mutate(near, rng))
    reference = np.array([100 - LOW, front[:, 1].max() * 1.1])
    both = hypervolume(np.concatenate([front, losses]), reference)
    assert both == pytest.approx(hypervolume(front, reference), rel=1e-3)


def test_the_formula_layer_by_layer() -> None:
    landscape = Landscape.drawn(SMALL, 4)
    for code in EVERY[::17].tolist():
        z = sum(landscape.values[layer, block] for layer, block in enumerate(code))
        z += sum(landscape.pairs[layer, a, b] for layer, (a, b) in enumerate(itertools.pairwise(code)))
        expected = LOW + (HIGH - LOW) * (1 - np.exp(-max(z, 0) / landscape.scale))
        assert landscape.accuracy(np.array([code]))[0] == pytest.approx(expected)


def test_capacities_have_diminishing_returns() -> None:
    at = {block.name: block.capacity for block in FBNET}
    assert at["skip"] == 0 < at["k3_e1_g2"] < at["k3_e1"] < at["k3_e3"] < at["k3_e6"] < at["k5_e6"]
    gains = [(at["k3_e6"] - at["k3_e3"]) / 3, (at["k3_e3"] - at["k3_e1"]) / 2, at["k3_e1"]]
    assert gains == sorted(gains), "for one more expansion"


def test_seeds_make_landscapes_and_noise_belongs_to_a_network() -> None:
    space = ChainSpace(22)
    codes = space.sample(400, np.random.default_rng(0))
    first, again, other = (Landscape.drawn(space, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.accuracy(codes), again.accuracy(codes))
    ranks = [np.argsort(np.argsort(one.accuracy(codes))).astype(float) for one in (first, other)]
    assert np.corrcoef(np.stack(ranks))[0, 1] < 0.8
    noise = first.measured_accuracy(codes) - first.accuracy(codes)
    assert noise.std() == pytest.approx(NOISE, rel=0.15)
    assert np.array_equal(first.measured_accuracy(codes[5:7]), first.measured_accuracy(codes)[5:7])


def test_a_fitted_cost_is_that_of_an_additive_device() -> None:
    space, cost = ChainSpace(6), ChainCost(np.random.default_rng(0).gamma(2.0, size=(6, 9)), 2.0)
    rng = np.random.default_rng(1)
    codes = space.sample(600, rng)
    fitted = ChainCost.fitted(codes, cost(codes), 9, ridge=1e-6)
    unseen = space.sample(100, rng)
    assert fitted(unseen) == pytest.approx(cost(unseen), rel=1e-6)
    with pytest.raises(DataError, match="must be positive"):
        ChainCost.fitted(codes, cost(codes) - 20, 9)


def test_the_space_keeps_its_promises_and_its_cost_is_known() -> None:
    space = ChainSpace(22)
    assert space.size == 9**22 > 10**15
    check_space(space, np.random.default_rng(0))
    with pytest.raises(ValueError, match="22 names"):
        space.encode({"blocks": ["skip"]})
    cost = cost_of(0, space)
    codes = space.sample(5, np.random.default_rng(0))
    foreseen = ChainForesight(space, cost)(codes)
    assert np.isnan(foreseen.losses[:, 0]).all()
    assert foreseen.losses[:, 1] == pytest.approx(cost(codes))
    assert foreseen.features.shape == (5, 22 * 9)
