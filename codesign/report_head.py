"""The head of the report: what was searched, how it went in numbers, and the best of each objective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy as np

from codesign.assemble import MEASURED
from codesign.design_space import DesignSpace
from codesign.honesty_text import verdict
from codesign.job import Section
from codesign.objectives import Objective
from codesign.report_data import ReportData
from codesign.report_members import best_rows
from codesign.units import duration_text, plain_text, reading


def head(data: ReportData) -> str:
    """The head as HTML, the heading with the job's name included."""
    return f"<header><h1>{escape(data.job.name)}</h1>{_lead(data)}{_tiles(data)}{_best(data)}{_verdict(data)}</header>"


def _lead(data: ReportData) -> str:
    job = data.job
    targets = [_target(data, name) for name in job.targets]
    has_data = not isinstance(data.parts.space, DesignSpace) and getattr(data.parts.evaluator, "needs_data", True)
    rows = [
        ("Searched", f"{_section(job.space)}{' with accelerators' if _is_joint(data) else ''}: {_size(data)}"),
        *([("Data", _section(job.data))] if has_data else []),
        ("Targets", "<br>".join(targets) or "none"),
        ("Objectives", ", ".join(_objective(objective) for objective in data.parts.objectives.objectives)),
        ("Budgets", ", ".join(f"<code>{escape(b.text)}</code>" for b in data.parts.objectives.budgets) or "none"),
        ("Strategy", f"{_section(job.search.strategy)}, seed {job.search.seed}"),
        ("Evaluation", _section(job.evaluate, " and ")),
        ("Driver", _driver(data)),
    ]
    return f"<dl class='facts'>{''.join(f'<dt>{key}</dt><dd>{value}</dd>' for key, value in rows)}</dl>"


def _tiles(data: ReportData) -> str:
    ledger, n = data.ledger, data.n_trials
    n_screened = int(ledger.is_screened_out.sum())
    n_failed, n_running = int(ledger.is_failed.sum()), int(ledger.is_running.sum())
    n_measured = n - n_screened - n_failed - n_running
    over = int((data.is_over_budget & ~ledger.is_screened_out).sum())
    done = "trained" if data.job.evaluate.type == "train" else "evaluated"
    tiles = [(f"{n_measured:,}", f"trials measured, of {data.job.search.trials:,} asked for")]
    if data.parts.objectives.budgets:
        tiles += [
            (f"{int(data.is_feasible.sum()):,}", f"within the budgets; {over:,} measured and over"),
            (f"{n_screened:,}", f"over a budget on cheap figures, so never {done}"),
        ]
    tiles += [
        (f"{len(data.table):,}", "on the front"),
        (f"{n_failed:,}", "failed"),
        (f"{int(ledger.is_reused.sum()):,}", "reused from equal candidates"),
        (duration_text(ledger.seconds), "from first proposal to last result"),
    ]
    if not math.isnan(data.training_seconds):
        tiles.append((duration_text(data.training_seconds), "of training, summed over trials"))
    stopped = np.nansum(data.columns.get("stopped_early", np.zeros(0)))
    if stopped:
        tiles.append((f"{int(stopped):,}", "stopped early: their accuracy is of fewer epochs"))
    if n_running:
        tiles.insert(1, (f"{n_running:,}", "still running: this report is of an unfinished run"))
    listed = "".join(f"<li><strong>{value}</strong> {text}</li>" for value, text in tiles)
    return f"<ul class='tiles'>{listed}</ul>"


def _best(data: ReportData) -> str:
    if len(data.table) == 0:
        return f"<p class='notice'>{_nearest(data)}</p>"
    table = data.table
    sentences = []
    for objective, row in zip(table.objectives, best_rows(data), strict=True):
        others = [part.metric for part in table.objectives if part is not objective]
        others += [name for name in ("params",) if name in table.metrics and name not in (*others, objective.metric)]
        with_others = _listed([escape(reading(n).phrase(float(table.metrics[n][row]))) for n in others])
        value = escape(reading(objective.metric).text(float(table.metrics[objective.metric][row])))
        final = table.finals.get("test_accuracy", [None] * len(table))[row]
        tested = f"; {escape(reading('test_accuracy').text(final.value))} on the test split" if final else ""
        sentences.append(
            f"<li>Best {escape(reading(objective.metric).title)}: <strong>{value}</strong> by trial "
            f"{table.numbers[row]}{f', with {with_others}' if with_others else ''}{tested}.</li>"
        )
    return f"<ul class='best-of'>{''.join(sentences)}</ul>"


def _verdict(data: ReportData) -> str:
    """Whether the strategy beat random search, linked to the section on it."""
    told = verdict(data.honesty, data.parts.objectives.objectives)
    return f"<p class='note'><a href='#honesty'>Strategy</a>: {escape(told)}.</p>" if data.n_trials else ""


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _nearest(data: ReportData) -> str:
    if data.n_trials == 0:
        return "No trial has been proposed yet."
    over = np.flatnonzero(data.is_over_budget & np.isfinite(data.violations))
    if len(over) == 0:
        return "No trial is within the budgets yet."
    number = int(over[np.argmin(data.violations[over])])
    broken = [
        f"{escape(budget.text)} (it has {escape(reading(budget.metric).text(float(values[number])))})"
        for budget in data.parts.objectives.budgets
        if ((values := data.columns[budget.metric])[number] > budget.limit) == budget.upper
        and values[number] != budget.limit
    ]
    return f"No trial is within the budgets yet. Trial {number} came nearest; it breaks {_listed(broken)}."


def _is_joint(data: ReportData) -> bool:
    return any(target.search for target in data.job.targets.values())


def _size(data: ReportData) -> str:
    digits = str(data.parts.space.size)
    exact = f"{data.parts.space.size:,} candidates"
    if len(digits) <= 7:
        return exact
    return f"{digits[0]}.{digits[1:3]} × 10<sup>{len(digits) - 1}</sup> candidates <span class='exact'>({exact})</span>"


def _section(section: Section, between: str = " or ") -> str:
    """A section in words; `between` the items of a list, which are alternatives unless said otherwise."""
    options = {key: value for key, value in section.options().items() if key != "type"}
    listed = ", ".join(f"{key} {_value(value, between)}" for key, value in options.items())
    return f"<code>{escape(section.type)}</code>{f' ({escape(listed)})' if listed else ''}"


def _value(value: object, between: str) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} {_value(below, between)}" for key, below in value.items()) + "}"
    if isinstance(value, list | tuple):
        return between.join(_value(item, between) for item in value) if len(value) <= 6 else f"{len(value)} values"
    return plain_text(value) if isinstance(value, float) else str(value)


def _target(data: ReportData, name: str) -> str:
    target = data.job.targets[name]
    told = [escape(target.type)]
    if target.type == MEASURED:
        told = [f"measured here with {MEASURED}, {target.threads} thread{'s' * (target.threads > 1)}"]
    told += [f"preset {escape(target.preset)}"] if target.preset else []
    told += [escape(f"{key} {value}") for key, value in target.set.items()]
    told += ["its knobs searched with the network"] if target.search else []
    return f"<code>{escape(name)}</code>: {', '.join(told)}"


def _objective(objective: Objective) -> str:
    verb = "maximise" if objective.maximize else "minimise"
    return f"{verb} {escape(reading(objective.metric).label)}"


def _driver(data: ReportData) -> str:
    driver = data.job.driver
    if driver.type == "serial":
        return "serial, in one process"
    early = f", early stopping by ASHA from {driver.asha.grace_epochs} epochs on" if driver.asha else ""
    return f"{driver.type}, {driver.workers} workers{early if driver.type == 'tune' else ''}"
