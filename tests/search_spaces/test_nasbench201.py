"""The NAS-Bench-201 space: published counts, counts edge by edge, genotypes, merging."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codesign.testing import check_space
from search_spaces.nasbench201 import NasBench201
from search_spaces.nasbench201_cell import N_CELLS, all_cells, cell_text, parse_cell, remove_dead
from search_spaces.ops import OpKind, total_macs, total_params

# cell, parameters and multiply-accumulates for 10 classes, the same for 100 (NATS-Bench, topology space)
PUBLISHED = [
    ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 73_306, 7_783_040, 79_156, 7_788_800),
    (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|",
        *(1_073_466, 153_272_960, 1_079_316, 153_278_720),
    ),
    (
        "|skip_connect~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|nor_conv_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|",
        *(858_426, 121_815_680, 864_276, 121_821_440),
    ),
    (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        *(129_306, 15_647_360, 135_156, 15_653_120),
    ),
    (
        "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|nor_conv_3x3~2|",
        *(344_346, 47_104_640, 350_196, 47_110_400),
    ),
]
ALL = NasBench201(merge_equal=False)
MERGED = NasBench201()


@pytest.mark.parametrize(("text", "params", "macs", "params_100", "macs_100"), PUBLISHED)
def test_counts_are_the_published_ones(text: str, params: int, macs: int, params_100: int, macs_100: int) -> None:
    for classes, expected in ((10, (params, macs)), (100, (params_100, macs_100))):
        table = NasBench201(merge_equal=False, classes=classes).ops(parse_cell(text)[None])
        assert (total_params(table)[0], total_macs(table)[0]) == expected


def test_counts_of_every_cell_add_up_edge_by_edge() -> None:
    """Per edge and stage of C channels and P pixels: k k C C weights, 2 C of its norm, k k C C P multiplications."""
    cells = all_cells()
    params, macs = np.full(N_CELLS, 73_306), np.full(N_CELLS, 7_783_040)
    for channels, pixels in ((16, 1024), (32, 256), (64, 64)):
        for operation, weights in ((2, channels**2), (3, 9 * channels**2)):
            n_edges = (cells == operation).sum(axis=1)
            params += 5 * n_edges * (weights + 2 * channels)
            macs += 5 * n_edges * weights * pixels
    table = ALL.ops(cells)
    assert np.array_equal(total_params(table), params)
    assert np.array_equal(total_macs(table), macs)
    assert (params.min(), params.max()) == (73_306, 1_531_546)


def test_merged_cells_count_what_is_live() -> None:
    cells = all_cells()[::7]
    merged, live = MERGED.ops(cells), ALL.ops(remove_dead(cells))
    assert np.array_equal(total_params(merged), total_params(live))
    assert np.array_equal(total_macs(merged), total_macs(live))


def test_a_sum_of_k_edges_is_k_minus_one_additions_in_each_of_15_cells() -> None:
    code = np.array([[1, 1, 1, 1, 1, 1]])
    table = ALL.ops(code)
    is_add = (table.kind == OpKind.ADD) & (table.repeat == 5)
    assert table.repeat[is_add].sum() == 3 * 5 * (0 + 1 + 2)
    assert (table.kind == OpKind.ADD).sum() - is_add.sum() == 2  # the residual blocks'
    assert len(ALL.ops(np.array([[0, 0, 0, 1, 0, 0]]))) == len(ALL.ops(np.zeros((1, 6), dtype=np.int64)))


def test_the_floor_is_below_every_candidate() -> None:
    floor = ALL.floor().table
    assert total_macs(floor)[0] == total_macs(ALL.ops(all_cells())).min()


@pytest.mark.parametrize("options", [{}, {"merge_equal": False}, {"equality": "text"}])
def test_keeps_the_promises_of_a_space(options: dict[str, Any]) -> None:
    check_space(NasBench201(**options), np.random.default_rng(0))
    check_space(NasBench201(image_shape=(1, 9, 14), channels=3, cells=2, **options), np.random.default_rng(1))


def test_mutants_of_merged_cells_are_other_candidates() -> None:
    codes = MERGED.canonical(MERGED.sample(300, np.random.default_rng(3)))
    mutants = MERGED.canonical(MERGED.mutate(codes, np.random.default_rng(4)))
    assert (mutants != codes).any(axis=1).all()
    assert MERGED.mutate(codes[:0], np.random.default_rng(4)).shape == (0, 6)


def test_features_are_equal_for_equal_cells() -> None:
    codes = MERGED.sample(200, np.random.default_rng(5))
    assert np.array_equal(MERGED.features(codes), MERGED.features(MERGED.canonical(codes)))
    assert np.isfinite(ALL.features(codes)).all()


def test_genotypes_are_read_as_text_edges_or_whole() -> None:
    code = np.array([3, 0, 4, 1, 2, 3])
    genotype = MERGED.decode(code)
    assert genotype == {"cell": cell_text(code), "cells": 5, "channels": 16}
    edges = ["nor_conv_3x3", "none", "avg_pool_3x3", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"]
    for form in (genotype, cell_text(code), {"cell": cell_text(code)}, {"edges": edges}):
        assert MERGED.encode(form).tolist() == code.tolist()


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ({}, "either 'cell' .* or 'edges'"),
        ({"cell": "|", "edges": []}, "either 'cell' .* or 'edges'"),
        ({"cell": 3}, "cell: 3 is not a text"),
        ({"edges": ["none"]}, "is not a list of 6 operations"),
        ({"edges": ["none"] * 5 + ["conv"]}, "edges, 3<-2: 'conv' is not an operation"),
        ({"edges": ["none"] * 6, "cells": 3}, "cells: 3 differs from the space's 5"),
        ({"edges": ["none"] * 6, "depth": 3}, "this one has \\['depth', 'edges'\\]"),
    ],
)
def test_a_wrong_genotype_is_refused(genotype: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MERGED.encode(genotype)


@pytest.mark.parametrize(
    "options", [{"cells": 0}, {"channels": 0}, {"classes": 0}, {"image_shape": (3, 0, 8)}, {"equality": "name"}]
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        NasBench201(**options)


def test_a_wrong_code_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1: edge 2<-1: 5 is not one of 0..4"):
        MERGED.canonical(np.array([[0] * 6, [0, 0, 5, 0, 0, 0]]))
