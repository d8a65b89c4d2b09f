from __future__ import annotations

import json
import logging
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray

from codesign.errors import InputError
from codesign.strategies.history_optuna import Status
from codesign.strategies.make_sampler_optuna import SAMPLERS
from codesign.strategies.sampler_optuna import OptunaOptions, OptunaSampler
from codesign.testing.strategies import ListedSpace, MixedSpace, SortedSpace, check_strategy
from search_spaces.ops import IntArray
from search_spaces.space import Choice

FloatArray = NDArray[np.float64]

CASES: dict[str, tuple[str, dict[str, object]]] = {
    "random": ("random", {}),
    "nsga2": ("nsga2", {"population_size": 6}),
    "nsga3": ("nsga3", {"population_size": 6, "dividing_parameter": 2}),
    "qmc": ("qmc", {}),
    "halton": ("qmc", {"qmc_type": "halton", "scramble": False}),
    "brute_force": ("brute_force", {}),
    "tpe": ("tpe", {"n_startup_trials": 4}),
    "tpe, in groups": ("tpe", {"n_startup_trials": 4, "group": True, "constant_liar": False}),
}


def integers(d: int, k: int) -> ListedSpace:
    return ListedSpace(*(Choice(f"c{i}", tuple(range(k))) for i in range(d)))


def make(case: str) -> Any:
    sampler, options = CASES[case]
    return partial(OptunaSampler, sampler=sampler, sampler_options=options)


@pytest.mark.parametrize("case", CASES)
def test_samplers_keep_the_contract(case: str) -> None:
    check_strategy(make(case), n_objectives=(2,), n_calls=24, n_cuts=3)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_samplers_keep_the_contract_for_other_numbers_of_objectives(case: str) -> None:
    check_strategy(make(case), n_objectives=(1, 3), n_calls=24, n_cuts=2)


@pytest.mark.slow
@pytest.mark.torch
def test_the_gaussian_process_goes_on_from_a_state() -> None:
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        space = MixedSpace()
        build = partial(OptunaSampler, space, 2, sampler="gp", sampler_options={"n_startup_trials": 4})
        strategy = build(0)
        codes = strategy.ask(6)
        losses, violations = codes[:, :2].astype(np.float64), codes[:, 5] / 10
        losses[1], violations[1] = np.nan, np.inf
        strategy.tell(codes[:5], losses[:5], violations[:5])
        before = torch.random.get_rng_state()
        resumed = build(1)
        resumed.load_state_dict(json.loads(json.dumps(strategy.state_dict(), allow_nan=False)))
        first, second = strategy.ask(2), strategy.ask(1)
        assert space.valid(first).all()
        np.testing.assert_array_equal(resumed.ask(2), first)
        np.testing.assert_array_equal(resumed.ask(1), second)
        assert torch.equal(torch.random.get_rng_state(), before)
    finally:
        torch.set_num_threads(n_threads)


