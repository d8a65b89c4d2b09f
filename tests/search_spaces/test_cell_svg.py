"""The geometry and content of drawn cells."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.cell_svg import Box, cell_layout, cell_svg
from search_spaces.nasnet import NasNet
from search_spaces.nasnet_cell import Block, Cell
from search_spaces.nasnet_published import NASNET_A_NORMAL, NASNET_A_REDUCTION

SVG = "{http://www.w3.org/2000/svg}"
Points = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
CHARACTER_WIDTH = 7.0  # generous, for 12-pixel sans-serif


def random_cell(seed: int, n_blocks: int) -> Cell:
    space = NasNet(image_shape=(1, 8, 8), classes=2, blocks=n_blocks)
    return space.genotype(space.sample(1, np.random.default_rng(seed))[0]).normal


def overlap(a: Box, b: Box) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


def inside(inner: Box, outer: Box) -> bool:
    is_right = outer.x <= inner.x and inner.x + inner.width <= outer.x + outer.width
    return is_right and outer.y <= inner.y and inner.y + inner.height <= outer.y + outer.height


def curve_points(points: list[tuple[float, float]]) -> Points:
    """Points along the drawn curve: a cubic per pair, horizontal at both ends."""
    t = np.linspace(0, 1, 41)[:, None]
    found = []
    for (x0, y0), (x1, y1) in pairwise(points):
        controls = np.array([(x0, y0), ((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1), (x1, y1)])
        found.append(
            (1 - t) ** 3 * controls[0]
            + 3 * (1 - t) ** 2 * t * controls[1]
            + 3 * (1 - t) * t**2 * controls[2]
            + t**3 * controls[3]
        )
    return np.concatenate(found)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10), st.booleans())
def test_boxes_stand_apart_within_the_drawing_and_no_line_crosses_a_block(
    seed: int, n_blocks: int, is_reduction: bool
) -> None:
    layout = cell_layout(random_cell(seed, n_blocks), is_reduction)
    page = Box("page", "", 0, 0, layout.width, layout.height)
    assert all(inside(box, page) for box in layout.boxes)
    outer = [box for box in layout.boxes if box.kind in ("input", "block", "output")]
    inner = [box for box in layout.boxes if box.kind in ("op", "join")]
    assert not any(overlap(a, b) for a, b in combinations(outer, 2))
    assert not any(overlap(a, b) for a, b in combinations(inner, 2))
    assert all(sum(inside(box, frame) for frame in outer) == 1 for box in inner)
    assert all(len(box.text) * CHARACTER_WIDTH <= box.width for box in layout.boxes if box.kind != "block")
    for _, points in layout.lines:
        way = curve_points(points)
        assert way.min() >= 0
        assert (way <= (layout.width, layout.height)).all()
        assert not any(within(way, box).any() for box in inner)
        ends = np.array([points[0], points[-1]])
        strangers = [box for box in outer if not within(ends, box, margin=-1).any()]
        assert not any(within(way, box).any() for box in strangers)


def within(points: Points, box: Box, margin: float = 1) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which points lie inside a box, at least `margin` from its sides."""
    low, high = np.array([box.x, box.y]), np.array([box.x + box.width, box.y + box.height])
    return np.asarray(((points > low + margin) & (points < high - margin)).all(axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_every_half_and_every_output_has_its_line(seed: int) -> None:
    cell = random_cell(seed, 5)
    layout = cell_layout(cell)
    ends = {box.entry: box for box in layout.boxes if box.kind == "op"}
    read = sorted(state for state, points in layout.lines if points[-1] in ends)
    assert read == sorted(state for block in cell.blocks for state in (block.left, block.right))
    output = next(box for box in layout.boxes if box.kind == "output")
    arriving = [state for state, points in layout.lines if points[-1][0] == output.x]
    assert sorted(arriving) == list(cell.outputs)


@pytest.mark.parametrize("cell", [NASNET_A_NORMAL, NASNET_A_REDUCTION])
def test_the_svg_is_well_formed_and_names_every_operation(cell: Cell) -> None:
    root = ElementTree.fromstring(cell_svg(cell.to_dict(), title="a < b"))
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title") == "a < b"
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert sum(text is not None and text.startswith("sep conv") for text in texts) == sum(
        operation.startswith("sep") for block in cell.blocks for operation in (block.left_op, block.right_op)
    )
    assert texts.count("+") == 5
    assert {"current input", "previous cell", "concat, output", "block 4"} <= set(texts)
    assert not re.search(r"\b(id|class|href)=", cell_svg(cell.to_dict()))  # safe beside other drawings on one page


def test_concatenation_a_single_output_and_stride_are_marked() -> None:
    cell = Cell.of([Block(0, 1, "conv1x7_7x1", "identity", "concat"), Block(2, 2, "conv1x1", "maxpool5x5")])
    svg = cell_svg(cell.to_dict(), is_reduction=True)
    texts = [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert {"concat", "+", "output", "conv 1×7, 7×1 /2", "identity /2", "conv 1×1", "max pool 5×5"} <= set(texts)


def test_no_cell_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cell\.blocks: this key is missing"):
        cell_svg({})


def test_blocks_stand_at_the_height_of_what_they_read() -> None:
    cell = Cell.of(
        [Block(0, 0, "identity", "sep3x3"), Block(1, 1, "identity", "sep3x3"), Block(2, 2, "sep3x3", "sep3x3")]
    )
    heights = {box.text: box.y for box in cell_layout(cell).boxes}
    assert heights["previous cell"] < heights["current input"]
    assert heights["block 1"] < heights["block 0"]  # no lines cross
