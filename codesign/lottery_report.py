"""A lottery's result for people: a table on the terminal, a page with plotly figures, a picture."""

from __future__ import annotations

import json
import math
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from codesign.lottery_job import Lottery
from codesign.lottery_result import AgentResult, Result
from codesign.lottery_svg import lottery_svg
from codesign.report_page import script_safe_json
from codesign.run import write_text

_LOG_WIDTH = 120
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
HEADERS = ("agent", "settings", "best", "behind\nbest", "first\nquartile", "median", "third\nquartile", "IQR", "spread",
           "beat\nrandom", "s a\nticket")  # fmt: skip
"""Of the table's columns."""


def print_result(result: Result, console: Console) -> None:
    """Print the table: one row for each agent, the best median first."""
    if not console.is_terminal:
        console = Console(file=console.file, width=_LOG_WIDTH, highlight=False, markup=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in HEADERS:
        table.add_column(header, justify="left" if header == "agent" else "right")
    for agent in result.agents:
        table.add_row(*cells(result, agent))
    console.print(table)
    direction = "more" if result.maximize else "less"
    console.print(
        f"best {result.score} of each ticket, {direction} is better; spread = |best - worst| / best; beat random = "
        "settings whose median ticket is better than the median ticket of random search",
        soft_wrap=True,
    )


def cells(result: Result, agent: AgentResult) -> list[str]:
    """An agent's row of the table."""
    return [
        agent.agent,
        str(agent.n_settings),
        result.text(agent.best),
        _percent(agent.behind, 1),
        *(result.text(value) for value in agent.quartiles),
        result.text(agent.iqr),
        _percent(agent.spread, 0),
        _percent(agent.beats_random, 0),
        f"{agent.strategy_seconds:.2f}",
    ]


def write_pictures(result: Result, lottery: Lottery, folder: Path) -> None:
    """Write `lottery.svg` and `lottery.html`, each whole or not at all."""
    n = lottery.settings * lottery.seeds
    title = f"{lottery.name}: {n} tickets an agent, {lottery.evaluations} evaluations a ticket"
    write_text(folder / "lottery.svg", lottery_svg(result, title))
    write_text(folder / "lottery.html", _page(result, title))


def distribution_figure(result: Result) -> dict[str, Any]:
    """Box and points for each agent, as plotly's JSON; hovering tells the score."""
    traces = [
        {
            "type": "box", "name": agent.agent, "x": [_number(score) for score in agent.scores], "boxpoints": "all",
            "jitter": 0.6, "pointpos": 0, "orientation": "h", "marker": {"color": "var(--cloud)", "size": 4},
            "line": {"color": "var(--accent)"}, "fillcolor": "rgba(0,0,0,0)", "quartilemethod": "inclusive",
            "showlegend": False,
        }
        for agent in reversed(result.agents)
    ]  # fmt: skip
    layout = {
        "height": 90 + 56 * len(result.agents),
        "margin": {"l": 120, "r": 24, "t": 16, "b": 56},
        "xaxis": {"title": {"text": escape(result.score)}, "gridcolor": "var(--grid)", "zeroline": False},
        "yaxis": {"gridcolor": "var(--grid)"},
    }
    return {"data": traces, "layout": layout}


def curve_figure(result: Result) -> dict[str, Any]:
    """The median ticket's score against evaluations, for each agent, as plotly's JSON."""
    traces = [
        {
            "type": "scatter", "mode": "lines", "name": agent.agent, "x": list(result.steps),
            "y": [_number(score) for score in agent.curve], "line": {"shape": "hv", "width": 2},
        }
        for agent in result.agents
    ]  # fmt: skip
    layout = {
        "height": 440,
        "margin": {"l": 72, "r": 24, "t": 16, "b": 56},
        "xaxis": {"title": {"text": "evaluations"}, "type": "log", "gridcolor": "var(--grid)"},
        "yaxis": {"title": {"text": escape(result.score)}, "gridcolor": "var(--grid)", "zeroline": False},
    }
    return {"data": traces, "layout": layout}


def _page(result: Result, title: str) -> str:
    from plotly.offline import get_plotlyjs

    templates = files("codesign") / "templates"
    css, script = ((templates / file).read_text(encoding="utf-8") for file in ("report.css", "lottery.js"))
    figures = script_safe_json({"distribution": distribution_figure(result), "curves": curve_figure(result)})
    head = "".join(f"<th>{escape(header)}</th>" for header in HEADERS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(result, agent)) + "</tr>"
        for agent in result.agents
    )
    best = "".join(
        f"<li>{escape(agent.agent)}: <code>{escape(json.dumps(dict(agent.best_options)))}</code></li>"
        for agent in result.agents
    )
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{css}</style></head><body><h1>{escape(title)}</h1><main>"
        f"<section><h2>What tickets found</h2><p>Each point is a ticket: one hyper-parameter setting with one seed. "
        f"{'More' if result.maximize else 'Less'} is better.</p><div id='distribution' class='plot'></div></section>"
        "<section><h2>The median ticket as it goes on</h2><div id='curves' class='plot'></div></section>"
        f"<section><h2>Figures</h2><div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"</div></section><section><h2>The best ticket's setting</h2><ul>{best}</ul></section></main>"
        f"<script>{get_plotlyjs()}</script>"
        f"<script type='application/json' id='figures'>{figures}</script><script>{script}</script></body></html>\n"
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _percent(value: float, decimals: int) -> str:
    return f"{100 * value:.{decimals}f} %" if math.isfinite(value) else "–"
