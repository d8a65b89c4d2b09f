"""Cells of NAS-Bench-201: their text, and the classes of equal ones against a slow formal algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.nasbench201_cell import (
    CONV_1X1,
    CONV_3X3,
    EDGES,
    N_CELLS,
    all_cells,
    cell_index,
    cell_text,
    changed_cells,
    classes,
    live_edges,
    parse_cell,
    remove_dead,
    representatives,
)
from tests.search_spaces.nasbench201_oracle import function_of, is_live

CELLS = st.lists(st.integers(0, 4), min_size=6, max_size=6).map(lambda cell: np.array(cell, dtype=np.int64))


@given(CELLS)
def test_text_and_index_are_read_back(cell: np.ndarray) -> None:
    assert parse_cell(cell_text(cell)).tolist() == cell.tolist()
    assert all_cells()[cell_index(cell[None])[0]].tolist() == cell.tolist()


def test_the_text_is_the_published_one() -> None:
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"
    assert parse_cell(text).tolist() == [3, 3, 3, 1, 2, 4]
    assert cell_text(np.array([3, 3, 3, 1, 2, 4])) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not of the form"),
        ("|none~0|+|none~0|none~1|", "is not of the form"),
        ("|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "is not of the form"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|x", "is not of the form"),
        (
            "|none~0|+|none~0|conv~1|+|none~0|none~1|none~2|",
            "cell, edge 2<-1: 'conv' is not an operation; use one of none",
        ),
    ],
)
def test_a_wrong_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cell(text)


def test_live_edges_are_those_on_open_paths() -> None:
    cells = all_cells()
    live = live_edges(cells)
    rows = np.random.default_rng(0).integers(0, N_CELLS, 500)
    assert all(live[row].tolist() == [is_live(cells[row], edge) for edge in range(6)] for row in rows.tolist())


def test_equal_cells_are_those_of_one_function_on_a_sample() -> None:
    rng = np.random.default_rng(1)
    cells, kinds = all_cells(), classes()
    for row in rng.integers(0, N_CELLS, 60).tolist():
        assert function_of(cells[row]) == function_of(representatives()[row])
    chosen = [int(kinds.members[kinds.begin[c]]) for c in rng.permutation(len(kinds.count))[:120].tolist()]
    assert len({function_of(cells[row]) for row in chosen}) == len(chosen)


@pytest.mark.slow
def test_equal_cells_are_those_of_one_function_on_all() -> None:
    live, of_live = np.unique(cell_index(remove_dead(all_cells())), return_inverse=True)
    texts = np.array([function_of(all_cells()[row]) for row in live.tolist()])[of_live]
    pairs = set(zip(texts.tolist(), classes().of.tolist(), strict=True))
    assert len(pairs) == len(set(texts.tolist())) == len(classes().count) == 5_044


def test_classes_hold_cells_with_the_same_weights() -> None:
    """A property that the published text lacks: there, some classes mix numbers of convolutions."""
    live = remove_dead(all_cells())
    n_convs = np.stack([(live == CONV_1X1).sum(axis=1), (live == CONV_3X3).sum(axis=1)], axis=1)
    for equality, n_classes, n_mixed in (("function", 5_044, 0), ("text", 5_390, 337)):
        kinds = classes(equality)
        weights = 9 * n_convs[:, 1] + n_convs[:, 0]
        lowest, highest = np.full(n_classes, 99), np.zeros(n_classes)
        np.minimum.at(lowest, kinds.of, weights)
        np.maximum.at(highest, kinds.of, weights)
        assert len(kinds.count) == n_classes
        assert (lowest != highest).sum() == n_mixed


@pytest.mark.parametrize("equality", ["function", "text"])
def test_the_representative_has_nothing_dead_and_the_fewest_edges(equality: str) -> None:
    chosen = representatives(equality)
    cells = all_cells()
    assert np.array_equal(remove_dead(chosen), chosen)
    assert ((chosen != 0).sum(axis=1) <= (remove_dead(cells) != 0).sum(axis=1)).all()
    assert np.array_equal(chosen[cell_index(chosen)], chosen)
    assert np.array_equal(chosen[cell_index(remove_dead(cells))], chosen)


def test_pooling_distributes_and_shared_convolutions_stay_shared() -> None:
    def same(first: list[int], second: list[int]) -> bool:
        found = representatives()[cell_index(np.array([first, second]))]
        return bool((found[0] == found[1]).all())

    # conv(x) + x pooled at once, or each for itself
    assert same([3, 1, 1, 0, 0, 4], [3, 4, 0, 0, 4, 1])
    assert same([0, 1, 0, 0, 0, 3], [1, 0, 0, 0, 3, 0])  # either node may pass the input on
    assert not same([2, 0, 1, 0, 1, 3], [2, 2, 0, 0, 1, 3])  # one convolution read twice, or two convolutions
    assert not same([2, 0, 3, 0, 0, 1], [3, 0, 2, 0, 0, 1])  # order matters


def test_a_changed_cell_is_one_edge_from_an_equal_one_and_all_are_reached() -> None:
    kinds = classes()
    rng = np.random.default_rng(2)
    cells = representatives()[rng.integers(0, N_CELLS, 200)]
    changed = changed_cells(cells, kinds, rng)
    for cell, new in zip(cells, changed, strict=True):
        own = kinds.of[cell_index(cell[None])[0]]
        members = all_cells()[kinds.members[kinds.begin[own] : kinds.begin[own] + kinds.count[own]]]
        assert ((members != new).sum(axis=1) == 1).any()
        assert kinds.of[cell_index(new[None])[0]] != own
    frontier = {int(kinds.of[0])}  # the empty cell's
    seen = set(frontier)
    while frontier:
        members = np.concatenate([kinds.members[kinds.begin[c] : kinds.begin[c] + kinds.count[c]] for c in frontier])
        places = 5 ** np.arange(len(EDGES) - 1, -1, -1)
        digits = all_cells()[members]
        beside = members[:, None, None] + (np.arange(5) - digits[:, :, None]) * places[:, None]
        frontier = set(kinds.of[beside.ravel()].tolist()) - seen
        seen |= frontier
    assert len(seen) == len(kinds.count)
