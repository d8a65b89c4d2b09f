from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign.errors import InputError
from codesign.expressions import parse_budget, parse_condition

Row = dict[str, float]
calm = settings(deadline=None)
KNOWN = ["accuracy", "params", "macs", "latency_ms@edge", "energy_uj@edge-16x16"]


@pytest.mark.parametrize(
    ("text", "metric", "upper", "limit"),
    [
        ("params <= 60k", "params", True, 60e3),
        ("params<=1.2M", "params", True, 1.2e6),
        ("  macs  <=  1G ", "macs", True, 1e9),
        ("latency_ms@edge <= 0.5", "latency_ms@edge", True, 0.5),
        ("energy_uj@edge-16x16 <= 1e-3", "energy_uj@edge-16x16", True, 1e-3),
        ("energy_uj@v1.5 <= .5", "energy_uj@v1.5", True, 0.5),
        ("accuracy >= 0.9", "accuracy", False, 0.9),
        ("params <= 1_000_000", "params", True, 1e6),
        ("accuracy >= -2", "accuracy", False, -2.0),
        ("params <= 1.5e3k", "params", True, 1.5e6),
        ("params <= +3.", "params", True, 3.0),
        ("android <= 3", "android", True, 3.0),
    ],
)
def test_budgets(text: str, metric: str, upper: bool, limit: float) -> None:
    budget = parse_budget(text)
    assert (budget.metric, budget.upper, budget.text, str(budget)) == (metric, upper, text.strip(), text.strip())
    assert budget.limit == pytest.approx(limit, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "inside", "outside"), [("x < 60000", 59999, 60000), ("x > 2", 3, 2), ("x < 0", -1, 0)]
)
def test_a_strict_budget_refuses_its_own_bound(text: str, inside: float, outside: float) -> None:
    budget = parse_budget(text)
    sign = 1 if budget.upper else -1
    assert sign * inside <= sign * budget.limit < sign * outside


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("", 1, "a metric name"),
        ("60k >= params", 1, "a metric name"),
        ("params == 60k", 8, "one of <=, <, >=, >"),
        ("params 60k", 8, "one of <=, <, >=, >"),
        ("params <=", 10, "a number"),
        ("params <= macs", 11, "a number"),
        ("params <= 60k and macs <= 1", 15, "the end"),
        ("params <= 60 k", 14, "the end"),
        ("accuracy >= 90%", 13, "percent signs are not read"),
        ("params <= 60K", 11, "the suffixes are k, M and G"),
        ("latency_ms@edge <= 5ms", 20, "the suffixes are k, M and G"),
        ("params <= 1e999", 11, "a finite number"),
        ("params <= 1e308G", 11, "a finite number"),
        ("params <= nan", 11, "a number"),
        ("params <= 1.2.3", 14, "the end"),
        ("params <= 3; rm", 12, "a metric, a comparison or a number"),
        ("and <= 3", 1, "a metric name"),
        ("params <= 1__0", 12, "the end"),
        ("params@ <= 3", 7, "a metric, a comparison or a number"),
    ],
)
def test_a_wrong_budget_is_shown_with_its_place(text: str, position: int, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_budget(text)
    head, line, caret = str(caught.value).split("\n")
    assert head.startswith("budgets: found")
    assert f"at position {position}," in head
    assert expected in head
    assert line == f"  {text}"
    assert caret.index("^") - 2 == position - 1


def test_a_budget_that_is_no_text() -> None:
    with pytest.raises(InputError, match="budgets: 3 is not allowed"):
        parse_budget(3)  # type: ignore[arg-type]


def test_an_unknown_metric_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"found 'latency@edge'.*did you mean 'latency_ms@edge'\?"):
        parse_budget("latency@edge <= 3", KNOWN)
    with pytest.raises(InputError, match=r"--where: found 'parms' at position 19.*did you mean 'params'\?"):
        parse_condition("accuracy > 0.9 or parms < 3", KNOWN, key="--where")
    with pytest.raises(InputError, match="expected one of no metric"):
        parse_condition("accuracy > 0.9", [])


