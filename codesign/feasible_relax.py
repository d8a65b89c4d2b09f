"""Which budgets conflict, and by how much each would have to give way: from metrics of candidates, or of bounds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import combinations

import numpy as np

from codesign.expressions import Budget, parse_budget
from codesign.feasible_problem import BoolArray, Problem
from codesign.trial import FloatArray

_DIGITS = 3
_SCALES = {"": 0, "k": 3, "M": 6, "G": 9}
_LARGEST_SUBSET = 4
_MANY = 16
_PARTS = re.compile(r"(?P<metric>\S+?)\s*(?P<op><=|>=|<|>)\s*[^A-Za-z]*?[0-9._]+(?:[eE][+-]?[0-9]+)?(?P<suffix>[kMG]?)")


@dataclass(frozen=True, slots=True)
class Relaxation:
    """What one budget would have to be, all others kept.

    Attributes:
        budget: as the job has it.
        text: the budget to write instead, which a known candidate keeps together with all others; "" if none is known.
        value: that candidate's metric; NaN if none is known.
        least: no limit tighter than this can be met with the others kept; NaN if nothing is proven.
        is_useless: it is proven that no change of this budget alone helps.
    """

    budget: Budget
    text: str
    value: float
    least: float
    is_useless: bool = False


@dataclass(frozen=True, slots=True)
class Together:
    """All conflicting budgets widened by one factor at most, the others kept.

    Attributes:
        factor: above 1, the smallest with which a known candidate keeps them.
        texts: the conflicting budgets to write instead, none wider than that candidate needs.
    """

    factor: float
    texts: tuple[str, ...]


def conflicts(meets: BoolArray) -> tuple[tuple[int, ...], ...]:
    """The minimal sets of budgets that no row keeps together, the smallest first.

    Args:
        meets: shape (n, k), which budgets each row keeps.

    Returns:
        Sets of columns, ascending; no set holds another. With many budgets only sets of up to four are looked for,
        and if there is none, all columns together are given.
    """
    k = meets.shape[1]
    patterns = np.unique(meets, axis=0) if len(meets) else np.zeros((0, k), dtype=np.bool_)
    if patterns.all(axis=1).any():
        return ()
    found: list[tuple[int, ...]] = []
    for size in range(1, (k if k <= _MANY else _LARGEST_SUBSET) + 1):
        for columns in combinations(range(k), size):
            is_minimal = not any(set(smaller) <= set(columns) for smaller in found)
            if is_minimal and not patterns[:, list(columns)].all(axis=1).any():
                found.append(columns)
    return tuple(found) or (tuple(range(k)),)


def best_with_others(problem: Problem, values: FloatArray, column: int) -> float:
    """The best metric of one budget among rows that keep all others; NaN if no row does."""
    meets = problem.meets(values)
    meets[:, column] = ~np.isnan(values[:, column])
    left = values[meets.all(axis=1), column]
    if len(left) == 0:
        return math.nan
    return float(left.min() if problem.budgets[column].upper else left.max())


def relaxation(problem: Problem, column: int, values: FloatArray, proven: FloatArray | None) -> Relaxation:
    """The nearest relaxation of one budget.

    Args:
        problem: the budgets.
        column: which budget.
        values: shape (n, k), metrics of candidates.
        proven: shape (m, k), rows that bound all candidates; None if nothing is proven.
    """
    budget = problem.budgets[column]
    value = best_with_others(problem, values, column)
    least = math.nan if proven is None else best_with_others(problem, proven, column)
    least = least if math.isfinite(least) else math.nan
    is_useless = proven is not None and math.isnan(best_with_others(problem, proven, column))
    return Relaxation(budget, "" if math.isnan(value) else widened(budget, value), value, least, is_useless)


def factors(problem: Problem, values: FloatArray, columns: Sequence[int]) -> FloatArray:
    """By what factor the limits of the given budgets must widen for each row, shape (n,); inf if that cannot help.

    1 where they need not; inf too where another budget is not kept.
    """
    return np.asarray(_needs(problem, values, columns).max(axis=1, initial=1.0))


def _needs(problem: Problem, values: FloatArray, columns: Sequence[int]) -> FloatArray:
    """By what factor each of the given budgets must widen for each row, shape (n, number of columns); see `factors`."""
    meets = problem.meets(values)
    others = [j for j in range(meets.shape[1]) if j not in columns]
    cannot = np.isnan(values).any(axis=1) | ~meets[:, others].all(axis=1)
    needs = np.ones((len(values), len(columns)))
    for place, j in enumerate(columns):
        budget = problem.budgets[j]
        above, below = (values[:, j], budget.limit) if budget.upper else (budget.limit, values[:, j])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where((np.asarray(below) > 0) & (np.asarray(above) > 0), np.divide(above, below), np.inf)
        needs[:, place] = np.where(cannot, np.inf, np.where(meets[:, j], 1.0, ratio))
    return needs


def together(problem: Problem, values: FloatArray, columns: Sequence[int]) -> Together | None:
    """The smallest common factor on the given budgets that a row keeps; None if no row does, or there is one budget."""
    needs = _needs(problem, values, columns)
    needed = needs.max(axis=1, initial=1.0)
    if len(columns) < 2 or len(needed) == 0 or not np.isfinite(needed.min()):
        return None
    factor = float(needed.min())
    alike = np.flatnonzero(needed <= factor)
    row = int(alike[np.log(needs[alike]).sum(axis=1).argmin()])  # of those alike the one that asks for least beside
    budgets = [problem.budgets[j] for j in columns]
    held = values[row, list(columns)].tolist()
    is_kept = (needs[row] == 1.0).tolist()
    texts = [b.text if kept else widened(b, value) for b, value, kept in zip(budgets, held, is_kept, strict=True)]
    return Together(factor, tuple(texts))


def widened(budget: Budget, value: float) -> str:
    """The budget with a limit that admits a value, in three digits and in the unit of the budget's own text.

    Raises:
        ValueError: the value is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"{budget.text!r} cannot be widened to {value}")
    match = _PARTS.fullmatch(budget.text)
    op, suffix = (match["op"], match["suffix"]) if match else ("<=" if budget.upper else ">=", "")
    rounding = ROUND_CEILING if budget.upper else ROUND_FLOOR
    number = Decimal(value).scaleb(-_SCALES[suffix])
    exponent = (number.adjusted() if number else 0) - (_DIGITS - 1)
    if value == int(value) and not suffix and abs(value) < 10**_DIGITS:
        exponent = 0
    step = Decimal(1).scaleb(exponent)
    number = (number / step).to_integral_value(rounding) * step
    while True:
        text = f"{budget.metric} {op} {_plain(number)}{suffix}"
        limit = parse_budget(text).limit
        if (value <= limit) if budget.upper else (value >= limit):
            return text
        number += step if budget.upper else -step  # a strict budget, or a float just beside the decimal


def _plain(number: Decimal) -> str:
    """Without an exponent and without trailing zeros behind the point."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