def test_all_samplers_are_tried() -> None:
    assert {sampler for sampler, _ in CASES.values()} | {"gp"} == set(SAMPLERS)


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("brute-force", {}, "sampler: 'brute-force' is not one of .* did you mean 'brute_force'"),
        ("cmaes", {}, "sampler: 'cmaes' is not one of"),
        ("tpe", {"n_startup": 3}, "sampler_options of tpe: 'n_startup' .* did you mean 'n_startup_trials'"),
        ("random", {"seed": 3}, "sampler_options of random: 'seed' is not one of nothing"),
        ("tpe", {"n_startup_trials": 2.5}, "sampler_options.n_startup_trials: 2.5 is not allowed; use a whole number"),
        ("tpe", {"n_startup_trials": True}, "use a whole number"),
        ("tpe", {"n_ei_candidates": 0}, "use a number from 1"),
        ("tpe", {"multivariate": 1}, "use true or false"),
        ("tpe", {"multivariate": False, "group": True}, "sampler_options of tpe: .*multivariate"),
        ("nsga2", {"population_size": 1}, "sampler_options of nsga2: .*population_size"),
        ("nsga2", {"mutation_prob": 2}, "sampler_options of nsga2: .*mutation_prob"),
        ("qmc", {"qmc_type": "lattice"}, "sampler_options of qmc"),
    ],
)
def test_wrong_options(sampler: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OptunaOptions(sampler, options)


def test_seeds_and_repeated_draws_differ() -> None:
    first = OptunaSampler(integers(8, 8), 1, 0, sampler="random").ask(20)
    assert len(np.unique(first, axis=0)) == 20
    second = OptunaSampler(integers(8, 8), 1, 1, sampler="random").ask(20)
    assert not (first == second).all(axis=1).any()


def quadratic(codes: IntArray) -> FloatArray:
    return np.asarray(((codes - 5) ** 2).sum(axis=1, keepdims=True), dtype=np.float64)


def best_of(sampler: str, seed: int, limit: float, n: int = 50) -> float:
    """Best feasible loss after n evaluations of six decisions with eight ordered options."""
    strategy = OptunaSampler(integers(6, 8), 1, seed, sampler=sampler)
    best = np.inf
    for _ in range(n):
        codes = strategy.ask(1)
        losses = quadratic(codes)
        violations = np.maximum(0.0, codes.sum(axis=1) - limit) / 10
        strategy.tell(codes, np.where(violations[:, None] > 0, np.nan, losses), violations)
        best = min(best, float(losses[0, 0]) if violations[0] == 0 else np.inf)
    return best


def test_tpe_learns_from_losses_and_from_violations() -> None:
    learnt = [best_of("tpe", seed, limit=20.0) for seed in range(3)]
    drawn = [best_of("random", seed, limit=20.0) for seed in range(3)]
    assert np.median(learnt) < np.median(drawn)


def test_numbers_become_integers_and_names_categories() -> None:
    trial = _trials(OptunaSampler(MixedSpace(), 1, 0))[0]
    kinds = {name: type(distribution).__name__ for name, distribution in trial.distributions.items()}
    assert kinds == {
        "x0000": "IntDistribution",  # 1, 2, 3, 4
        "x0001": "IntDistribution",
        "x0002": "CategoricalDistribution",  # names
        "x0004": "IntDistribution",  # 7, 5, 3
        "x0005": "CategoricalDistribution",  # numbers in no order
    }


def _trials(strategy: OptunaSampler) -> list[optuna.trial.FrozenTrial]:
    if not strategy._history.records:
        strategy.ask(1)
    return strategy._history._study.get_trials(deepcopy=False)


def test_optuna_sees_violations_failures_and_missing_losses() -> None:
    strategy = OptunaSampler(integers(2, 8), 2, 0, sampler="random")
    codes = np.arange(10).reshape(5, 2) % 8
    strategy.tell(codes[:1], np.full((1, 2), np.nan), np.array([0.5]))
    losses = np.array([[1.0, 10.0], [3.0, 20.0], [np.nan, np.nan], [7.0, np.nan]])
    strategy.tell(codes[1:], losses, np.array([0.0, 0.0, np.inf, 0.25]))
    trials = _trials(strategy)
    assert [trial.values for trial in trials] == [[2, 15], [1, 10], [3, 20], [2, 15], [7, 15]]
    assert [trial.constraints["violation"] for trial in trials] == [0.5, 0.0, 0.0, 1.5, 0.25]
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}


def test_without_violations_there_are_no_constraints_and_the_first_brings_them_to_all() -> None:
    strategy = OptunaSampler(integers(2, 8), 1, 0, sampler="random")
    codes = strategy.ask(3)
    strategy.tell(codes[:1], np.ones((1, 1)), np.zeros(1))
    assert [trial.constraints for trial in _trials(strategy)] == [{}, {}, {}]
    strategy.tell(codes[1:2], np.ones((1, 1)), np.ones(1))
    assert [trial.constraints for trial in _trials(strategy)] == [{"violation": 0.0}, {"violation": 1.0}, {}]
    states = [trial.state.name for trial in _trials(strategy)]
    assert states == ["COMPLETE", "COMPLETE", "RUNNING"]


def test_a_sequence_goes_on_when_constraints_come_in() -> None:
    strategy = OptunaSampler(integers(6, 8), 1, 0, sampler="qmc")
    codes = strategy.ask(8)
    strategy.tell(codes, quadratic(codes), np.zeros(8))
    codes = strategy.ask(8)
    strategy.tell(codes, quadratic(codes), np.ones(8))
    strategy.ask(8)
    drawn = np.array([record.code for record in strategy._history.records])
    assert len(drawn) == len(np.unique(drawn, axis=0)) == 24  # a sequence begun anew would repeat


