"""The agents of the lottery: what each does, that it is an honest strategy, and that it searches better than chance."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.errors import InputError
from codesign.pareto import hypervolume
from codesign.plugins import options_class
from codesign.registry import lookup
from codesign.strategies.annealing import Annealing
from codesign.strategies.ant_colony import FLOOR, AntColony
from codesign.strategies.evolution import RegularizedEvolution
from codesign.strategies.genetic import Genetic
from codesign.strategies.nsga2 import Nsga2
from codesign.strategies.random import Random
from codesign.strategies.random_walk import RandomWalk
from codesign.strategies.sampler_optuna import OptunaSampler
from codesign.strategies.strategy import Strategy, declared_settings
from codesign.testing.strategies import ListedSpace, MixedSpace, check_strategy
from search_spaces.ops import IntArray
from search_spaces.space import Choice

FloatArray = NDArray[np.float64]
Build = Callable[..., Strategy]

AGENTS: dict[str, Build] = {
    "random-walk": RandomWalk,
    "random-walk, far": partial(RandomWalk, step_size=3, restart_probability=0.0),
    "genetic": Genetic,
    "genetic, soon warm": partial(Genetic, population_size=6, elite_share=0.0),
    "ant-colony": AntColony,
    "ant-colony, soon warm": partial(AntColony, ants=3, elite=0, depth=1.0, greediness=0.8),
    "annealing": Annealing,
    "annealing, soon warm": partial(Annealing, warm_up=2, cooling=0.5, initial_temperature=0.3),
}
SEARCHERS: dict[str, Build] = {"genetic": Genetic, "ant-colony": AntColony, "annealing": Annealing}


def integers(d: int, k: int) -> ListedSpace:
    return ListedSpace(*(Choice(f"c{i}", tuple(range(k))) for i in range(d)))


@pytest.mark.parametrize("name", AGENTS)
def test_agents_keep_the_contract(name: str) -> None:
    objectives = (1,) if "," in name else (2,)
    check_strategy(AGENTS[name], n_objectives=objectives, n_calls=30, n_cuts=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_agents_keep_the_contract_for_other_numbers_of_objectives(name: str) -> None:
    check_strategy(AGENTS[name], n_calls=120)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (RandomWalk, {"step_size": 0}, "step_size: 0 is not allowed; use a number from 1"),
        (RandomWalk, {"restart": 0.1}, "did you mean 'restart_probability'"),
        (RandomWalk, {"restart_probability": 1.1}, "restart_probability: 1.1"),
        (Genetic, {"population_size": 1}, "population_size: 1 is not allowed; use a number from 2"),
        (Genetic, {"tournament_size": 0}, "tournament_size: 0"),
        (Genetic, {"crossover_probability": -1}, "crossover_probability: -1"),
        (Genetic, {"mutation_probability": float("nan")}, "mutation_probability: nan"),
        (Genetic, {"elite_share": 1.0}, "elite_share: 1.0"),
        (AntColony, {"ants": 0}, "ants: 0"),
        (AntColony, {"evaporation": 0.0}, "evaporation: 0.0"),
        (AntColony, {"greediness": 2}, "greediness: 2"),
        (AntColony, {"elite": -1}, "elite: -1"),
        (AntColony, {"depth": 0.0}, "depth: 0.0"),
        (Annealing, {"initial_temperature": float("inf")}, "initial_temperature: inf"),
        (Annealing, {"cooling": 1.0}, "cooling: 1.0"),
        (Annealing, {"lowest_temperature": 0.5}, "lowest_temperature: 0.5 .* at most initial_temperature"),
        (Annealing, {"step_size": 0}, "step_size: 0"),
        (Annealing, {"warm_up": 0}, "warm_up: 0"),
    ],
)
def test_wrong_options(build: Build, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(MixedSpace(), 2, 0, **options)


@pytest.mark.parametrize(
    "build", [Random, RandomWalk, Genetic, AntColony, Annealing, RegularizedEvolution, Nsga2, OptunaSampler]
)
def test_declared_settings_are_allowed_and_hold_more_than_one(build: type) -> None:
    declared = declared_settings(options_class(build))
    assert (build is Random) == (not declared)
    for option, values in declared.items():
        assert len(values) == len({json.dumps(value) for value in values}) >= 2, option
        for value in values:
            build(MixedSpace(), 1, 0, **{option: value})


def test_every_agent_is_registered() -> None:
    for name in ("random-walk", "genetic", "ant-colony", "annealing"):
        assert isinstance(lookup("strategies", name)(MixedSpace(), 1, 0).ask(1), np.ndarray)


# --- the random walk


def test_a_walk_goes_a_step_at_a_time_and_restarts_as_often_as_told() -> None:
    space = integers(30, 8)
    steps = np.abs(np.sign(np.diff(RandomWalk(space, 1, 0, restart_probability=0.0).ask(300), axis=0))).sum(axis=1)
    assert (steps == 1).all()
    steps = np.abs(np.sign(np.diff(RandomWalk(space, 1, 0, restart_probability=0.2).ask(1000), axis=0))).sum(axis=1)
    assert 0.15 < (steps > 5).mean() < 0.25  # standard error 0.013


def test_a_walk_does_not_look_at_results() -> None:
    space = integers(6, 8)
    first, second = RandomWalk(space, 1, 0), RandomWalk(space, 1, 0)
    codes = first.ask(20)
    second.ask(20)
    first.tell(codes, np.arange(20.0)[:, None], np.zeros(20))
    second.tell(codes, -np.arange(20.0)[:, None], np.ones(20))
    np.testing.assert_array_equal(first.ask(20), second.ask(20))


# --- the genetic algorithm


def tell_line(strategy: Strategy, first: int, losses: list[float], violations: list[float] | None = None) -> None:
    codes = np.arange(first, first + len(losses))[:, None]
    strategy.tell(codes, np.array(losses)[:, None], np.array(violations or [0.0] * len(losses)))


def members(strategy: Genetic | AntColony | Annealing) -> list[int]:
    return sorted(strategy._state.population.codes[:, 0].tolist())


def test_a_generation_replaces_all_but_the_elite() -> None:
    strategy = Genetic(integers(1, 30), 1, 0, population_size=5, elite_share=0.4)
    tell_line(strategy, 0, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert members(strategy) == [0, 1, 2, 3, 4]
    tell_line(strategy, 5, [9.0, 8.0])
    assert members(strategy) == [0, 1, 2, 3, 4]  # the generation is not complete
    tell_line(strategy, 7, [7.0])
    assert members(strategy) == [0, 1, 5, 6, 7]  # worse ones than 2, 3, 4, and yet they take over
    tell_line(strategy, 8, [0.5, 9.0, 9.5, 9.9])
    assert members(strategy) == [0, 1, 8, 9, 10]  # one more than there is room for


def test_failed_and_infeasible_ones_never_beat_a_feasible_one() -> None:
    strategy = Genetic(integers(1, 30), 1, 0, population_size=4, elite_share=0.5, tournament_size=60)
    tell_line(strategy, 0, [5.0, 6.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.1, 0.2, np.inf])
    assert members(strategy) == [0, 1, 2, 3]  # the failed one is no member
    strategy.options = type(strategy.options)(4, 60, 0.0, 0.0, 0.5)
    assert (strategy._breed(20) == 0).all()  # of such a tournament the best of all wins
    tell_line(strategy, 10, [0.0, 0.0], [0.01, 0.02])
    assert members(strategy) == [0, 1, 10, 11]


def test_mutation_strikes_each_decision_with_its_probability() -> None:
    space = integers(40, 8)
    strategy = Genetic(space, 1, 0, population_size=2, crossover_probability=0.0, mutation_probability=0.1)
    strategy.tell(np.repeat([[0], [1]], 40, axis=1), np.array([[0.0], [0.0]]), np.zeros(2))
    children = strategy._breed(500)
    base = np.where((children == 0).sum(axis=1) > 20, 0, 1)[:, None]
    assert 0.08 < (children != base).mean() < 0.11  # a decision may be struck twice, and may so come back


# --- the ant colony


def test_pheromone_is_a_distribution_above_its_floor() -> None:
    space = MixedSpace()
    strategy = AntColony(space, 2, 0, ants=4, evaporation=1.0, elite=1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        codes = strategy.ask(4)
        strategy.tell(codes, rng.random((4, 2)), np.zeros(4))
    assert strategy._pheromone.shape == (8, 6, 6)
    np.testing.assert_allclose(strategy._pheromone.sum(axis=2), 1)
    exists = np.arange(6) < space.n_options[:, None]
    assert (strategy._pheromone[:, ~exists] == 0).all()
    low = (FLOOR / space.n_options)[:, None] / (1 + FLOOR)  # the floor is laid before the sum is made 1
    assert (strategy._pheromone >= np.where(exists, low, 0)).all()


def test_evaporation_and_laying_by_hand() -> None:
    """Hyper-cube framework: (1 - rho) old + rho x the layers' shares; here the best ant is the elite too."""
    strategy = AntColony(integers(1, 4), 1, 0, ants=2, evaporation=0.4, elite=1)
    tell_line(strategy, 1, [5.0, 1.0])
    np.testing.assert_allclose(strategy._pheromone[0, 0], [0.15, 0.15, 0.55, 0.15])
    tell_line(strategy, 0, [9.0, 9.5])  # the best ant lays on 0, the elite on 2, half each
    np.testing.assert_allclose(strategy._pheromone[0, 0], [0.29, 0.09, 0.53, 0.09])
    assert members(strategy) == [2]


