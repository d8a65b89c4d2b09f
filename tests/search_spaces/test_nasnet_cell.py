"""Cells as data, and the canonical form against a slow one that tries every order of the blocks."""

from __future__ import annotations

import json
import re
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.nasnet_cell import OPERATIONS, Block, Cell, NasNetGenotype, canonical_blocks, derived_outputs
from search_spaces.nasnet_published import NASNET_A_NORMAL, NASNET_A_REDUCTION

Row = tuple[int, int, int, int, int]
SlowForm = tuple[tuple[tuple[int, int], tuple[int, int], int], ...]


def slow_form(cell: tuple[Row, ...]) -> SlowForm:
    """The least of all ways to write the cell down: every order of the blocks, each block's halves sorted."""
    forms = []
    for order in permutations(range(len(cell))):
        names = {0: 0, 1: 1} | {2 + block: 2 + place for place, block in enumerate(order)}
        form = []
        for place, block in enumerate(order):
            left, right, left_op, right_op, combine = cell[block]
            low, high = sorted(((names[left], left_op), (names[right], right_op)))
            if high[0] >= 2 + place:
                break
            form.append((high, low, combine))
        else:
            forms.append(tuple(form))
    return min(forms)


def rows_of(form: SlowForm) -> tuple[Row, ...]:
    return tuple((low[0], high[0], low[1], high[1], combine) for high, low, combine in form)


def all_cells(n_blocks: int, n_operations: int, n_combinations: int) -> list[tuple[Row, ...]]:
    ops = range(n_operations)
    per_block = [list(product(range(2 + b), range(2 + b), ops, ops, range(n_combinations))) for b in range(n_blocks)]
    return list(product(*per_block))


@pytest.mark.parametrize(("n_blocks", "n_operations", "n_combinations"), [(1, 3, 2), (2, 2, 2), (3, 1, 2), (4, 1, 1)])
def test_canonical_form_of_every_cell_of_a_small_space_is_the_slow_one(
    n_blocks: int, n_operations: int, n_combinations: int
) -> None:
    cells = all_cells(n_blocks, n_operations, n_combinations)
    fast = canonical_blocks(np.array(cells), n_operations)
    slow = [rows_of(slow_form(cell)) for cell in cells]
    assert fast.tolist() == np.array(slow).tolist()
    assert len({tuple(map(tuple, cell)) for cell in fast.tolist()}) == len(set(slow)) < len(cells)


@st.composite
def cells_and_relabellings(draw: st.DrawFn) -> tuple[tuple[Row, ...], tuple[Row, ...], int]:
    """A cell with many equal blocks, and the same cell in another order with some halves swapped."""
    n_operations = draw(st.integers(1, 2))
    n_blocks = draw(st.integers(1, 5))
    op, combine = st.integers(0, n_operations - 1), st.integers(0, 1)
    cell = tuple(
        (draw(st.integers(0, 1 + b)), draw(st.integers(0, 1 + b)), draw(op), draw(op), draw(combine))
        for b in range(n_blocks)
    )
    order: list[int] = []
    while len(order) < n_blocks:
        placed = {0, 1, *(2 + b for b in order)}
        ready = [b for b in range(n_blocks) if b not in order and {cell[b][0], cell[b][1]} <= placed]
        order.append(draw(st.sampled_from(ready)))
    names = {0: 0, 1: 1} | {2 + block: 2 + place for place, block in enumerate(order)}
    other = []
    for block in order:
        left, right, left_op, right_op, joined = cell[block]
        halves = [(names[left], left_op), (names[right], right_op)]
        if draw(st.booleans()):
            halves.reverse()
        other.append((halves[0][0], halves[1][0], halves[0][1], halves[1][1], joined))
    return cell, tuple(other), n_operations


@settings(deadline=None, max_examples=300)
@given(cells_and_relabellings())
def test_relabelled_cells_have_one_canonical_form(case: tuple[tuple[Row, ...], tuple[Row, ...], int]) -> None:
    cell, other, n_operations = case
    forms = canonical_blocks(np.array([cell, other]), n_operations)
    assert forms[0].tolist() == forms[1].tolist() == np.array(rows_of(slow_form(cell))).tolist()
    assert np.array_equal(canonical_blocks(forms, n_operations), forms)


def test_twins_that_differ_in_their_readers_alone_are_told_apart() -> None:
    twins = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0))
    both_read = np.array([(*twins, (2, 3, 0, 0, 0))])
    one_read = np.array([(*twins, (2, 2, 0, 0, 0))])
    other_read = np.array([(*twins, (3, 3, 0, 0, 0))])
    assert not np.array_equal(canonical_blocks(both_read, 1), canonical_blocks(one_read, 1))
    assert np.array_equal(canonical_blocks(other_read, 1), canonical_blocks(one_read, 1))


