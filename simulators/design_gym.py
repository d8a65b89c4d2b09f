"""Any design model as a gymnasium environment: one step evaluates one design.

The action is the design itself, one index per searched field (`MultiDiscrete`), so that every agent searches the same
space and every option can be chosen. A step is a pure function of the action: neither the seed nor earlier steps change
what a design is worth. An observation says what the design just made costs:

    per metric   m / (m + m of the base design), in 0..1, and 1 for a design that cannot work
    works        1 or 0
    within       1 if it works and keeps every budget, else 0

The reward is `simulators.reward`'s. `info` holds

    metrics      figures by name with unit; empty for a design that cannot work, for it has none
    design       the searched fields and their values
    violation    of the budgets; 0 within them, inf for a design that cannot work
    reason       why a design cannot work; "" for one that does
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from simulators.accelerator import Columns, Preset, Value
from simulators.design import DesignModel, DesignReport, design_columns
from simulators.reward import Reward
from simulators.workload import FloatArray, IntArray

Observation = NDArray[np.float32]

_SMALLEST = 1e-12  # reference of a metric that the base design has none of


@dataclass(frozen=True, slots=True, eq=False)
class BatchStep:
    """What n designs are worth.

    Attributes:
        observations: shape (n, number of metrics + 2), float32.
        rewards: shape (n,).
        metrics: by name with unit, shape (n,) each; NaN for a design that cannot work.
        violations: shape (n,); 0 within the budgets, inf for a design that cannot work.
        reasons: n texts, "" for a design that works.
        designs: searched field -> values, shape (n,) each.
    """

    observations: Observation
    rewards: FloatArray
    metrics: Mapping[str, FloatArray]
    violations: FloatArray
    reasons: Sequence[str]
    designs: Columns

    def info(self, row: int) -> dict[str, Any]:
        """The `info` of one of the designs, its own copy."""
        works = np.isfinite(self.violations[row])
        return {
            "metrics": {name: float(values[row]) for name, values in self.metrics.items()} if works else {},
            "design": {name: values[row].item() for name, values in self.designs.items()},
            "violation": float(self.violations[row]),
            "reason": str(self.reasons[row]),
        }


class DesignEnv(gymnasium.Env[Observation, IntArray]):
    """A design problem with the gymnasium interface.

    Attributes:
        model, preset, reward, horizon: as given; the preset has every field of the model.
        base: what the base design is worth, a batch of one; every episode begins with it.
        uncounted: what the model leaves out of every figure.

    Args:
        model: gives figures to designs.
        preset: the base design, and under its `search` the options that actions pick from.
        objectives: metrics to lower; each is worth one half at the base design's value.
        budgets: metric -> upper limit, in the metric's unit.
        horizon: designs per episode, after which it is truncated.

    Raises:
        ValueError: an unknown metric, one that is better when higher, nothing to search, a base design that cannot
            work, or a horizon below 1.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(
        self,
        model: DesignModel,
        preset: Preset,
        objectives: Sequence[str],
        budgets: Mapping[str, float] | None = None,
        horizon: int = 100,
    ) -> None:
        self.model = model
        self.preset = preset.checked(model)
        if not self.preset.search:
            raise ValueError(f"preset {preset.name!r} has no [search] table; there is nothing to choose")
        if horizon < 1:
            raise ValueError(f"horizon: {horizon} is not allowed; use at least 1")
        budgets = dict(budgets or {})
        for key, names in (("objectives", objectives), ("budgets", budgets)):
            for name in names:
                _check_cost(key, name, model.metrics)
        report = model.evaluate(design_columns(model.fields, self.preset.values, {}))
        if report.reasons[0]:
            raise ValueError(f"preset {preset.name!r}: its base design cannot work: {report.reasons[0]}")
        self._references = {name: max(float(values[0]), _SMALLEST) for name, values in report.metrics.items()}
        self.reward = Reward({name: self._references[name] for name in objectives}, budgets)
        self.horizon = horizon
        self.uncounted = tuple(report.uncounted)
        self.base = self._worth(report, {name: np.array([self.preset.values[name]]) for name in self.preset.search})
        self._options = [np.array(options) for options in self.preset.search.values()]
        self._steps = 0
        self.action_space = spaces.MultiDiscrete([len(options) for options in self._options])
        self.observation_space = spaces.Box(0.0, 1.0, (len(self._references) + 2,), np.float32)

    @property
    def n_designs(self) -> int:
        """How many designs the space holds."""
        return prod(len(options) for options in self._options)

    def designs(self, actions: IntArray) -> dict[str, NDArray[np.generic]]:
        """The searched fields of actions of shape (n, d), each of shape (n,).

        Raises:
            ValueError: the shape is wrong or an index is out of range.
        """
        actions = np.asarray(actions)
        counts = np.array([len(options) for options in self._options])
        if actions.ndim != 2 or actions.shape[1] != len(counts) or not np.issubdtype(actions.dtype, np.integer):
            raise ValueError(f"actions: shape {actions.shape} of {actions.dtype}; use integers (n, {len(counts)})")
        if ((actions < 0) | (actions >= counts)).any():
            raise ValueError(f"actions: an index is outside 0..count - 1, counts {counts.tolist()}")
        columns = zip(self.preset.search, self._options, actions.T, strict=True)
        return {name: options[column] for name, options, column in columns}

    def encode(self, design: Mapping[str, Value]) -> IntArray:
        """The action that makes a design, shape (d,).

        Args:
            design: a value for every searched field, as `info["design"]` has them.

        Raises:
            ValueError: a field is missing or not searched, or its value is not one of the options.
        """
        search = self.preset.search
        for name in (*design, *search):
            if name not in search:
                raise _unknown("design", name, search)
            if name not in design or design[name] not in search[name]:
                raise _unknown(f"design.{name}", design.get(name), map(str, search[name]))
        return np.array([options.index(design[name]) for name, options in search.items()], dtype=np.int64)

    def step_batch(self, actions: IntArray) -> BatchStep:
        """What n designs are worth, evaluated together; the episode is left as it is.

        Args:
            actions: shape (n, d).

        Raises:
            ValueError: as `designs`.
        """
        searched = self.designs(actions)
        return self._worth(
            self.model.evaluate(design_columns(self.model.fields, self.preset.values, searched)), searched
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode at the base design."""
        super().reset(seed=seed, options=options)
        self._steps = 0
        return self.base.observations[0].copy(), self.base.info(0)

    def step(self, action: IntArray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Evaluate one design, shape (d,); never terminated, truncated after `horizon` steps.

        Raises:
            ValueError: as `designs`.
        """
        step = self.step_batch(np.asarray(action)[None])
        self._steps += 1
        return step.observations[0], float(step.rewards[0]), False, self._steps >= self.horizon, step.info(0)

    def _worth(self, report: DesignReport, searched: Columns) -> BatchStep:
        violations = self.reward.violations(report.metrics)
        works = np.isfinite(violations)
        shares = []
        for name, reference in self._references.items():
            figures = report.metrics[name]
            known = works & np.isfinite(figures)
            shares.append(np.divide(figures, figures + reference, out=np.ones(len(figures)), where=known))
        observations = np.stack([*shares, works, violations == 0], axis=1).astype(np.float32)
        rewards = self.reward.rewards(report.metrics)
        return BatchStep(observations, rewards, report.metrics, violations, report.reasons, searched)


def _check_cost(key: str, name: str, metrics: Sequence[str]) -> None:
    if name not in metrics:
        raise _unknown(key, name, metrics)
    if "_per_s" in name:
        raise ValueError(f"{key}: {name!r} is better when higher, and the reward lowers figures; name a cost")


def _unknown(key: str, value: object, names: Any) -> ValueError:
    allowed = list(names)
    close = get_close_matches(str(value), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{key}: {value!r} is not one of {', '.join(allowed)}{hint}")