def test_greedy_ants_follow_the_strongest_trail_and_others_draw() -> None:
    space = integers(3, 8)
    strategy = AntColony(space, 1, 0, ants=1, depth=1.0, greediness=1.0, elite=0)
    strategy.tell(np.array([[5, 6, 7]]), np.zeros((1, 1)), np.zeros(1))
    assert (strategy._walk(20) == [5, 6, 7]).all()
    strategy.options = type(strategy.options)(1, 0.2, 0.0, 0, 1.0)
    drawn = strategy._walk(4000)
    np.testing.assert_allclose((drawn == [5, 6, 7]).mean(axis=0), 0.3, atol=0.03)  # 0.8 / 8 + 0.2


def test_depth_is_the_share_of_decisions_that_an_ant_makes_itself() -> None:
    space = integers(10, 8)
    strategy = AntColony(space, 1, 0, ants=1, depth=0.3, greediness=0.0, evaporation=0.01, elite=1)
    best = np.full((1, 10), 3)
    strategy.tell(best, np.zeros((1, 1)), np.zeros(1))
    changed = (strategy._walk(500) != 3).sum(axis=1)
    assert changed.max() == 3


def test_failed_ants_lay_nothing_and_infeasible_ones_no_more_than_feasible_ones() -> None:
    strategy = AntColony(integers(1, 8), 1, 0, ants=2, elite=1)
    tell_line(strategy, 0, [0.0, 0.0], [np.inf, np.inf])
    assert strategy._n_iterations == 0
    tell_line(strategy, 2, [0.0, 7.0], [0.1, 0.0])
    assert members(strategy) == [3]
    assert strategy._pheromone[0, 0].argmax() == 3


