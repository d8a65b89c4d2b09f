from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import InputError
from codesign.expressions import parse_budget
from codesign.objectives import Objective, Objectives

calm = settings(deadline=None)
METRICS = {
    "accuracy": np.array([0.9, 0.8, np.nan]),
    "latency_ms@edge": np.array([2.0, 1.0, 3.0]),
    "params": np.array([50e3, 90e3, 60e3]),
}


def objectives(*budgets: str) -> Objectives:
    return Objectives(
        (Objective("accuracy", maximize=True), Objective("latency_ms@edge")),
        tuple(parse_budget(budget) for budget in budgets),
    )


def test_maximised_metrics_change_sign_once_and_nan_stays() -> None:
    losses = objectives().losses(METRICS)
    np.testing.assert_array_equal(losses, [[-0.9, 2.0], [-0.8, 1.0], [np.nan, 3.0]])
    assert METRICS["accuracy"][0] == 0.9


def test_a_metric_that_is_not_measured_yet_is_nan() -> None:
    losses = objectives().losses({"latency_ms@edge": np.array([2, 1])})
    np.testing.assert_array_equal(losses, [[np.nan, 2.0], [np.nan, 1.0]])
    assert losses.dtype == np.float64
    assert objectives().losses({}).shape == (0, 2)


def test_a_violation_is_the_sum_of_relative_excesses() -> None:
    found = objectives("params <= 60k", "latency_ms@edge <= 1.5", "latency_ms@edge >= 1.25").violations(METRICS)
    np.testing.assert_allclose(found, [0.5 / 1.5, 30 / 60 + 0.25 / 1.25, 1.5 / 1.5])


def test_a_kept_budget_and_no_budget_are_exactly_zero() -> None:
    assert objectives("params <= 60k", "params >= 50k").violations(METRICS).tolist() == [0.0, 0.5, 0.0]
    assert objectives().violations(METRICS).tolist() == [0.0, 0.0, 0.0]
    assert objectives("params <= 60k").violations({}).shape == (0,)


def test_a_strict_budget_is_violated_at_its_bound() -> None:
    strict = objectives("params < 60k").violations(METRICS)
    assert strict[0] == 0.0
    assert 0.0 < strict[2] < 1e-9
    assert 0.0 < objectives("params < 0").violations({"params": np.array([0.0])})[0] < 1e-9


def test_an_absent_metric_adds_nothing_and_nan_is_infinite() -> None:
    limited = objectives("accuracy >= 0.85", "params <= 60k")
    assert limited.violations({"params": METRICS["params"]}).tolist() == [0.0, 0.5, 0.0]
    np.testing.assert_allclose(limited.violations(METRICS), [0.0, 0.05 / 0.85 + 0.5, np.inf])
    assert limited.violations(METRICS, names={"params"}).tolist() == [0.0, 0.5, 0.0]
    assert limited.violations(METRICS, names=()).tolist() == [0.0, 0.0, 0.0]


def test_a_zero_limit_gives_a_finite_violation() -> None:
    assert np.isfinite(objectives("params <= 0").violations({"params": np.array([1e9])})[0])


def test_needed_metrics_and_number() -> None:
    found = objectives("params <= 60k", "latency_ms@edge <= 1", "params >= 3")
    assert found.needed_metrics == ("accuracy", "latency_ms@edge", "params")
    assert found.n == 2
    assert [str(objective) for objective in found.objectives] == ["maximize accuracy", "minimize latency_ms@edge"]


def test_wrong_objectives() -> None:
    with pytest.raises(InputError, match="none is given"):
        Objectives(())
    with pytest.raises(InputError, match="'a' is named more than once"):
        Objectives((Objective("a"), Objective("a", maximize=True)))


def test_metrics_are_checked_against_those_that_exist() -> None:
    objectives("params <= 60k").check_metrics(METRICS)
    with pytest.raises(InputError, match=r"objectives: 'accuracy' .* did you mean 'accuracy_top1'\?"):
        objectives().check_metrics(["accuracy_top1", "latency_ms@edge"])
    with pytest.raises(InputError, match=r"budgets: 'parms' .* did you mean 'params'\?"):
        objectives("parms <= 60k").check_metrics(METRICS)


@calm
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.booleans())
def test_a_violation_is_positive_just_where_the_limit_is_broken(value: float, limit: float, upper: bool) -> None:
    violation = objectives(f"params {'<=' if upper else '>='} {limit!r}").violations({"params": np.array([value])})[0]
    assert violation >= 0
    if abs(value - limit) > 1e-300:  # closer ones may underflow
        assert (violation > 0) == (value > limit if upper else value < limit)
