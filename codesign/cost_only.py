"""Evaluators over profilers and simulators: as a screen before training, and alone as evaluator `cost`."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.cost import CostEvaluator
from codesign.trial import Evaluation, Evaluator, FloatArray
from search_spaces.ops import IntArray


class CostOnly(Evaluator):
    """Evaluator `cost`: profilers and simulators alone, for searches that train nothing."""

    @dataclass(frozen=True, slots=True)
    class Options:
        """No options."""

    metrics: tuple[str, ...] = ()

    def __init__(self, screens: tuple[Evaluator, ...]) -> None:
        self.screens = screens
        self.metrics = tuple(name for screen in screens for name in screen.metrics)

    def evaluate(self, codes: IntArray) -> Evaluation:
        """All cost metrics of a batch."""
        metrics: dict[str, FloatArray] = {}
        errors = [""] * len(codes)
        for screen in self.screens:
            found = screen.evaluate(codes)
            metrics |= found.metrics
            errors = [old or new for old, new in zip(errors, found.errors, strict=True)]
        return Evaluation(metrics, errors)


class Simulated(Evaluator):
    """The cost evaluator as an `Evaluator`."""

    is_free = True
    """Its metrics are arithmetic: strategies may ask for those of any number of candidates."""
    metrics: tuple[str, ...] = ()

    def __init__(self, cost: CostEvaluator) -> None:
        self.cost = cost
        self.metrics = cost.metrics

    def evaluate(self, codes: IntArray) -> Evaluation:
        """Counts and simulated cost of a batch."""
        return Evaluation(self.cost.evaluate(codes), [""] * len(codes))
