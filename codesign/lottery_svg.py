"""A lottery's picture as SVG: a row for each agent with its tickets as points, quartiles as a box, and its best."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from codesign.lottery_result import AgentResult, Result
from codesign.trial import FloatArray
from codesign.units import is_log_scale

_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 920, 50, 128, 178, 46, 58
_TEXT, _MUTED, _GRID, _ACCENT, _POINT, _BEST = "#1d2329", "#59636e", "#e8ebef", "#0b5fa8", "#6f7d8c", "#b4561f"
_GOLDEN = (math.sqrt(5) - 1) / 2
_N_TICKS = 7


class _Scale:
    """From scores to pixels, linear or logarithmic."""

    def __init__(self, values: FloatArray, style: str) -> None:
        self.is_log = is_log_scale(values, style)
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        if self.is_log:
            low, high = math.log10(low), math.log10(high)
        margin = 0.03 * (high - low) or 0.05 * abs(high) or 1.0
        self._low, self._high = low - margin, high + margin

    def x(self, value: float) -> float:
        """Pixels from the left."""
        place = math.log10(value) if self.is_log else value
        return _LEFT + (place - self._low) / (self._high - self._low) * (_WIDTH - _LEFT - _RIGHT)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.is_log:
            decades = range(math.floor(self._low), math.ceil(self._high) + 1)
            steps = [1, 2, 5] if self._high - self._low < 3 else [1]
            every = [step * 10.0**decade for decade in decades for step in steps]
            return [tick for tick in every if self._low <= math.log10(tick) <= self._high]
        rough = (self._high - self._low) / _N_TICKS
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
        first = math.ceil(self._low / step)
        return [step * i for i in range(first, math.floor(self._high / step) + 1)]


def lottery_svg(result: Result, title: str) -> str:
    """The picture, as text of an SVG file.

    Args:
        result: what the lottery says.
        title: over the picture.
    """
    known = np.array([score for agent in result.agents for score in agent.scores if math.isfinite(score)])
    scale = _Scale(known, "plain")
    height = _TOP + _ROW * len(result.agents) + _BOTTOM
    bottom = height - _BOTTOM
    direction = "more is better" if result.maximize else "less is better"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}' height='{height}' "
        "font-family='system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif' font-size='13'>",
        f"<title>{escape(title)}</title>",
        f"<rect width='{_WIDTH}' height='{height}' fill='#ffffff'/>",
        f"<text x='16' y='27' font-size='15' font-weight='600' fill='{_TEXT}'>{escape(title)}</text>",
    ]
    for tick in scale.ticks():
        x = scale.x(tick)
        parts.append(f"<path d='M{x:.1f} {_TOP}V{bottom}' stroke='{_GRID}'/>")
        parts.append(_label(x, bottom + 18, f"{tick:.6g}", "middle"))
    for row, agent in enumerate(result.agents):
        parts += _row(result, agent, scale, _TOP + _ROW * row + _ROW / 2)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    log = ", logarithmic" if scale.is_log else ""
    parts.append(_label(middle, bottom + 40, f"best {result.score} of a ticket ({direction}{log})", "middle", _TEXT))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _row(result: Result, agent: AgentResult, scale: _Scale, y: float) -> list[str]:
    """One agent: name, points, box, best, and how often its settings beat random search."""
    parts = [_label(_LEFT - 12, y + 4, agent.agent, "end", _TEXT)]
    if all(map(math.isfinite, agent.quartiles)):
        first, median, third = (scale.x(value) for value in agent.quartiles)
        left, width, half = min(first, third), abs(third - first), _ROW / 2 - 9
        parts.append(
            f"<rect x='{left:.1f}' y='{y - half:.1f}' width='{max(width, 1):.1f}' height='{2 * half:.1f}' rx='3' "
            f"fill='{_ACCENT}' fill-opacity='.12' stroke='{_ACCENT}' stroke-width='1.3'/>"
        )
        parts.append(f"<path d='M{median:.1f} {y - half:.1f}v{2 * half:.1f}' stroke='{_ACCENT}' stroke-width='2.6'/>")
    found = [score for score in agent.scores if math.isfinite(score)]
    for i, score in enumerate(found):
        jitter = ((i * _GOLDEN) % 1.0 - 0.5) * (_ROW - 20)
        parts.append(
            f"<circle cx='{scale.x(score):.1f}' cy='{y + jitter:.1f}' r='2.6' fill='{_POINT}' fill-opacity='.5'/>"
        )
    if math.isfinite(agent.best):
        x = scale.x(agent.best)
        parts.append(
            f"<path d='M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z' fill='{_BEST}' stroke='#ffffff'>"
            f"<title>best: {escape(result.text(agent.best))}</title></path>"
        )
    notes = [f"median {result.text(agent.quartiles[1])}"]
    if math.isfinite(agent.beats_random):
        notes.append(f"{100 * agent.beats_random:.0f} % beat random")
    for line, note in enumerate(notes):
        parts.append(_label(_WIDTH - _RIGHT + 16, y - 2 + 15 * line, note))
    return parts


def _label(x: float, y: float, text: str, anchor: str = "start", colour: str = _MUTED) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='{colour}'>{escape(text)}</text>"
