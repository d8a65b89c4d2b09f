"""What a run tells a strategy of candidates before they are evaluated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.expressions import parse_budget
from codesign.foresee import RunForesight
from codesign.objectives import Objective, Objectives
from codesign.testing.strategies import ListedSpace, MixedSpace
from codesign.trial import Evaluation, Evaluator, FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import Choice


class Costs(Evaluator):
    """Two metrics that are arithmetic on the code."""

    metrics = ("macs", "latency_ms@edge")

    def evaluate(self, codes: IntArray) -> Evaluation:
        """MACs grow with every decision; the latency of width 0 cannot be told."""
        macs = 100.0 * (1 + codes.sum(axis=1))
        latency = np.where(codes[:, 1] == 0, np.nan, macs / 50)
        return Evaluation({"macs": macs, "latency_ms@edge": latency}, ["" for _ in codes])


class Reversed:
    """An earlier run's view of a metric."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def __call__(self, features: FloatArray, known: Mapping[str, FloatArray]) -> FloatArray:
        return -known["macs"]


def _objectives(*budgets: str) -> Objectives:
    listed = (Objective("accuracy", maximize=True), Objective("latency_ms@edge"))
    return Objectives(listed, tuple(parse_budget(text) for text in budgets))


def test_known_losses_are_exact_and_unknown_ones_nan() -> None:
    space = MixedSpace()
    codes = space.sample(50, np.random.default_rng(0))
    seen = RunForesight(space, _objectives(), [Costs()])(codes)
    assert np.isnan(seen.losses[:, 0]).all()
    can_work = codes[:, 1] > 0
    assert (seen.losses[can_work, 1] == 2.0 * (1 + codes[can_work].sum(axis=1))).all()
    assert np.isinf(seen.violations[~can_work]).all()
    assert (seen.violations[can_work] == 0).all()
    assert np.isfinite(seen.features).all()


def test_budgets_on_known_metrics_become_violations_and_limits() -> None:
    space = MixedSpace()
    codes = space.sample(50, np.random.default_rng(1))
    codes = codes[codes[:, 1] > 0]
    foresight = RunForesight(space, _objectives("macs <= 500", "accuracy >= 0.9", "latency_ms@edge <= 8"), [Costs()])
    macs = 100.0 * (1 + codes.sum(axis=1))
    expected = np.maximum(0, macs - 500) / 500 + np.maximum(0, macs / 50 - 8) / 8
    np.testing.assert_allclose(foresight(codes).violations, expected)
    assert foresight.limits.tolist() == [-0.9, 8.0]


def test_without_free_evaluators_nothing_is_known() -> None:
    space = MixedSpace()
    codes = space.sample(7, np.random.default_rng(2))
    seen = RunForesight(space, _objectives("macs <= 1"), [])(codes)
    assert np.isnan(seen.losses).all()
    assert (seen.violations == 0).all()
    assert seen.features.shape == space.features(codes).shape


def test_priors_become_losses() -> None:
    space = MixedSpace()
    codes = space.sample(9, np.random.default_rng(3))
    priors = [Reversed("latency_ms@edge"), Reversed("accuracy"), Reversed("energy_uj@edge")]
    foresight = RunForesight(space, _objectives(), [Costs()], priors)
    assert foresight.prior_of == (1, 0)  # the third estimates no objective
    macs = 100.0 * (1 + codes.sum(axis=1))
    assert foresight(codes).priors.tolist() == np.stack([-macs, macs], axis=1).tolist()


def test_cost_on_a_device_is_no_feature() -> None:
    space = MixedSpace()
    codes = space.sample(9, np.random.default_rng(4))
    codes[:, 1] = 1
    features = RunForesight(space, _objectives(), [Costs()])(codes).features
    np.testing.assert_allclose(features[:, -1], np.log1p(100.0 * (1 + codes.sum(axis=1))))
    assert features.shape[1] == space.features(codes).shape[1] + 1


def test_features_of_numbers_are_their_place_and_of_names_a_column_each() -> None:
    space = ListedSpace(Choice("width", (64, 8, 32)), Choice("op", ("conv", "pool")), Choice("stem", (1,)))
    codes = np.array([[0, 0, 0], [1, 1, 0], [2, 0, 0]])
    assert space.features(codes).tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.5, 1.0, 0.0, 0.0]]


@given(st.integers(0, 2**32 - 1))
def test_equal_candidates_have_equal_features(seed: int) -> None:
    space = MixedSpace()
    codes = space.sample(20, np.random.default_rng(seed))
    assert (space.features(codes) == space.features(space.canonical(codes))).all()


@pytest.mark.parametrize("n", [0, 1])
def test_small_batches(n: int) -> None:
    space = MixedSpace()
    codes = space.sample(n, np.random.default_rng(5))
    seen = RunForesight(space, _objectives(), [Costs()], [Reversed("accuracy")])(codes)
    assert seen.losses.shape == (n, 2)
    assert seen.priors.shape == (n, 1)
    assert len(seen.features) == n
