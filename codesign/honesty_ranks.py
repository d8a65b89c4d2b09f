"""How well forecasts rank what came out: Kendall's tau-b and Spearman's rho with 95 % intervals, without SciPy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FEWEST_PAIRS = 8
"""Fewer pairs give no interval worth reading."""
COMPARED_PAIRS = 1_000
"""Kendall's tau is taken over so many pairs at most, evenly spread: it compares each with each."""
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Rank correlation of forecasts with outcomes.

    Attributes:
        n: pairs of a forecast and an outcome.
        tau: Kendall's tau-b; NaN where all forecasts or all outcomes are equal.
        tau_low, tau_high: its 95 % interval; NaN for fewer than `FEWEST_PAIRS` pairs.
        rho: Spearman's rho, of mid-ranks.
        rho_low, rho_high: its 95 % interval.
    """

    n: int
    tau: float
    tau_low: float
    tau_high: float
    rho: float
    rho_low: float
    rho_high: float

    @property
    def is_better_than_chance(self) -> bool:
        """Whether the whole interval of tau lies above 0."""
        return self.tau_low > 0


def rank_correlation(forecasts: FloatArray, outcomes: FloatArray) -> RankCorrelation:
    """Both correlations of n pairs.

    An interval is Fisher's: z = artanh(value) is near normal, with the variance that leaving out one pair after the
    other shows; it holds for tied and for unevenly scattered values, where the formulas for normal ones do not. A
    perfect ranking varies with no pair, and gets the variance of continuous values: 0.437 / (n - 4) for tau,
    (1 + rho^2 / 2) / (n - 3) for rho.

    Args:
        forecasts: shape (n,); pairs with a value that is not finite are left out, and more than `COMPARED_PAIRS` are
            thinned evenly.
        outcomes: shape (n,).

    Source: Kendall 1945, "The treatment of ties in ranking problems" (tau-b); Efron 1982, "The jackknife, the bootstrap
    and other resampling plans", section 3; Bonett and Wright 2000, "Sample size requirements for estimating Pearson,
    Kendall and Spearman correlations", the variances.
    """
    known = np.isfinite(forecasts) & np.isfinite(outcomes)
    x, y = forecasts[known], outcomes[known]
    n = len(x)
    if n > COMPARED_PAIRS:
        rows = np.linspace(0, n - 1, COMPARED_PAIRS).round().astype(np.int64)
        x, y = x[rows], y[rows]
    if n < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(n, *[math.nan] * 6)
    signs_x, signs_y = _signs(x), _signs(y)
    tau, without = _tau(signs_x, signs_y)
    m = len(x)
    tau_low, tau_high = _interval(tau, without, 0.437 / max(m - 4, 1))
    rho, without = _rho(signs_x, signs_y)
    rho_low, rho_high = _interval(rho, without, (1 + rho * rho / 2) / max(m - 3, 1))
    return RankCorrelation(n, tau, tau_low, tau_high, rho, rho_low, rho_high)


def _signs(values: FloatArray) -> NDArray[np.float32]:
    """Shape (n, n): 1 where the row's value is larger than the column's, -1 where smaller."""
    return np.sign(np.subtract.outer(values, values)).astype(np.float32)


def _tau(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, FloatArray]:
    """Tau-b, and what it is without each of the pairs, shape (n,)."""
    agreeing = np.einsum("ij,ij->i", x, y, dtype=np.float64)
    untied_x, untied_y = (np.abs(signs).sum(axis=1, dtype=np.float64) for signs in (x, y))
    both = agreeing.sum()
    tau = both / math.sqrt(untied_x.sum() * untied_y.sum())
    scale = np.sqrt((untied_x.sum() - 2 * untied_x) * (untied_y.sum() - 2 * untied_y))
    return float(tau), np.divide(both - 2 * agreeing, scale, out=np.full(len(x), np.nan), where=scale > 0)


def _rho(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, FloatArray]:
    """Spearman's rho, and what it is without each of the pairs, shape (n,).

    A row's sum of signs is its mid-rank, doubled and centred. Without pair i, the rank of j falls by the sign of j
    against i: sums over the rows of products of such ranks need three products of matrices and vectors each.
    """
    n = len(x)
    a, b = (signs.sum(axis=1, dtype=np.float64) for signs in (x, y))

    def product(u: FloatArray, v: FloatArray, p: NDArray[np.float32], q: NDArray[np.float32]) -> FloatArray:
        """For each i: the sum over j other than i of (u_j - p_ji) (v_j - q_ji)."""
        cross = p.T @ v + q.T @ u
        return np.asarray(float(u @ v) - u * v - cross + np.einsum("ji,ji->i", p, q, dtype=np.float64))

    rho = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    scale = np.sqrt(np.maximum(product(a, a, x, x) * product(b, b, y, y), 0.0))
    return rho, np.divide(product(a, b, x, y), scale, out=np.full(n, np.nan), where=scale > 0)


def _interval(value: float, without: FloatArray, plain_variance: float) -> tuple[float, float]:
    """The 95 % interval of a correlation from its n values without one pair each."""
    n = len(without)
    if n < FEWEST_PAIRS:
        return math.nan, math.nan
    most = 1 - 2 / (n * (n - 1))  # half a step of tau below a perfect ranking, whose artanh is infinite
    centre = min(max(value, -most), most)
    without = without[np.isfinite(without)]
    spread = (n - 1) / n * float(((without - without.mean()) ** 2).sum()) if len(without) else 0.0
    deviation = math.sqrt(spread) / (1 - centre * centre) if spread > 1e-12 else math.sqrt(plain_variance)
    z = math.atanh(centre)
    low, high = math.tanh(z - _Z95 * deviation), math.tanh(z + _Z95 * deviation)
    return min(low, value), max(high, value)