def test_ten_equal_blocks_do_not_branch_into_millions_of_orders() -> None:
    cells = np.zeros((50, 10, 5), dtype=np.int64)
    assert np.array_equal(canonical_blocks(cells, 13), cells)


def test_no_cells_have_no_canonical_forms() -> None:
    assert canonical_blocks(np.zeros((0, 3, 5), dtype=np.int64), 13).shape == (0, 3, 5)


def test_derived_outputs_are_the_made_states_that_no_block_reads() -> None:
    sources = np.array([[[0, 1], [2, 0], [0, 0]]])
    assert derived_outputs(sources).tolist() == [[False, False, False, True, True]]
    cell = Cell.of([Block(a, b, "identity", "identity") for a, b in sources[0].tolist()])
    assert cell.outputs == (3, 4)
    assert cell.has_derived_outputs
    assert not NASNET_A_NORMAL.has_derived_outputs  # it passes on state 1
    assert not NASNET_A_REDUCTION.has_derived_outputs  # it outputs state 3, which a block reads


def test_genotypes_round_trip_through_json() -> None:
    genotype = NasNetGenotype(NASNET_A_NORMAL, NASNET_A_REDUCTION, 2, 32)
    assert NasNetGenotype.from_dict(json.loads(json.dumps(genotype.to_dict()))) == genotype


def test_outputs_and_combine_may_be_left_out_of_a_cell() -> None:
    block = {"left": 0, "right": 1, "left_op": "sep3x3", "right_op": "identity"}
    assert Cell.from_dict({"blocks": [block]}) == Cell.of([Block(0, 1, "sep3x3", "identity", "add")])


def test_the_thirteen_operations_of_the_paper() -> None:
    assert len(set(OPERATIONS)) == 13


BLOCK = {"left": 0, "right": 1, "left_op": "sep3x3", "right_op": "identity", "combine": "add"}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"blocks": []}, "normal.blocks: a cell needs at least 1 block"),
        ({"blocks": [{**BLOCK, "right": 2}]}, "normal.blocks[0].right: state 2 is not one of 0..1"),
        ({"blocks": [{**BLOCK, "left": -1}]}, "normal.blocks[0].left: state -1 is not one of 0..1"),
        ({"blocks": [{**BLOCK, "left": True}]}, "normal.blocks[0].left: True is not a whole number"),
        ({"blocks": [{**BLOCK, "left_op": "sep3x4"}]}, "normal.blocks[0].left_op: 'sep3x4' is not one of"),
        ({"blocks": [{**BLOCK, "combine": "adds"}]}, "did you mean 'add'?"),
        ({"blocks": [{**BLOCK, "op": 1}]}, "unknown key in normal.blocks[0]: 'op'"),
        ({"blocks": [{"left": 0}]}, "normal.blocks[0].right: this key is missing"),
        ({"blocks": "x"}, "normal.blocks: 'x' is not a list"),
        ([], "normal: [] is not a mapping"),
        ({"blocks": [BLOCK], "outputs": [2, 1]}, "normal.outputs: [2, 1] must be one or more states in ascending"),
        ({"blocks": [BLOCK], "outputs": []}, "normal.outputs: [] must be one or more"),
        ({"blocks": [BLOCK], "outputs": [3]}, "normal.outputs: [3] are not all in 0..2"),
        ({"blocks": [BLOCK], "outputs": [1]}, "normal.outputs: state 2 is neither read by a block nor an output"),
    ],
)
def test_a_wrong_cell_is_refused_with_the_key_and_the_value(cell: object, message: str) -> None:
    good = {"blocks": [BLOCK]}
    with pytest.raises(ValueError, match=re.escape(message)):
        NasNetGenotype.from_dict({"normal": cell, "reduction": good, "cells": 1, "channels": 4})


def test_a_genotype_is_refused_whose_cells_differ_in_blocks_or_whose_counts_are_below_one() -> None:
    one, two = Cell.of([Block(0, 0, "identity", "identity")]), Cell.of([Block(0, 0, "identity", "identity")] * 2)
    with pytest.raises(ValueError, match="equally many"):
        NasNetGenotype(one, two, 1, 4)
    with pytest.raises(ValueError, match="cells: 0 is not allowed"):
        NasNetGenotype(one, one, 0, 4)
    with pytest.raises(ValueError, match="channels: -4 is not allowed"):
        NasNetGenotype(one, one, 1, -4)
