"""Evaluators over what costs nothing to know: as a screen before training, and alone as evaluator `cost`."""

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

    def uncounted(self, codes: IntArray) -> list[str]:
        """What free metrics other than simulated ones leave out of these candidates' figures, as phrases."""
        return [
            phrase for screen in self.screens if isinstance(screen, Simulated) for phrase in screen.uncounted(codes)
        ]


class Simulated(Evaluator):
    """The cost evaluator as an `Evaluator`, together with others whose metrics are free."""

    is_free = True
    """Its metrics are arithmetic: strategies may ask for those of any number of candidates."""
    metrics: tuple[str, ...] = ()

    def __init__(self, cost: CostEvaluator, others: tuple[Evaluator, ...] = ()) -> None:
        self.cost = cost
        self.others = others
        self.metrics = (*cost.metrics, *(name for other in others for name in other.metrics))

    def evaluate(self, codes: IntArray) -> Evaluation:
        """Counts, simulated cost and the others' metrics of a batch."""
        metrics = dict(self.cost.evaluate(codes))
        errors = [""] * len(codes)
        for other in self.others:
            found = other.evaluate(codes)
            metrics |= found.metrics
            errors = [old or new for old, new in zip(errors, found.errors, strict=True)]
        return Evaluation(metrics, errors)

    def uncounted(self, codes: IntArray) -> list[str]:
        """What the others' metrics leave out of these candidates' figures, as phrases."""
        return [phrase for other in self.others if hasattr(other, "uncounted") for phrase in other.uncounted(codes)]
