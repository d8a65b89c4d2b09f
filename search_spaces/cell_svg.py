"""Draws a cell as an SVG: inputs on the left, blocks in columns by depth, the output on the right.

Each block is a frame with its two operations and the sign that joins them; each line has the colour of the state it
carries. A line that must pass a column gets a lane of its own there, so that no line crosses a block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Final

from search_spaces.nasnet_cell import N_INPUTS, Block, Cell

_MARGIN: Final = 16.0
_GAP_X: Final = 64.0  # between columns, for the curves
_GAP_Y: Final = 18.0
_LANE_HEIGHT: Final = 6.0
_OP: Final = (122.0, 26.0)
_BLOCK: Final = (214.0, 88.0)
_END: Final = (104.0, 40.0)
_OP_GAP: Final = 6.0
_HEAD: Final = 20.0  # of a block's frame, above its operations
_JOIN_HEIGHT: Final = 26.0
_JOINS: Final = {"add": ("+", 26.0), "concat": ("concat", 46.0)}
_FONT: Final = "font-family='system-ui, sans-serif' font-size='12'"
_INK: Final = "#1f2430"
_STATE_COLOURS: Final = ("#0b66c3", "#c2410c", "#15803d", "#7c3aed", "#be185d", "#0f766e", "#854d0e", "#475569")
_PLAIN: Final = "#eceff3"
_BLUE: Final = "#dbeafe"
_FAMILY_COLOURS: Final = {"identity": _PLAIN, "skip": _PLAIN, "conv": _BLUE, "dilated": _BLUE, "sep": "#ede9fe"}
_POOL_COLOUR: Final = "#dcfce7"
_LABELS: Final = {
    "conv1x1": "conv 1×1",
    "conv3x3": "conv 3×3",
    "conv1x3_3x1": "conv 1×3, 3×1",
    "conv1x7_7x1": "conv 1×7, 7×1",
    "dilated3x3": "dilated 3×3",
    "avgpool3x3": "avg pool 3×3",
    "maxpool3x3": "max pool 3×3",
    "maxpool5x5": "max pool 5×5",
    "maxpool7x7": "max pool 7×7",
    "sep3x3": "sep conv 3×3",
    "sep5x5": "sep conv 5×5",
    "sep7x7": "sep conv 7×7",
}

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the drawing.

    Attributes:
        kind: "input", "block", "op", "join" or "output".
        text: what stands in it; for a block, above its operations.
        x, y: upper left corner, in pixels.
        width, height: in pixels.
    """

    kind: str
    text: str
    x: float
    y: float
    width: float
    height: float

    @property
    def entry(self) -> Point:
        """Middle of the left side."""
        return self.x, self.y + self.height / 2

    @property
    def exit(self) -> Point:
        """Middle of the right side."""
        return self.x + self.width, self.y + self.height / 2


