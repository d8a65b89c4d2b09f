"""The report's section on honesty: random search beside the run, improvements, forecasts."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from codesign.honesty import Honesty, Ranking
from codesign.honesty_random import Comparison, FloatArray
from codesign.honesty_ranks import FEWEST_PAIRS, RankCorrelation
from codesign.honesty_text import improvement_text, ranking_text, verdict
from codesign.objectives import Objective
from codesign.report_figures import TICKS, axis_style, drawable
from codesign.units import reading

Figure = dict[str, Any]


def honesty_html(honesty: Honesty, objectives: tuple[Objective, ...]) -> str:
    """The section's content."""
    found = honesty.comparison
    told = _sentence(verdict(honesty, objectives))
    is_beaten = found is not None and not found.beats_random
    html = f"<p{' class=notice' if is_beaten else ''}><strong>{told}</strong></p>".replace("=notice", "='notice'")
    if found is not None:
        html += (
            "<figure><div id='honesty-plot' class='plot' role='img' aria-label='hypervolume against evaluations, of "
            f"this run and of random search'></div><figcaption>{_caption(found)}</figcaption></figure>"
        )
    html += f"<p>{_sentence(improvement_text(honesty.improvement))}</p>"
    if honesty.rankings:
        html += "".join(f"<p>{_sentence(ranking_text(ranking))}</p>" for ranking in honesty.rankings)
        html += _table(honesty.rankings)
    return html


def honesty_figure(honesty: Honesty, objectives: tuple[Objective, ...]) -> Figure | None:
    """The run's hypervolume against evaluations over the band of random search; None without a comparison."""
    found = honesty.comparison
    if found is None:
        return None
    is_single = len(objectives) == 1
    written = reading(objectives[0].metric)
    title = f"best {written.label}" if is_single else "hypervolume, share of this run's"
    tick = TICKS[written.style] if is_single else TICKS["share"]
    curve, x = found.curve, found.curve.counts.tolist()
    volumes = {"own": curve.own, "low": curve.low, "median": curve.median, "high": curve.high}
    if is_single:
        sign = -1.0 if objectives[0].maximize else 1.0
        bests = {key: sign * (found.reference[0] - volume) for key, volume in volumes.items()}
        values = {key: np.where(volumes[key] > 0, best, np.nan) for key, best in bests.items()}
    else:
        values = {key: volume / (found.own or 1.0) for key, volume in volumes.items()}
    known = np.isfinite(values["low"])
    counts = curve.counts[known].tolist()
    band = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False, "line": {"width": 0}}
    random = "random search" if found.kind == "runs" else f"the {found.n_random:,} random draws"
    traces: list[Figure] = [
        band | {"x": counts, "y": drawable(values["low"][known])},
        band | {"x": counts, "y": drawable(values["high"][known]), "fill": "tonexty", "fillcolor": "var(--grid)",
                "name": f"{random}, middle 90 %", "showlegend": True},
        _line(counts, drawable(values["median"][known]), f"{random}, median", "var(--muted)", "solid"),
    ]  # fmt: skip
    if found.kind == "draws" and not is_single:
        traces.append(_estimate(found, found.own or 1.0))
    traces.append(_line(x, drawable(values["own"]), "this run", "var(--accent)", "solid"))
    return {
        "data": traces,
        "layout": {
            "height": 320, "margin": {"l": 72, "r": 24, "t": 30, "b": 48}, "hovermode": "x unified",
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
            "xaxis": axis_style({"title": {"text": "evaluations"}, "rangemode": "tozero"}),
            "yaxis": axis_style({"title": {"text": escape(title)}, "tickformat": tick, **_range(found, values)}),
        },
    }  # fmt: skip


def _range(found: Comparison, values: dict[str, FloatArray]) -> Figure:
    """Opened without the first twentieth, whose climb would flatten all that follows."""
    is_late = found.curve.counts >= found.n_evaluations / 20
    late = np.concatenate([part[is_late] for part in values.values()])
    late = late[np.isfinite(late)]
    if len(late) == 0 or np.ptp(late) == 0:
        return {}
    margin = 0.08 * float(np.ptp(late))
    return {"range": [float(late.min()) - margin, float(late.max()) + margin]}


def _line(x: list[int], y: list[float | None], name: str, colour: str, dash: str) -> Figure:
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "hovertemplate": "%{y}",
        "line": {"color": colour, "width": 2, "dash": dash},
    }  # fmt: skip


def _estimate(found: Comparison, unit: float) -> Figure:
    """What random search is estimated to reach at the run's end, with its interval, as shares of `unit`."""
    return {
        "type": "scatter", "mode": "markers", "name": "random search, estimated", "x": [found.n_evaluations],
        "y": drawable(np.array([found.random]) / unit), "hovertemplate": "%{y}",
        "marker": {"color": "var(--muted)", "size": 9, "symbol": "diamond"},
        "error_y": {
            "type": "data", "symmetric": False, "color": "var(--muted)",
            "array": drawable(np.array([found.random_high - found.random]) / unit),
            "arrayminus": drawable(np.array([found.random - found.random_low]) / unit),
        },
    }  # fmt: skip


def _caption(found: Comparison) -> str:
    if found.kind == "runs":
        return (
            f"{found.n_random:,} random searches of as many evaluations, under the same budgets, were made beside the "
            "run; they are not in its ledger. The verdict is wrong for one random search of twenty at most."
        )
    return (
        f"The band is of the {found.n_random:,} candidates drawn at random, in any order. "
        + ("Beyond their number random search is extrapolated. " if found.is_extrapolated else "")
        + "The verdict asks whether as many evaluations of the run, picked blindly, are better than those draws."
    )


def _table(rankings: tuple[Ranking, ...]) -> str:
    rows = ""
    for ranking in rankings:
        parts = (("all", ranking.overall), ("later half", ranking.later), ("drawn at random", ranking.drawn))
        rows += "".join(
            f"<tr><th scope='row'>{escape(reading(ranking.metric).title)}, {label}</th>"
            f"<td class='number'>{part.n:,}</td>{_cell(part, part.tau, part.tau_low, part.tau_high)}"
            f"{_cell(part, part.rho, part.rho_low, part.rho_high)}</tr>"
            for label, part in parts
        )
    return (
        "<table><caption>How forecasts ranked results that the model had not seen, with 95 % intervals. The strategy "
        "chose most of the candidates by its model, which narrows their range and lowers the correlation</caption>"
        "<thead><tr><th scope='col'>forecasts of</th><th scope='col' class='number'>candidates</th>"
        "<th scope='col' class='number'>Kendall's tau</th><th scope='col' class='number'>Spearman's rho</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _cell(part: RankCorrelation, value: float, low: float, high: float) -> str:
    told = "" if part.n < FEWEST_PAIRS or not np.isfinite(value) else f"{value:.2f} ({low:.2f} to {high:.2f})"
    return f"<td class='number'>{told}</td>"


def _sentence(text: str) -> str:
    return escape(text[0].upper() + text[1:]) + "."
