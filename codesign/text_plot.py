"""A scatter plot in characters, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its title, how values on it are written, and whether it is logarithmic."""

    title: str
    write: Callable[[float], str]
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class Marks:
    """The characters of a plot."""

    member: str = "●"
    other: str = "·"
    vertical: str = "│"
    horizontal: str = "─"
    corner: str = "└"
    tick: str = "┤"


UNICODE = Marks()
ASCII = Marks("O", ".", "|", "-", "+", "+")
"""For terminals without Unicode."""


def scatter(
    members: FloatArray,
    others: FloatArray,
    x: Axis,
    y: Axis,
    *,
    width: int,
    height: int = 12,
    marks: Marks = UNICODE,
) -> str:
    """Draw points; members lie over the others.

    Args:
        members: shape (k, 2), finite x and y; at least one. On a logarithmic axis all values must be positive.
        others: shape (n, 2); rows that are not finite are left out.
        x, y: the axes.
        width: columns of text in all.
        height: rows of the plot itself; two more are used for the x axis.
        marks: the characters to use.

    Returns:
        Lines joined by newlines, none longer than `width` unless labels alone are.
    """
    others = others[np.isfinite(others).all(axis=1)]
    points = np.concatenate([members, others])
    low, high = points.min(axis=0), points.max(axis=0)
    labels = [y.write(float(high[1])), y.write(float(low[1]))]
    margin = max(map(len, labels))
    columns = max(10, width - margin - 2)
    grid = np.full((height, columns), " ", dtype="<U1")
    for rows, mark in ((others, marks.other), (members, marks.member)):
        across = _cells(rows[:, 0], low[0], high[0], columns, x.is_log)
        up = _cells(rows[:, 1], low[1], high[1], height, y.is_log)
        grid[height - 1 - up, across] = mark
    ends = {0: labels[0], height - 1: labels[1]}
    lines = [_fit(f"{'':{margin}}  {y.title}", width)]
    for row in range(height):
        edge = marks.tick if row in ends else marks.vertical
        lines.append(f"{ends.get(row, ''):>{margin}} {edge}{''.join(grid[row])}".rstrip())
    lines.append(f"{'':{margin}} {marks.corner}{marks.horizontal * columns}")
    left, right = x.write(float(low[0])), x.write(float(high[0]))
    title = f"{x.title}{' (log)' if x.is_log else ''}"
    room = columns - len(left) - len(right) - 2
    lines.append(f"{'':{margin}}  {left} {_fit(title, room).center(room)} {right}")
    return "\n".join(lines)


def _cells(values: FloatArray, low: float, high: float, n: int, is_log: bool) -> IntArray:
    """The cell, 0..n-1, that each value falls into; all in the middle if there is one value."""
    if is_log:
        values, low, high = np.log(values), float(np.log(low)), float(np.log(high))
    if high <= low:
        return np.full(len(values), n // 2, dtype=np.int64)
    return np.asarray(np.rint((values - low) / (high - low) * (n - 1)), dtype=np.int64)


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width)]
