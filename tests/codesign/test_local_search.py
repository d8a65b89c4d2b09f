"""Pareto local search: the contract, and what it finds beside random search."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.errors import InputError
from codesign.pareto import hypervolume
from codesign.strategies.local_search import ParetoLocalSearch
from codesign.strategies.random import Random
from codesign.strategies.strategy import FloatArray
from codesign.testing.strategies import check_strategy
from search_spaces.ops import IntArray
from tests.codesign.test_strategies import integers, two_losses

SEEDS = range(8)


def found(build: type, seed: int, budget: float = np.inf, evaluations: int = 300) -> tuple[FloatArray, FloatArray]:
    """Losses and violations of everything a strategy asked for, in batches of 20."""
    strategy = build(integers(10, 8), 2, seed)
    losses, violations = [], []
    for _ in range(evaluations // 20):
        codes: IntArray = strategy.ask(20)
        losses.append(two_losses(codes))
        violations.append(np.maximum(codes.sum(axis=1) - budget, 0.0))
        strategy.tell(codes, losses[-1], violations[-1])
    return np.concatenate(losses), np.concatenate(violations)


def test_it_keeps_the_contract() -> None:
    check_strategy(ParetoLocalSearch)


def test_it_finds_a_larger_front_than_random_search_on_every_seed() -> None:
    reference = np.array([1.0, 1.0])
    gains = []
    for seed in SEEDS:
        ours, random = (hypervolume(found(b, seed)[0], reference) for b in (ParetoLocalSearch, Random))
        gains.append(ours - random)
    assert min(gains) > 0
    assert np.mean(gains) > 0.02


def test_it_finds_the_way_into_the_budget() -> None:
    """Sums of ten numbers of 0..7 are below 12 once in 40,000 candidates."""
    for seed in SEEDS:
        losses, violations = found(ParetoLocalSearch, seed, budget=12.0)
        assert (violations == 0).sum() > 30
        assert (found(Random, seed, budget=12.0)[1] == 0).sum() < 3
        assert np.isfinite(losses).all()


@pytest.mark.parametrize(("option", "value"), [("start", 0), ("capacity", 0), ("crossover_probability", 1.5)])
def test_wrong_options(option: str, value: float) -> None:
    with pytest.raises(InputError, match=option):
        ParetoLocalSearch(integers(2, 3), 2, 0, **{option: value})
