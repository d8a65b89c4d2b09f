"""What a proxy has learned, and its predictions: arrays alone, no library for learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.proxy_features import BoolArray, Encoder
from codesign.proxy_kernel import KernelModel
from codesign.proxy_trees import Trees
from codesign.trial import FloatArray
from simulators.accelerator import Columns

KERNEL = "kernel"
"""The Gaussian process among the candidates."""
LOG, COUNT, LINEAR, CONSTANT = "log", "count", "linear", "constant"
"""On which scale a metric is learned: one that is positive by its logarithm; one that may be 0 by the logarithm of 1
more than its multiple of the least positive value; one that never changes needs no model."""


@dataclass(frozen=True)
class Output:
    """How one metric is predicted.

    Attributes:
        metric: its name.
        scale: `LOG`, `COUNT`, `LINEAR` or `CONSTANT`.
        constant: its value if it never changed; the least positive value of a `COUNT`.
        weights: candidate -> weight of its prediction, in the metric's unit.
        validation: candidate or sum of candidates -> RMSE / mean in cross-validation, a fraction.
        chosen: which of them predicts the metric.
    """

    metric: str
    scale: str
    constant: float
    weights: Mapping[str, float]
    validation: Mapping[str, float]
    chosen: str = CONSTANT

    @property
    def error(self) -> float | None:
        """RMSE / mean of the chosen one in cross-validation; None for a metric that never changes."""
        return self.validation.get(self.chosen)

    def to_scale(self, values: FloatArray) -> FloatArray:
        """Values on the scale on which they are learned."""
        if self.scale == COUNT:
            return np.log1p(values / self.constant)
        return np.log(values) if self.scale == LOG else values

    def from_scale(self, values: FloatArray) -> FloatArray:
        """The inverse of `to_scale`."""
        if self.scale == COUNT:
            return np.maximum(np.expm1(values), 0.0) * self.constant
        return np.exp(values) if self.scale == LOG else values

    @property
    def choice(self) -> str:
        """What predicts it, in words."""
        return " + ".join(self.weights) or CONSTANT


@dataclass(frozen=True, eq=False)
class Learned:
    """A learned model of several metrics.

    Attributes:
        encoder: reads designs.
        outputs: the metrics.
        kernel: predicts, in this order, the outputs that give it a weight; None if there is none.
        trees: (metric, candidate) -> ensemble.
        works: predicts above 0.5 for designs that work; None if all that was learned from did.
    """

    encoder: Encoder
    outputs: tuple[Output, ...]
    kernel: KernelModel | None
    trees: Mapping[tuple[str, str], Trees]
    works: Trees | None

    def predict(self, designs: Columns) -> tuple[dict[str, FloatArray], BoolArray]:
        """Metrics by name, shape (m,), NaN where a design is taken not to work; and which are, shape (m,)."""
        m = len(next(iter(designs.values())))
        plain = self.encoder.plain(designs) if self.trees or self.works else np.zeros((m, 0))
        works = np.ones(m, dtype=bool) if self.works is None else self.works.predict(plain) > 0.5
        smooth: FloatArray | None = None
        if self.kernel is not None:
            smooth = self.kernel.predict(self.encoder.base(designs), self.encoder.indicators(designs))
        metrics: dict[str, FloatArray] = {}
        users = kernel_users(self.outputs)
        for output in self.outputs:
            total = np.full(m, output.constant if output.scale == CONSTANT else 0.0)
            for name, weight in output.weights.items():
                if name == KERNEL:
                    assert smooth is not None  # whoever weighs the kernel has one
                    found = smooth[:, users.index(output.metric)]
                else:
                    found = self.trees[output.metric, name].predict(plain)
                total += weight * output.from_scale(found)
            metrics[output.metric] = np.where(works, total, np.nan)
        return metrics, works


def kernel_users(outputs: Sequence[Output]) -> list[str]:
    """The metrics that the kernel model predicts, in the order of its outputs."""
    return [output.metric for output in outputs if KERNEL in output.weights]
