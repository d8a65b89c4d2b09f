"""The page of the report: what is said, in which order, as HTML. Every text that a user wrote passes `escape`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from html import escape
from importlib.resources import files

import numpy as np

from codesign.report_data import Failure, ReportData, shareable_job, versions
from codesign.report_figures import front_figures, progress_figure, shown_of_cloud
from codesign.report_head import head
from codesign.report_honesty import honesty_figure, honesty_html
from codesign.report_members import member_pages, members_table
from codesign.units import reading

_MAX_REASONS = 20

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
"""Refuses everything that does not lie in the file itself."""


def page(data: ReportData) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    name = escape(data.job.name)
    fronts = front_figures(data) if data.n_trials else []
    progress = progress_figure(data) if data.is_feasible.any() else None
    honesty = honesty_figure(data.honesty, data.parts.objectives.objectives)
    figures = script_safe_json({"fronts": [figure for _, figure in fronts], "progress": progress, "honesty": honesty})
    has_budgets = any(figure["layout"]["shapes"] for _, figure in fronts)
    sections = [
        ("front", "The front", _front(data, [title for title, _ in fronts], has_budgets)),
        ("member", "Its members, one by one", member_pages(data) if len(data.table) else ""),
        ("table", "All members", members_table(data) + _split_note(data) if len(data.table) else ""),
        ("progress", "How the search went", _progress(data)),
        ("honesty", "Was the strategy worth it?", honesty_html(data.honesty, data.parts.objectives.objectives)),
        ("budgets", "Budgets", _budgets(data)),
        ("failures", "Failures", _failures(data.ledger.failures)),
        ("uncounted", "What was not counted", _uncounted(data)),
        ("made", "How it was made", _made(data)),
    ]
    shown = [section for section in sections if section[2]]
    contents = "".join(f"<li><a href='#{key}'>{title}</a></li>" for key, title, _ in shown)
    body = "".join(
        f"<section id='{key}' aria-labelledby='{key}-title'><h2 id='{key}-title'>{title}</h2>{html}</section>"
        for key, title, html in shown
    )
    templates = files("codesign") / "templates"
    css, script = ((templates / file).read_text(encoding="utf-8") for file in ("report.css", "report.js"))
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{name} – codesign report</title><style>{css}</style></head><body>"
        f"{head(data)}"
        f"<nav aria-label='contents'><ul>{contents}</ul></nav><main>{body}</main>"
        f"<footer>Written by codesign {escape(versions(data.origin)['codesign'][1])} on {_date(time.time())}.</footer>"
        f"<script>{get_plotlyjs()}</script>"
        f"<script type='application/json' id='figures'>{figures}</script><script>{script}</script></body></html>\n"
    )


def script_safe_json(content: object) -> str:
    """JSON that may stand inside a script element: no `<`, `>` or `&` is left in it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _front(data: ReportData, titles: list[str], has_budgets: bool) -> str:
    if not titles:
        return "<p>There is nothing to draw yet.</p>"
    n, drawn = shown_of_cloud(data)
    thinned = f" {drawn:,} of the {n:,} other trials within the budgets are drawn." if drawn < n else ""
    options = "".join(f"<option value='{i}'>{escape(title)}</option>" for i, title in enumerate(titles))
    select = f"<p><label>Show <select id='pair-select'>{options}</select></label></p>" if len(titles) > 1 else ""
    projected = ""
    if len(titles) > 1:
        projected = " The line bounds what the members dominate in the two objectives shown; all members are drawn."
    failed = int(data.ledger.is_failed.sum())
    missing = f" {failed:,} failed trial{'s have' if failed > 1 else ' has'} no place in it." if failed else ""
    label = escape(f"scatter plot of {len(data.table)} members of the front and other trials: {titles[0]}")
    return (
        f"{select}<figure><div id='front-plot' class='plot' role='img' aria-label=\"{label}\"></div>"
        f"<figcaption>Every trial that can be placed.{thinned}{missing}{projected}"
        f"{' Dotted lines are budgets.' if has_budgets else ''}<span class='screen'> Hover to read a trial; click one "
        "to name it here: <output id='named' aria-live='polite'>none chosen</output>.</span></figcaption></figure>"
        "<noscript><p>The figures need JavaScript; the tables below do not.</p></noscript>"
    )


def _progress(data: ReportData) -> str:
    if not data.is_feasible.any():
        return ""
    n_steps, n_within = len(data.improvements), int(data.is_feasible.sum())
    evaluated = data.n_trials - int(data.ledger.is_screened_out.sum()) - int(data.ledger.is_running.sum())
    share = f"{n_steps:,} of {evaluated:,} evaluated trials ({100 * n_steps / max(evaluated, 1):.1f} %)"
    told = f"{share} improved the front; the last of them was trial {int(data.improvements[-1])}."
    since = evaluated_since(data, int(data.improvements[-1]))
    told += f" {since:,} evaluated since then did not." if since else ""
    if len(data.table.objectives) > 1:
        point = ", ".join(
            escape(reading(o.metric).phrase(float(-v if o.maximize else v)))
            for o, v in zip(data.table.objectives, data.reference, strict=True)
        )
        told += (
            f" Reference point of the hypervolume: {point}, a tenth of the range behind the worst of the {n_within:,} "
            f"trial{'' if n_within == 1 else 's'} within the budgets. The hypervolume is {data.hypervolumes[-1]:.6g} "
            "in the objectives' own units."
        )
    return (
        "<figure><div id='progress-plot' class='plot' role='img' aria-label='best value of each objective so far, and "
        f"hypervolume, against the trial number'></div><figcaption>{told}</figcaption></figure>"
    )


