"""Budgets and front filters: a small grammar that is parsed, never evaluated as code.

    condition  := term ("or" term)*
    term       := factor ("and" factor)*
    factor     := "not" factor | "(" condition ")" | comparison
    comparison := metric ("<=" | "<" | ">=" | ">" | "==") number
    metric     := a name such as `params`, or with its target `latency_ms@edge-16x16`
    number     := 3, -0.5, 1e-3, 1_000_000, or with a suffix: k = 1e3, M = 1e6, G = 1e9

A budget is one comparison with `<=`, `<`, `>=` or `>`. The words `and`, `or`, `not` may be in capitals.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from codesign.errors import InputError, nearest

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_SUFFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_WORDS = ("and", "or", "not")
_MAX_DEPTH = 100

_TOKEN = re.compile(
    r"""(?P<number>[+-]?(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?P<suffix>[A-Za-z%]*))
      | (?P<name>[A-Za-z_]\w*(?:@[\w.-]*\w)?)
      | (?P<operator><=|>=|==|<|>)
      | (?P<bracket>[()])""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[FloatArray, float], BoolArray]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_NEGATED = {"<=": ">", "<": ">=", ">=": "<", ">": "<=", "==": "!=", "!=": "=="}


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one metric.

    Attributes:
        metric: its name.
        upper: True for an upper limit, False for a lower one.
        limit: the last value that is allowed. A strict budget keeps the nearest float inside its bound, so that
            `params < 60000` refuses 60000 itself.
        text: what the user wrote.
    """

    metric: str
    upper: bool
    limit: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric against a number; `op` is one of `<=`, `<`, `>=`, `>`, `==`, `!=`."""

    metric: str
    op: str
    number: float