@dataclass(slots=True)
class Layout:
    """Where everything of a drawing is.

    Attributes:
        boxes: all rectangles; operations and joins lie inside their block.
        lines: (state, points): a polyline that carries a state, drawn with smooth bends.
        width, height: of the whole, in pixels.
    """

    boxes: list[Box] = field(default_factory=list)
    lines: list[tuple[int, list[Point]]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


@dataclass(slots=True)
class _Item:
    """What a column holds: a state's maker (input or block), the output, or a lane for a passing state."""

    kind: str
    state: int
    sources: tuple[int, ...]
    y: float = 0.0

    @property
    def height(self) -> float:
        return {"block": _BLOCK[1], "lane": _LANE_HEIGHT}.get(self.kind, _END[1])

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def cell_svg(cell: Mapping[str, object], title: str = "cell", is_reduction: bool = False) -> str:
    """A standalone SVG of a cell, for a light background.

    Args:
        cell: as `nasnet_cell.Cell.to_dict` writes it.
        title: read aloud instead of the drawing, and shown on hovering.
        is_reduction: mark the operations on the cell's inputs, which then have stride 2.

    Raises:
        ValueError: it is no cell.
    """
    parsed = Cell.from_dict(cell)
    layout = cell_layout(parsed, is_reduction)
    parts = [draw_box(box) for box in layout.boxes if box.kind == "block"]
    parts += [draw_line(state, points) for state, points in layout.lines]
    parts += [draw_box(box) for box in layout.boxes if box.kind != "block"]
    return svg_document(layout.width, layout.height, title, parts)


def svg_document(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """A standalone SVG of so many pixels, its title and its parts, drawn in order."""
    head = f"<svg xmlns='http://www.w3.org/2000/svg' role='img' viewBox='0 0 {width:g} {height:g}' width='{width:g}' "
    return "\n".join([f"{head}height='{height:g}' {_FONT}>", f"<title>{escape(title)}</title>", *parts, "</svg>"])


def cell_layout(cell: Cell, is_reduction: bool = False) -> Layout:
    """The places of a cell's boxes and lines."""
    columns = _columns(cell)
    lefts = _place(columns)
    layout = Layout(width=lefts[-1] + _END[0] + _MARGIN)
    layout.height = max(item.y + item.height for column in columns for item in column) + _MARGIN
    exits: dict[int, list[Point]] = {}  # the way of each state up to the column reached so far
    for left, column in zip(lefts, columns, strict=True):
        arrivals = {state: list(way) for state, way in exits.items()}
        for item in column:
            if item.kind == "lane":
                right = left + (_BLOCK[0] if any(other.kind == "block" for other in column) else _END[0])
                exits[item.state] = [*arrivals[item.state], (left, item.middle), (right, item.middle)]
            elif item.kind == "block":
                exits[item.state] = [_add_block(layout, cell, item, left, arrivals, is_reduction)]
            else:
                text = _end_text(item, cell)
                box = Box(item.kind, text, left, item.y, *_END)
                layout.boxes.append(box)
                exits[item.state] = [box.exit]
                _add_arrivals(layout, box, item.sources, arrivals)
    return layout


def _columns(cell: Cell) -> list[list[_Item]]:
    """Inputs, blocks by depth, the output; each with lanes for the states that pass."""
    depth = [0] * N_INPUTS
    for block in cell.blocks:
        depth.append(1 + max(depth[block.left], depth[block.right]))
    last = max(depth) + 1
    reach = dict.fromkeys(range(len(depth)), 0)  # the last column that reads each state
    for state, block in enumerate(cell.blocks, start=N_INPUTS):
        for source in (block.left, block.right):
            reach[source] = max(reach[source], depth[state])
    reach.update(dict.fromkeys(cell.outputs, last))
    columns = [[_Item("input", 1, ()), _Item("input", 0, ())]]
    for place in range(1, last):
        made = [s for s in range(N_INPUTS, len(depth)) if depth[s] == place]
        blocks = [_Item("block", s, (cell.blocks[s - N_INPUTS].left, cell.blocks[s - N_INPUTS].right)) for s in made]
        lanes = [_Item("lane", s, (s,)) for s in range(len(depth)) if depth[s] < place < reach[s]]
        columns.append(blocks + lanes)
    columns.append([_Item("output", len(depth), cell.outputs)])
    return columns


def _place(columns: Sequence[list[_Item]]) -> list[float]:
    """Set each item's y, ordered by the mean height of what it reads; return the columns' left sides."""
    heights = [sum(item.height for item in column) + _GAP_Y * (len(column) - 1) for column in columns]
    tallest = max(heights)
    middle: dict[int, float] = {}
    lefts = [_MARGIN]
    for column, height in zip(columns, heights, strict=True):
        column.sort(key=lambda item: sum(middle[s] for s in item.sources) / max(len(item.sources), 1))
        y = _MARGIN + (tallest - height) / 2
        for item in column:
            item.y = y
            y += item.height + _GAP_Y
        middle.update({item.state: item.middle for item in column})
        is_wide = any(item.kind == "block" for item in column)
        lefts.append(lefts[-1] + (_BLOCK[0] if is_wide else _END[0]) + _GAP_X)
    return lefts[:-1]


def _add_block(
    layout: Layout,
    cell: Cell,
    item: _Item,
    left: float,
    arrivals: Mapping[int, Sequence[Point]],
    is_reduction: bool,
) -> Point:
    """Add a block's frame, operations, join and the lines to it; return where its state leaves."""
    block: Block = cell.blocks[item.state - N_INPUTS]
    frame = Box("block", f"block {item.state - N_INPUTS}", left, item.y, *_BLOCK)
    text, width = _JOINS[block.combine]
    middle_y = item.y + _HEAD + _OP[1] + _OP_GAP / 2
    join = Box("join", text, left + _BLOCK[0] - width - 10, middle_y - _JOIN_HEIGHT / 2, width, _JOIN_HEIGHT)
    layout.boxes += [frame, join]
    halves = [(block.left, block.left_op), (block.right, block.right_op)]
    halves.sort(key=lambda half: arrivals[half[0]][-1][1])  # stable: the left half on top where both read one state
    for row, (source, operation) in enumerate(halves):
        text = _LABELS.get(operation, operation) + (" /2" if is_reduction and source < N_INPUTS else "")
        op = Box("op", text, left + 10, item.y + _HEAD + row * (_OP[1] + _OP_GAP), *_OP)
        layout.boxes.append(op)
        _add_arrivals(layout, op, (source,), arrivals)
        layout.lines.append((item.state, [op.exit, join.entry]))
    layout.lines.append((item.state, [join.exit, (frame.x + frame.width, join.exit[1])]))
    return frame.x + frame.width, join.exit[1]


def _add_arrivals(layout: Layout, box: Box, sources: Sequence[int], arrivals: Mapping[int, Sequence[Point]]) -> None:
    """Lines from each source to evenly spread points of the box's left side, upper lines first."""
    ordered = sorted(sources, key=lambda state: arrivals[state][-1][1])
    for i, state in enumerate(ordered, start=1):
        end = (box.x, box.y + box.height * i / (len(ordered) + 1))
        layout.lines.append((state, [*arrivals[state], end]))


def _end_text(item: _Item, cell: Cell) -> str:
    if item.kind == "output":
        return "concat, output" if len(cell.outputs) > 1 else "output"
    return "current input" if item.state == 0 else "previous cell"


def draw_box(box: Box) -> str:
    """A box with its text, by its kind."""
    x, y, width, height = box.x, box.y, box.width, box.height
    middle_x, middle_y = x + width / 2, y + height / 2
    label = f"<text x='{middle_x:g}' y='{middle_y:g}' fill='{_INK}' text-anchor='middle' dy='0.35em'"
    if box.kind == "block":
        frame = (
            f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='8' fill='#fafbfc' stroke='#c7ccd6'/>"
        )
        return f"{frame}<text x='{x + 10:g}' y='{y + 14:g}' fill='#5b6475' font-size='11'>{escape(box.text)}</text>"
    fill = _fill(box) if box.kind == "op" else "#ffffff"
    radius, stroke = (height / 2, _INK) if box.kind == "join" else (6, "#8a93a5")
    place = f"x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}'"
    rect = f"<rect {place} rx='{radius:g}' fill='{fill}' stroke='{stroke}'/>"
    return f"{rect}{label}>{escape(box.text)}</text>"


def _fill(box: Box) -> str:
    return _FAMILY_COLOURS.get(box.text.split()[0], _POOL_COLOUR)


def draw_line(state: int, points: Sequence[Point]) -> str:
    """A curve that leaves and reaches every point horizontally."""
    path = [f"M{points[0][0]:g},{points[0][1]:g}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        bend = (x0 + x1) / 2
        path.append(f"C{bend:g},{y0:g} {bend:g},{y1:g} {x1:g},{y1:g}")
    colour = _STATE_COLOURS[state % len(_STATE_COLOURS)]
    return f"<path d='{' '.join(path)}' fill='none' stroke='{colour}' stroke-width='1.6'/>"
