"""The default strategy: what it promises like every other, and what only it does."""

from __future__ import annotations

import json
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

from codesign.errors import InputError
from codesign.pareto import hypervolume
from codesign.strategies.auto import Auto
from codesign.strategies.foresight import Foreseen
from codesign.strategies.nsga2 import Nsga2
from codesign.strategies.random import Random
from codesign.strategies.strategy import FloatArray, Strategy
from codesign.testing.strategies import ListedSpace, check_strategy
from search_spaces.ops import IntArray
from search_spaces.space import Choice, SearchSpace

ROOMY = ListedSpace(*(Choice(f"block {i}", ("none", "thin", "wide", "skip")) for i in range(6)))
HUGE = ListedSpace(*(Choice(f"block {i}", ("none", "thin", "wide", "skip", "pool")) for i in range(26)))
assert HUGE.size > 10**18


def width(codes: IntArray) -> FloatArray:
    return np.array([0.0, 1.0, 3.0, 0.2, 0.3])[codes]


def error(codes: IntArray) -> FloatArray:
    """Falls with width, more so where neighbours have some too; noise that is the candidate's own."""
    found = width(codes)
    total = np.sqrt(found).sum(axis=1) + 0.4 * np.sqrt(found[:, 1:] * found[:, :-1]).sum(axis=1)
    luck = np.sin(codes @ np.arange(1, codes.shape[1] + 1) * 12.9898) * 0.2
    return np.asarray(60 * np.exp(-total / codes.shape[1]) + luck)


def cost(codes: IntArray) -> FloatArray:
    return np.asarray(1.0 + (width(codes) * np.linspace(0.5, 1.5, codes.shape[1])).sum(axis=1))


def losses_of(codes: IntArray) -> FloatArray:
    return np.stack([error(codes), cost(codes)], axis=1)


class KnowsCost:
    """Knows the second loss, and a budget on it."""

    def __init__(self, space: SearchSpace, budget: float = np.inf, prior: bool = False, m: int = 2) -> None:
        self._space, self._budget, self._prior, self._m = space, budget, prior, m

    @property
    def limits(self) -> FloatArray:
        return np.array([np.inf, self._budget])[: self._m]

    @property
    def prior_of(self) -> tuple[int, ...]:
        return (0,) if self._prior else ()

    def __call__(self, codes: IntArray) -> Foreseen:
        known = np.stack([np.full(len(codes), np.nan), cost(codes)], axis=1)[:, : self._m]
        priors = error(codes)[:, None] ** 2 if self._prior else np.zeros((len(codes), 0))
        over = np.maximum(cost(codes) - self._budget, 0.0)
        return Foreseen(known, over, self._space.features(codes), priors)


def search(strategy: Strategy, n: int, at_work: int = 1) -> IntArray:
    """The codes of `n` evaluations in the order of their results, with so many at work at once."""
    rng = np.random.default_rng(0)
    waiting: list[IntArray] = []
    done: list[IntArray] = []
    while len(done) < n:
        while len(waiting) < at_work:
            waiting.append(strategy.ask(1))
        codes = waiting.pop(int(rng.integers(len(waiting))))
        strategy.tell(codes, losses_of(codes), np.zeros(1))
        done.append(codes[0])
    return np.array(done)


def share_of_front(codes: IntArray) -> float:
    everyone = losses_of(np.array(list(product(range(4), repeat=6))))
    scale = np.stack([everyone[:, 0], np.log(everyone[:, 1])], axis=1)
    reference = np.array([float(np.median(scale[:, 0])), float(scale[:, 1].max())])
    found = losses_of(codes)
    found[:, 1] = np.log(found[:, 1])
    return hypervolume(found, reference) / hypervolume(scale, reference)


def test_keeps_the_promises_of_a_strategy() -> None:
    check_strategy(partial(Auto, start=5), n_objectives=(2,), n_calls=16, n_cuts=2)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"start": 4, "pool": 64}])
def test_keeps_all_the_promises_for_long(options: dict[str, Any]) -> None:
    check_strategy(partial(Auto, **options), n_calls=30, n_cuts=3)


