from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from codesign.text_plot import ASCII, Axis, scatter


def plain(title: str, is_log: bool = False) -> Axis:
    return Axis(title, lambda value: f"{value:g}", is_log)


def draw(members: list[list[float]], others: list[list[float]], width: int = 21, log: bool = False) -> list[str]:
    text = scatter(
        np.array(members),
        np.array(others).reshape(-1, 2),
        plain("cost", log),
        plain("gain"),
        width=width,
        height=5,
        marks=ASCII,
    )
    return text.split("\n")


def test_corners_and_middle_are_where_they_belong() -> None:
    lines = draw([[0, 0], [10, 10]], [[5, 5], [0, 10], [np.nan, 3]], width=15)
    assert lines == [
        "    gain",
        "10 +.         O",
        "   |",
        "   |     .",
        "   |",
        " 0 +O",
        "   +-----------",
        "    0  cost  10",
    ]


def test_a_logarithmic_axis_puts_the_geometric_mean_in_the_middle() -> None:
    line = draw([[1, 1], [10, 1], [100, 1]], [], width=24, log=True)[3]
    first, second, third = (i for i, mark in enumerate(line) if mark == "O")
    assert abs((third - second) - (second - first)) <= 1
    assert "(log)" in draw([[1, 1], [10, 1]], [], width=40, log=True)[-1]


def test_one_point_stands_in_the_middle() -> None:
    lines = draw([[3, 4]], [])
    assert sum("O" in line for line in lines) == 1
    assert "O" in lines[3]


def test_members_hide_others() -> None:
    assert not any("." in line for line in draw([[1, 1], [2, 2]], [[1, 1], [2, 2]]))


@given(
    arrays(np.float64, st.tuples(st.integers(1, 20), st.just(2)), elements=st.floats(1e-3, 1e3)),
    st.integers(40, 120),
    st.booleans(),
)
def test_every_line_fits_and_every_member_is_drawn(members: np.ndarray, width: int, log: bool) -> None:
    text = scatter(members, np.zeros((0, 2)), plain("x", log), plain("y", log), width=width, marks=ASCII)
    assert max(map(len, text.split("\n"))) <= width
    n_marks = sum(line.split("|", 1)[-1].split("+", 1)[-1].count("O") for line in text.split("\n")[1:-2])
    assert 1 <= n_marks <= len(np.unique(members, axis=0))
