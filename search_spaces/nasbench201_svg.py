"""Draws a NAS-Bench-201 cell as an SVG: four nodes from left to right, an operation on each edge that has one."""

from __future__ import annotations

from typing import Final

import numpy as np

from search_spaces.cell_svg import Box, draw_box, draw_line, svg_document
from search_spaces.nasbench201_cell import EDGES, NONE, live_edges, parse_cell

_MARGIN: Final = 16.0
_NODE: Final = (64.0, 40.0)
_OP: Final = (104.0, 26.0)
_PITCH: Final = 232.0  # between nodes: a node, an operation and room for the curves
_LANE: Final = 46.0
_SPREAD: Final = 9.0  # between the lines of a node
_LANES: Final = (2, 1, 2, 0, 3, 2)  # from above, by edge: long edges pass over or under the nodes
_NODES: Final = ("input", "node 1", "node 2", "output")
_LABELS: Final = ("", "skip", "conv 1×1", "conv 3×3", "avg pool 3×3")


def cell_text_svg(text: str, title: str = "cell") -> str:
    """A standalone SVG of a cell, for a light background; what no path from input to output needs is marked as unused.

    Args:
        text: the cell's published text, see `nasbench201_cell.cell_text`.
        title: read aloud instead of the drawing, and shown on hovering.

    Raises:
        ValueError: it is no such text.
    """
    cell = parse_cell(text)
    is_live = live_edges(cell[None])[0]
    middle = _MARGIN + _LANE * 2.5
    nodes = [Box("input", name, _MARGIN + i * _PITCH, middle - _NODE[1] / 2, *_NODE) for i, name in enumerate(_NODES)]
    boxes, lines = list(nodes), []
    for edge in np.flatnonzero(cell != NONE).tolist():
        source, target = (nodes[node] for node in EDGES[edge])
        centre = (source.x + target.x + _NODE[0]) / 2
        label = _LABELS[cell[edge]] + ("" if is_live[edge] else " (unused)")
        width = _OP[0] + (0 if is_live[edge] else 52)
        y = _MARGIN + _LANE * (_LANES[edge] + 0.5) - _OP[1] / 2
        box = Box("op", label, centre - width / 2, y, width, _OP[1])
        boxes.append(box)
        leave, reach = ((x, y + _SPREAD * (_LANES[edge] - 2)) for x, y in (source.exit, target.entry))
        lines += [(EDGES[edge][0], [leave, box.entry]), (EDGES[edge][0], [box.exit, reach])]
    width, height = nodes[-1].x + _NODE[0] + _MARGIN, 2 * _MARGIN + _LANE * (max(_LANES) + 1)
    parts = [draw_line(state, points) for state, points in lines] + [draw_box(box) for box in boxes]
    return svg_document(width, height, title, parts)
