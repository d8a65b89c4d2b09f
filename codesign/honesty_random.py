"""A search beside random search at equal cost: beside random runs of its length, or what it drew at random itself.

Both comparisons rest on exchangeability. If a search does no more than draw at random, then

- it is one of k + 1 random runs, and its hypervolume takes each place among theirs with equal probability;
- its random draws are any r of all its evaluations, and their hypervolume is that of r evaluations picked blindly.

So neither calls more than 5 % of random searches better than random, whatever the space and the number of draws.
Resampling the draws with replacement would not do: the search holds its draws, so it is never worse than a resample of
them, and the best of n resampled values is biased for n near or above r (Bickel, Götze and van Zwet 1997, "Resampling
fewer than n observations"; Tang et al. 2020, "Showing your work doesn't always work", of Dodge et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.honesty_subsets import beginnings, hypervolumes, subsets, within
from codesign.pareto import default_reference, hypervolume

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

FEWEST_DRAWS = 8
"""Fewer random draws, or fewer evaluations beside them, are not compared with."""
FEWEST_RUNS = 19
"""Random runs that it takes for a search to be better than 95 % of them and itself."""
LEVEL = 0.05
"""How often a random search may be called better than random."""
_CURVE_POINTS = 60
_BAND_RUNS = 60
_SHRINKING = 32
"""Draws from which on it can be seen how gains shrink."""
_LOST = 1e-12  # relative rounding of a hypervolume


@dataclass(frozen=True, slots=True)
class Curve:
    """Hypervolumes against evaluations.

    Attributes:
        counts: evaluations, ascending, shape (k,).
        own: of the search, shape (k,).
        low, median, high: of random search, the middle 90 %, shape (k,); NaN beyond what was drawn.
    """

    counts: IntArray
    own: FloatArray
    low: FloatArray
    median: FloatArray
    high: FloatArray


@dataclass(frozen=True, slots=True)
class Comparison:
    """A search beside random search at equal cost.

    Attributes:
        kind: "runs" if there are whole random runs to compare with, "draws" if there are single draws.
        n_evaluations: of the search.
        n_random: random runs, or draws.
        p: how often a random search would look as good or better.
        p_worse: how often it would look as bad or worse.
        reference: of the hypervolumes, shape (m,).
        own: the search's hypervolume.
        random: random search's hypervolume at as many evaluations: the median of the runs, or an estimate.
        random_low, random_high: the middle 90 % of the runs, or the estimate's 95 % interval.
        is_extrapolated: whether the estimate goes beyond the number of draws.
        curve: for a picture.
    """

    kind: str
    n_evaluations: int
    n_random: int
    p: float
    p_worse: float
    reference: FloatArray
    own: float
    random: float
    random_low: float
    random_high: float
    is_extrapolated: bool
    curve: Curve

    @property
    def beats_random(self) -> bool:
        """Better than random search, beyond chance."""
        return self.p <= LEVEL and self.own > self.random

    @property
    def is_worse(self) -> bool:
        """Worse than random search, beyond chance."""
        return self.p_worse <= LEVEL and self.own < self.random

    @property
    def ratio(self) -> float:
        """The search's hypervolume relative to random search's: infinite where that is 0, NaN where both are."""
        if self.random > 0:
            return self.own / self.random
        return math.inf if self.own > 0 else math.nan


def on_fair_scale(*losses: FloatArray) -> list[FloatArray]:
    """Losses with every column that is positive throughout, as costs are, on a logarithmic scale: ratios count alike.

    A single loss stays as it is: hypervolume is then its distance from the reference, and people read it.

    Args:
        losses: shape (n, m) each; what decides on a column is all of them together.
    """
    if losses[0].shape[1] == 1:
        return list(losses)
    lowest = np.nanmin(np.concatenate([*losses, np.full((1, losses[0].shape[1]), np.inf)]), axis=0)
    positive = lowest > 0
    return [np.where(positive, np.log(np.where(positive, rows, 1.0)), rows) for rows in losses]


def fair_reference(random: FloatArray, own: FloatArray, found_out: Sequence[bool] | None = None) -> FloatArray:
    """Reference point of a comparison, shape (m,): `default_reference` of all losses, with one exception.

    Where a loss that only an evaluation tells is traded against one that is known before (accuracy against cost), it
    counts up to that of the median random candidate. Nobody looks for networks that learn nothing, however cheap they
    are, and a reference behind the worst of them would drown every difference that matters.

    Args:
        random: losses of random candidates, shape (r, m).
        own: losses of the search's evaluations, shape (n, m).
        found_out: which objectives only an evaluation tells, m of them; None treats all alike.
    """
    reference = default_reference(np.concatenate([own, random]))
    usable = random[np.isfinite(random).all(axis=1)]
    if found_out is None or all(found_out) or len(usable) == 0:
        return reference
    capped = np.where(found_out, np.median(usable, axis=0), reference)
    return capped if (usable < capped).all(axis=1).any() else reference


def compare_runs(own: FloatArray, runs: Sequence[FloatArray], found_out: Sequence[bool] | None = None) -> Comparison:
    """A search beside whole random runs.

    Args:
        own: losses of its evaluations in order, shape (n, m); NaN where one failed or is over a budget.
        runs: the same of each random run, as long or as long as the space lasts.
        found_out: see `fair_reference`.
    """
    reference = fair_reference(np.concatenate(runs), own, found_out)
    counts = _counts(len(own), own.shape[1])
    n_band = _BAND_RUNS if own.shape[1] <= 2 else FEWEST_RUNS
    curves = np.array([beginnings(run, reference, counts) for run in runs[:n_band]])
    ends = np.array([*curves[:, -1], *(hypervolume(run, reference) for run in runs[n_band:])])
    mine = beginnings(own, reference, counts)
    low, median, high = np.quantile(curves, [0.05, 0.5, 0.95], axis=0)
    return Comparison(
        kind="runs",
        n_evaluations=len(own),
        n_random=len(runs),
        p=_share(ends >= mine[-1] * (1 - _LOST)),
        p_worse=_share(ends <= mine[-1] * (1 + _LOST)),
        reference=reference,
        own=float(mine[-1]),
        random=float(np.median(ends)),
        random_low=float(np.quantile(ends, 0.05)),
        random_high=float(np.quantile(ends, 0.95)),
        is_extrapolated=False,
        curve=Curve(counts, mine, low, median, high),
    )


def compare_draws(
    own: FloatArray,
    drawn: FloatArray,
    others: FloatArray,
    rng: np.random.Generator,
    found_out: Sequence[bool] | None = None,
) -> Comparison:
    """A search beside single random draws.

    What random search would reach in as many evaluations is estimated: up to the number of draws r by subsets without
    replacement, beyond it by the gains of quadrupling that number. The gain from r / 4 to r, by its ratio to that from
    r / 16 to r / 4, gives the next ones. A ratio of 1, a straight line over the logarithm of the number, is that of
    exponential tails: it is the largest that is used, and is used for fewer than 32 draws. The interval is that of the
    delete-half jackknife.

    Args:
        own: losses of all its evaluations in order, shape (n, m); NaN where one failed or is over a budget.
        drawn: losses of the draws, shape (r, m), at least `FEWEST_DRAWS`; more than a few thousand are thinned.
        others: losses of the evaluations that are not among the draws, shape (k, m).
        rng: picks the subsets.
        found_out: see `fair_reference`.

    Source: Shao and Wu 1989, "A general theory for jackknife variance estimation" (delete-d, here d = r / 2).
    """
    reference = fair_reference(drawn, own, found_out)
    few = own.shape[1] <= 2
    drawn, others = _thinned(drawn, 5_000 if few else 2_000), _thinned(others, 20_000 if few else 8_000)
    r, n = len(drawn), len(own)
    pool = np.concatenate([drawn, others])
    rounds = int(np.clip(2_000_000 // len(pool), 199, 999))
    held = hypervolume(drawn, reference)
    blind = np.concatenate(
        [hypervolumes(pool, reference, _picked(len(pool), r, size, rng)) for size in _split(rounds, len(pool))]
    )
    draws = _Draws(drawn, reference, rng, repeats=int(np.clip(20_000 // r, 6, 60)))
    estimate, deviation = draws.expected(n)
    counts = _counts(n, own.shape[1])
    return Comparison(
        kind="draws",
        n_evaluations=n,
        n_random=r,
        p=_share(blind <= held * (1 + _LOST)),
        p_worse=_share(blind >= held * (1 - _LOST)),
        reference=reference,
        own=hypervolume(own, reference),
        random=estimate,
        random_low=max(0.0, estimate - 1.96 * deviation),
        random_high=estimate + 1.96 * deviation,
        is_extrapolated=n > r,
        curve=Curve(counts, beginnings(own, reference, counts), *draws.band(counts)),
    )


@dataclass(frozen=True, slots=True)
class _Draws:
    """Random draws, losses of shape (r, m), and what can be said of numbers of them by subsets."""

    losses: FloatArray
    reference: FloatArray
    rng: np.random.Generator
    repeats: int

    def expected(self, n: int) -> tuple[float, float]:
        """The hypervolume to expect of n draws, and its standard deviation by halves of the draws."""
        r = len(self.losses)
        everything = np.ones((1, r), dtype=np.bool_)
        halves = subsets(r, r // 2, self.repeats, self.rng)
        estimate = self._expected(everything, n, self.repeats)[0]
        return float(estimate), float(np.std(self._expected(halves, n, 4), ddof=1))

    def _expected(self, samples: BoolArray, n: int, repeats: int) -> FloatArray:
        """The same from each of the samples of the draws alone, all of one size; shape (len(samples),)."""
        size = int(samples[0].sum())
        if n < size:
            return self._means(samples, n, repeats)
        whole, part = self._volumes(samples), max(1, size // 4)
        quarter = self._means(samples, part, repeats)
        shrink = np.ones(len(samples))
        if size >= _SHRINKING:
            before = quarter - self._means(samples, size // 16, repeats)
            shrink = np.divide(whole - quarter, before, out=shrink, where=before > 0)
        shrink = np.clip(shrink, 0.0, 1 - 1e-6)  # just below 1 the sum is a straight line
        steps = math.log(n / size) / math.log(size / part)
        return np.asarray(whole + (whole - quarter) * shrink * (1 - shrink**steps) / (1 - shrink))

    def _means(self, samples: BoolArray, size: int, repeats: int) -> FloatArray:
        """The mean hypervolume of subsets of each sample, shape (len(samples),)."""
        volumes = self._volumes(within(samples, size, repeats, self.rng))
        return np.asarray(volumes.reshape(len(samples), repeats).mean(axis=1))

    def band(self, counts: IntArray) -> FloatArray:
        """The middle 90 % and the median of draws in random order, shape (3, len(counts)), NaN beyond their number."""
        reached = counts[counts <= len(self.losses)]
        quantiles = np.full((3, len(counts)), np.nan)
        if len(reached):
            places = np.array([self.rng.permutation(len(self.losses)) for _ in range(self.repeats)])
            volumes = [self._volumes(places < count) for count in reached.tolist()]
            quantiles[:, : len(reached)] = np.quantile(np.array(volumes), [0.05, 0.5, 0.95], axis=1)
        return quantiles

    def _volumes(self, members: BoolArray) -> FloatArray:
        return hypervolumes(self.losses, self.reference, members)


def _picked(n: int, size: int, k: int, rng: np.random.Generator) -> BoolArray:
    """`k` subsets of `size` of n rows, each picked alone, shape (k, n)."""
    members = np.zeros((k, n), dtype=np.bool_)
    for subset in members:
        subset[rng.choice(n, size, replace=False, shuffle=False)] = True
    return members


def _split(total: int, width: int) -> list[int]:
    """`total` in parts of which each fits a table of a few million entries of that width."""
    most = max(1, 4_000_000 // width)
    return [min(most, total - start) for start in range(0, total, most)]


def _counts(n: int, m: int) -> IntArray:
    """Where a curve of n evaluations is looked at: closely at its start, evenly later on, and at its end."""
    points = _CURVE_POINTS if m <= 2 else _CURVE_POINTS // 3
    spread = np.concatenate([np.geomspace(1, n, points // 2), np.linspace(1, n, points)])
    return np.unique(spread.round().astype(np.int64))


def _thinned(rows: FloatArray, most: int) -> FloatArray:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def _share(hits: NDArray[np.bool_]) -> float:
    """The share of those that hit, the search itself among them: a p-value."""
    return (1 + int(hits.sum())) / (1 + len(hits))
