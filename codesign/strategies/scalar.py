"""One number for a candidate, for the agents that need one: feasibility first, then an augmented Chebyshev loss.

Beside it `hypervolume_values`: one number in a direction, whose mean over directions is the hypervolume.

    feasible:     (max_j w_j t_j + rho sum_j w_j t_j) / (1 + rho), which lies in 0..1
    over budget:  1.5 + 0.5 v / (1 + v) for a violation v: above every feasible one, the smaller violation below
    failed:       2.5

t_j = z_j / (1 + z_j) with z_j = (loss_j - ideal_j) / (typical_j - ideal_j): 0 at the best loss met, 0.5 at a typical
one, towards 1 far behind. Ideal is the best feasible loss so far, typical the median of the latest `WINDOW` feasible:
one loss far out of range squeezes nothing, and the scale narrows as a search closes in. Weights lie on the simplex:
an agent follows several directions, fixed or drawn, so that a scalar search spreads along the front.

Source: Steuer and Choo 1983 (augmented weighted Chebyshev), with Knowles 2006 (ParEGO) for redrawn weights and
rho = 0.05; Deb et al. 2002, section VI, for the order of feasible and infeasible ones.
"""

from __future__ import annotations

import numpy as np

from codesign.pareto import default_reference
from codesign.strategies.strategy import FloatArray, StateDict, pack, unpack

RHO = 0.05
"""Weight of the sum beside the maximum: a loss that improves alone still counts."""
WINDOW = 256
"""Latest feasible results of which the median is typical."""
FAILED = 2.5
"""The value of a failed candidate."""
_OVER = 1.5


def spread_directions(n: int, n_objectives: int) -> FloatArray:
    """Fixed directions far from one another: the corners of the simplex, then whatever is farthest from those taken.

    Returns:
        Shape (n, m), each row of sum 1; one row for a single objective.
    """
    if n_objectives == 1:
        return np.ones((1, 1))
    points = np.random.default_rng(0).dirichlet(np.ones(n_objectives), size=512)
    taken = list(np.eye(n_objectives)[:n])
    while len(taken) < n:
        distance = np.abs(points[:, None, :] - np.array(taken)).sum(axis=2).min(axis=1)
        taken.append(points[int(distance.argmax())])
    return np.array(taken)


def sphere_directions(n: int, n_objectives: int, rng: np.random.Generator) -> FloatArray:
    """Directions drawn uniformly from the part of the unit sphere that is nowhere negative, shape (n, m)."""
    drawn = np.abs(rng.standard_normal((n, n_objectives)))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def hypervolume_values(losses: FloatArray, violations: FloatArray, directions: FloatArray) -> FloatArray:
    """Values to maximise: how far along a direction a candidate alone pushes the hypervolume.

    Args:
        losses: shape (n, m), finite where feasible.
        violations: shape (n,), finite.
        directions: shape (k, m), positive; see `sphere_directions`.

    Returns:
        Shape (k, n): min_j y_j / direction_j for a feasible candidate, with y_j its gain over a reference point (a
        tenth of the range behind the worst feasible one), relative to the largest gain; positive. Minus the violation
        for any other.

    Source: Golovin and Zhang 2020, "Random Hypervolume Scalarizations for Provable Multi-Objective Black Box
    Optimization", section 3. Their power m makes the mean over directions the hypervolume and changes no comparison.
    """
    feasible = violations == 0
    values = np.repeat(-violations[None], len(directions), axis=0)
    if feasible.any():
        gains = default_reference(losses[feasible]) - losses[feasible]
        relative = gains / gains.max(axis=0)
        values[:, feasible] = (relative / directions[:, None]).min(axis=2)
    return values


class Scalar:
    """Ranges of the losses met, and the value of losses within them.

    Args:
        n_objectives: number of losses.
    """

    def __init__(self, n_objectives: int) -> None:
        self._ideal = np.full(n_objectives, np.inf)
        self._latest = np.zeros((0, n_objectives))

    def learn(self, losses: FloatArray, violations: FloatArray) -> None:
        """Take in checked results, shapes (n, m) and (n,): those of feasible candidates widen the ranges."""
        feasible = losses[violations == 0]
        if len(feasible):
            self._ideal = np.minimum(self._ideal, feasible.min(axis=0))
            self._latest = np.concatenate([self._latest, feasible])[-WINDOW:]

    def weights(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Directions drawn uniformly from the simplex, shape (n, m); all ones, undrawn, for a single objective."""
        m = len(self._ideal)
        return np.ones((n, 1)) if m == 1 else rng.dirichlet(np.ones(m), size=n)

    def value(self, losses: FloatArray, violations: FloatArray, weights: FloatArray) -> FloatArray:
        """Values to minimise of results that were learnt.

        Args:
            losses: shape (n, m); NaN where not measured.
            violations: shape (n,), as told and checked.
            weights: shape (..., n, m) or (..., 1, m), each row of sum 1.

        Returns:
            Shape (..., n), finite; in each direction every feasible candidate lies below every other one.
        """
        feasible, over = violations == 0, np.isfinite(violations) & (violations > 0)
        weighted = weights * self._relative(np.where(feasible[:, None], losses, self._ideal))
        values = (weighted.max(axis=-1) + RHO * weighted.sum(axis=-1)) / (1.0 + RHO)
        values[..., ~feasible] = FAILED
        values[..., over] = _OVER + 0.5 * (1.0 - 1.0 / (1.0 + violations[over]))
        return np.asarray(values)

    def state_dict(self) -> StateDict:
        """JSON-able."""
        return {"ideal": pack(self._ideal), "latest": pack(self._latest)}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._ideal, self._latest = unpack(state["ideal"]), unpack(state["latest"])

    def _relative(self, losses: FloatArray) -> FloatArray:
        """t of the module's text, shape (n, m)."""
        if len(self._latest) == 0:
            return np.zeros_like(losses)
        above = np.maximum(losses - self._ideal, 0.0)
        # A scale of zero: half of the latest are the best, and anything behind them is far behind.
        total = above + (np.median(self._latest, axis=0) - self._ideal)
        return np.asarray(np.divide(above, total, out=np.zeros_like(above), where=total > 0))
