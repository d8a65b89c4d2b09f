"""The report's figures, as plotly's JSON: plain dictionaries of `data` and `layout`.

Colours are the names of the page's CSS variables (`var(--accent)`); the page's script puts in what they stand for, so
that a figure follows the reader's light or dark theme and prints dark on white.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.expressions import Budget
from codesign.front import FrontTable, axes_of
from codesign.objectives import Objective
from codesign.pareto import is_nondominated
from codesign.report_data import ReportData
from codesign.report_genotype import varying_choices
from codesign.trial import FloatArray
from codesign.units import Reading, is_log_scale, reading

Figure = dict[str, Any]
Numbers = NDArray[np.int64]

CLOUD_POINTS = 4_000
"""Points of one kind drawn at most in a figure; the front is always drawn whole."""
ALL_POINTS = 24_000
"""Points of one kind drawn at most in all figures together."""
MAX_PAIRS = 15
"""Pairs of objectives offered at most: all of them up to six objectives."""
_HOVER_TEXTS = 3_000
"""Front members whose hover text tells more than the two axes."""
TICKS = {"share": ".4~p", "count": ".3~s", "plain": ",~r"}
_HOVER = {"share": ".2%", "count": ".3s", "plain": ",.4~r"}


@dataclass(frozen=True, slots=True)
class Axis:
    """What one axis of the front's figure shows.

    Attributes:
        metric: its name; "" for trial numbers.
        values: shape (n,), over trial numbers.
        maximize: whether more is better; None if it is no objective.
    """

    metric: str
    values: FloatArray
    maximize: bool | None

    @property
    def written(self) -> Reading:
        """How its values are written."""
        return reading(self.metric) if self.metric else Reading("", "trial number", "", "plain")

    @property
    def title(self) -> str:
        """For people, with the direction that is better."""
        direction = {None: "", True: ", more is better", False: ", less is better"}[self.maximize]
        return escape(self.written.label + direction)


def front_figures(data: ReportData) -> list[tuple[str, Figure]]:
    """Title and figure of the front, for each pair of objectives; the pair worth showing first comes first.

    With one objective there is one figure: against the first budgeted metric, else against trial numbers.
    """
    objectives = data.parts.objectives.objectives
    pairs: list[tuple[Axis, Axis]] = []
    if len(objectives) == 1:
        budgeted = [b.metric for b in data.parts.objectives.budgets if b.metric != objectives[0].metric]
        across = Axis("", np.arange(data.n_trials, dtype=np.float64), None)
        if budgeted:
            across = Axis(budgeted[0], data.columns[budgeted[0]], None)
        pairs.append((across, _axis(data, objectives[0])))
    else:
        best = frozenset(axes_of(objectives))
        ordered = sorted(combinations(range(len(objectives)), 2), key=lambda pair: frozenset(pair) != best)
        for first, second in ordered[:MAX_PAIRS]:
            pair = (objectives[first], objectives[second])
            x, y = (pair[i] for i in axes_of(pair))
            pairs.append((_axis(data, x), _axis(data, y)))
    limit = min(CLOUD_POINTS, ALL_POINTS // len(pairs))
    texts = hover_texts(data.table)
    return [(f"{y.written.title} and {x.written.title}", _front_figure(data, x, y, limit, texts)) for x, y in pairs]


def shown_of_cloud(data: ReportData) -> tuple[int, int]:
    """How many trials the first figure can show, the front apart, and how many of those within budgets it draws."""
    n = int(data.is_feasible.sum()) - len(data.table)
    m = len(data.parts.objectives.objectives)
    n_figures = min(MAX_PAIRS, max(1, m * (m - 1) // 2))
    return n, min(n, CLOUD_POINTS, ALL_POINTS // n_figures)


def stepped(values: FloatArray, senses: Sequence[bool | None]) -> tuple[FloatArray, str]:
    """The line that bounds what the front dominates.

    Args:
        values: shape (k, 2), x and y of the members.
        senses: whether more is better, of x and of y.

    Returns:
        Corners along x, shape (j, 2), those that are not dominated in these two, and plotly's line shape: from a
        member the line runs towards worse x at the same y ("hv" where less x is better, "vh" where more is).
    """
    signs = np.array([-1.0 if maximize else 1.0 for maximize in senses])
    corners = np.unique(values[is_nondominated(values * signs)], axis=0)
    return corners[np.argsort(corners[:, 0], kind="stable")], "vh" if senses[0] else "hv"


def hover_texts(table: FrontTable) -> list[str]:
    """What hovering over each member says: its metrics of interest, and the choices in which members differ."""
    if len(table) > _HOVER_TEXTS:
        return []
    named = [objective.metric for objective in table.objectives] + [budget.metric for budget in table.budgets]
    named += [name for name in ("params", "macs") if name in table.metrics]
    choices = varying_choices(table.genotypes)
    texts = []
    for row, number in enumerate(table.numbers):
        lines = [f"<b>trial {number}</b>, on the front"]
        for name in dict.fromkeys(named):
            written = reading(name)
            lines.append(escape(f"{written.title}: {written.text(float(table.metrics[name][row]))}"))
        lines += [escape(f"{name}: {values[row]}") for name, values in choices.items()]
        texts.append("<br>".join(lines))
    return texts


def progress_figure(data: ReportData) -> Figure:
    """Best so far of each objective, and the hypervolume, against trial numbers: one row each, over one another."""
    rows = [_best_so_far(data, i) for i in range(len(data.parts.objectives.objectives))]
    if len(data.parts.objectives.objectives) > 1:
        rows.append(_hypervolume(data))
    figure: Figure = {"data": [], "layout": {"showlegend": False, "annotations": [], "height": 60 + 165 * len(rows)}}
    layout = figure["layout"]
    share, gap = 1 / len(rows), 0.30 / len(rows)
    for place, (traces, title, axis) in enumerate(rows):
        name = "y" if place == 0 else f"y{place + 1}"
        top = 1 - place * share
        layout["yaxis" + name[1:]] = axis | {"domain": [top - share, top - gap], "anchor": "x", "nticks": 5}
        figure["data"] += [trace | {"xaxis": "x", "yaxis": name} for trace in traces]
        layout["annotations"].append(
            {"text": title, "xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": top - gap + 0.01 * share,
             "yanchor": "bottom", "showarrow": False, "font": {"size": 13}}
        )  # fmt: skip
    last = "y" if len(rows) == 1 else f"y{len(rows)}"
    layout["xaxis"] = axis_style({"title": {"text": "trial number"}, "anchor": last, "rangemode": "tozero"})
    layout["margin"] = {"l": 64, "r": 24, "t": 10, "b": 48}
    return figure


def _axis(data: ReportData, objective: Objective) -> Axis:
    return Axis(objective.metric, data.columns[objective.metric], objective.maximize)


def _front_figure(data: ReportData, x: Axis, y: Axis, limit: int, texts: list[str]) -> Figure:
    members = np.array(data.table.numbers, dtype=np.int64)
    known = np.isfinite(x.values) & np.isfinite(y.values)
    rest = data.is_feasible & known
    rest[members] = False
    over = data.is_over_budget & known
    screened = data.is_over_budget & np.isfinite(x.values) & ~np.isfinite(y.values)
    traces = [
        _points(x, y, _thinned(np.flatnonzero(over), limit // 2), "over budget", "x-thin-open", "var(--over)", 5, 0.6),
        _points(x, y, _thinned(np.flatnonzero(rest), limit), "within the budgets", "circle", "var(--cloud)", 6, 0.55),
        _rug(x, _thinned(np.flatnonzero(screened), limit // 2)),
        *_front_traces(data.table, x, y, members, texts),
    ]
    shown = np.concatenate([np.flatnonzero(rest), members])
    shown = shown if len(shown) else np.flatnonzero(over if over.any() else screened)
    layout: Figure = {
        "height": 480,
        "hovermode": "closest",
        "margin": {"l": 72, "r": 24, "t": 40, "b": 60},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "xaxis": _scaled(x, shown),
        "yaxis": _scaled(y, shown),
        "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
        "shapes": [],
        "annotations": [],
    }
    for axis, letter in ((x, "x"), (y, "y")):
        for budget in data.parts.objectives.budgets:
            if budget.metric == axis.metric and (budget.limit > 0 or layout[f"{letter}axis"].get("type") != "log"):
                _draw_budget(layout, budget, letter)
    return {"data": [trace for trace in traces if trace is not None], "layout": layout}


def _front_traces(table: FrontTable, x: Axis, y: Axis, members: Numbers, texts: list[str]) -> list[Figure | None]:
    if len(members) == 0:
        return []
    line: Figure | None = None
    if x.maximize is not None:
        corners, shape = stepped(np.stack([x.values[members], y.values[members]], axis=1), (x.maximize, y.maximize))
        line = {
            "type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip",
            "x": drawable(corners[:, 0]), "y": drawable(corners[:, 1]),
            "line": {"shape": shape, "color": "var(--accent)", "width": 2},
        }  # fmt: skip
    points = _points(x, y, members, "on the front", "circle", "var(--accent)", 10, 1.0)
    if points is not None:
        points["marker"]["line"] = {"color": "var(--page)", "width": 1.5}
        points["meta"] = "members"
        if texts:
            points |= {"text": texts, "hovertemplate": "%{text}<extra></extra>"}
    return [line, points]


def _points(
    x: Axis, y: Axis, numbers: Numbers, name: str, symbol: str, colour: str, size: int, opacity: float
) -> Figure | None:
    """A trace of the given trials; None without any."""
    if len(numbers) == 0:
        return None
    hover = "<br>".join(
        f"{escape(axis.written.title)}: %{{{letter}:{_HOVER[axis.written.style]}}}{_after(axis)}"
        for letter, axis in (("x", x), ("y", y))
        if axis.metric
    )
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": drawable(x.values[numbers]),
        "y": drawable(y.values[numbers]), "customdata": numbers.tolist(), "opacity": opacity,
        "marker": {"symbol": symbol, "color": colour, "size": size},
        "hovertemplate": f"<b>trial %{{customdata}}</b>, {name}<br>{hover}<extra></extra>",
    }  # fmt: skip


def _rug(x: Axis, numbers: Numbers) -> Figure | None:
    """Ticks along the x axis, for trials that were never evaluated."""
    trace = _points(x, x, numbers, "over budget, not evaluated", "line-ns-open", "var(--over)", 9, 0.5)
    if trace is None:
        return None
    hover = f"{escape(x.written.title)}: %{{x:{_HOVER[x.written.style]}}}{_after(x)}"
    trace |= {"y": [0.012] * len(numbers), "yaxis": "y2"}
    trace["hovertemplate"] = f"<b>trial %{{customdata}}</b>, over budget, not evaluated<br>{hover}<extra></extra>"
    return trace


def _after(axis: Axis) -> str:
    unit = axis.written.unit
    return "" if unit in ("", "%") else unit if unit == "B" else f" {escape(unit)}"


def _scaled(axis: Axis, numbers: Numbers) -> Figure:
    """The axis, opened at the range of the given trials, logarithmic if they span more than a decade."""
    values = axis.values[numbers]
    values = values[np.isfinite(values)]
    result = axis_style({"title": {"text": axis.title}, "tickformat": TICKS[axis.written.style]})
    if len(values) == 0:
        return result | {"range": [0, 1], "showticklabels": False}
    low, high = float(values.min()), float(values.max())
    if axis.metric and is_log_scale(values, axis.written.style):
        result |= {"type": "log", "dtick": "D2"} if high < 300 * low else {"type": "log"}
        low, high = float(np.log10(low)), float(np.log10(high))
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return result | {"range": [low - margin, high + margin]}


def _draw_budget(layout: Figure, budget: Budget, letter: str) -> None:
    """A dotted line at the limit, if it lies in the axis's range or near enough to widen it."""
    other = "y" if letter == "x" else "x"
    axis = layout[f"{letter}axis"]
    at = float(np.log10(budget.limit)) if axis.get("type") == "log" else budget.limit
    low, high = axis.get("range", (at, at))
    reach = 0.35 * (high - low)
    if not low - reach <= at <= high + reach:
        return
    axis["range"] = [min(low, at - 0.1 * reach), max(high, at + 0.1 * reach)]
    ends = {f"{letter}0": budget.limit, f"{letter}1": budget.limit, f"{other}0": 0, f"{other}1": 1}
    line = {"color": "var(--over)", "width": 1.5, "dash": "dot"}
    layout["shapes"].append(
        {"type": "line", f"{letter}ref": letter, f"{other}ref": "paper", "line": line, **ends, "layer": "below"}
    )
    place = {"textangle": -90, "xanchor": "right", "y": 0.06} if letter == "x" else {"xanchor": "left", "x": 0.02}
    layout["annotations"].append(
        {"text": escape(budget.text), "showarrow": False, f"{letter}ref": letter, letter: at, f"{other}ref": "paper",
         "yanchor": "bottom", "font": {"size": 11, "color": "var(--muted)"}, **place}
    )  # fmt: skip


