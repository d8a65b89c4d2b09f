"""What the light strategies find on a table of cells, and the parts that decide which candidate becomes a parent."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from codesign.compare_score import Score
from codesign.errors import InputError
from codesign.pareto import default_reference, hypervolume
from codesign.strategies.evolution import RegularizedEvolution
from codesign.strategies.local_search import ParetoLocalSearch
from codesign.strategies.nsga2 import Nsga2
from codesign.strategies.population import Population
from codesign.strategies.random import Random
from codesign.strategies.scalar import hypervolume_values, sphere_directions
from codesign.strategies.strategy import FloatArray, Strategy
from codesign.testing.strategies import ListedSpace, check_strategy
from search_spaces.ops import IntArray
from search_spaces.space import Choice

SPACE = ListedSpace(*(Choice(f"edge{i}", ("none", "skip", "narrow", "wide", "pool")) for i in range(6)))
RADIX = 5 ** np.arange(6)[::-1]
Make = Callable[..., Strategy]
HYPERVOLUME = partial(RegularizedEvolution, scalarization="hypervolume", sample_size=50)
FAMILY: dict[str, Make] = {
    "evolution": RegularizedEvolution,
    "evolution, hypervolume": HYPERVOLUME,
    "nsga2": Nsga2,
    "local-search": ParetoLocalSearch,
}


def cells() -> FloatArray:
    """Error and cost of all 5^6 cells: costs add up, accuracy saturates, needs a path and knows pairs of operations."""
    codes = np.stack(np.unravel_index(np.arange(5**6), (5,) * 6), axis=1)
    cost = 1 + np.array([0.0, 0.1, 1.0, 3.0, 0.6])[codes].sum(axis=1)
    worth = np.array([0.0, 0.5, 1.2, 2.0, 0.3])[codes]
    pairs = np.random.default_rng(3).normal(0, 0.25, (6, 6, 5, 5))
    bond = sum(pairs[i, j][codes[:, i], codes[:, j]] for i in range(6) for j in range(i))
    has_path = (codes[:, 3] > 0) | ((codes[:, 0] > 0) & (codes[:, 4] > 0)) | ((codes[:, 1] > 0) & (codes[:, 5] > 0))
    quality = worth @ np.array([1.0, 0.8, 0.6, 1.2, 0.9, 0.7]) + bond
    return np.stack([np.where(has_path, 70 * np.exp(-0.12 * quality), 90.0), cost], axis=1)


TABLE = cells()


def visited(make: Make, seed: int, n: int, over: FloatArray | None = None, columns: int = 2) -> IntArray:
    """Rows of the first n cells within the budget that a strategy asks for, one at a time."""
    strategy = make(SPACE, columns, seed)
    violations = np.zeros(len(TABLE)) if over is None else over
    rows: dict[int, None] = {}
    for _ in range(20 * n):
        code = strategy.ask(1)
        row = int((code @ RADIX)[0])
        losses = TABLE[[row], :columns] if violations[row] == 0 else np.full((1, columns), np.nan)
        strategy.tell(code, losses, violations[[row]])
        if violations[row] == 0:
            rows[row] = None
        if len(rows) == n:
            break
    return np.array(list(rows))


SCORE = Score.of_table(TABLE)


def share(rows: IntArray) -> float:
    """Normalised hypervolume found over that of the exact front."""
    return float(SCORE(TABLE[rows])[-1])


SEEDS = range(8)


@pytest.fixture(scope="module")
def blind() -> list[IntArray]:
    return [visited(Random, seed, 120) for seed in SEEDS]


@pytest.mark.parametrize("name", FAMILY)
def test_each_finds_more_of_the_front_than_random_search(name: str, blind: list[IntArray]) -> None:
    shares = [share(visited(FAMILY[name], seed, 120)) for seed in SEEDS]
    random = [share(rows) for rows in blind]
    assert np.median(shares) > np.median(random) + 0.06, (name, shares, random)


@pytest.mark.parametrize("name", FAMILY)
def test_each_finds_a_more_accurate_cell_within_a_budget_than_random_search(name: str) -> None:
    """One objective and a limit that some of the cells keep; those over it are told without a loss."""
    over = np.maximum(0.0, TABLE[:, 1] - 6) / 6
    best = TABLE[over == 0, 0].min()
    regrets = [TABLE[visited(FAMILY[name], seed, 150, over, 1), 0].min() - best for seed in SEEDS]
    random = [TABLE[visited(Random, seed, 150, over, 1), 0].min() - best for seed in SEEDS]
    assert np.mean(regrets) < 0.7 * np.mean(random), (name, regrets, random)


def test_a_single_objective_climbs_on_where_one_neighbourhood_is_known() -> None:
    """Best first: every neighbour of the best is proposed before any of the next best, none twice."""
    strategy = ParetoLocalSearch(SPACE, 1, 0, start=2)
    members = np.array([[3] * 6, [0] * 6])
    strategy.tell(members, np.array([[0.0], [1.0]]), np.zeros(2))
    asked = []
    for _ in range(8):
        codes = strategy.ask(4)
        strategy.tell(codes, np.full((4, 1), 5.0), np.zeros(4))
        asked.append(codes)
    steps = (np.concatenate(asked)[:, None] != members).sum(axis=2)
    assert (steps[:24, 0] == 1).sum() >= 23  # of 6 x 4 neighbours; draws may take the last for known
    assert (steps[25:, 1] == 1).all()
    assert len(np.unique(np.concatenate(asked), axis=0)) == 32


def test_evolution_with_hypervolume_keeps_the_contract() -> None:
    check_strategy(partial(RegularizedEvolution, scalarization="hypervolume", population_size=8), n_calls=30)


@pytest.mark.parametrize(("option", "value"), [("start", 0), ("scalarization", "chebyshev")])
def test_wrong_options_of_evolution(option: str, value: object) -> None:
    with pytest.raises(InputError, match=option):
        RegularizedEvolution(SPACE, 2, 0, **{option: value})


def test_evolution_breeds_once_it_has_started() -> None:
    strategy = RegularizedEvolution(SPACE, 2, 0, start=3, population_size=50)
    for _ in range(3):
        assert strategy.draws_at_random
        code = strategy.ask(1)
        strategy.tell(code, TABLE[code @ RADIX], np.zeros(1))
    assert not strategy.draws_at_random
    parents = strategy._state.population.codes
    assert ((strategy.ask(20)[:, None] != parents).sum(axis=2).min(axis=1) <= 2).all()


def test_chance_decides_within_a_front() -> None:
    """The larger crowding distance would always choose one of the two ends."""
    x = np.linspace(0, 1, 10)
    members = Population(np.arange(10)[:, None], np.stack([x, 1 - x], axis=1), np.zeros(10), np.zeros(10, np.int64))
    rng = np.random.default_rng(0)
    by_rank = np.bincount(members.rank_tournament(5000, 4, rng), minlength=10)
    by_crowding = np.bincount(members.tournament(5000, 4, rng), minlength=10)
    assert by_rank.min() > 400
    assert by_crowding[[0, 9]].sum() > 2500


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_mean_over_directions_is_the_hypervolume(m: int) -> None:
    """Golovin and Zhang 2020, lemma 5: volume = c E[max_y min_j (y_j / d_j)^m], c = pi^(m/2) / (2^m Gamma(m/2 + 1))."""
    rng = np.random.default_rng(m)
    losses = rng.random((9, m))
    reference, low = default_reference(losses), losses.min(axis=0)
    values = hypervolume_values(losses, np.zeros(9), sphere_directions(60_000, m, rng)).max(axis=1)
    constant = math.pi ** (m / 2) / (2**m * math.gamma(m / 2 + 1))
    expected = hypervolume(losses, reference) / np.prod(reference - low)
    assert constant * (values**m).mean() == pytest.approx(expected, rel=0.02)


def test_hypervolume_values_put_feasible_ones_first_and_respect_dominance() -> None:
    rng = np.random.default_rng(0)
    losses = rng.random((30, 2)).round(1)
    violations = np.where(rng.random(30) < 0.4, 1e-6 + rng.random(30), 0.0)
    losses[violations > 0] = np.nan
    values = hypervolume_values(losses, violations, sphere_directions(50, 2, rng))
    assert np.isfinite(values).all()
    within = violations == 0
    assert values[:, within].min() > values[:, ~within].max()
    assert (np.argsort(-values[0, ~within]) == np.argsort(violations[~within])).all()
    for i in np.flatnonzero(within):
        dominated = within & (losses >= losses[i]).all(axis=1)
        assert (values[:, dominated] <= values[:, [i]] + 1e-12).all()
    nobody = hypervolume_values(np.full((3, 2), np.nan), np.array([0.3, 0.1, 0.2]), sphere_directions(4, 2, rng))
    assert (nobody.argmax(axis=1) == 1).all()


def test_directions_are_of_unit_length_and_uniform() -> None:
    directions = sphere_directions(20_000, 2, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    angles = np.arctan2(directions[:, 1], directions[:, 0])
    np.testing.assert_allclose(np.histogram(angles, bins=4, range=(0, math.pi / 2))[0] / 20_000, 0.25, atol=0.02)
    assert (sphere_directions(5, 1, np.random.default_rng(0)) == 1).all()
