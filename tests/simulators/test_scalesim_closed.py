"""Closed forms of SCALE-Sim's accesses against counts over all demands, and columns that wait to be asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.report import Lazy
from simulators.scalesim_closed import CLOSED, DATAFLOWS
from simulators.scalesim_layer import diagonal_words, line_of_word
from tests.simulators.scalesim_oracle import Case, streams

sizes = st.integers(1, 12)
sides = st.integers(1, 5)


@settings(deadline=None)
@given(sizes, sizes, sizes, sides, sides, st.sampled_from(DATAFLOWS))
def test_scratchpad_words_are_all_demands(e: int, f: int, w: int, rows: int, columns: int, dataflow: str) -> None:
    case = Case(dataflow, rows, columns, e, 1, 1, 1, w, f, 1, 1024, 1024, 1024, 0)
    lines, _, _ = streams(case)
    for operand, (name, model) in enumerate(CLOSED.items()):
        counted = sum(len(line[operand]) for line in lines)
        if name == "sram_ofmap_writes" and dataflow == "os":  # the tool adds the array's sides once per fold
            counted += -(-e // rows) * -(-f // columns) * (rows + columns)
        assert model(e, f, w, rows, columns, dataflow) == counted, name


@given(sizes, sizes)
def test_words_of_a_skewed_fold(rows: int, columns: int) -> None:
    lines = [r + c for r in range(rows) for c in range(columns)]
    for x in range(-2, rows + columns + 2):
        assert diagonal_words(x, rows, columns) == sum(line < x for line in lines)
    for n, line in enumerate(sorted(lines)):
        assert line_of_word(n, rows, columns) == line


def test_a_lazy_mapping_makes_each_value_once() -> None:
    made: list[str] = []

    def make(name: str) -> int:
        made.append(name)
        return len(made)

    lazy = Lazy(("a", "b"), make)
    assert list(lazy) == ["a", "b"]
    assert len(lazy) == 2
    assert not made
    assert lazy["b"] == lazy["b"] == 1
    assert dict(lazy) == {"a": 2, "b": 1}
    assert "c" not in lazy
    with pytest.raises(KeyError):
        lazy["c"]
    assert made == ["b", "a"]