COLUMNS = {
    "a": np.array([1.0, 2.0, 3.0, np.nan]),
    "b@t": np.array([10.0, 20.0, np.nan, 40.0]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <= 2", [1, 1, 0, 0]),
        ("a < 2", [1, 0, 0, 0]),
        ("a == 2", [0, 1, 0, 0]),
        ("not a == 2", [1, 0, 1, 0]),
        ("not not a >= 2", [0, 1, 1, 0]),
        ("a > 1 and b@t < 30", [0, 1, 0, 0]),
        ("a > 2 or b@t > 30", [0, 0, 1, 1]),
        ("not (a > 2 or b@t > 10)", [1, 0, 0, 0]),
        ("not (a > 1 and b@t > 10)", [1, 0, 0, 0]),
        ("a == 1 or a == 2 and b@t == 10", [1, 0, 0, 0]),  # `and` binds tighter
        ("(a == 1 or a == 2) and b@t == 20", [0, 1, 0, 0]),
        ("A_is_no_column == 1 or a == 1", None),
        ("a < 0.003k AND NOT (b@t >= 2e1)", [1, 0, 0, 0]),
    ],
)
def test_conditions(text: str, expected: list[int] | None) -> None:
    condition = parse_condition(text)
    if expected is None:
        with pytest.raises(InputError, match="A_is_no_column"):
            condition.evaluate(COLUMNS)
        return
    result = condition.evaluate(COLUMNS)
    assert result.dtype == np.bool_
    assert result.tolist() == [bool(value) for value in expected]


def test_a_condition_names_its_metrics_once_and_keeps_its_text() -> None:
    condition = parse_condition(" b@t > 1 and (a < 2 or not b@t < 3) ")
    assert condition.metrics == ("b@t", "a")
    assert str(condition) == "b@t > 1 and (a < 2 or not b@t < 3)"


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("a < 1 and", 10, "a metric name"),
        ("a < 1 b < 2", 7, "'and', 'or' or the end"),
        ("(a < 1", 7, "')'"),
        ("a < 1)", 6, "'and', 'or' or the end"),
        ("not", 4, "a metric name"),
        ("a != 1", 3, "a metric, a comparison or a number"),
        ("a < b", 5, "a number"),
        ("1 < a < 2", 1, "a metric name"),
        ("a < 1 < 2", 7, "'and', 'or' or the end"),
        ("__import__('os').system('ls')", 12, "a metric, a comparison or a number"),
        ("__import__(os)", 11, "one of <=, <, >=, >, =="),
        ("a < 1 & b < 2", 7, "a metric, a comparison or a number"),
        ("a < 1\nor b ? 2", 12, "a metric, a comparison or a number"),
    ],
)
def test_a_wrong_condition_is_shown_with_its_place(text: str, position: int, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_condition(text)
    assert f"at position {position}, expected" in str(caught.value)
    assert expected in str(caught.value)
    assert str(caught.value).count("\n") == 2


def test_depth_is_bounded_and_length_is_not() -> None:
    with pytest.raises(InputError, match="nested parentheses"):
        parse_condition("(" * 5000 + "a < 1" + ")" * 5000)
    assert parse_condition("not " * 5001 + "a < 2").evaluate(COLUMNS).tolist() == [False, True, True, False]
    long = parse_condition(" or ".join(f"a == {i}" for i in range(3, 3000)))
    assert long.evaluate(COLUMNS).tolist() == [False, False, True, False]


_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "==": lambda a, b: a == b,
}
_Parsed = tuple[str, Callable[[Row], bool | None]]


def _comparison(name: str, op: str, number: int) -> _Parsed:
    def holds(row: Row) -> bool | None:
        return None if np.isnan(row[name]) else _OPERATORS[op](row[name], number)

    return f"{name}{op} {number}", holds


def _negated(part: _Parsed) -> _Parsed:
    def holds(row: Row) -> bool | None:
        value = part[1](row)
        return None if value is None else not value

    return f"not ({part[0]})", holds


def _joined(word: str, parts: list[_Parsed]) -> _Parsed:
    """Kleene's three-valued logic: what a column of unknowns should do."""

    def holds(row: Row) -> bool | None:
        values = [part[1](row) for part in parts]
        decisive = word == "or"
        if decisive in values:
            return decisive
        return None if None in values else not decisive

    return f" {word} ".join(f"({text})" for text, _ in parts), holds


conditions = st.recursive(
    st.builds(_comparison, st.sampled_from(["a", "b@t"]), st.sampled_from(list(_OPERATORS)), st.integers(-2, 2)),
    lambda inner: st.one_of(
        inner.map(_negated), st.builds(_joined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=8,
)
values = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0, np.nan]), min_size=4, max_size=4)


@calm
@given(conditions, values, values)
def test_conditions_follow_three_valued_logic(parsed: _Parsed, a: list[float], b: list[float]) -> None:
    text, holds = parsed
    columns: dict[str, NDArray[np.float64]] = {"a": np.array(a), "b@t": np.array(b)}
    expected = [holds({"a": x, "b@t": y}) is True for x, y in zip(a, b, strict=True)]
    assert parse_condition(text).evaluate(columns).tolist() == expected


@calm
@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_budget, parse_condition):
        with contextlib.suppress(InputError):
            parse(text)