@dataclass(frozen=True, slots=True)
class Junction:
    """Several parts that must all hold (`every`), or at least one."""

    every: bool
    parts: tuple[Comparison | Junction, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed filter. `not` is already resolved: it turned round the comparisons below it.

    Attributes:
        text: what the user wrote.
        root: the comparisons and how they are joined.
        metrics: the names used, in order of appearance, each once.
    """

    text: str
    root: Comparison | Junction
    metrics: tuple[str, ...]

    def evaluate(self, columns: Mapping[str, FloatArray]) -> BoolArray:
        """Which rows satisfy the condition.

        Args:
            columns: metric name to values, shape (n,).

        Returns:
            Shape (n,). A comparison with NaN is False, under `not` as well: what is unknown passes no filter.

        Raises:
            InputError: a metric of the condition is not among the columns.
        """
        for name in self.metrics:
            if name not in columns:
                raise InputError.about(f"metric in {self.text!r}", name, columns)
        return _evaluate(self.root, columns)

    def __str__(self) -> str:
        return self.text


def parse_budget(text: str, known: Iterable[str] | None = None, key: str = "budgets") -> Budget:
    """Read a budget such as `params <= 60k` or `latency_ms@edge < 0.5`.

    Args:
        text: one comparison with `<=`, `<`, `>=` or `>`.
        known: the metrics that exist; None accepts any name.
        key: where the text stands, for the error message.

    Raises:
        InputError: the text is not such a comparison, or its metric is unknown.
    """
    parser = _Parser(text, known, key)
    comparison = parser.comparison(("<=", "<", ">=", ">"), "one of <=, <, >=, >")
    parser.end("the end: a budget is one comparison; write further ones as further budgets")
    upper = comparison.op in ("<=", "<")
    limit = comparison.number
    if comparison.op in ("<", ">"):
        limit = math.nextafter(limit, -math.inf if upper else math.inf)
    return Budget(comparison.metric, upper, limit, text.strip())


def parse_condition(text: str, known: Iterable[str] | None = None, key: str = "where") -> Condition:
    """Read a filter such as `accuracy >= 0.9 and not (params > 1M or latency_ms@edge > 2)`.

    Args:
        text: comparisons joined by `and`, `or`, `not` and parentheses.
        known: the metrics that exist; None accepts any name.
        key: where the text stands, for the error message.

    Raises:
        InputError: the text does not follow the grammar, or names an unknown metric.
    """
    parser = _Parser(text, known, key)
    root = parser.condition(negated=False, depth=0)
    parser.end("'and', 'or' or the end")
    return Condition(text.strip(), root, tuple(parser.metrics))


def _evaluate(node: Comparison | Junction, columns: Mapping[str, FloatArray]) -> BoolArray:
    if isinstance(node, Comparison):
        values = np.asarray(columns[node.metric], dtype=np.float64)
        holds = _COMPARE[node.op](values, node.number)
        return holds & ~np.isnan(values) if node.op == "!=" else holds
    join = np.logical_and if node.every else np.logical_or
    result = _evaluate(node.parts[0], columns)
    for part in node.parts[1:]:
        result = join(result, _evaluate(part, columns))
    return result


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "number", "name", "operator", "bracket" or "end"
    text: str
    start: int


class _Parser:
    """Recursive descent over the tokens of one text; `negated` travels down, so that the tree holds no `not`."""

    def __init__(self, text: str, known: Iterable[str] | None, key: str) -> None:
        if not isinstance(text, str):
            raise InputError.about(key, text, "a text such as 'params <= 60k'")
        self._text = text
        self._key = key
        self._known = None if known is None else [str(name) for name in known]
        self._tokens = self._split()
        self._next = 0
        self.metrics: dict[str, None] = {}

    def condition(self, negated: bool, depth: int) -> Comparison | Junction:
        if depth > _MAX_DEPTH:
            self._refuse(f"at most {_MAX_DEPTH} nested parentheses and 'not'")
        parts = [self._term(negated, depth)]
        while self._take_word("or"):
            parts.append(self._term(negated, depth))
        return parts[0] if len(parts) == 1 else Junction(negated, tuple(parts))

    def comparison(self, operators: tuple[str, ...], described: str) -> Comparison:
        name = self._peek
        if name.kind != "name" or name.text.lower() in _WORDS:
            self._refuse("a metric name, such as params or latency_ms@edge")
        if self._known is not None and name.text not in self._known:
            hint = nearest(name.text, self._known)
            suggestion = f"; did you mean {hint!r}?" if hint else ""
            self._refuse(f"one of {', '.join(self._known) or 'no metric'}{suggestion}")
        self._next += 1
        op = self._peek
        if op.kind != "operator" or op.text not in operators:
            self._refuse(described)
        self._next += 1
        number = self._number()
        self.metrics[name.text] = None
        return Comparison(name.text, op.text, number)

    def end(self, expected: str) -> None:
        if self._peek.kind != "end":
            self._refuse(expected)

    def _term(self, negated: bool, depth: int) -> Comparison | Junction:
        parts = [self._factor(negated, depth)]
        while self._take_word("and"):
            parts.append(self._factor(negated, depth))
        return parts[0] if len(parts) == 1 else Junction(not negated, tuple(parts))

    def _factor(self, negated: bool, depth: int) -> Comparison | Junction:
        while self._take_word("not"):
            negated = not negated
        if self._peek.text == "(":
            self._next += 1
            inside = self.condition(negated, depth + 1)
            if self._peek.text != ")":
                self._refuse("'and', 'or' or ')'")
            self._next += 1
            return inside
        found = self.comparison(tuple(_COMPARE)[:5], "one of <=, <, >=, >, ==")
        return replace(found, op=_NEGATED[found.op]) if negated else found

    def _number(self) -> float:
        token = self._peek
        match = _TOKEN.fullmatch(token.text) if token.kind == "number" else None
        if match is None:
            self._refuse("a number, such as 60k, 1.5M or 1e-3")
        suffix = match["suffix"]
        if suffix not in _SUFFIXES:
            self._refuse("a plain number: units and percent signs are not read; the suffixes are k, M and G")
        value = float(token.text.removesuffix(suffix)) * _SUFFIXES[suffix]
        if not math.isfinite(value):
            self._refuse("a finite number")
        self._next += 1
        return value

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take_word(self, word: str) -> bool:
        found = self._peek.kind == "name" and self._peek.text.lower() == word
        self._next += found
        return found

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while True:
            position += len(self._text[position:]) - len(self._text[position:].lstrip())
            if position == len(self._text):
                return [*tokens, _Token("end", "", position)]
            match = _TOKEN.match(self._text, position)
            if match is None:
                self._fail("a metric, a comparison or a number", self._text[position], position)
            kind = next(name for name in ("number", "name", "operator", "bracket") if match[name] is not None)
            tokens.append(_Token(kind, match[0], position))
            position = match.end()

    def _refuse(self, expected: str) -> NoReturn:
        self._fail(expected, self._peek.text, self._peek.start)

    def _fail(self, expected: str, found: str, position: int) -> NoReturn:
        what = f"found {found!r}" if found else "found the end"
        line = re.sub(r"\s", " ", self._text)
        raise InputError(
            f"{self._key}: {what} at position {position + 1}, expected {expected}\n  {line}\n  {' ' * position}^"
        )