def test_a_known_draw_is_told_with_its_known_result() -> None:
    strategy = OptunaSampler(integers(1, 4), 1, 0, sampler="random")
    codes = strategy.ask(4)
    strategy.tell(codes, quadratic(codes), np.array([0.0, 0.0, 0.25, np.inf]))
    records = strategy._history.records
    n_before = len(records)
    first = {int(record.code[0]): record for record in records if record.status is Status.TOLD}
    strategy.ask(3)
    assert len(records) > n_before
    for record in records[n_before:]:
        known = first[int(record.code[0])]
        assert (record.losses.tolist(), record.violation) == (known.losses.tolist(), known.violation)
        assert record.status is Status.TOLD


def test_a_trial_that_is_never_told_is_given_up() -> None:
    strategy = OptunaSampler(integers(6, 8), 1, 0, sampler="random")
    lost = strategy.ask(1)
    for _ in range(70):
        codes = strategy.ask(1)
        strategy.tell(codes, quadratic(codes), np.zeros(1))
    assert strategy._history.records[0].status is Status.DROPPED
    assert _trials(strategy)[0].state is optuna.trial.TrialState.FAIL
    strategy.tell(lost, quadratic(lost), np.zeros(1))  # late, and still welcome
    assert strategy._history.records[-1].status is Status.TOLD


def test_results_of_candidates_that_were_never_asked_for_become_parents() -> None:
    """Optuna's genetic samplers look at trials of their generations alone."""
    strategy = OptunaSampler(integers(6, 8), 1, 0, sampler="nsga2", sampler_options={"population_size": 10})
    known = np.tile(np.arange(10)[:, None] % 2 + 3, (1, 6))
    known[:, 0] = np.arange(10) % 8
    strategy.tell(np.unique(known, axis=0), quadratic(np.unique(known, axis=0)), np.zeros(8))
    strategy.tell(known[:2] + 1, quadratic(known[:2] + 1), np.zeros(2))
    children = strategy.ask(20)
    assert np.isin(children[:, 1:], (3, 4, 5)).mean() > 0.75  # 3 of 8 options by chance


def test_equal_candidates_share_their_trial() -> None:
    """The study tells canonical codes: a trial asked for with another kernel is found all the same."""
    strategy = OptunaSampler(MixedSpace(), 1, 0, sampler="random")
    codes = strategy.ask(12)
    canonical = MixedSpace().canonical(codes)
    assert (codes != canonical).any()
    strategy.tell(canonical, np.zeros((12, 1)), np.zeros(12))
    assert [record.status for record in strategy._history.records].count(Status.OPEN) == 0


def test_invalid_draws_count_as_failed() -> None:
    strategy = OptunaSampler(SortedSpace(), 1, 0, sampler="random")
    codes = strategy.ask(20)
    assert SortedSpace().valid(codes).all()
    drawn = np.array([record.code for record in strategy._history.records])
    invalid = ~SortedSpace().valid(drawn)
    assert invalid.any()
    assert all(strategy._history.records[i].violation >= 1 for i in np.flatnonzero(invalid))


def test_a_state_is_strict_json() -> None:
    strategy = OptunaSampler(integers(6, 8), 2, 0, sampler="nsga2", sampler_options={"population_size": 4})
    for _ in range(6):
        codes = strategy.ask(3)
        strategy.tell(codes[:2], np.array([[1.0, 2.0], [np.nan, np.nan]]), np.array([0.0, np.inf]))
    json.dumps(strategy.state_dict(), allow_nan=False)


def test_nothing_is_logged_and_verbosity_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(logging.INFO)
    strategy = OptunaSampler(integers(3, 4), 2, 0, sampler="qmc")
    strategy.load_state_dict(strategy.state_dict())
    strategy.ask(3)
    assert optuna.logging.get_verbosity() == logging.INFO
    assert capfd.readouterr() == ("", "")


def test_tpe_does_not_load_torch() -> None:
    code = (
        "import sys; from codesign.strategies.sampler_optuna import OptunaSampler;"
        "from codesign.testing.strategies import MixedSpace; OptunaSampler(MixedSpace(), 2, 0).ask(12);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
