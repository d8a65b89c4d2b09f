"""Which budgets conflict and how far they must widen: against brute force, closed forms and SciPy."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta  # type: ignore[import-untyped]

from codesign.expressions import parse_budget
from codesign.feasible_problem import BoolArray, Problem
from codesign.feasible_relax import conflicts, factors, relaxation, together, widened
from codesign.feasible_share import exact_interval
from codesign.trial import FloatArray
from tests.codesign.fakes import Grid

TEXTS = ("a <= 4", "b >= 3", "c < 5", "d > 2")


def problem(*texts: str) -> Problem:
    return Problem(Grid(), tuple(parse_budget(text) for text in texts), (), (), None)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Problem, FloatArray]:
    """Budgets and whole metrics of 0..9 of a few candidates, some of which cannot work."""
    k = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(st.integers(0, 9), min_size=k, max_size=k), min_size=1, max_size=12))
    values = np.array(rows, dtype=np.float64)
    values[draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))] = np.nan
    return problem(*TEXTS[:k]), values


def keeps(text: str, value: float) -> bool:
    return bool(eval(f"value {text.split(maxsplit=1)[1]}", {}, {"value": value}))  # a budget is Python too


@settings(max_examples=60)
@given(tables())
def test_a_budget_is_kept_as_it_reads(case: tuple[Problem, FloatArray]) -> None:
    made, values = case
    expected = [[keeps(b.text, v) for b, v in zip(made.budgets, row, strict=True)] for row in values]
    assert made.meets(values).tolist() == expected
    excess = made.excess(values)
    assert ((excess == 0) == made.meets(values)).all()
    assert np.isinf(excess[np.isnan(values)]).all()


@settings(max_examples=60)
@given(tables())
def test_conflicts_are_exactly_the_minimal_sets(case: tuple[Problem, FloatArray]) -> None:
    made, values = case
    meets = made.meets(values)
    k = meets.shape[1]
    sets = [set(c) for size in range(1, k + 1) for c in combinations(range(k), size)]
    bad = [s for s in sets if not meets[:, sorted(s)].all(axis=1).any()]
    minimal = [tuple(sorted(s)) for s in bad if not any(other < s for other in bad)]
    assert list(conflicts(meets)) == minimal


def test_conflicts_of_many_budgets_and_of_no_rows() -> None:
    none: BoolArray = np.zeros((0, 2), dtype=np.bool_)
    assert conflicts(none) == ((0,), (1,))
    assert conflicts(np.ones((1, 20), dtype=np.bool_)) == ()
    all_but_one = ~np.eye(20, dtype=np.bool_)
    assert conflicts(all_but_one) == (tuple(range(20)),)  # none of up to four conflicts


@settings(max_examples=60)
@given(tables(), st.integers(0, 3))
def test_a_relaxation_is_the_nearest_that_keeps_the_others(case: tuple[Problem, FloatArray], column: int) -> None:
    made, values = case
    column %= len(made.budgets)
    others = [j for j in range(len(made.budgets)) if j != column]
    able = [row for row in values if not np.isnan(row).any() and made.meets(row[None])[0, others].all()]
    found = relaxation(made, column, values, values)
    assert found.is_useless is (not able)
    if not able:
        assert (found.text, math.isnan(found.value), math.isnan(found.least)) == ("", True, True)
        return
    best = (min if made.budgets[column].upper else max)(row[column] for row in able)
    assert (found.value, found.least) == (best, best)
    assert keeps(found.text, best)
    texts = [found.text if j == column else b.text for j, b in enumerate(made.budgets)]
    assert problem(*texts).meets(values).all(axis=1).any()


@settings(max_examples=60)
@given(tables())
def test_the_common_factor_is_the_smallest_and_its_budgets_can_be_kept(case: tuple[Problem, FloatArray]) -> None:
    made, values = case
    found_conflicts = conflicts(made.meets(values))
    columns = sorted({j for conflict in found_conflicts for j in conflict})
    found = together(made, values, columns)
    if found is None:
        assert len(columns) < 2 or np.isinf(factors(made, values, columns)).all()
        return
    assert found.factor > 1
    changed = dict(zip(columns, found.texts, strict=True))
    widest = problem(*(changed.get(j, b.text) for j, b in enumerate(made.budgets)))
    assert widest.meets(values).all(axis=1).any()

    def able(factor: float) -> bool:
        limits = [b.limit * factor if b.upper else b.limit / factor for b in made.budgets]
        limits = [
            limit if j in columns else b.limit for j, (b, limit) in enumerate(zip(made.budgets, limits, strict=True))
        ]
        upper = np.array([b.upper for b in made.budgets])
        kept = np.where(upper, values <= limits, values >= limits)
        return bool(kept.all(axis=1).any())

    assert able(found.factor * (1 + 1e-12))
    assert not able(found.factor * (1 - 1e-9))


def test_no_budget_is_widened_more_than_the_candidate_behind_it_needs() -> None:
    made = problem("a <= 1", "b <= 1", "c <= 9")
    values = np.array([[1_000.0, 5.0, 1.0], [1_000.0, 2.5, 1.0], [9_000.0, 1.5, 1.0]])
    found = together(made, values, [0, 1])
    assert found is not None
    assert found.factor == 1_000
    assert found.texts == ("a <= 1000", "b <= 2.5")


def test_a_budget_that_the_nearest_candidate_keeps_stays_as_it_is() -> None:
    found = together(problem("a <= 1", "b <= 1"), np.array([[3.0, 1.0], [1.0, 4.0]]), [0, 1])
    assert found is not None
    assert found.texts == ("a <= 3", "b <= 1")


NUMBERS = st.floats(1e-9, 1e13) | st.integers(0, 10**7).map(float)


@settings(max_examples=150)
@given(st.sampled_from(["<=", "<", ">=", ">"]), st.sampled_from(["10", "10k", "1.5M", "2e-3", "1_000", "3G"]), NUMBERS)
def test_a_widened_budget_admits_the_value_and_hardly_more(op: str, number: str, value: float) -> None:
    budget = parse_budget(f"latency_ms@edge-1 {op} {number}")
    text = widened(budget, value)
    read = parse_budget(text)
    assert (read.metric, read.upper) == (budget.metric, budget.upper)
    assert text.split()[1] == op
    assert (value <= read.limit) if read.upper else (value >= read.limit)
    whole = 1.0 if value == int(value) else 0.0  # what counts is widened to the next whole number
    assert value == 0 or abs(read.limit - value) <= max(0.0101 * abs(value), whole)
    suffix = number[-1] if number[-1].isalpha() else ""
    assert (text[-1] == suffix) if suffix else text[-1].isdigit()


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("params <= 10", 418.0, "params <= 418"),
        ("params <= 10", 41_018.0, "params <= 41100"),
        ("params <= 40k", 41_018.0, "params <= 41.1k"),
        ("params < 418", 418.0, "params < 419"),
        ("params >= 1M", 412_345.0, "params >= 0.412M"),
        ("latency_ms@edge <= 0.1", 0.131_2, "latency_ms@edge <= 0.132"),
        ("pes<=8", 16.0, "pes <= 16"),
    ],
)
def test_widened_budgets_as_people_write_them(text: str, value: float, expected: str) -> None:
    assert widened(parse_budget(text), value) == expected


def test_no_budget_is_widened_to_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="cannot be widened"):
        widened(parse_budget("a <= 1"), math.inf)


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_exact_interval_is_scipys(k: int, n: int) -> None:
    k = min(k, n)
    low, high = exact_interval(k, n)
    assert low == pytest.approx(beta.ppf(0.025, k, n - k + 1) if k else 0.0, rel=1e-9)
    assert high == pytest.approx(beta.ppf(0.975, k + 1, n - k) if k < n else 1.0, rel=1e-9)


@pytest.mark.parametrize("n", [1, 20, 1_024, 20_000, 10**7])
def test_with_no_success_the_interval_has_a_closed_form(n: int) -> None:
    assert exact_interval(0, n)[0] == 0
    assert exact_interval(0, n)[1] == pytest.approx(-math.expm1(math.log(0.025) / n), rel=1e-9)
    assert exact_interval(n, n)[0] == pytest.approx(math.exp(math.log(0.025) / n), rel=1e-12)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_what_is_no_proportion_is_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no proportion"):
        exact_interval(k, n)
