from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.errors import InputError, StoreError
from codesign.pareto import hypervolume
from codesign.registry import lookup, names
from codesign.strategies.evolution import RegularizedEvolution
from codesign.strategies.nsga2 import Nsga2
from codesign.strategies.population import Population
from codesign.strategies.random import Random
from codesign.strategies.strategy import Strategy, check_told, pack, unpack
from codesign.testing.strategies import ListedSpace, MixedSpace, SortedSpace, check_strategy
from search_spaces.ops import IntArray
from search_spaces.space import Choice

FloatArray = NDArray[np.float64]
Build = Callable[..., Strategy]

LIGHT: dict[str, Build] = {
    "random": Random,
    "evolution": RegularizedEvolution,
    "evolution, soon warm": partial(RegularizedEvolution, population_size=6, crossover_probability=0.5),
    "nsga2": Nsga2,
    "nsga2, soon warm": partial(Nsga2, population_size=6, mutation_probability=0.5),
}


def integers(d: int, k: int) -> ListedSpace:
    return ListedSpace(*(Choice(f"c{i}", tuple(range(k))) for i in range(d)))


def two_losses(codes: IntArray) -> FloatArray:
    """Separable and at odds: small decisions please the first, large ones the second."""
    x = codes / 7
    return np.stack([(x**2).mean(axis=1), ((1 - x) ** 2).mean(axis=1)], axis=1)


@pytest.mark.parametrize("build", LIGHT.values(), ids=LIGHT)
def test_strategies_keep_the_contract(build: Build) -> None:
    check_strategy(build)