@pytest.mark.parametrize(
    ("space", "knows"),
    [(ROOMY, True), *(pytest.param(HUGE, knows, marks=pytest.mark.slow) for knows in (True, False))],
)
def test_resumes_bit_for_bit(space: SearchSpace, knows: bool) -> None:
    foresight = KnowsCost(space, budget=22.0) if knows else None
    make = partial(Auto, space, 2, foresight=foresight, start=6, pool=300)
    strategy = make(3)
    states, proposals = [], []
    for step in range(16):
        states.append(json.dumps(strategy.state_dict(), allow_nan=False))
        codes = strategy.ask(1 + step % 3)
        proposals.append(codes)
        strategy.tell(codes[:2], losses_of(codes[:2]), np.zeros(len(codes[:2])))
    for cut in (1, 9, 15):
        resumed = make(99)
        resumed.load_state_dict(json.loads(states[cut]))
        assert json.dumps(resumed.state_dict()) == states[cut]
        for step in range(cut, 16):
            codes = resumed.ask(1 + step % 3)
            np.testing.assert_array_equal(codes, proposals[step])
            resumed.tell(codes[:2], losses_of(codes[:2]), np.zeros(len(codes[:2])))


def test_finds_the_front_sooner_than_random_and_nsga2() -> None:
    """On the median of three seeds; the space has 4,096 candidates."""
    shares = {}
    makes: dict[str, Any] = {"auto": partial(Auto, foresight=KnowsCost(ROOMY)), "nsga2": Nsga2, "random": Random}
    for name, make in makes.items():
        shares[name] = float(np.median([share_of_front(search(make(ROOMY, 2, seed), 50)) for seed in range(3)]))
    assert shares["auto"] > 0.9
    assert shares["auto"] > max(shares["nsga2"], shares["random"]) + 0.1


@pytest.mark.slow
def test_workers_cost_little() -> None:
    made = [Auto(ROOMY, 2, seed, foresight=KnowsCost(ROOMY)) for seed in range(3)]
    alone = [share_of_front(search(strategy, 80)) for strategy in made]
    made = [Auto(ROOMY, 2, seed, foresight=KnowsCost(ROOMY)) for seed in range(3)]
    together = [share_of_front(search(strategy, 80, at_work=8)) for strategy in made]
    assert float(np.median(together)) > float(np.median(alone)) - 0.03


@pytest.mark.slow
def test_large_space_without_foresight_beats_nsga2() -> None:
    reference = np.array([60.0, np.log(60.0)])
    found = {}
    makes: dict[str, Any] = {"auto": Auto, "nsga2": Nsga2}
    for name, make in makes.items():
        volumes = []
        for seed in range(3):
            losses = losses_of(search(make(HUGE, 2, seed), 120))
            losses[:, 1] = np.log(losses[:, 1])
            volumes.append(hypervolume(losses, reference))
        found[name] = float(np.median(volumes))
    assert found["auto"] > 1.05 * found["nsga2"]


@pytest.mark.parametrize("space", [ROOMY, HUGE])
def test_never_proposes_what_is_foreseen_over_budget(space: SearchSpace) -> None:
    budget = float(np.quantile(cost(space.sample(2000, np.random.default_rng(0))), 0.05))
    strategy = Auto(space, 2, 0, foresight=KnowsCost(space, budget), start=5, pool=300)
    codes = search(strategy, 25)
    assert (cost(codes) <= budget).all()
    assert len(np.unique(codes, axis=0)) == len(codes)


def test_what_is_known_of_a_pool_is_computed_once() -> None:
    asked: list[int] = []

    class Counts(KnowsCost):
        def __call__(self, codes: IntArray) -> Foreseen:
            asked.append(len(codes))
            return super().__call__(codes)

    strategy = Auto(HUGE, 2, 0, foresight=Counts(HUGE, budget=22.0), start=6, pool=1_000)
    for _ in range(7):  # the models are first asked with the seventh
        del asked[:]
        codes = strategy.ask(1)
        strategy.tell(codes, losses_of(codes), np.zeros(1))
    assert len([n for n in asked if n > 100]) == 2  # a pool around the best, and one around what the models like


