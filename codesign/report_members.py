"""The part of the report about members of the front: their table, and a page of each with its drawing."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from codesign.report_data import ReportData, slack, spread
from codesign.report_genotype import drawings, rows, varying_choices
from codesign.store import Final
from codesign.trial import FloatArray
from codesign.units import reading

TABLE_ROWS = 1_000
"""Members listed at most, evenly spread over the front."""
DETAILED = 24
"""Members shown with their drawing at most: the best of each objective, others evenly spread."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: header, cells as HTML, and what each is sorted by (None: last)."""

    header: str
    cells: list[str]
    keys: Sequence[float | str | None]
    is_number: bool = True


def export_command(data: ReportData, number: int | str) -> str:
    """The command that exports a member."""
    out = shlex.quote(f"{data.job.name}-{number}.onnx")
    return f"codesign export {shlex.quote(str(data.run.folder))} --trial {number} --out {out}"


def best_rows(data: ReportData) -> list[int]:
    """For each objective, the row of the table that is best in it."""
    table = data.table
    found = []
    for objective in table.objectives:
        values = table.metrics[objective.metric]
        found.append(int(np.argmax(values) if objective.maximize else np.argmin(values)))
    return found


def members_table(data: ReportData) -> str:
    """The table of the front's members as HTML; headers are buttons that sort it."""
    rows_shown = spread(len(data.table), TABLE_ROWS)
    columns = _columns(data, rows_shown)
    head = "".join(
        f"<th scope='col'{_class(c)} aria-sort='none'><button type='button'>{c.header}</button></th>" for c in columns
    )
    best = set(best_rows(data))
    body = []
    for i, row in enumerate(rows_shown):
        cells = "".join(f"<td{_class(c)}{_sort_key(c.keys[i])}>{c.cells[i]}</td>" for c in columns)
        marked = " class='best'" if row in best else ""
        body.append(f"<tr data-trial='{data.table.numbers[row]}'{marked}>{cells}</tr>")
    left_out = len(data.table) - len(rows_shown)
    caption = f"{len(data.table):,} member{'' if len(data.table) == 1 else 's'} of the front"
    if left_out:
        caption = f"{len(rows_shown):,} of {caption}, evenly spread; codesign front gives all"
    return (
        "<div class='wide' tabindex='0' role='region' aria-label='members of the front'><table class='sortable'>"
        f"<caption>{caption}. Rows in bold are best in an objective<span class='screen'>; a header sorts</span>."
        "</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{_how_to_export(data)}"
    )


def _how_to_export(data: ReportData) -> str:
    if not data.parts.trains:
        return "<p class='note'>Nothing was trained, so there are no weights to export.</p>"
    return f"<p class='note'>Export one of them, N, with <code>{escape(export_command(data, 'N'))}</code>.</p>"


def member_pages(data: ReportData) -> str:
    """A selector and, for each detailed member, its figures, its cells or genotype, and how to export it."""
    listed = _detailed(data)
    options, pages = [], []
    for place, row in enumerate(listed):
        number = data.table.numbers[row]
        summary = ", ".join(
            reading(o.metric).phrase(float(data.table.metrics[o.metric][row])) for o in data.table.objectives
        )
        options.append(f"<option value='{number}'>trial {number}: {escape(summary)}</option>")
        hidden = "" if place == 0 else " hidden"
        pages.append(
            f"<article class='member' id='member-{number}'{hidden}><h3>Trial {number}</h3>"
            f"{_all_figures(data, row)}{_genotype(data, row)}{_command(data, row)}</article>"
        )
    left_out = len(data.table) - len(listed)
    note = f"<p class='note'>{left_out:,} further members are in the table alone.</p>" if left_out else ""
    return (
        f"<p><label>Member of the front <select id='member-select'>{''.join(options)}</select></label></p>"
        f"{''.join(pages)}{note}"
    )


