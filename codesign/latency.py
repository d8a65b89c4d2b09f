"""What a latency measurement asks for and gives. The measuring is in `codesign.latency_onnx`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuntimeTarget:
    """This machine as a target.

    Attributes:
        threads: threads within an op.
        batch: images per inference.
        readings: how many are taken; their median counts.
    """

    threads: int = 1
    batch: int = 1
    readings: int = 25


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one inference of a model takes.

    Attributes:
        median_ms: median over the readings, milliseconds per inference of the whole batch.
        low_ms, high_ms: a 95% interval of that median, from the readings' order statistics. It speaks of the minutes of
            the measurement, not of tomorrow's load.
        readings: how many readings the median is taken over.
        disturbed: how many more were taken, and not used, because another process held the core meanwhile. If it left
            fewer than 6 undisturbed, all were used.
        threads: threads within an op.
        batch: images per inference.
        runtime: "onnxruntime" and its version.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    readings: int
    disturbed: int
    threads: int
    batch: int
    runtime: str
