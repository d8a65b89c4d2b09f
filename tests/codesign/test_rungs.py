"""Successive halving on fronts: against ASHA's rule, a slow obvious version, and what it saves."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.pareto import is_nondominated
from codesign.rungs import FloatArray, Rungs, append_log, read_log, spread_order


def decisions(rungs: Rungs, losses: FloatArray, violations: FloatArray | None = None, epochs: int = 1) -> list[bool]:
    over = np.zeros(len(losses)) if violations is None else violations
    return [rungs.decide(i, epochs, row, float(v)) for i, (row, v) in enumerate(zip(losses, over, strict=True))]


@pytest.mark.parametrize(
    ("first", "last", "reduction", "levels"),
    [
        (1, 27, 3, (1, 3, 9)),
        (1, 28, 3, (1, 3, 9, 27)),
        (2, 16, 2, (2, 4, 8)),
        (1, 10, 2.5, (1, 3, 7)),
        (1, 4, 1.2, (1, 2, 3)),
        (5, 5, 3, ()),
        (9, 4, 3, ()),
        (1, 1000, 10, (1, 10, 100)),
    ],
)
def test_rungs_lie_before_the_end(first: int, last: int, reduction: float, levels: tuple[int, ...]) -> None:
    assert Rungs(first, last, reduction).levels == levels


@pytest.mark.parametrize("wrong", [(0, 9, 3), (1, 0, 3), (1, 9, 1.0), (1, 9, math.nan)])
def test_wrong_rungs(wrong: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="rungs from"):
        Rungs(*wrong)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=40),
    st.sampled_from([1.5, 2.0, 3.0, 4.0, 7.0]),
)
def test_one_objective_is_asha(values: list[int], reduction: float) -> None:
    """The stopping rule: on with a loss not above the 1/reduction-quantile of all so far, itself included."""
    losses = np.array(values, dtype=np.float64)
    for i, goes_on in enumerate(decisions(Rungs(1, 9, reduction), losses[:, None])):
        cutoff = np.sort(losses[: i + 1])[math.floor((i + 1 - 1) / reduction + 1e-9)]
        assert goes_on == (losses[i] <= cutoff)
        assert goes_on == (losses[i] <= np.quantile(losses[: i + 1], 1 / reduction, method="linear") + 1e-9)


def slow(losses: FloatArray, violations: FloatArray, reduction: float) -> bool:
    """Whether the last is among the best: peel fronts off, then walk the front that straddles the cut."""
    n_best = math.floor((len(losses) - 1) / reduction + 1e-9) + 1
    rows = [i for i in range(len(losses)) if violations[i] == 0]
    before = 0
    while rows:
        front = [
            i for i in rows if not any((losses[j] <= losses[i]).all() and (losses[j] < losses[i]).any() for j in rows)
        ]
        if len(losses) - 1 in front:
            if before >= n_best or before + len(front) <= n_best:
                return before < n_best
            return _walk(losses[front]) < n_best - before
        before += len(front)
        rows = [i for i in rows if i not in front]
    return before + int((violations[violations > 0] < violations[-1]).sum()) < n_best


def _walk(front: FloatArray) -> int:
    """Place of the last row in the farthest-first walk from the middle."""
    low, high = front.min(axis=0), front.max(axis=0)
    points = [tuple((row - low) / np.where(high > low, high - low, 1)) for row in front]
    walked = [min(points, key=sum)]
    place = 0
    while points[-1] not in walked:
        walked.append(max(points, key=lambda point: min(math.dist(point, other) for other in walked)))
        place += 1
    return place


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([2.0, 3.0, 5.0]), st.integers(2, 3))
def test_it_decides_as_the_slow_version_does(seed: int, n: int, reduction: float, m: int) -> None:
    rng = np.random.default_rng(seed)
    losses = rng.random((n, m)).round(1 if seed % 2 else 6)
    violations = np.where(rng.random(n) < 0.3, rng.random(n).round(1), 0.0)
    found = decisions(Rungs(1, 9, reduction), losses, violations)
    for i, goes_on in enumerate(found):
        assert goes_on == slow(losses[: i + 1], violations[: i + 1], reduction), i


def test_the_first_goes_on_and_a_failure_is_last() -> None:
    rungs = Rungs(1, 9, 2)
    assert rungs.decide(0, 1, np.array([5.0, 5.0]), 0.0)
    assert not rungs.decide(1, 1, np.array([np.nan, 1.0]), 0.0)
    assert rungs.decide(2, 1, np.array([9.0, 9.0]), 0.0)  # dominated, but within the budgets
    assert rungs.decide(3, 1, np.array([4.0, 9.0]), 0.0)
    assert not rungs.decide(4, 1, np.array([0.0, 0.0]), 0.2)  # the fourth of five
    assert not rungs.decide(5, 1, np.array([0.0, 0.0]), np.inf)


def test_a_loss_that_nobody_has_yet_stops_nobody() -> None:
    assert all(decisions(Rungs(1, 9, 4), np.full((20, 2), np.nan)))


def test_between_rungs_everything_goes_on_and_a_decision_holds() -> None:
    rungs = Rungs(2, 9, 2)
    assert rungs.decide(0, 2, np.array([0.1]), 0.0)
    assert rungs.decide(1, 1, np.array([0.9]), 0.0)
    assert not rungs.decide(1, 3, np.array([0.9]), 0.0)  # it passed the rung at 2 unseen
    assert not rungs.decide(1, 3, np.array([0.0]), 0.0)
    assert rungs.decide(1, 4, np.array([0.0]), 0.0)
    assert [(reading.trial, reading.level) for reading in rungs.readings] == [(0, 2), (1, 2), (1, 4)]


def test_every_region_of_a_front_goes_on() -> None:
    """Accuracy alone would stop all small networks; here the best third of all sizes goes on."""
    rng = np.random.default_rng(0)
    size = rng.random(300)
    error = 1 - size + 0.3 * rng.random(300)
    both = decisions(Rungs(1, 9, 3), np.stack([error, size], axis=1))
    alone = decisions(Rungs(1, 9, 3), error[:, None])
    small = size < 0.3
    assert np.mean(np.array(both)[small]) > 0.2
    assert np.mean(np.array(alone)[small]) < 0.05
    assert 0.3 < np.mean(both[100:]) < 0.45


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_every_beginning_of_the_order_is_spread(seed: int, n: int) -> None:
    """The first k cover the front within twice the best radius of k centres (Gonzalez 1985); here: no gap is left."""
    x = np.sort(np.random.default_rng(seed).random(n))
    places = spread_order(np.stack([x, 1 - x], axis=1))
    assert sorted(places) == list(range(n))
    order = np.argsort(places)
    gaps = [np.abs(x[order[k]] - x[order[:k]]).min() for k in range(1, n)]
    assert (np.diff(gaps) <= 1e-12).all()


def test_equal_members_share_their_place() -> None:
    places = spread_order(np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
    assert places[0] == places[2]
    assert len(set(places)) == 3
    assert spread_order(np.zeros((3, 2))).tolist() == [0, 0, 0]


def test_restored_rungs_decide_as_the_unbroken_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    losses = rng.random((60, 2))
    losses[7], violations = np.nan, np.where(rng.random(60) < 0.2, np.inf, 0.0)
    whole, cut = Rungs(1, 9, 3), Rungs(1, 9, 3)
    expected = decisions(whole, losses, violations)
    log = tmp_path / "rungs.jsonl"
    assert read_log(log) == []
    decisions(cut, losses[:25], violations[:25])
    append_log(log, cut.readings)
    with log.open("a") as stream:
        stream.write("\n[25, 1, [0.3")  # killed while it wrote
    again = Rungs(1, 9, 3)
    again.restore(read_log(log))
    assert decisions(again, losses, violations) == expected
    append_log(log, again.readings[25:])
    assert len(read_log(log)) == 60
    other = Rungs(2, 9, 3)  # the run went on with other rungs
    other.restore(read_log(log))
    assert other.readings == []


def test_early_stopping_finds_more_of_a_front() -> None:
    """A reading of noisy accuracy for a tenth of the price, at equal cost: the volume found rises on most seeds."""
    gains = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        size = rng.random(2000)
        error = (1 - size) ** 2 + rng.exponential(0.3, 2000)
        early = error + 0.1 * rng.normal(size=2000)
        rungs, spent, trained = Rungs(1, 10, 4), 0.0, []
        for i in range(2000):
            if spent >= 40:
                break
            goes_on = rungs.decide(i, 1, np.array([early[i], size[i]]), 0.0)
            spent += 1.0 if goes_on else 0.1
            trained += [i] if goes_on else []
        volumes = []
        for rows in (trained, range(40)):
            found = np.stack([error, size], axis=1)[list(rows)]
            steps = found[is_nondominated(found) & (found < 1).all(axis=1)]
            steps = steps[np.argsort(steps[:, 0])]
            volumes.append(((1 - steps[:, 0]) * (np.r_[1, steps[:-1, 1]] - steps[:, 1])).sum())
        gains.append(volumes[0] - volumes[1])
    assert np.median(gains) > 0.03
    assert sum(gain > 0 for gain in gains) >= 9