def _columns(data: ReportData, shown: list[int]) -> list[_Column]:
    table = data.table
    trial = [table.numbers[row] for row in shown]
    columns = [_Column("trial", [str(number) for number in trial], trial)]
    names = [objective.metric for objective in table.objectives]
    columns += [_metric_column(name, table.metrics[name][shown]) for name in names]
    for name, finals in table.finals.items():
        columns.append(_final_column(name, [finals[row] for row in shown], is_repeat=name in table.metrics))
    for name, values in varying_choices([table.genotypes[row] for row in shown]).items():
        numbers = [_number(value) for value in values]
        is_number = all(number is not None for number in numbers)
        columns.append(_Column(escape(name), list(map(escape, values)), numbers if is_number else values, is_number))
    for budget in table.budgets:
        if budget.metric not in names:
            names.append(budget.metric)
            columns.append(_metric_column(budget.metric, table.metrics[budget.metric][shown]))
        inside = slack(budget, table.metrics[budget.metric][shown])
        cells = ["" if math.isnan(v) else f"{100 * v:.1f}" if budget.limit else f"{v:.3g}" for v in inside.tolist()]
        unit = " (%)" if budget.limit else ""
        columns.append(_Column(f"slack to {escape(budget.text)}{unit}", cells, _keys(inside)))
    for name in ("params", "macs", *(name for name in table.metrics if "@" in name), *_varying(table.metrics)):
        if name in table.metrics and name not in names and np.isfinite(table.metrics[name][shown]).any():
            names.append(name)
            columns.append(_metric_column(name, table.metrics[name][shown]))
    if data.parts.trains:
        weights = ["kept" if data.has_weights[row] else "none" for row in shown]
        columns.append(_Column("weights", weights, weights, is_number=False))
        commands = [
            f"<code>{escape(export_command(data, table.numbers[row]))}</code>" if data.has_weights[row] else ""
            for row in shown
        ]
        columns.append(_Column("export", commands, trial, is_number=False))
    return columns


def _varying(metrics: dict[str, FloatArray]) -> list[str]:
    """Of the figures that tell how a trial was evaluated, those in which members differ."""
    told = ("epochs", "stopped_early")
    return [name for name in told if name in metrics and len(np.unique(metrics[name])) > 1]


def _metric_column(name: str, values: FloatArray) -> _Column:
    written = reading(name)
    return _Column(escape(written.label), [written.number(value) for value in values.tolist()], _keys(values))


def _final_column(name: str, finals: list[Final | None], is_repeat: bool) -> _Column:
    written = reading(name)
    cells = []
    for final in finals:
        if final is None:
            cells.append("")
            continue
        interval = ""
        if final.low is not None and final.high is not None:
            ends = f"{written.number(final.low)}–{written.number(final.high)}"
            interval = f" <span class='interval'>{ends}</span>"
        cells.append(f"{written.number(final.value)}{interval}")
    label = f"{written.title}{', measured again' if is_repeat else ''}"
    unit = f"{written.unit}, " if written.unit else ""
    keys = [None if final is None else final.value for final in finals]
    return _Column(escape(f"{label} ({unit}95 % interval)"), cells, keys)


def _all_figures(data: ReportData, row: int) -> str:
    table = data.table
    pairs = [
        (reading(name).title, reading(name).text(float(values[row])))
        for name, values in table.metrics.items()
        if not math.isnan(values[row]) and name != "stopped_early"
    ]
    for name, column in table.finals.items():
        final = column[row]
        if final is not None:
            written = reading(name)
            value = written.text(final.value)
            if final.low is not None and final.high is not None:
                value += f" (95 %: {written.number(final.low)}–{written.number(final.high)})"
            pairs.append((f"{written.title}, at the end", value))
    listed = "".join(f"<div><dt>{escape(title)}</dt><dd>{escape(value)}</dd></div>" for title, value in pairs)
    return f"<dl class='figures'>{listed}</dl>"


def _genotype(data: ReportData, row: int) -> str:
    genotype, title = data.table.genotypes[row], f"trial {data.table.numbers[row]}"
    drawn = drawings(genotype, title)
    figures = "".join(
        f"<figure class='cell'><div class='paper'>{svg}</div><figcaption>"
        f"{'cell' if name == 'cell' else f'{escape(name)} cell'}</figcaption></figure>"
        for name, svg in drawn.items()
    )
    listed = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in rows(genotype, tuple(drawn))
    )
    table = f"<table class='pairs'><caption>Genotype of {title}</caption><tbody>{listed}</tbody></table>"
    return figures + (table if listed else "")


def _command(data: ReportData, row: int) -> str:
    if not data.parts.trains:
        return ""
    if not data.has_weights[row]:
        return "<p class='note'>Its weights are not in the run's folder, so it cannot be exported.</p>"
    text = escape(export_command(data, data.table.numbers[row]))
    return f"<p class='command'><code>{text}</code> <button type='button' class='copy'>copy</button></p>"


def _detailed(data: ReportData) -> list[int]:
    """Rows of members with a page of their own: the best first, then along the front."""
    best = list(dict.fromkeys(best_rows(data)))
    others = [row for row in spread(len(data.table), DETAILED) if row not in best]
    return best + others[: max(0, DETAILED - len(best))]


def _keys(values: FloatArray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _class(column: _Column) -> str:
    return " class='export'" if column.header == "export" else " class='number'" if column.is_number else ""


def _sort_key(key: float | str | None) -> str:
    if key is None:
        return " data-key=''"
    return f" data-key='{escape(f'{key:.9g}' if isinstance(key, float) else str(key))}'"
