"""The statistics behind the honesty meter: rank correlations, subsets, verdicts that random search seldom gets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign.honesty_random import LEVEL, Comparison, compare_draws, compare_runs, fair_reference, on_fair_scale
from codesign.honesty_ranks import COMPARED_PAIRS, FEWEST_PAIRS, rank_correlation
from codesign.honesty_subsets import beginnings, hypervolumes, subsets, within
from codesign.pareto import hypervolume

FloatArray = NDArray[np.float64]

pairs = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=25)


def slow_tau(x: FloatArray, y: FloatArray) -> float:
    """Tau-b by its definition, pair by pair."""
    agree = untied_x = untied_y = 0
    for i in range(len(x)):
        for j in range(i):
            a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
            agree, untied_x, untied_y = agree + a * b, untied_x + abs(a), untied_y + abs(b)
    return float(agree / math.sqrt(untied_x * untied_y))


def slow_rho(x: FloatArray, y: FloatArray) -> float:
    """The correlation of mid-ranks."""
    ranks = [[np.mean(np.flatnonzero(np.sort(v) == value)) for value in v] for v in (x, y)]
    return float(np.corrcoef(ranks)[0, 1])


@given(pairs)
def test_correlations_are_those_of_the_definitions(found: list[tuple[int, int]]) -> None:
    x, y = np.array(found, dtype=np.float64).T
    seen = rank_correlation(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(seen.tau)
        assert math.isnan(seen.rho)
        assert not seen.is_better_than_chance
        return
    assert seen.tau == pytest.approx(slow_tau(x, y))
    assert seen.rho == pytest.approx(slow_rho(x, y))
    assert math.isnan(seen.tau_low) == (len(x) < FEWEST_PAIRS)
    if len(x) >= FEWEST_PAIRS:
        assert -1 <= seen.tau_low <= seen.tau <= seen.tau_high <= 1
        assert -1 <= seen.rho_low <= seen.rho <= seen.rho_high <= 1


@given(pairs, st.randoms())
def test_order_and_scale_of_pairs_do_not_matter_and_a_flipped_sign_flips_all(
    found: list[tuple[int, int]], random: object
) -> None:
    x, y = np.array(found, dtype=np.float64).T
    order = np.random.default_rng(len(found)).permutation(len(x))
    seen, shuffled = rank_correlation(x, y), rank_correlation(np.exp(x[order]), 3 * y[order] - 7)
    flipped = rank_correlation(-x, y)
    for name in ("tau", "tau_low", "tau_high", "rho", "rho_low", "rho_high"):
        assert getattr(seen, name) == pytest.approx(getattr(shuffled, name), nan_ok=True)
    assert flipped.tau == pytest.approx(-seen.tau, nan_ok=True)
    assert flipped.tau_low == pytest.approx(-seen.tau_high, nan_ok=True)


def test_pairs_without_a_finite_value_are_left_out_and_many_are_thinned() -> None:
    x = np.arange(12.0)
    y = x.copy()
    y[[3, 7]] = np.nan, np.inf
    assert rank_correlation(x, y).n == 10
    many = np.arange(3.0 * COMPARED_PAIRS)
    seen = rank_correlation(many, -many)
    assert (seen.n, seen.tau, seen.tau_low) == (3 * COMPARED_PAIRS, -1.0, -1.0)
    assert seen.tau_high < -0.99


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("n", [12, 40])
def test_intervals_hold_the_truth_in_95_of_100_cases(rho: float, n: int) -> None:
    """Of normal pairs: tau = 2/pi asin(rho), Spearman's rho = 6/pi asin(rho/2) (Kruskal 1958)."""
    rng = np.random.default_rng(5)
    tau, spearman = 2 / math.pi * math.asin(rho), 6 / math.pi * math.asin(rho / 2)
    hits = np.zeros(2)
    for _ in range(400):
        x = rng.standard_normal(n)
        seen = rank_correlation(x, rho * x + math.sqrt(1 - rho * rho) * rng.standard_normal(n))
        hits += (seen.tau_low <= tau <= seen.tau_high), (seen.rho_low <= spearman <= seen.rho_high)
    assert (hits / 400 >= 0.925).all()
    assert (hits / 400 <= 0.995).all()


