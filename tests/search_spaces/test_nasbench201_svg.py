"""Drawings of NAS-Bench-201 cells."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from codesign.report_genotype import drawings, rows
from search_spaces.nasbench201_cell import all_cells, cell_text, live_edges
from search_spaces.nasbench201_svg import cell_text_svg

NAMES = {1: "skip", 2: "conv 1×1", 3: "conv 3×3", 4: "avg pool 3×3"}


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    found = [node for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("rect")]
    return [tuple(float(box.attrib[name]) for name in ("x", "y", "width", "height")) for box in found]  # type: ignore[misc]


@pytest.mark.parametrize("row", np.random.default_rng(0).integers(0, 15_625, 40).tolist())
def test_every_operation_is_drawn_once_and_nothing_overlaps(row: int) -> None:
    cell = all_cells()[row]
    svg = cell_text_svg(cell_text(cell), "a <cell>")
    tree = ElementTree.fromstring(svg)
    texts = [node.text or "" for node in tree.iter() if node.tag.endswith("text")]
    live = live_edges(cell[None])[0]
    wanted = [NAMES[int(op)] + ("" if is_live else " (unused)") for op, is_live in zip(cell, live, strict=True) if op]
    assert sorted(texts) == sorted(["input", "node 1", "node 2", "output", *wanted])
    width, height = float(tree.attrib["width"]), float(tree.attrib["height"])
    placed = boxes(svg)
    for i, (x, y, w, h) in enumerate(placed):
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
        for x2, y2, w2, h2 in placed[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_reports_draw_the_cell_and_list_the_rest() -> None:
    genotype = {"cell": cell_text(np.array([3, 0, 0, 1, 2, 0])), "cells": 5, "channels": 16}
    drawn = drawings(genotype, "trial 3")
    assert list(drawn) == ["cell"]
    assert "cell of trial 3" in drawn["cell"]
    assert rows(genotype, list(drawn)) == [("cells", "5"), ("channels", "16")]
    assert drawings({"cell": "something else"}, "trial 3") == {}


def test_a_text_that_is_no_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        cell_text_svg("|none~0|")
