"""The Pareto front on a terminal: a table as wide as there is room for, and a picture in characters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from codesign.front_data import FrontTable, axes_of
from codesign.store import Final
from codesign.text_plot import ASCII, UNICODE, Axis, scatter
from codesign.trial import FloatArray
from codesign.units import is_log_scale, reading

PRINTED_ROWS = 50
"""A longer front is thinned evenly on the terminal; files and JSON hold all of it."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    header: str
    cells: list[str]
    best: int | None = None  # the row to highlight

    @property
    def width(self) -> int:
        lines = [*self.header.split("\n"), *self.cells]
        return max(map(len, lines)) + 3  # padding and the gap between columns


def print_front(table: FrontTable, console: Console) -> None:
    """Print the table as wide as the terminal allows, a picture of the front, and what it was taken from."""
    if len(table) == 0:
        console.print(Text("no trial is on the front yet: none is within the budgets and the condition"))
        console.print(Text(_counts_line(table)))
        return
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), PRINTED_ROWS)).round().astype(int)).tolist()
    must, may = _columns(table, rows)
    room = console.width - sum(column.width for column in must)
    shown, dropped = list(must), []
    for column in may:
        if column.width <= room:
            shown.append(column)
            room -= column.width
        else:
            dropped.append(column.name)
    printed = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    for column in shown:
        is_text = column.name == "run"
        printed.add_column(Text(column.header), justify="left" if is_text else "right", no_wrap=True)
    for i in range(len(rows)):
        printed.add_row(*(Text(c.cells[i], style="bold green" if c.best == i else "") for c in shown))
    console.print(printed)
    picture = _picture(table, console)
    if picture:
        console.print()
        console.print(Text(picture, no_wrap=True, overflow="crop"))
        console.print()
    if len(rows) < len(table):
        console.print(Text(f"{len(rows)} of {len(table)} members shown; --json, --csv and --parquet give all"))
    if dropped:
        named = ", ".join(dropped[:_NAMED]) + (", ..." if len(dropped) > _NAMED else "")
        console.print(Text(f"no room for {len(dropped)} more columns ({named}); --json and --csv give all"))
    console.print(Text(_counts_line(table)))


def _counts_line(table: FrontTable) -> str:
    counts = table.counts
    parts = [
        f"{len(table):,} member{'' if len(table) == 1 else 's'} of the front",
        f"{counts.trials:,} trial{'' if counts.trials == 1 else 's'}",
        f"{counts.over_budget:,} over budget",
        f"{counts.failed:,} failed",
    ]
    parts += [f"{counts.running:,} running"] if counts.running else []
    parts += [f"{counts.filtered:,} outside the condition"] if counts.filtered else []
    return ", ".join(parts)


def _columns(table: FrontTable, rows: list[int]) -> tuple[list[_Column], list[_Column]]:
    """The columns that are always printed, and those that are printed while there is room, most wanted first."""
    must = [_Column("trial", "trial", [str(table.numbers[row]) for row in rows])]
    if len(set(table.runs)) > 1:
        must.insert(0, _Column("run", "run", [table.runs[row] for row in rows]))
    for objective in table.objectives:
        values = table.metrics[objective.metric][rows]
        best = int(np.argmax(values) if objective.maximize else np.argmin(values))
        must.append(_Column(objective.metric, _header(objective.metric), _cells(objective.metric, values), best))
    finals = [_final_column(name, [column[row] for row in rows]) for name, column in table.finals.items()]
    targets = sorted(table.metrics, key=lambda name: (name not in ("params", "macs"), "@" not in name))  # stable
    budgeted = [budget.metric for budget in table.budgets]
    listed = {objective.metric for objective in table.objectives}
    others = [name for name in dict.fromkeys([*budgeted, *targets]) if name not in listed]
    may = [_Column(name, _header(name), _cells(name, table.metrics[name][rows])) for name in others]
    n_first = sum(name in budgeted for name in others)
    wanted = [*may[:n_first], *finals, *may[n_first:]]
    return must, [column for column in wanted if any(column.cells)]


def _header(metric: str) -> str:
    return metric.replace("@", "\n@")


def _cells(metric: str, values: FloatArray) -> list[str]:
    written = reading(metric)
    if written.style == "share":  # as in conditions: 0.97, not 97 %
        return ["" if math.isnan(value) else f"{value:.4f}" for value in values.tolist()]
    return [written.number(value) for value in values.tolist()]


def _final_column(name: str, finals: list[Final | None]) -> _Column:
    cells = []
    for final in finals:
        if final is None:
            cells.append("")
            continue
        value, low, high = (np.array([np.nan if v is None else v]) for v in (final.value, final.low, final.high))
        interval = "" if final.low is None else f" ({_cells(name, low)[0]}..{_cells(name, high)[0]})"
        cells.append(_cells(name, value)[0] + interval)
    metric, at, target = name.partition("@")
    header = f"{metric}, final\n{at}{target}" if target else f"{metric}\n(95 %)"
    return _Column(name, header, cells)


def _picture(table: FrontTable, console: Console) -> str:
    """The front in two of its objectives; "" if there is only one, or a single point."""
    if len(table.objectives) < 2 or len(table) < 2:
        return ""
    across, up = axes_of(table.objectives)
    pair = [table.objectives[across].metric, table.objectives[up].metric]
    members = np.stack([table.metrics[name] for name in pair], axis=1)
    others = table.considered[:, [across, up]]
    axes = [
        Axis(name, _writer(name), is_log_scale(others[:, column], reading(name).style))
        for column, name in enumerate(pair)
    ]
    is_unicode = (console.encoding or "").lower().startswith("utf")
    width = min(console.width, 100)
    return scatter(members, others, axes[0], axes[1], width=width, marks=UNICODE if is_unicode else ASCII)


def _writer(metric: str) -> Callable[[float], str]:
    return lambda value: _cells(metric, np.array([value]))[0]
