"""Which row of a table stands for which candidate: rows to codes, and codes to groups of equal rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.errors import InputError
from codesign.table_file import TableFile
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import Choice, SearchSpace

_LARGEST_KEY = 2**62


def codes_of_texts(space: SearchSpace, texts: Sequence[str], key: str) -> tuple[IntArray, IntArray]:
    """Codes of the genotypes that a column writes out, as JSON or in a form that the space's `encode` reads.

    Args:
        space: the candidates.
        texts: one per row.
        key: the option that names the column, for messages.

    Returns:
        The codes, shape (k, d), and the rows that they stand in, shape (k,): genotypes that the space does not hold are
        left out.

    Raises:
        InputError: the space holds none of them; the message tells why it refuses the first.
    """
    found: dict[str, IntArray | None] = {}
    first_reason = ""
    for text in texts:
        if text in found:
            continue
        try:
            genotype: Any = json.loads(text) if text.lstrip().startswith("{") else text
            found[text] = space.encode(genotype)  # a space that reads no bare text refuses it
        except (ValueError, TypeError, AttributeError) as error:
            found[text] = None
            first_reason = first_reason or f"{text!r}: {error}"
    rows = [row for row, text in enumerate(texts) if found[text] is not None]
    if not rows:
        raise InputError(f"{key}: no row is a candidate of the space; the first: {first_reason}")
    codes = np.array([found[texts[row]] for row in rows], dtype=np.int64)
    return codes, np.array(rows, dtype=np.int64)


def codes_of_columns(space: SearchSpace, file: TableFile, names: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Codes from one column per choice.

    For a choice between numbers a column holds the value taken; for any other the option's text, or its index.

    Returns:
        As `codes_of_texts`.

    Raises:
        InputError: there are more or fewer columns than choices, or no row is a candidate of the space.
    """
    if len(names) != len(space.choices):
        choices = ", ".join(choice.name for choice in space.choices)
        raise InputError(f"codes: {len(names)} columns for the space's {len(space.choices)} choices ({choices})")
    codes = np.stack([_column(choice, file, name) for choice, name in zip(space.choices, names, strict=True)], axis=1)
    rows = np.flatnonzero((codes >= 0).all(axis=1))
    if len(rows) == 0:
        worst = int(np.argmin((codes >= 0).sum(axis=0)))
        options = ", ".join(map(str, space.choices[worst].options))
        raise InputError(
            f"codes: no row is a candidate of the space; least fits column {names[worst]!r} for the choice "
            f"{space.choices[worst].name!r} ({options}; of texts, their index is read too)"
        )
    return codes[rows], rows


def _column(choice: Choice, file: TableFile, name: str) -> IntArray:
    """The index of each row's option, shape (n_rows,), -1 where it is none."""
    if not file.is_number(name):
        index = {str(option): place for place, option in enumerate(choice.options)}
        return np.array([index.get(text, -1) for text in file.texts("codes", name)], dtype=np.int64)
    values = file.numbers("codes", name)
    is_numeric = all(isinstance(option, int | float) for option in choice.options)
    options: FloatArray = np.array(choice.options if is_numeric else range(len(choice.options)), dtype=np.float64)
    order = np.argsort(options)
    place = np.minimum(np.searchsorted(options[order], values), len(options) - 1)
    return np.where(options[order][place] == values, order[place], -1)


@dataclass(frozen=True, slots=True)
class CodeIndex:
    """Finds the group of equal codes that a code belongs to, by sorted keys; exact for spaces of any size.

    Columns are read as digits of one number; where that would not fit into 62 bits, the numbers so far are replaced by
    their ranks among those of the table, and the reading goes on.

    Attributes:
        n_options: shape (d,).
        ranks: per stretch of columns the sorted distinct numbers of the table; the last are the groups' own.
        ends: where each stretch ends.
    """

    n_options: IntArray
    ranks: tuple[IntArray, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, codes: IntArray, n_options: IntArray) -> CodeIndex:
        """The index of a table's codes, shape (n, d)."""
        ranks: list[IntArray] = []
        ends: list[int] = []
        numbers = np.zeros(len(codes), dtype=np.int64)
        largest = 1
        for column, options in enumerate(n_options.tolist()):
            if largest * options > _LARGEST_KEY:
                distinct, numbers = np.unique(numbers, return_inverse=True)
                ranks.append(distinct)
                ends.append(column)
                largest = len(distinct)
            numbers = numbers * options + codes[:, column]
            largest *= options
        ranks.append(np.unique(numbers))
        ends.append(len(n_options))
        return cls(n_options, tuple(ranks), tuple(ends))

    @property
    def n_groups(self) -> int:
        """Distinct codes of the table."""
        return len(self.ranks[-1])

    def find(self, codes: IntArray) -> IntArray:
        """The group of each code, shape (n,) of (n, d); -1 where the table has none."""
        numbers = np.zeros(len(codes), dtype=np.int64)
        is_there = np.ones(len(codes), dtype=np.bool_)
        begin = 0
        for end, distinct in zip(self.ends, self.ranks, strict=True):
            for column in range(begin, end):
                numbers = numbers * self.n_options[column] + codes[:, column]
            place = np.minimum(np.searchsorted(distinct, numbers), len(distinct) - 1)
            is_there &= distinct[place] == numbers
            numbers, begin = place, end
        return np.asarray(np.where(is_there, numbers, -1))


@dataclass(frozen=True, slots=True)
class Readings:
    """All finite readings of one metric, sorted by group.

    Attributes:
        values: shape (v,).
        begin: shape (g,), where each group's readings begin.
        count: shape (g,), how many there are.
    """

    values: FloatArray
    begin: IntArray
    count: IntArray

    @classmethod
    def of(cls, columns: Sequence[FloatArray], groups: IntArray, n_groups: int) -> Readings:
        """The readings in several columns, each of shape (rows,), of rows that belong to `groups`, shape (rows,)."""
        values = np.stack(columns, axis=1)
        is_read = np.isfinite(values)
        group = np.broadcast_to(groups[:, None], values.shape)[is_read]
        order = np.argsort(group, kind="stable")
        count = np.bincount(group, minlength=n_groups)
        return cls(values[is_read][order], np.cumsum(count) - count, count)

    @property
    def means(self) -> FloatArray:
        """The mean reading of each group, shape (g,); NaN where there is none."""
        group = np.repeat(np.arange(len(self.count)), self.count)
        total = np.bincount(group, weights=self.values, minlength=len(self.count))
        nothing = np.full(len(self.count), np.nan)
        return np.asarray(np.divide(total, self.count, out=nothing, where=self.count > 0))

    def drawn(self, draws: IntArray) -> FloatArray:
        """One reading of each group, shape (g,), chosen by a number per group, shape (g,); NaN where there is none."""
        if len(self.values) == 0:
            return np.full(len(self.count), np.nan)
        chosen = np.minimum(self.begin + draws % np.maximum(self.count, 1), len(self.values) - 1)
        return np.asarray(np.where(self.count > 0, self.values[chosen], np.nan))
