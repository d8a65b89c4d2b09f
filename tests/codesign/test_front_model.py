"""The model behind `pool`: it finds what moves the front, and it makes the search better."""

from __future__ import annotations

import numpy as np

from codesign.pareto import hypervolume
from codesign.strategies.front_model import promising
from codesign.strategies.local_search import ParetoLocalSearch
from codesign.strategies.population import Population
from codesign.strategies.strategy import FloatArray
from codesign.testing.strategies import check_strategy
from search_spaces.ops import IntArray
from tests.codesign.test_strategies import integers

SPANS = np.full(6, 5.0)


def products(codes: IntArray) -> FloatArray:
    """Time falls and area grows with the product of two sides: what arrays of PEs cost."""
    sides = 2.0 ** codes[:, :2]
    return np.stack([1e4 / sides.prod(axis=1) + codes[:, 2:].sum(axis=1), sides.prod(axis=1)], axis=1)


def results(codes: IntArray, violations: FloatArray | None = None) -> Population:
    n = len(codes)
    return Population(codes, products(codes), np.zeros(n) if violations is None else violations, np.zeros(n, np.int64))


def test_the_chosen_move_the_front_more_than_random_ones() -> None:
    space = integers(6, 6)
    reference = np.array([1.1e4, 1100.0])
    shares = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        known, pool = space.sample(120, rng), space.sample(400, rng)
        chosen = pool[promising(pool, results(known), 10, SPANS)]
        random = pool[:10]
        gains = [hypervolume(products(np.concatenate([known, more])), reference) for more in (chosen, random)]
        shares.append(gains[0] / gains[1])
        assert len(np.unique(chosen, axis=0)) == 10
    assert np.mean(shares) > 1


def test_candidates_expected_over_budget_come_last() -> None:
    space = integers(6, 6)
    rng = np.random.default_rng(0)
    known, pool = space.sample(300, rng), space.sample(200, rng)
    over = np.maximum(known[:, 0] - 2.0, 0.0)  # a budget on the first decision
    chosen = pool[promising(pool, results(known, over), 30, SPANS)]
    assert (chosen[:, 0] <= 2).mean() > 0.9
    assert (pool[:, 0] <= 2).mean() < 0.6


def test_an_empty_pool_and_a_single_result() -> None:
    space = integers(6, 6)
    codes = space.sample(5, np.random.default_rng(0))
    assert promising(codes[:0], results(codes), 3, SPANS).shape == (0,)
    assert sorted(promising(codes, results(codes[:1]), 9, SPANS)) == [0, 1, 2, 3, 4]


def test_the_search_with_a_pool_keeps_the_contract_and_finds_more() -> None:
    check_strategy(lambda *arguments, **options: ParetoLocalSearch(*arguments, **{"pool": 4, **options}))
    gains = []
    for seed in range(6):
        found = []
        for pool in (1, 8):
            strategy = ParetoLocalSearch(integers(8, 6), 2, seed, pool=pool)
            losses = []
            for _ in range(12):
                codes = strategy.ask(20)
                losses.append(np.log(products(codes)))
                strategy.tell(codes, losses[-1], np.zeros(20))
            found.append(hypervolume(np.concatenate(losses), np.log(np.array([1.1e4, 1100.0]))))
        gains.append(found[1] / found[0])
    assert np.mean(gains) > 1.002
