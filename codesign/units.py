"""How metrics are called and written for people: `latency_ms@edge` is "latency on edge", 0.342, "ms".

A metric's name carries its unit (`energy_uj`) and, behind `@`, its target; both are read off the name here, in one
place, so that the terminal and the report agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Style = Literal["share", "count", "plain"]

_UNITS: dict[str, tuple[str, Style]] = {
    "_gmacs_per_s": ("GMAC/s", "plain"),
    "_gb_per_s": ("GB/s", "plain"),
    "_seconds": ("s", "plain"),
    "_cycles": ("cycles", "count"),
    "_bytes": ("B", "count"),
    "_kib": ("KiB", "plain"),
    "_mib": ("MiB", "plain"),
    "_mm2": ("mm²", "plain"),
    "_ghz": ("GHz", "plain"),
    "_ms": ("ms", "plain"),
    "_us": ("µs", "plain"),
    "_ns": ("ns", "plain"),
    "_uj": ("µJ", "plain"),
    "_mj": ("mJ", "plain"),
    "_nj": ("nJ", "plain"),
    "_pj": ("pJ", "plain"),
    "_mw": ("mW", "plain"),
}
_TITLES = {
    "macs": "MACs",
    "params": "parameters",
    "pes": "PEs",
    "weight_bytes": "weight memory",
    "activation_bytes": "activation memory",
    "dram_bytes": "DRAM traffic",
    "train_seconds": "training time",
    "loss": "training loss",
}
_COUNTS = frozenset({"macs", "params", "pes"})
_ACRONYMS = {"dram": "DRAM", "sram": "SRAM", "macs": "MACs", "gmacs": "GMACs"}
LOG_SPAN = 10.0
"""An axis is logarithmic where values span more than this factor."""
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Reading:
    """How values of one metric are written.

    Attributes:
        metric: its name.
        title: what it is, for people ("latency on edge").
        unit: "ms", "%", ...; "" if it has none.
        style: a share of 1, written in percent; a count, written with k, M, G, T; or a plain number.
    """

    metric: str
    title: str
    unit: str
    style: Style

    @property
    def label(self) -> str:
        """Title and unit, for a column or an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def number(self, value: float) -> str:
        """A value without its unit: "97.22", "58.3 k", "0.342"; "" for NaN."""
        if math.isnan(value):
            return ""
        if self.style == "share":
            return f"{100 * value:.2f}"
        return count_text(value) if self.style == "count" else plain_text(value)

    def text(self, value: float) -> str:
        """A value with its unit: "97.22 %", "58.3 kB", "0.342 ms"; a dash for NaN."""
        if math.isnan(value):
            return "–"
        number = self.number(value)
        if self.unit == "B" and number[-1].isalpha():
            return f"{number}B"
        return f"{number} {self.unit}" if self.unit else number

    def phrase(self, value: float) -> str:
        """A value inside a sentence: "97.22 % accuracy", "58.3 k parameters", "0.342 ms latency on edge"."""
        return f"{self.text(value)} {self.title}"


def reading(metric: str) -> Reading:
    """How a metric's values are written, from its name alone."""
    base, _, target = metric.partition("@")
    unit, style, stem = _unit(base)
    title = _TITLES.get(base) or " ".join(_ACRONYMS.get(word, word) for word in stem.split("_"))
    return Reading(metric, f"{title} on {target}" if target else title, unit, style)


def _unit(base: str) -> tuple[str, Style, str]:
    if base in _COUNTS:
        return "", "count", base
    if base == "accuracy" or base.endswith("_accuracy"):
        return "%", "share", base
    for suffix, (unit, style) in _UNITS.items():
        if base.endswith(suffix) and base != suffix[1:]:
            return unit, style, base.removesuffix(suffix)
    return "", "plain", base


def plain_text(value: float) -> str:
    """Three significant digits, whole numbers in full: "0.342", "12.3", "1,234", "4.2e-05"."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or (abs(value) < 1e15 and value == int(value)):
        return f"{value:,.0f}"
    if abs(value) >= 1e15 or abs(value) < 1e-3:
        return f"{value:.3g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def count_text(value: float) -> str:
    """Three significant digits with k, M, G or T: "58.3 k", "2.21 M"; "640" below a thousand."""
    if not math.isfinite(value):
        return str(value)
    for step, letter in _STEPS:
        if abs(value) >= step * 0.9995:  # 999.6 k rounds up to 1.00 M
            scaled = value / step
            decimals = max(0, 2 - math.floor(math.log10(abs(scaled) * 1.0005)))
            return f"{scaled:.{decimals}f} {letter}"
    return plain_text(value)


def duration_text(seconds: float) -> str:
    """A length of time in its two largest units: "0.4 s", "43 s", "12 min 5 s", "1 h 12 min", "2 d 3 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, below, lower in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit}" + (f" {rest} {lower}" if rest else "")
    raise AssertionError("a minute or more has a unit")


def is_log_scale(values: NDArray[np.float64], style: str) -> bool:
    """Whether an axis over these values should be logarithmic: all positive, spanning more than a decade, no shares."""
    known = values[np.isfinite(values)]
    return style != "share" and len(known) > 0 and bool(known.min() > 0) and bool(known.max() > LOG_SPAN * known.min())


def size_text(size: int) -> str:
    """How many candidates a space has, however many: "324" or "1.5e+21"."""
    if size < 10**6:
        return f"{size:,}"
    exponent = len(str(size)) - 1
    return f"{str(size)[0]}.{str(size)[1]}e+{exponent}"