# --- annealing


def test_metropolis_by_hand() -> None:
    """A worse neighbour is taken with probability exp(-(worse - current) / temperature)."""
    strategy = Annealing(integers(1, 8), 1, 0, warm_up=3, initial_temperature=0.5)
    tell_line(strategy, 0, [2.0, 4.0, 6.0])  # scalars 0, 1/2, 2/3
    here = strategy._current
    assert here.codes.tolist() == [[0]]
    worse = strategy._state.population.take(np.array([1]))
    taken = 0
    for _ in range(800):
        strategy._current = here
        strategy._consider(worse)
        taken += int(strategy._current.codes[0, 0] == 1)
    assert abs(taken / 800 - np.exp(-0.5 / 0.5)) < 0.06  # standard error 0.017


def test_it_cools_with_every_result_and_is_reheated_from_the_best() -> None:
    strategy = Annealing(
        integers(1, 30), 1, 0, warm_up=2, initial_temperature=0.1, cooling=0.5, lowest_temperature=0.02
    )
    tell_line(strategy, 0, [5.0, 6.0])
    assert strategy._temperature == 0.1
    tell_line(strategy, 2, [9.0, 9.0])
    assert strategy._temperature == pytest.approx(0.025)
    strategy._current = strategy._state.population.take(np.array([3]))
    tell_line(strategy, 4, [9.0])
    assert strategy._temperature == 0.1
    assert strategy._current.codes.tolist() == [[0]]