def test_nothing_within_budget_is_approached_not_refused() -> None:
    strategy = Auto(ROOMY, 2, 0, foresight=KnowsCost(ROOMY, budget=0.5), start=5)
    codes = strategy.ask(4)
    assert sorted(cost(codes)) == sorted(cost(np.array(list(product(range(4), repeat=6)))))[:4]


def test_one_loss_is_minimised() -> None:
    strategy = Auto(ROOMY, 1, 0, start=6)
    best = np.inf
    for _ in range(40):
        codes = strategy.ask(1)
        best = min(best, float(error(codes)[0]))
        strategy.tell(codes, error(codes)[:, None], np.zeros(1))
    everyone = np.sort(error(np.array(list(product(range(4), repeat=6)))))
    assert best <= everyone[3]


def test_unforeseen_violations_are_learned() -> None:
    """Every candidate with a wide first block fails; half of a random draw of good ones would."""
    strategy = Auto(ROOMY, 2, 1, foresight=KnowsCost(ROOMY), start=8)
    failed = []
    for _ in range(45):
        codes = strategy.ask(1)
        fails = codes[:, 0] == 2
        failed.append(bool(fails[0]))
        losses = losses_of(codes)
        losses[fails] = np.nan
        strategy.tell(codes, losses, np.where(fails, np.inf, 0.0))
    assert np.mean(failed[25:]) < 0.2


def test_proposals_under_way_are_not_repeated() -> None:
    strategy = Auto(ROOMY, 2, 0, foresight=KnowsCost(ROOMY), start=6)
    search(strategy, 20)
    batches = [strategy.ask(n) for n in (1, 7, 40)]
    codes = np.vstack(batches)
    assert len(np.unique(codes, axis=0)) == len(codes)


def test_forecast_is_exact_where_known_and_told_before() -> None:
    strategy = Auto(ROOMY, 2, 0, foresight=KnowsCost(ROOMY), start=10)
    assert strategy.forecast(ROOMY.sample(3, np.random.default_rng(0))) is None
    assert not strategy.uses_model
    search(strategy, 60)
    assert strategy.uses_model
    codes = ROOMY.sample(300, np.random.default_rng(5))
    forecast = strategy.forecast(codes)
    assert forecast is not None
    np.testing.assert_array_equal(forecast[:, 1], cost(codes))
    good = error(codes) < np.median(error(codes))
    assert np.corrcoef(forecast[good, 0], error(codes)[good])[0, 1] > 0.6


def test_a_prior_from_elsewhere_helps_from_the_start() -> None:
    def first(prior: bool) -> float:
        found = [
            share_of_front(search(Auto(ROOMY, 2, seed, foresight=KnowsCost(ROOMY, prior=prior)), 18))
            for seed in range(3)
        ]
        return float(np.median(found))

    assert first(prior=True) > first(prior=False) + 0.02


def test_noise_is_not_mistaken_for_skill() -> None:
    rng = np.random.default_rng(0)
    strategy = Auto(ROOMY, 1, 0, start=10)
    for _ in range(40):
        codes = strategy.ask(1)
        strategy.tell(codes, rng.standard_normal((1, 1)), np.zeros(1))
    fits = strategy.state_dict()["base"]
    assert fits is not None
    assert abs(strategy._base.fits[0].skill) < 0.6  # type: ignore[union-attr]


def test_everything_known_needs_no_model() -> None:
    class KnowsAll(KnowsCost):
        def __call__(self, codes: IntArray) -> Foreseen:
            n = len(codes)
            return Foreseen(losses_of(codes), np.zeros(n), self._space.features(codes), np.zeros((n, 0)))

    strategy = Auto(ROOMY, 2, 0, foresight=KnowsAll(ROOMY))
    assert share_of_front(search(strategy, 30)) > 0.95
    assert not strategy.uses_model


@pytest.mark.parametrize(("option", "value"), [("start", 0), ("pool", 3), ("pol", 100)])
def test_bad_options_are_refused(option: str, value: int) -> None:
    given: dict[str, Any] = {option: value}
    with pytest.raises(InputError, match=option):
        Auto(ROOMY, 2, 0, **given)
