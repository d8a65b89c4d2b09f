"""Successive halving on fronts: which evaluations go on when they reach a rung.

At each rung an evaluation is compared with all that reached the rung before, on every objective as it stands there:
known costs exactly, and what training tells at that epoch. It goes on if it is within the best 1 / reduction of them,
itself included: by non-dominated rank, within a rank by an epsilon-net; those over a budget follow, the smaller
violation first. So no trade-off of accuracy and cost is starved, which a rung on accuracy alone does to all small
networks. With one objective this is ASHA's stopping rule: on with a loss that is not above the (1 / reduction)-quantile
of all so far.

Nothing waits: the decision is taken on arrival and holds (the stopping variant, as in Ray Tune and Syne Tune), so it
depends on the order of arrival and on nothing else.

Sources: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (ASHA); Schmucker et al. 2021,
"Multi-objective Asynchronous Successive Halving", section 3 (non-dominated sorting, and the epsilon-net of Salinas et
al. 2021 to order a front).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.pareto import rank

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an evaluation had at a rung, and what was decided.

    Attributes:
        trial: number of the trial.
        level: epochs at the rung.
        losses: one per objective, to minimise; NaN where there is none.
        violation: 0 within the budgets, infinite for a failure.
        goes_on: whether it was among the best.
    """

    trial: int
    level: int
    losses: tuple[float, ...]
    violation: float
    goes_on: bool


class Rungs:
    """The rungs of a search and what was read at each; given equal calls it decides equally.

    Args:
        first: epochs at the first rung, from 1.
        last: epochs of a whole evaluation; no rung lies there, for nothing is left to save.
        reduction: one of so many goes on; above 1. Each rung has so many times the epochs of the one before.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, first: int, last: int, reduction: float) -> None:
        if first < 1 or last < 1 or not reduction > 1:
            raise ValueError(f"rungs from {first} to {last} epochs, one in {reduction} goes on: use 1 or more, above 1")
        n_levels = math.ceil(math.log(last / first) / math.log(reduction)) + 1 if last > first else 0
        levels = {math.ceil(round(first * reduction**k, 9)) for k in range(n_levels)}
        self.levels = tuple(sorted(level for level in levels if level < last))
        self.readings: list[Reading] = []
        self._reduction = reduction
        self._at: dict[int, dict[int, Reading]] = {level: {} for level in self.levels}

    def decide(self, trial: int, epochs: int, losses: FloatArray, violation: float) -> bool:
        """Whether an evaluation goes on; a new reading is kept in `readings`.

        Args:
            trial: its number.
            epochs: spent on it so far. Between rungs it goes on; one that passed a rung unseen (it was resumed behind
                it) is judged at the latest rung it passed.
            losses: shape (m,), to minimise, as they are after so many epochs; one with a NaN is last of all.
            violation: of the budgets, as it is after so many epochs.
        """
        level = max((level for level in self.levels if level <= epochs), default=None)
        if level is None:
            return True
        held = self._at[level]
        if trial not in held:
            others = list(held.values())
            table = np.array([*(reading.losses for reading in others), losses], dtype=np.float64)
            violations = np.array([*(reading.violation for reading in others), violation])
            goes_on = self._is_among_the_best(table, violations)
            self._keep(Reading(trial, level, tuple(np.asarray(losses).tolist()), float(violation), goes_on))
        return held[trial].goes_on

    def restore(self, readings: Iterable[Reading]) -> None:
        """Take readings of an earlier process in; those at no rung of this ladder are left out."""
        for reading in readings:
            if reading.level in self._at and reading.trial not in self._at[reading.level]:
                self._keep(reading)

    def _keep(self, reading: Reading) -> None:
        self._at[reading.level][reading.trial] = reading
        self.readings.append(reading)

    def _is_among_the_best(self, losses: FloatArray, violations: FloatArray) -> bool:
        """Whether the last row, shapes (n, m) and (n,), is no worse than the quantile at 1 / reduction."""
        n_best = math.floor(round((len(losses) - 1) / self._reduction, 9)) + 1
        ranks = rank(losses, violations)
        n_better = int((ranks < ranks[-1]).sum())
        peers = np.flatnonzero(ranks == ranks[-1])
        if n_better >= n_best or n_better + len(peers) <= n_best or losses.shape[1] == 1:
            return n_better < n_best
        if not np.isfinite(losses[peers]).all() or violations[-1] > 0:
            return True  # equals share their place
        return bool(spread_order(losses[peers])[-1] < n_best - n_better)


def spread_order(losses: FloatArray) -> IntArray:
    """Place of each member of a front in an order whose every beginning is spread over the front.

    First comes the member nearest to the middle of the front, then always the one farthest from those before it, each
    loss in units of its range over the front.

    Args:
        losses: shape (n, m), finite.

    Returns:
        Shape (n,), a permutation of 0..n-1, but that equal rows share the first of their places.

    Source: Salinas et al. 2021, "A multi-objective perspective on jointly tuning hardware and hyperparameters",
    section 3 (epsilon-net, a farthest-first traversal).
    """
    low, span = losses.min(axis=0), np.ptp(losses, axis=0)
    relative = (losses - low) / np.where(span > 0, span, 1.0)
    places = np.full(len(losses), len(losses), dtype=np.int64)
    chosen = int(relative.sum(axis=1).argmin())
    distance = np.full(len(losses), np.inf)
    for place in range(len(losses)):
        distance = np.minimum(distance, np.linalg.norm(relative - relative[chosen], axis=1))
        places[(distance == 0) & (places > place)] = place
        if (distance == 0).all():
            break
        chosen = int(distance.argmax())
    return places


def read_log(path: Path) -> list[Reading]:
    """The readings of a log, none if there is no file; a line that a kill cut short is passed over."""
    readings: list[Reading] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            trial, level, losses, violation, goes_on = json.loads(line)
        except ValueError:
            continue
        values = tuple(math.nan if loss is None else float(loss) for loss in losses)
        readings.append(Reading(trial, level, values, math.inf if violation is None else float(violation), goes_on))
    return readings


def append_log(path: Path, readings: Iterable[Reading]) -> None:
    """Add readings to a log, one JSON line each; null stands for a loss or violation that is not finite.

    A line begins with its line break, so that one which a kill cut short spoils no other.
    """
    if not (readings := list(readings)):
        return
    with path.open("a", encoding="utf-8") as stream:
        for reading in readings:
            losses = [loss if math.isfinite(loss) else None for loss in reading.losses]
            violation = reading.violation if math.isfinite(reading.violation) else None
            stream.write("\n" + json.dumps([reading.trial, reading.level, losses, violation, reading.goes_on]))
