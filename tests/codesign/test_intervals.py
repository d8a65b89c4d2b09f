"""Intervals against the equations they solve."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.intervals import FEWEST_READINGS, median_interval, wilson_interval


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_lie_196_standard_errors_from_the_share(case: tuple[int, int]) -> None:
    successes, n = case
    share = successes / n
    for end in wilson_interval(successes, n):
        assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-7)


def test_wilson_of_a_known_case() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0


@pytest.mark.parametrize("case", [(-1, 3), (4, 3), (0, 0)])
def test_wilson_refuses_what_is_no_share(case: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(*case)


@given(st.integers(FEWEST_READINGS, 200))
def test_median_interval_is_the_narrowest_with_95_percent(n: int) -> None:
    low, high = median_interval(list(range(n, 0, -1)))  # readings are their own ranks

    def missed(rank: int) -> float:
        return float(2 * sum(math.comb(n, i) for i in range(rank)) / 2**n)

    assert low + high == n + 1
    assert missed(int(low)) <= 0.05 < missed(int(low) + 1)


def test_median_interval_of_25_readings() -> None:
    assert median_interval(range(1, 26)) == (8, 18)


def test_five_readings_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least 6"):
        median_interval([1.0] * 5)
