"""What an earlier search tells of a metric: the model, its file, and the columns that strategies get."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from codesign.errors import DataError
from codesign.trial import FloatArray
from codesign.warm_start import ALONE, priors_of
from codesign.warm_start_files import MANIFEST, STORED, load_learned, save_learned
from codesign.warm_start_model import Learned, describe, kendall, learn


def truth(columns: FloatArray) -> FloatArray:
    return np.asarray(np.tanh(columns[:, 0]) + 0.5 * columns[:, 1] - 0.3 * columns[:, 2] * columns[:, 0])


def columns_of(n: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).integers(-3, 4, (n, 4)).astype(np.float64)


def learned(n: int = 150, seed: int = 0, objective: str = "accuracy", maximize: bool = True) -> Learned:
    columns = columns_of(n, seed)
    values = truth(columns) + np.random.default_rng([seed, 1]).normal(scale=0.05, size=n)
    return learn(columns, values, objective=objective, source="made up", counts=(), maximize=maximize)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=40))
def test_kendall_is_that_of_scipy(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.float64)
    other = np.sin(np.arange(len(values)) * 7.0)
    if np.ptp(values) > 0:
        assert kendall(values, other) == pytest.approx(kendalltau(values, other).statistic)


def test_kendall_of_a_constant_is_zero() -> None:
    assert kendall(np.ones(5), np.arange(5.0)) == 0.0


def test_it_ranks_candidates_it_has_not_seen() -> None:
    model = learned()
    unseen = columns_of(400, seed=9)
    assert kendall(model(unseen, {}), truth(unseen)) > 0.85
    assert model.skill > 0.8
    assert model.n_results == 150


@pytest.mark.parametrize("seed", range(4))
def test_a_candidate_that_was_evaluated_has_its_own_result_drawn_towards_its_like(seed: int) -> None:
    columns = np.unique(columns_of(120, seed), axis=0)
    values = truth(columns) + np.random.default_rng(seed).normal(scale=0.2, size=len(columns))
    model = learn(columns, values, objective="accuracy", source="", counts=(), maximize=True)
    estimates = model(columns, {})
    assert kendall(estimates, values) > model.skill  # nearer to the result than what its like tell
    assert kendall(estimates, truth(columns)) > kendall(values, truth(columns))  # and nearer to the truth than it


@pytest.mark.parametrize("maximize", [True, False])
def test_the_unit_of_results_does_not_matter_and_how_bad_the_bad_are_hardly(maximize: bool) -> None:
    columns = np.unique(columns_of(100), axis=0)
    values = truth(columns) if maximize else -truth(columns)
    worse = np.median(values) - values if maximize else values - np.median(values)
    dire = values + np.where(worse > 0, 20.0 * worse, 0.0) * (-1.0 if maximize else 1.0)

    def estimates(results: FloatArray) -> FloatArray:
        return learn(columns, results, objective="accuracy", source="", counts=(), maximize=maximize)(columns, {})

    np.testing.assert_allclose(estimates(100 * values - 7), estimates(values), atol=2e-3)
    assert kendall(estimates(dire), values) > 0.9
    best = values > np.quantile(values, 0.6) if maximize else values < np.quantile(values, 0.4)
    assert kendall(estimates(dire)[best], values[best]) > 0.8


def test_costs_are_learned_by_their_logarithm_and_a_stall_is_cut() -> None:
    columns = np.unique(columns_of(150), axis=0)
    logs = truth(columns)
    stalled = logs.copy()
    stalled[3] += 9.0
    model = learn(columns, np.exp(stalled), objective="latency_ms@pi", source="", counts=(), maximize=False)
    found = np.delete(model(columns, {}), 3)
    assert np.corrcoef(found, np.delete(logs, 3))[0, 1] > 0.97


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 199), min_size=1, max_size=30))
def test_an_estimate_does_not_depend_on_the_batch(rows: list[int]) -> None:
    everyone = columns_of(200, seed=5)
    np.testing.assert_array_equal(MODEL(everyone, {})[rows], MODEL(everyone[rows], {}))


MODEL = learned()


def test_equal_candidates_are_readings_of_one() -> None:
    columns = np.repeat(columns_of(30), 2, axis=0)
    noise = np.tile([0.4, -0.4], 30)
    twice = learn(columns, truth(columns) + noise, objective="accuracy", source="", counts=(), maximize=True)
    once = learn(columns[::2], truth(columns[::2]), objective="accuracy", source="", counts=(), maximize=True)
    np.testing.assert_allclose(twice(columns, {}), once(columns, {}), atol=1e-5)


def test_candidates_that_are_all_alike_tell_nothing() -> None:
    model = learn(np.ones((12, 3)), np.arange(12.0), objective="accuracy", source="", counts=(), maximize=True)
    np.testing.assert_array_equal(model(columns_of(5)[:, :3], {}), np.zeros(5))
    assert model.skill == 0.0


def test_no_candidates_no_estimates() -> None:
    assert MODEL(columns_of(0), {}).shape == (0,)


def test_counts_join_the_features_on_a_log_scale() -> None:
    known = {"macs": np.array([np.e - 1, np.nan, np.inf]), "params": np.zeros(3)}
    found = describe(np.ones((3, 1)), known, ("macs", "params"))
    np.testing.assert_allclose(found, [[1, 1, 0], [1, 0, 0], [1, 0, 0]])


@pytest.mark.slow
def test_thousands_of_results_rest_on_a_thousand() -> None:
    model = learned(4_000)
    assert len(model.weights) <= 1_000
    assert kendall(model(columns_of(300, 3), {}), truth(columns_of(300, 3))) > 0.9


def test_features_of_another_version_are_refused() -> None:
    with pytest.raises(DataError, match="4 numbers, this space in 3"):
        MODEL(columns_of(2)[:, :3], {})


def test_a_file_gives_back_the_model_bit_for_bit(tmp_path: Path) -> None:
    models = (learned(40, seed=1), learned(50, seed=2, objective="latency_ms@pi", maximize=False))
    save_learned(models, tmp_path)
    again = load_learned(tmp_path)
    unseen = columns_of(60, seed=8)
    for one, other in zip(models, again, strict=True):
        np.testing.assert_array_equal(one(unseen, {}), other(unseen, {}))
        assert (one.objective, one.source, one.skill, one.n_results) == (
            other.objective, other.source, other.skill, other.n_results
        )  # fmt: skip


def test_nothing_learned_nothing_written(tmp_path: Path) -> None:
    save_learned((), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"warm_start\.json"):
        load_learned(tmp_path)
    save_learned((learned(30),), tmp_path)
    data = (tmp_path / STORED).read_bytes()
    (tmp_path / STORED).write_bytes(data[:-20] + bytes(20))
    with pytest.raises(DataError, match="hash"):
        load_learned(tmp_path)
    (tmp_path / STORED).write_bytes(data)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | {"format": "other"}))
    with pytest.raises(DataError, match="format"):
        load_learned(tmp_path)
    manifest["learned"][0].pop("skill")
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="skill"):
        load_learned(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        load_learned(tmp_path)


def test_the_most_skilled_are_columns_of_their_own_and_the_rest_one() -> None:
    models = [learned(n, seed=n) for n in (12, 160, 40, 80, 14)]
    priors = priors_of(models)
    assert len(priors) == ALONE + 1
    by_skill = sorted(models, key=lambda one: -one.skill)
    assert list(priors[:ALONE]) == by_skill[:ALONE]
    unseen = columns_of(20, seed=7)
    expected = np.mean([one(unseen, {}) for one in by_skill[ALONE:]], axis=0)
    np.testing.assert_allclose(priors[ALONE](unseen, {}), expected)
    assert {prior.metric for prior in priors} == {"accuracy"}
    assert len(priors_of([*models[:2], learned(20, objective="latency_ms@pi")])) == 3
