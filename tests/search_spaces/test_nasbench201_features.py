"""What describes a cell: equal for equal functions, counted by hand, and free of the order of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.nasbench201_features import CONV_1X1, CONV_3X3, NONE, PATHS, POOL, SKIP, cell_features

ALL = np.stack(np.unravel_index(np.arange(5**6), (5,) * 6), axis=1).astype(np.int64)
FEATURES = cell_features(ALL)
CELL = st.lists(st.integers(0, 4), min_size=6, max_size=6)


def of(*cell: int) -> np.ndarray:
    return np.asarray(cell_features(np.array([cell], dtype=np.int64))[0])


def normal_form(cell: list[int]) -> tuple[object, ...]:
    """The cell as nested sums: a node is the sorted terms that reach it, a convolution is known by its own edge."""
    nodes: list[list[object]] = [["x"], [], [], []]
    for edge, (source, target) in enumerate(((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))):
        if cell[edge] == NONE or not nodes[source]:
            continue
        if cell[edge] == SKIP:
            nodes[target] += nodes[source]
        else:
            owner = edge if cell[edge] in (CONV_1X1, CONV_3X3) else -1
            nodes[target].append((cell[edge], owner, tuple(sorted(nodes[source], key=str))))
    return tuple(sorted(nodes[3], key=str))


def test_all_cells_are_finite_and_told_apart() -> None:
    assert FEATURES.shape == (5**6, 32)
    assert np.isfinite(FEATURES).all()
    assert len(np.unique(FEATURES.round(9), axis=0)) > 4_000


def test_equal_functions_have_equal_features() -> None:
    rows: dict[tuple[object, ...], int] = {}
    for i, cell in enumerate(ALL.tolist()):
        first = rows.setdefault(normal_form(cell), i)
        assert np.array_equal(FEATURES[i], FEATURES[first]), (cell, ALL[first].tolist())
    assert len(rows) < 12_000  # many are equal


def test_mirrored_cells_are_equal() -> None:
    """Nodes 1 and 2 may change places where no edge joins them."""
    apart = ALL[ALL[:, 2] == NONE]
    np.testing.assert_array_equal(cell_features(apart), cell_features(apart[:, [1, 0, 2, 3, 5, 4]]))


@given(CELL)
def test_dead_edges_do_not_count(cell: list[int]) -> None:
    """An edge that is on no open path may hold any operation but such as opens one."""
    live = {edge for path in PATHS if all(cell[e] != NONE for e in path) for edge in path}
    emptied = [op if edge in live else NONE for edge, op in enumerate(cell)]
    np.testing.assert_array_equal(of(*cell), of(*emptied))


def test_a_cell_counted_by_hand() -> None:
    """3x3, then 1x1 to the output; a skip from the input beside it; a pool that leads nowhere."""
    found = of(CONV_3X3, POOL, NONE, SKIP, CONV_1X1, NONE)
    n_1x1, n_3x3, n_convs, log_convs, log_params = found[:5]
    assert (n_1x1, n_3x3, n_convs) == (1, 1, 2)
    assert log_convs == pytest.approx(np.log(3))
    assert log_params == pytest.approx(np.log(11))
    assert found[5:9].tolist() == [1, 0, 1, 0]  # paths by number of convolutions
    bare, pools, mixed, one_3x3, more_3x3, n_pools = found[9:15].tolist()
    assert (bare, pools, mixed, one_3x3, more_3x3, n_pools) == (1, 0, 0, 1, 0, 0)
    assert found[15:21].tolist() == [0, 1, 0, 1, 0, 0]  # begins with 3x3, ends with 1x1
    assert found[21:29].tolist() == [2, 1, 2, 1, 1, 0.5, 1, 0.5]
    np.testing.assert_allclose(found[29:], np.log1p(1 + 3 * np.array([1.0, 16.0, 256.0])))


def test_no_path_is_all_zero() -> None:
    np.testing.assert_array_equal(of(CONV_3X3, NONE, CONV_3X3, NONE, NONE, NONE), 0.0)


def test_rows_do_not_depend_on_their_batch() -> None:
    np.testing.assert_array_equal(cell_features(ALL[77:78]), FEATURES[77:78])
    assert cell_features(ALL[:0]).shape == (0, 32)
