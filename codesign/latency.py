"""What a latency measurement asks for and gives. The measuring is in `codesign.latency_onnx`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuntimeTarget:
    """This machine as a target.

    Attributes:
        threads: threads within an op.
        batch: images per inference.
        readings: how many are taken in all.
    """

    threads: int = 1
    batch: int = 1
    readings: int = 60


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one inference of a model takes where nothing disturbs it.

    Attributes:
        latency_ms: milliseconds per inference of the whole batch: of each opening of the model the quickest reading, of
            these the quickest third, of that the geometric mean.
        low_ms, high_ms: an interval that holds the median opening in 95 % of cases. It speaks of the minutes of the
            measurement, not of tomorrow's load.
        readings: how many readings were taken.
        disturbed: during how many of them another process held the core or the whole machine was slow.
        threads: threads within an op.
        batch: images per inference.
        runtime: "onnxruntime" and its version.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    readings: int
    disturbed: int
    threads: int
    batch: int
    runtime: str


def quickest_third(openings_ms: Sequence[float]) -> float:
    """Geometric mean of the quickest third (rounded up) of at least one positive time."""
    kept = sorted(openings_ms)[: -(-len(openings_ms) // 3)]
    return math.exp(sum(math.log(ms) for ms in kept) / len(kept))
