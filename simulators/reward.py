"""What a design is worth to a search agent: a number that never rises with a cost.

Three states, in this order of worth, that never overlap:

    cannot work                   0
    works, over a budget          1 / (1 + violation), in (0, 1)
    works, within every budget    1 + mean over the objectives of reference / (reference + metric), in (1, 2)

with violation = sum over the budgets of max(metric / limit - 1, 0). So a design that works beats one that does not, one
within the budgets beats one over them, a smaller excess beats a larger one, and among designs within the budgets the
reward falls strictly in every objective. There is no pole and no target that could be overshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulators.workload import FloatArray


@dataclass(frozen=True)
class Reward:
    """Objectives and budgets over metrics that are costs.

    Attributes:
        references: objective -> the value that is worth one half, in the metric's unit (`{"latency_ms": 2.0}`).
        budgets: metric -> its upper limit, in the metric's unit.

    Raises:
        ValueError: no objective, or a reference or limit that is not positive and finite.
    """

    references: Mapping[str, float]
    budgets: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what would make the reward meaningless."""
        if not self.references:
            raise ValueError("objectives: name at least one metric")
        for kind, table in (("objectives", self.references), ("budgets", self.budgets)):
            for name, value in table.items():
                if not (np.isfinite(value) and value > 0):
                    raise ValueError(f"{kind}.{name}: {value!r} is not allowed; use a positive number")

    def violations(self, metrics: Mapping[str, FloatArray]) -> FloatArray:
        """Sum of relative excesses over the budgets, shape (A,): 0 within all of them, inf for a design that fails."""
        total = np.zeros(len(next(iter(metrics.values()))))
        for name, limit in self.budgets.items():
            total = total + np.maximum(metrics[name] / limit - 1.0, 0.0)
        return np.where(self._works(metrics), total, np.inf)

    def rewards(self, metrics: Mapping[str, FloatArray]) -> FloatArray:
        """The reward of A designs, shape (A,), in 0..2."""
        violations = self.violations(metrics)
        worth = sum(reference / (reference + metrics[name]) for name, reference in self.references.items())
        within = 1.0 + np.asarray(worth) / len(self.references)
        return np.where(violations == 0, within, np.where(np.isinf(violations), 0.0, 1.0 / (1.0 + violations)))

    def _works(self, metrics: Mapping[str, FloatArray]) -> NDArray[np.bool_]:
        named = [metrics[name] for name in (*self.references, *self.budgets)]
        return np.asarray(np.isfinite(np.stack(named)).all(axis=0))