def test_neighbours_lie_within_the_step() -> None:
    space = integers(30, 8)
    strategy = Annealing(space, 1, 0, warm_up=1, step_size=3)
    strategy.tell(np.zeros((1, 30), dtype=np.int64), np.zeros((1, 1)), np.zeros(1))
    n_changed = (strategy.ask(300) != 0).sum(axis=1)
    assert n_changed.min() == 1
    assert set(n_changed.tolist()) <= {1, 2, 3}
    assert (n_changed == 3).mean() > 0.2


# --- searching


def smooth(seed: int, n: int, batch: int, build: Build) -> float:
    """Best of n evaluations of a separable problem of 10^6 points: squared distance to a hidden point."""
    strategy = build(integers(6, 10), 1, seed)
    hidden = np.random.default_rng([seed, 1]).integers(0, 10, 6)
    best = np.inf
    for _ in range(0, n, batch):
        codes = strategy.ask(batch)
        losses = (((codes - hidden) / 9) ** 2).mean(axis=1)
        strategy.tell(codes, losses[:, None], np.zeros(batch))
        best = min(best, float(losses.min()))
    return best


def two_losses(seed: int, n: int, batch: int, build: Build) -> float:
    """Hypervolume after n evaluations of two losses at odds, under a budget."""
    strategy = build(integers(12, 8), 2, seed)
    losses, violations = np.zeros((n, 2)), np.zeros(n)
    for start in range(0, n, batch):
        rows = slice(start, start + batch)
        codes = strategy.ask(batch)
        x = codes / 7
        losses[rows] = np.stack([(x**2).mean(axis=1), ((1 - x) ** 2).mean(axis=1)], axis=1)
        violations[rows] = np.maximum(0.0, (codes[:, :6].sum(axis=1) - 14) / 14)
        unknown = np.where(violations[rows, None] > 0, np.nan, losses[rows])
        strategy.tell(codes, unknown, violations[rows])
    return hypervolume(losses, np.ones(2), violations)


@pytest.mark.parametrize("name", SEARCHERS)
def test_agents_beat_random_search_on_a_smooth_problem(name: str) -> None:
    """A blind random walk does not: its points are correlated, so it sees less of the space than independent draws."""
    found = [smooth(seed, 300, 10, SEARCHERS[name]) for seed in range(10)]
    chance = [smooth(seed, 300, 10, Random) for seed in range(10)]
    assert np.median(found) < 0.4 * np.median(chance), (found, chance)
    assert sum(a < b for a, b in zip(found, chance, strict=True)) >= 9, (found, chance)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHERS)
def test_agents_beat_random_search_with_two_objectives_and_a_budget(name: str) -> None:
    found = [two_losses(seed, 300, 10, SEARCHERS[name]) for seed in range(8)]
    chance = [two_losses(seed, 300, 10, Random) for seed in range(8)]
    assert np.median(found) > np.median(chance) + 0.01, (found, chance)
    assert sum(a > b for a, b in zip(found, chance, strict=True)) >= 7, (found, chance)


def test_violations_are_descended_before_anything_is_feasible() -> None:
    space = integers(12, 8)
    for build in SEARCHERS.values():
        strategy: Strategy = build(space, 2, 0)
        best = []
        for _ in range(40):
            codes: IntArray = strategy.ask(10)
            violations = codes.sum(axis=1) / 5.0
            strategy.tell(codes, np.full((10, 2), np.nan), violations)
            best.append(violations.min())
        assert min(best) < 0.35 * best[0]


def test_a_state_stays_small() -> None:
    space = integers(20, 8)
    for build in (RandomWalk, Genetic, AntColony, Annealing):
        strategy: Strategy = build(space, 2, 0)
        for _ in range(3):
            codes = strategy.ask(600)
            strategy.tell(codes, np.random.default_rng(0).random((600, 2)), np.zeros(600))
        assert len(json.dumps(strategy.state_dict())) < 60_000


def test_agents_load_no_heavy_library() -> None:
    modules = "random_walk, codesign.strategies.genetic, codesign.strategies.ant_colony, codesign.strategies.annealing"
    code = (
        f"import sys; import codesign.strategies.{modules};"
        "assert not {'torch', 'optuna', 'moocore', 'pandas', 'scipy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
