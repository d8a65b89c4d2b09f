from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from codesign.errors import InputError  # noqa: E402
from codesign.strategies.ppo_torch import Ppo  # noqa: E402
from codesign.strategies.random import Random  # noqa: E402
from codesign.strategies.strategy import declared_settings  # noqa: E402
from codesign.testing.strategies import ListedSpace, MixedSpace, check_strategy  # noqa: E402
from search_spaces.space import Choice  # noqa: E402
from tests.codesign.test_agents import smooth, two_losses  # noqa: E402

pytestmark = pytest.mark.torch


def integers(d: int, k: int) -> ListedSpace:
    return ListedSpace(*(Choice(f"c{i}", tuple(range(k))) for i in range(d)))


@pytest.mark.parametrize("rollout", [2, 16])
def test_it_keeps_the_contract(rollout: int) -> None:
    check_strategy(lambda *args: Ppo(*args, rollout=rollout, epochs=2), n_objectives=(1, 3), n_calls=40, n_cuts=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate: 0.0"),
        ({"rollout": 1}, "rollout: 1 is not allowed; use a number from 2"),
        ({"epochs": 0}, "epochs: 0"),
        ({"clip": 1.0}, "clip: 1.0"),
        ({"entropy": -1}, "entropy: -1"),
        ({"hidden": 0}, "hidden: 0"),
        ({"lr": 0.1}, "option: 'lr' is not one of"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ppo(MixedSpace(), 1, 0, **options)


def test_declared_settings_are_allowed() -> None:
    for option, values in declared_settings(Ppo.Options).items():
        for value in values:
            Ppo(MixedSpace(), 1, 0, **{option: value})


def test_a_resumed_search_has_the_same_bits_after_further_updates() -> None:
    space = integers(6, 8)
    strategy = Ppo(space, 2, 0, rollout=8)

    def go_on(searcher: Ppo, n: int) -> None:
        for _ in range(n):
            codes = searcher.ask(3)
            searcher.tell(codes, np.stack([codes.sum(axis=1), -codes[:, 0]], axis=1).astype(float), np.zeros(3))

    go_on(strategy, 7)
    resumed = Ppo(space, 2, 1, rollout=8)
    resumed.load_state_dict(json.loads(json.dumps(strategy.state_dict(), allow_nan=False)))
    go_on(strategy, 9)
    go_on(resumed, 9)
    assert json.dumps(resumed.state_dict()) == json.dumps(strategy.state_dict())


def test_the_first_policy_is_near_uniform_and_draws_no_option_that_is_not_there() -> None:
    space = MixedSpace()
    strategy = Ppo(space, 1, 0)
    with torch.no_grad():
        probabilities = strategy._net(torch.ones((1, 1), dtype=torch.float64))[0][0].exp().numpy()
    exists = np.arange(6) < space.n_options[:, None]
    assert (probabilities[~exists] == 0).all()
    np.testing.assert_allclose(probabilities, np.where(exists, 1 / space.n_options[:, None], 0), atol=0.02)


def test_an_update_makes_the_better_half_likelier() -> None:
    space = integers(2, 8)
    strategy = Ppo(space, 1, 0, rollout=16, entropy=0.0)
    good = 0
    for _ in range(12):
        codes = strategy.ask(16)
        good = int((codes[:, 0] < 4).sum())
        strategy.tell(codes, (codes[:, :1] >= 4).astype(float), np.zeros(16))
        strategy._state._memory._is_told.clear()  # of 64 candidates nothing may repeat: here it may
    assert good >= 14


def test_only_proposals_of_the_policy_enter_its_rollouts() -> None:
    strategy = Ppo(integers(4, 8), 1, 0, rollout=4)
    foreign = integers(4, 8).sample(20, np.random.default_rng(1))
    before = json.dumps(strategy.state_dict()["network"])
    strategy.tell(foreign, np.arange(20.0)[:, None], np.zeros(20))
    assert json.dumps(strategy.state_dict()["network"]) == before
    codes = strategy.ask(4)
    strategy.tell(codes, np.arange(4.0)[:, None], np.zeros(4))
    assert json.dumps(strategy.state_dict()["network"]) != before


def test_the_caller_keeps_its_threads_and_its_random_state() -> None:
    n_threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    strategy = Ppo(integers(4, 8), 1, 0, rollout=2)
    codes = strategy.ask(8)
    strategy.tell(codes, np.arange(8.0)[:, None], np.zeros(8))
    assert torch.get_num_threads() == n_threads
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
def test_it_beats_random_search() -> None:
    found = [smooth(seed, 300, 10, Ppo) for seed in range(10)]
    chance = [smooth(seed, 300, 10, Random) for seed in range(10)]
    assert np.median(found) < 0.5 * np.median(chance), (found, chance)
    assert sum(a < b for a, b in zip(found, chance, strict=True)) >= 9, (found, chance)


@pytest.mark.slow
def test_it_beats_random_search_with_two_objectives_and_a_budget() -> None:
    found = [two_losses(seed, 300, 10, Ppo) for seed in range(6)]
    chance = [two_losses(seed, 300, 10, Random) for seed in range(6)]
    assert np.median(found) > np.median(chance) + 0.01, (found, chance)


def test_it_is_registered_and_torch_is_loaded_for_it_alone() -> None:
    code = (
        "import sys; from codesign.registry import lookup, names; assert 'ppo' in names('strategies');"
        "lookup('strategies', 'genetic'); assert 'torch' not in sys.modules; lookup('strategies', 'ppo');"
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
