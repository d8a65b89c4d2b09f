"""n designs per step as one batch: a vector environment over a `DesignEnv`.

It is what `gymnasium.vector.SyncVectorEnv` is over n copies of the environment (same observations, rewards, episode
ends and infos), at the speed of the model's own batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from simulators.design_gym import BatchStep, DesignEnv, Observation
from simulators.workload import FloatArray, IntArray

BoolArray = NDArray[np.bool_]


class DesignVectorEnv(VectorEnv[Observation, IntArray, NDArray[Any]]):
    """n episodes of one design problem, side by side.

    Infos are those of `DesignEnv` as gymnasium batches them: `infos["metrics"]["latency_ms"]` of shape (n,) beside the
    mask `_latency_ms`, false (and the figure NaN) where a design cannot work.

    Args:
        problem: the problem; its own episode is left alone.
        num_envs: n.
        autoreset_mode: what follows the end of an episode; see gymnasium. With "next step", a step after the end is
            the reset and its action is not looked at.

    Raises:
        ValueError: fewer than one, or an unknown mode.
    """

    def __init__(
        self,
        problem: DesignEnv,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs: {num_envs} is not allowed; use at least 1")
        self.problem = problem
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**problem.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_action_space, self.single_observation_space = problem.action_space, problem.observation_space
        self.action_space = batch_space(problem.action_space, num_envs)
        self.observation_space = batch_space(problem.observation_space, num_envs)
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._has_ended = np.zeros(num_envs, dtype=np.bool_)
        self._observations = np.repeat(problem.base.observations, num_envs, axis=0)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin episodes at the base design: all, or those of `options["reset_mask"]`, shape (n,) of bool.

        Args:
            seed: seeds the generator that gymnasium keeps; no figure depends on it.
            options: see above.

        Raises:
            ValueError: a mask of another shape or type, or that resets nothing.
        """
        super().reset(seed=seed if seed is None or isinstance(seed, int) else seed[0])
        mask = np.ones(self.num_envs, dtype=np.bool_)
        if options is not None and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"])
            if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
                raise ValueError(f"reset_mask: use an array of bool of shape ({self.num_envs},), at least one true")
        self._begin(mask)
        return self._observations.copy(), self._base_infos(mask)

    def step(self, actions: IntArray) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Evaluate n designs, actions of shape (n, d).

        Raises:
            ValueError: the shape is wrong, an index is out of range, or, where nothing resets by itself, an episode
                has ended and was not reset.
        """
        actions = np.asarray(actions)
        if len(actions) != self.num_envs:
            raise ValueError(f"actions: {len(actions)} rows; use one for each of {self.num_envs} environments")
        over = self._has_ended.copy()
        if self.autoreset_mode is AutoresetMode.DISABLED and over.any():
            raise ValueError(f"episode {np.flatnonzero(over)[0]} has ended; reset it by options['reset_mask']")
        rows = np.flatnonzero(~over)
        rewards, infos = np.zeros(self.num_envs), self._base_infos(over)
        if len(rows):
            step = self.problem.step_batch(actions[rows])
            self._observations[rows], rewards[rows] = step.observations, step.rewards
            infos = _joined(infos, self._infos(step, rows))
        self._begin(over)
        self._steps[rows] += 1
        truncations = self._steps >= self.problem.horizon
        if self.autoreset_mode is AutoresetMode.SAME_STEP and truncations.any():
            infos = self._end_infos(infos, truncations)
            self._begin(truncations)
        else:
            self._has_ended = truncations.copy()
        return self._observations.copy(), rewards, np.zeros(self.num_envs, dtype=np.bool_), truncations, infos

    def _begin(self, mask: BoolArray) -> None:
        self._steps[mask] = 0
        self._has_ended[mask] = False
        self._observations[mask] = self.problem.base.observations[0]

    def _end_infos(self, infos: dict[str, Any], ended: BoolArray) -> dict[str, Any]:
        """Infos of a step that ends some episodes and begins them anew; what has ended is under `final_...`."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(ended):
            final_obs[row] = self._observations[row].copy()
        final_infos = _masked(infos, ended)
        ends = {"final_obs": final_obs, "_final_obs": ended.copy(), "final_info": final_infos}
        return {**_joined(_masked(infos, ~ended), self._base_infos(ended)), **ends, "_final_info": ended.copy()}

    def _base_infos(self, mask: BoolArray) -> dict[str, Any]:
        rows = np.flatnonzero(mask)
        return self._infos(self.problem.base, rows, np.zeros(len(rows), dtype=np.int64)) if len(rows) else {}

    def _infos(self, step: BatchStep, rows: IntArray, source: IntArray | None = None) -> dict[str, Any]:
        """Designs of a batch as the infos of some of the n rows."""
        source = np.arange(len(rows)) if source is None else source
        has_any, works = np.zeros((2, self.num_envs), dtype=np.bool_)
        has_any[rows] = True
        works[rows] = np.isfinite(step.violations[source])
        infos: dict[str, Any] = {"metrics": {}, "design": {}}
        for name, values in step.metrics.items():
            infos["metrics"] |= {name: self._spread(values[source], rows), f"_{name}": works.copy()}
        for name, options in step.designs.items():
            infos["design"] |= {name: self._spread(options[source], rows), f"_{name}": has_any.copy()}
        infos["violation"] = self._spread(step.violations[source], rows)
        infos["reason"] = self._spread(np.array([step.reasons[i] for i in source], dtype=np.str_), rows)
        return infos | {f"_{name}": has_any.copy() for name in ("metrics", "design", "violation", "reason")}

    def _spread(self, values: NDArray[Any], rows: IntArray) -> NDArray[Any]:
        """Values at some of n places; elsewhere 0, NaN or None."""
        if values.dtype.kind == "U":
            result: NDArray[Any] = np.full(self.num_envs, None, dtype=object)
            result[rows] = values.tolist()
        else:
            result = np.full(self.num_envs, np.nan if values.dtype.kind == "f" else 0, dtype=values.dtype)
            result[rows] = values
        return result


def _masked(infos: dict[str, Any], mask: BoolArray) -> dict[str, Any]:
    """Infos of the rows of a mask alone; the others' masks become false."""
    result: dict[str, Any] = {}
    for name, value in infos.items():
        if isinstance(value, dict):
            result[name] = _masked(value, mask)
        else:
            result[name] = value & mask if name.startswith("_") else value.copy()
    return result


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Infos of two disjoint sets of rows; each row from the one whose mask has it."""
    if not first or not second:
        return first or second
    result: dict[str, Any] = {}
    for name, value in second.items():
        if isinstance(value, dict):
            result[name] = _joined(first[name], value)
        elif name.startswith("_"):
            result[name] = first[name] | value
        else:
            result[name] = np.where(second[f"_{name}"], value, first[name])
    return result