@given(st.integers(1, 3), st.integers(1, 12), st.integers(0, 1000))
def test_hypervolumes_of_subsets_are_those_one_by_one(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, 6, (n, m)).astype(np.float64)
    losses[rng.random(n) < 0.2] = np.nan
    reference = np.full(m, 5.0)
    members = rng.random((7, n)) < 0.5
    expected = [hypervolume(losses[subset], reference) for subset in members]
    np.testing.assert_allclose(hypervolumes(losses, reference, members), expected, atol=1e-12)
    counts = np.arange(1, n + 1)
    expected = [hypervolume(losses[:count], reference) for count in counts]
    np.testing.assert_allclose(beginnings(losses, reference, counts), expected, atol=1e-12)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_subsets_have_their_size_and_lie_within(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, n + 1))
    outer = subsets(n, size, k, rng)
    assert (outer.sum(axis=1) == size).all()
    together = n // size
    assert (outer[:together].sum(axis=0) <= 1).all()  # disjoint as far as possible
    inner = within(outer, max(1, size // 2), 3, rng)
    assert (inner.sum(axis=1) == max(1, size // 2)).all()
    assert not (inner & ~np.repeat(outer, 3, axis=0)).any()


def sample(n: int, rng: np.random.Generator, m: int = 2, gain: float = 0.0) -> FloatArray:
    """Losses of n candidates: a tail that thins out towards the better, some failed."""
    losses = rng.gamma(4.0, 1.0, (n, m)) - gain
    losses[rng.random(n) < 0.1] = np.nan
    return losses


def own_draws(gain: float, r: int, n: int, rng: np.random.Generator, m: int = 2) -> Comparison:
    """A search of which r evaluations were random and the others better by `gain`."""
    drawn, others = sample(r, rng, m), sample(n - r, rng, m, gain)
    return compare_draws(rng.permutation(np.concatenate([drawn, others])), drawn, others, rng)


@pytest.mark.slow
@pytest.mark.parametrize(("r", "n", "m"), [(8, 60, 2), (20, 120, 1), (60, 120, 2)])
def test_a_random_search_is_seldom_said_to_beat_its_own_draws(r: int, n: int, m: int) -> None:
    rng = np.random.default_rng(r)
    found = [own_draws(0.0, r, n, rng, m) for _ in range(120)]
    p = np.array([one.p for one in found])
    assert np.mean(p <= LEVEL) <= 0.1  # nominal 0.05; 120 cases put its standard deviation at 0.02
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.14)
    assert np.mean([one.beats_random for one in found]) <= 0.1
    assert np.mean([one.is_worse for one in found]) <= 0.1


@pytest.mark.slow
def test_a_random_search_is_seldom_said_to_beat_random_runs() -> None:
    rng = np.random.default_rng(2)
    found = [compare_runs(sample(30, rng), [sample(30, rng) for _ in range(39)]) for _ in range(150)]
    assert np.mean([one.beats_random for one in found]) == pytest.approx(0.05, abs=0.05)
    assert np.mean([one.is_worse for one in found]) == pytest.approx(0.05, abs=0.05)


def test_better_and_worse_searches_are_called_so() -> None:
    rng = np.random.default_rng(4)
    for better in (own_draws(1.5, 20, 120, rng), compare_runs(sample(60, rng, gain=1.5), runs_of(60, rng))):
        assert better.beats_random
        assert not better.is_worse
        assert better.ratio > 1
    for worse in (own_draws(-2.5, 40, 120, rng), compare_runs(sample(60, rng, gain=-2.5), runs_of(60, rng))):
        assert not worse.beats_random
        assert worse.is_worse
        assert worse.ratio < 1


def runs_of(n: int, rng: np.random.Generator, k: int = 60) -> list[FloatArray]:
    return [sample(n, rng) for _ in range(k)]


def test_place_among_runs_is_the_rank_of_the_hypervolume() -> None:
    """One objective, so the hypervolume ranks like the best value: 3 of 39 runs are as good or better."""
    runs = [np.full((5, 1), 10.0 + i) for i in range(39)]
    found = compare_runs(np.full((5, 1), 12.0), runs)
    assert found.p == (1 + 3) / 40
    assert found.p_worse == (1 + 37) / 40
    assert not found.beats_random
    assert compare_runs(np.full((5, 1), 9.0), runs).p == 1 / 40


def test_equal_searches_and_searches_that_find_nothing_beat_nobody() -> None:
    rng = np.random.default_rng(0)
    everything = sample(40, rng)
    same = compare_runs(everything, [rng.permutation(everything) for _ in range(30)])
    assert (same.p, same.p_worse) == (1.0, 1.0)
    assert same.ratio == pytest.approx(1.0)
    nothing = np.full((20, 2), np.nan)
    for found in (compare_runs(nothing, [nothing] * 20), compare_draws(nothing, nothing[:8], nothing[8:], rng)):
        assert not found.beats_random
        assert not found.is_worse
        assert math.isnan(found.ratio)
    lucky = compare_runs(np.vstack([nothing, [[1.0, 1.0]]]), [nothing] * 20)
    assert lucky.beats_random
    assert lucky.ratio == math.inf


@pytest.mark.slow
@pytest.mark.parametrize(("r", "n"), [(20, 200), (60, 150), (200, 100)])
def test_random_search_is_estimated_well_or_in_its_favour(r: int, n: int) -> None:
    rng = np.random.default_rng(1)
    ratios, hits = [], 0
    for _ in range(30):
        drawn = rng.random((r, 2))
        found = compare_draws(rng.random((n, 2)), drawn, rng.random((20, 2)), rng)
        truth = float(np.mean([hypervolume(rng.random((n, 2)), found.reference) for _ in range(30)]))
        ratios.append(found.random / truth)
        hits += found.random_low <= truth <= found.random_high
        assert found.is_extrapolated == (n > r)
    assert 0.97 <= np.mean(ratios) <= 1.3
    assert hits >= 23


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(st.integers(8, 40), st.integers(1, 3), st.integers(0, 99))
def test_a_curve_ends_at_the_result_and_never_falls(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = sample(n, rng, m)
    for found in (
        compare_runs(own, [sample(n, rng, m) for _ in range(19)]),
        compare_draws(own, sample(9, rng, m), own, rng),
    ):
        curve = found.curve
        assert curve.counts[-1] == n
        assert curve.own[-1] == pytest.approx(found.own)
        assert (np.diff(curve.own) >= -1e-9).all()
        known = np.isfinite(curve.low)
        assert (known == (curve.counts <= (9 if found.kind == "draws" else n))).all()
        assert (curve.low[known] <= curve.high[known]).all()


def test_worse_than_the_median_random_candidate_does_not_count_where_costs_are_known() -> None:
    rng = np.random.default_rng(0)
    random = np.stack([rng.normal(size=500), rng.random(500)], axis=1)
    useless = np.array([[9.0, -5.0]])  # nearly free, and it learns nothing
    plain, fair = (fair_reference(random, useless, found_out) for found_out in (None, (True, False)))
    assert plain[0] > 9
    assert fair[0] == np.median(random[:, 0])
    assert fair[1] == plain[1] > random[:, 1].max()
    assert compare_runs(np.repeat(useless, 50, axis=0), [random[:50], random[50:100]], (True, False)).own == 0
    assert (fair_reference(random, useless, (True, True)) == plain).all()


def test_costs_count_by_ratios() -> None:
    first, second = np.array([[-0.9, 4.0], [np.nan, 8.0]]), np.array([[-0.8, 2.0]])
    scaled = on_fair_scale(first, second)
    np.testing.assert_allclose(scaled[0], [[-0.9, np.log(4)], [np.nan, np.log(8)]])
    np.testing.assert_allclose(scaled[1], [[-0.8, np.log(2)]])
    np.testing.assert_allclose(on_fair_scale(first[:, 1:])[0], first[:, 1:])