def test_every_registered_strategy_describes_its_options() -> None:
    for name in names("strategies"):
        if name in ("random", "evolution", "nsga2", "optuna"):
            assert is_dataclass(lookup("strategies", name).Options)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (Random, {"size": 3}, "option: 'size' is not one of nothing"),
        (RegularizedEvolution, {"population": 3}, "did you mean 'population_size'"),
        (RegularizedEvolution, {"population_size": 0}, "population_size: 0 is not allowed; use a number from 1"),
        (RegularizedEvolution, {"sample_size": 0}, "sample_size: 0"),
        (RegularizedEvolution, {"crossover_probability": 1.5}, "crossover_probability: 1.5"),
        (Nsga2, {"population_size": 1}, "population_size: 1 is not allowed; use a number from 2"),
        (Nsga2, {"mutation_probability": -0.1}, "mutation_probability: -0.1"),
        (Nsga2, {"crossover_probability": float("nan")}, "crossover_probability: nan"),
    ],
)
def test_wrong_options(build: Build, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(MixedSpace(), 2, 0, **options)


def test_results_are_checked_and_copied() -> None:
    space = integers(2, 3)
    codes = np.array([[0, 1], [2, 2], [1, 1], [0, 0], [1, 0]])
    losses = np.array([[0.0], [np.nan], [np.inf], [np.nan], [2.0]])
    told = check_told(space, 1, codes, losses, np.array([0.0, 0.5, 0.0, 0.0, np.nan]))
    assert told.violations.tolist() == [0.0, 0.5, np.inf, np.inf, np.inf]
    assert not np.shares_memory(told.losses, losses)
    with pytest.raises(ValueError, match=r"losses \(5, 1\)"):
        check_told(space, 2, codes, losses, np.zeros(5))
    with pytest.raises(ValueError, match=r"violations \(4,\)"):
        check_told(space, 1, codes, losses, np.zeros(4))
    with pytest.raises(ValueError, match="row 1 of codes"):
        check_told(space, 1, np.array([[0, 0], [0, 3]]), np.zeros((2, 1)), np.zeros(2))


@pytest.mark.parametrize(
    "array", [np.array([[1.5, np.nan], [-np.inf, -0.0]]), np.zeros((0, 3), np.int64), np.array([True])]
)
def test_arrays_survive_json(array: NDArray[np.float64]) -> None:
    again = unpack(json.loads(json.dumps(pack(array), allow_nan=False)))
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert again.flags.writeable


def test_a_state_of_another_strategy_is_refused() -> None:
    state = Random(MixedSpace(), 2, 0).state_dict()
    with pytest.raises(StoreError, match="strategy 'random', this search has 'evolution'"):
        RegularizedEvolution(MixedSpace(), 2, 0).load_state_dict(state)


def told_population(strategy: RegularizedEvolution | Nsga2) -> Population:
    return strategy._state.population


def test_evolution_lets_the_oldest_die() -> None:
    """Real et al. 2019, Algorithm 1: the best candidate dies of age like any other."""
    space = integers(3, 8)
    strategy = RegularizedEvolution(space, 1, 0, population_size=4)
    for i in range(7):
        strategy.tell(np.array([[i, 0, 0]]), np.array([[float(i)]]), np.zeros(1))
    assert told_population(strategy).codes[:, 0].tolist() == [3, 4, 5, 6]
    strategy.tell(np.array([[7, 0, 0]]), np.array([[np.nan]]), np.array([np.inf]))
    assert told_population(strategy).codes[:, 0].tolist() == [3, 4, 5, 6]  # a failed one moves nobody


def test_failed_candidates_are_no_members() -> None:
    for build in (RegularizedEvolution, Nsga2):
        strategy = build(integers(1, 8), 1, 0)
        strategy.tell(np.array([[1], [2], [3]]), np.array([[np.nan], [1.0], [np.nan]]), np.array([np.inf, 0.0, 0.5]))
        assert told_population(strategy).codes.tolist() == [[2], [3]]


def test_evolution_keeps_the_best_part_of_a_batch_that_does_not_fit() -> None:
    strategy = RegularizedEvolution(integers(1, 8), 1, 0, population_size=3)
    strategy.tell(np.arange(5)[:, None], np.array([[3.0], [1.0], [4.0], [0.0], [5.0]]), np.zeros(5))
    assert told_population(strategy).codes[:, 0].tolist() == [0, 1, 3]
    strategy.tell(np.array([[5], [6]]), np.array([[9.0], [8.0]]), np.zeros(2))
    assert told_population(strategy).codes[:, 0].tolist() == [3, 5, 6]


def test_candidates_over_budget_do_not_drive_feasible_ones_out_of_the_evolution() -> None:
    strategy = RegularizedEvolution(integers(1, 8), 1, 0, population_size=3)
    strategy.tell(np.array([[0], [1]]), np.array([[3.0], [1.0]]), np.zeros(2))
    strategy.tell(np.arange(2, 8)[:, None], np.full((6, 1), np.nan), np.array([0.6, 0.5, 0.4, 0.3, 0.2, 0.7]))
    assert told_population(strategy).codes[:, 0].tolist() == [0, 1, 6]


def test_evolution_mutates_winners_in_one_decision() -> None:
    space = integers(12, 8)
    strategy = RegularizedEvolution(space, 1, 0, population_size=5, sample_size=40)
    members = space.sample(5, np.random.default_rng(0))
    strategy.tell(members, np.arange(5.0)[::-1, None], np.zeros(5))
    children = strategy.ask(5)
    assert ((children != members[4]).sum(axis=1) == 1).all()  # a tournament of 40 always finds the best of 5


def test_nsga2_keeps_the_elite() -> None:
    """Deb et al. 2002: feasible before infeasible, then rank, then crowding; the ends of the front survive."""
    strategy = Nsga2(integers(1, 10), 2, 0, population_size=4)
    front = np.array([[0.0, 10.0], [1.0, 9.0], [1.1, 8.9], [6.0, 4.0], [10.0, 0.0]])
    strategy.tell(np.arange(5)[:, None], front, np.zeros(5))
    assert told_population(strategy).codes[:, 0].tolist() == [0, 2, 3, 4]
    strategy.tell(
        np.array([[5], [6], [7]]), np.array([[-1.0, -1.0], [11.0, 11.0], [np.nan] * 2]), np.array([0.1, 0, np.inf])
    )
    assert told_population(strategy).codes[:, 0].tolist() == [0, 2, 3, 4]
    strategy.tell(np.array([[8]]), np.array([[5.0, 3.0]]), np.zeros(1))  # dominates 3
    assert told_population(strategy).codes[:, 0].tolist() == [0, 2, 4, 8]


def test_nsga2_keeps_one_of_equal_candidates_the_newest() -> None:
    strategy = Nsga2(MixedSpace(), 1, 0, population_size=4)
    pooling = [0, 0, 1, 0, 0, 0]
    same = [0, 0, 1, 0, 2, 0]  # the kernel of a pooling means nothing
    strategy.tell(np.array([pooling, [1, 1, 1, 0, 0, 0]]), np.array([[1.0], [3.0]]), np.zeros(2))
    strategy.tell(np.array([same, [1, 0, 1, 0, 0, 0]]), np.array([[2.0], [4.0]]), np.zeros(2))
    assert told_population(strategy).losses.tolist() == [[3.0], [2.0], [4.0]]


def test_nsga2_children_mix_their_parents() -> None:
    space = integers(10, 8)
    strategy = Nsga2(space, 2, 0, population_size=2, mutation_probability=0.0)
    parents = np.array([[0] * 10, [7] * 10])
    strategy.tell(parents, two_losses(parents), np.zeros(2))
    children = strategy.ask(50)
    from_parents = np.isin(children, (0, 7)).mean()
    assert from_parents > 0.9  # all but what was mutated because it repeated
    zeros, sevens = ((children == option).sum(axis=1) for option in (0, 7))
    assert ((zeros >= 2) & (sevens >= 2)).mean() > 0.3  # half of the pairs have two different parents
    assert 0.6 < zeros.sum() / sevens.sum() < 1.6  # neither of two equals is preferred
    assert len(np.unique(children, axis=0)) == 50


def test_violations_are_descended_before_anything_is_feasible() -> None:
    space = integers(12, 8)
    for build in (RegularizedEvolution, Nsga2):
        strategy: Strategy = build(space, 2, 0)
        best = []
        for _ in range(40):
            codes = strategy.ask(10)
            violations = codes.sum(axis=1) / 5.0
            strategy.tell(codes, np.full((10, 2), np.nan), violations)
            best.append(violations.min())
        assert min(best) < 0.35 * best[0]


def run(build: Build, seed: int, constrained: bool, n: int = 300, batch: int = 5) -> float:
    """Hypervolume after n evaluations of 12 decisions with 8 options."""
    strategy = build(integers(12, 8), 2, seed)
    losses, violations = np.zeros((n, 2)), np.zeros(n)
    for start in range(0, n, batch):
        rows = slice(start, start + batch)
        codes = strategy.ask(batch)
        losses[rows] = two_losses(codes)
        if constrained:
            violations[rows] = np.maximum(0.0, (codes[:, :6].sum(axis=1) - 10) / 10)
        unknown = np.where(violations[rows, None] > 0, np.nan, losses[rows])
        strategy.tell(codes, unknown, violations[rows])
    return hypervolume(losses, np.ones(2), violations)


@pytest.mark.parametrize("constrained", [False, True], ids=["free", "with a budget"])
def test_searching_beats_random_search(constrained: bool) -> None:
    reached = {
        build.__name__: [run(build, seed, constrained) for seed in range(10)]
        for build in (Random, RegularizedEvolution, Nsga2)
    }
    for name in ("RegularizedEvolution", "Nsga2"):
        gain = 0.01 if not constrained else 0.05
        assert np.median(reached[name]) > np.median(reached["Random"]) + gain, (name, reached)
        wins = sum(a > b for a, b in zip(reached[name], reached["Random"], strict=True))
        assert wins >= 8, (name, reached)


def test_random_search_is_uniform_and_repeats_nothing_lately_seen() -> None:
    space = integers(2, 50)
    strategy = Random(space, 1, 0)
    codes = np.concatenate([strategy.ask(50) for _ in range(16)])
    assert len(np.unique(codes, axis=0)) == 800
    np.testing.assert_allclose(codes.mean(axis=0), 24.5, atol=2.5)  # standard error 0.5


def test_an_exhausted_space_offers_what_was_not_told() -> None:
    space = integers(2, 3)
    for build in (Random, RegularizedEvolution, Nsga2):
        strategy: Strategy = build(space, 1, 0)
        everything = strategy.ask(9)
        assert len(np.unique(everything, axis=0)) == 9
        strategy.tell(everything[:8], np.zeros((8, 1)), np.zeros(8))
        for n in (1, 4, 1):
            assert everything[8].tolist() in strategy.ask(n).tolist()  # asked for, but never told
        strategy.tell(everything[8:], np.zeros((1, 1)), np.zeros(1))
        assert strategy.ask(4).shape == (4, 2)


def test_invalid_children_are_replaced() -> None:
    space = SortedSpace()
    strategy = Nsga2(space, 2, 0, population_size=4, crossover_probability=1.0)
    members = space.sample(40, np.random.default_rng(1))
    strategy.tell(members, np.random.default_rng(2).random((40, 2)), np.zeros(40))
    assert space.valid(strategy.ask(200)).all()


def test_a_state_stays_small() -> None:
    space = integers(20, 8)
    for build in (Random, RegularizedEvolution, Nsga2):
        strategy: Strategy = build(space, 2, 0)
        for _ in range(5):
            codes = strategy.ask(1000)
            strategy.tell(codes, two_losses(codes), np.zeros(1000))
        assert len(json.dumps(strategy.state_dict())) < 30_000


@pytest.mark.parametrize(("build", "limit_us"), [(Random, 20), (RegularizedEvolution, 20), (Nsga2, 50)])
def test_a_candidate_costs_microseconds(build: Build, limit_us: float) -> None:
    strategy = build(integers(20, 8), 2, 0)
    best = np.inf
    for _ in range(4):
        start = time.process_time()
        codes = strategy.ask(1000)
        losses = two_losses(codes)
        strategy.tell(codes, losses, np.zeros(1000))
        best = min(best, time.process_time() - start)
    assert best * 1e6 / 1000 < limit_us


def test_light_strategies_load_no_heavy_library() -> None:
    code = (
        "import sys; import codesign.strategies.random, codesign.strategies.evolution, codesign.strategies.nsga2;"
        "assert not {'torch', 'optuna', 'moocore', 'pandas', 'scipy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
