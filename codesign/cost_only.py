"""Evaluators over profilers and simulators: as a screen before training, and alone as evaluator `cost`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codesign.cost import CostEvaluator
from codesign.trial import Evaluation, Evaluator, FloatArray
from search_spaces.ops import IntArray


class CostOnly:
    """Evaluator `cost`: profilers and simulators alone, for searches that train nothing."""

    @dataclass(frozen=True, slots=True)
    class Options:
        """No options."""

    def __init__(self, screens: tuple[Evaluator, ...]) -> None:
        self.screens = screens
        self.metrics: tuple[str, ...] = tuple(name for screen in screens for name in screen.metrics)
        self.fingerprint = ""

    def keys(self, codes: IntArray) -> list[str]:
        """No outcome is kept: computing it again is cheaper than looking it up."""
        return [""] * len(codes)

    def prepare(self) -> None:
        """Nothing to do."""

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str] | None:
        """Nothing to take over."""
        return None

    def evaluate(self, codes: IntArray) -> Evaluation:
        """All cost metrics of a batch."""
        metrics: dict[str, FloatArray] = {}
        for screen in self.screens:
            metrics |= screen.evaluate(codes).metrics
        return Evaluation(metrics, [""] * len(codes))


class Simulated:
    """The cost evaluator as an `Evaluator`."""

    def __init__(self, cost: CostEvaluator) -> None:
        self.cost = cost
        self.metrics: tuple[str, ...] = cost.metrics
        self.fingerprint = ""

    def keys(self, codes: IntArray) -> list[str]:
        """No outcome is kept."""
        return [""] * len(codes)

    def prepare(self) -> None:
        """Nothing to do."""

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str] | None:
        """Nothing to take over."""
        return None

    def evaluate(self, codes: IntArray) -> Evaluation:
        """Counts and simulated cost of a batch."""
        return Evaluation(self.cost.evaluate(codes), [""] * len(codes))