def evaluated_since(data: ReportData, number: int) -> int:
    """How many trials after the given one were evaluated in full."""
    after = ~data.ledger.is_screened_out & ~data.ledger.is_running
    return int(after[number + 1 :].sum())


def _split_note(data: ReportData) -> str:
    if "accuracy" not in data.table.metrics or not data.parts.trains:
        return ""
    pairs = [
        (float(value), final)
        for value, final in zip(
            data.table.metrics["accuracy"], data.table.finals.get("test_accuracy", []), strict=False
        )
        if final is not None
    ]
    told = (
        "Accuracy is of the validation split, which the search chose by, so it flatters the chosen. "
        "The test split is used once, after the search."
    )
    if not pairs:
        return f"<p class='note'>{told} No member has been measured on it yet.</p>"
    mean = 100 * float(np.mean([value - final.value for value, final in pairs]))
    inside = sum(f.low is not None and f.high is not None and f.low <= v <= f.high for v, f in pairs)
    direction = "above" if mean >= 0 else "below"
    n = len(pairs)
    return (
        f"<p class='note'>{told} Over {'the one member' if n == 1 else f'{n} members'} measured on it, validation "
        f"accuracy lies {abs(mean):.2f} points {direction} test accuracy{' on average' if n > 1 else ''}, and within "
        f"the test accuracy's 95 % interval for {inside} of {n}.</p>"
    )


def _budgets(data: ReportData) -> str:
    if not data.parts.objectives.budgets:
        return ""
    rows = []
    for budget in data.parts.objectives.budgets:
        written = reading(budget.metric)
        members = data.table.metrics[budget.metric] if len(data.table) else np.zeros(0)
        members = members[np.isfinite(members)]
        nearest = (members.max() if budget.upper else members.min()) if len(members) else math.nan
        measured = int(np.isfinite(data.columns[budget.metric]).sum())
        rows.append(
            f"<tr><th scope='row'><code>{escape(budget.text)}</code></th>"
            f"<td class='number'>{data.breaks(budget):,}</td><td class='number'>{measured:,}</td>"
            f"<td class='number'>{escape(written.text(float(nearest)))}</td></tr>"
        )
    return (
        "<table><caption>How often each budget was broken, and how near the front comes to it</caption><thead><tr>"
        "<th scope='col'>budget</th><th scope='col' class='number'>trials over</th>"
        "<th scope='col' class='number'>of those with a value</th>"
        "<th scope='col' class='number'>nearest on the front</th>"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _failures(failures: Iterable[Failure]) -> str:
    listed = list(failures)
    if not listed:
        return ""
    rows = "".join(
        f"<tr><td class='number'>{len(failure.numbers):,}</td><td class='reason'>{escape(failure.reason)}</td>"
        f"<td>{', '.join(map(str, failure.named))}{', …' * (len(failure.named) < len(failure.numbers))}</td></tr>"
        for failure in listed[:_MAX_REASONS]
    )
    rest = sum(len(failure.numbers) for failure in listed[_MAX_REASONS:])
    more = f"<p class='note'>{rest:,} trials failed for other reasons.</p>" if rest else ""
    return (
        "<table><caption>Failed trials by reason; texts that differ in their digits alone are counted together"
        "</caption><thead><tr><th scope='col' class='number'>trials</th><th scope='col'>reason</th>"
        f"<th scope='col'>numbers</th></tr></thead><tbody>{rows}</tbody></table>{more}"
    )


def _uncounted(data: ReportData) -> str:
    if not data.uncounted:
        return "<p>Nothing that the models of cost know of is left out of their figures.</p>"
    listed = "".join(f"<li>{escape(phrase)}</li>" for phrase in data.uncounted)
    return f"<p>The counted and simulated figures above leave this out; hardware will not.</p><ul>{listed}</ul>"


def _made(data: ReportData) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(then)}</td><td>{escape(now)}</td></tr>"
        for name, (then, now) in versions(data.origin).items()
    )
    created = data.origin.get("created_at")
    when = f"<p>The run was made on {_date(float(created))}.</p>" if isinstance(created, int | float) else ""
    return (
        f"{when}<details><summary>The job, with all defaults</summary><pre>{escape(shareable_job(data.job))}</pre>"
        "</details><details><summary>Versions</summary><table><caption>What made the run, and what wrote this report"
        "</caption><thead><tr><th scope='col'></th><th scope='col'>run</th><th scope='col'>report</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></details>"
    )


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds))
