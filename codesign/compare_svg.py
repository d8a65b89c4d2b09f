"""A race as a picture: the score of each strategy against the number of evaluations, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from codesign.trial import FloatArray

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 470, 62, 168, 50, 56
_TEXT, _MUTED, _GRID = "#1d2329", "#59636e", "#e8ebef"
_COLOURS = ("#0b5fa8", "#b4561f", "#2f7d4f", "#7a4fa3", "#a8324a", "#5b6b7b", "#b08a00", "#1f8a94")
_DASHES = ("", "7 4", "2 3")
_LINE_HEIGHT = 16
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_N_TICKS = 8


def race_svg(
    curves: Mapping[str, FloatArray], evaluations: Sequence[int], title: str, score: str, marks: Sequence[int] = ()
) -> str:
    """The picture, as text of an SVG file.

    Args:
        curves: by label, shape (k,), the score at each number of evaluations; NaN where there is none.
        evaluations: k numbers, ascending; their axis is logarithmic.
        title: over the picture.
        score: what the score is, beside its axis.
        marks: numbers of evaluations to write at the axis; none picks 1, 2 and 5 times powers of ten.

    Raises:
        ValueError: there is no curve, or no score.
    """
    known = np.concatenate([curve[np.isfinite(curve)] for curve in curves.values()]) if curves else np.zeros(0)
    if len(known) == 0:
        raise ValueError("a picture needs at least one curve with a score")
    step = next((s for s in _STEPS if np.ptp(known) <= _N_TICKS * s), 10.0 ** np.ceil(np.log10(np.ptp(known))))
    low, high = np.floor(known.min() / step) * step, np.ceil(known.max() / step) * step
    high = high if high > low else low + step
    span = np.log(evaluations[-1] / evaluations[0]) or 1.0

    def x(count: float) -> float:
        return float(_LEFT + np.log(count / evaluations[0]) / span * (_WIDTH - _LEFT - _RIGHT))

    def y(value: float) -> float:
        return float(_HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP))

    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' height='{_HEIGHT}' "
        "font-family='system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif' font-size='13'>",
        f"<title>{escape(title)}</title>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#ffffff'/>",
        f"<text x='16' y='27' font-size='15' font-weight='600' fill='{_TEXT}'>{escape(title)}</text>",
    ]
    for value in np.arange(low, high + step / 2, step):
        parts.append(f"<path d='M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}' stroke='{_GRID}'/>")
        parts.append(_label(_LEFT - 8, y(value) + 4, f"{value:.6g}", "end"))
    for count in marks or _round_counts(evaluations[0], evaluations[-1]):
        parts.append(f"<path d='M{x(count):.1f} {_TOP}V{_HEIGHT - _BOTTOM}' stroke='{_GRID}'/>")
        parts.append(_label(x(count), _HEIGHT - _BOTTOM + 18, f"{count:,}", "middle"))
    ends = {label: float(curve[np.isfinite(curve)][-1]) for label, curve in curves.items() if np.isfinite(curve).any()}
    places = _spread([y(end) for end in ends.values()])
    for number, (label, end) in enumerate(ends.items()):
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]
        rows = np.flatnonzero(np.isfinite(curves[label]))
        points = " ".join(f"{x(evaluations[int(row)]):.1f},{y(curves[label][row]):.1f}" for row in rows)
        dashes = f" stroke-dasharray='{dash}'" if dash else ""
        parts.append(
            f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'{dashes}>"
            f"<title>{escape(label)}: {end:.4g}</title></polyline>"
        )
        parts.append(_label(_WIDTH - _RIGHT + 10, places[number] + 4, label, "start", colour))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_label(middle, _HEIGHT - 16, "evaluations (logarithmic)", "middle", _TEXT))
    parts.append(_label(_LEFT - 46, _TOP - 8, score, "start", _TEXT))
    return "\n".join([*parts, "</svg>\n"])


def _round_counts(first: int, last: int) -> list[int]:
    """1, 2 and 5 times powers of ten."""
    counts = [step * 10**decade for decade in range(len(str(last))) for step in (1, 2, 5)]
    return [count for count in counts if first <= count <= last]


def _spread(wanted: list[float]) -> list[float]:
    """Heights of labels, as wanted but a line apart."""
    order = np.argsort(wanted, kind="stable")
    places = [0.0] * len(wanted)
    previous = -np.inf
    for row in order:
        previous = places[row] = max(wanted[row], previous + _LINE_HEIGHT)
    excess = previous - (_HEIGHT - _BOTTOM)
    return [place - max(0.0, excess) for place in places]


def _label(x: float, y: float, text: str, anchor: str = "start", colour: str = _MUTED) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='{colour}'>{escape(text)}</text>"