def _best_so_far(data: ReportData, i: int) -> tuple[list[Figure], str, Figure]:
    objective = data.parts.objectives.objectives[i]
    written = reading(objective.metric)
    losses = np.where(data.is_feasible, data.losses[:, i], np.inf)
    best = np.minimum.accumulate(losses) if len(losses) else losses
    values = -best if objective.maximize else best
    found = np.isfinite(values)
    trace = _curve(np.flatnonzero(found), values[found], written)
    axis = axis_style({"tickformat": TICKS[written.style]})
    if is_log_scale(values, written.style):
        axis["type"] = "log"
    return [trace], escape(f"best {written.label} so far"), axis


def _hypervolume(data: ReportData) -> tuple[list[Figure], str, Figure]:
    feasible = data.losses[data.is_feasible]
    box = float(np.prod(data.reference - feasible.min(axis=0))) if len(feasible) else 0.0
    shares = data.hypervolumes / box if box > 0 else data.hypervolumes
    written = Reading("", "share of the box", "%", "share")
    trace = _curve(np.arange(data.n_trials), shares, written)
    steps = data.improvements[:: max(1, len(data.improvements) // 2_000)]
    dots = {
        "type": "scatter", "mode": "markers", "x": steps.tolist(), "y": drawable(shares[steps]),
        "marker": {"color": "var(--accent)", "size": 5}, "hoverinfo": "skip",
    }  # fmt: skip
    axis = axis_style({"tickformat": TICKS["share"], "rangemode": "tozero"})
    return [trace, dots], "hypervolume, share of the box from the reference to the best values", axis


def _curve(numbers: Numbers, values: FloatArray, written: Reading) -> Figure:
    """A stepped line of corners alone: where the value changes, and the last point."""
    corners = np.flatnonzero(np.diff(values, prepend=np.nan) != 0) if len(values) else np.zeros(0, dtype=np.int64)
    corners = np.unique(np.append(corners, len(values) - 1)) if len(values) else corners
    hover = f"trial %{{x}}: %{{y:{_HOVER[written.style]}}}"
    unit = "" if written.unit in ("", "%") else f" {escape(written.unit)}"
    return {
        "type": "scatter", "mode": "lines", "x": numbers[corners].tolist(), "y": drawable(values[corners]),
        "line": {"shape": "hv", "color": "var(--accent)", "width": 2}, "hovertemplate": f"{hover}{unit}<extra></extra>",
    }  # fmt: skip


def axis_style(axis: Figure) -> Figure:
    """An axis as all figures of the report draw it."""
    return {"gridcolor": "var(--grid)", "linecolor": "var(--line)", "zeroline": False, "showline": True, **axis}


def _thinned(numbers: Numbers, limit: int) -> Numbers:
    """At most `limit` of them, evenly spread."""
    if len(numbers) <= limit:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, limit).round().astype(np.int64)]


def drawable(values: FloatArray) -> list[float | None]:
    """Six significant digits: as exact as a screen, a third of the bytes. None, which is not drawn, if not finite."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
