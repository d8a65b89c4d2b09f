"""Intervals of confidence, without SciPy: a proportion's (Wilson) and a median's (order statistics)."""

from __future__ import annotations

import math
from collections.abc import Sequence

_Z95 = 1.959963984540054
"""The 97.5% point of the normal distribution."""

FEWEST_READINGS = 6
"""With fewer readings not even their range holds the median in 95% of cases: 2 * 0.5**5 > 5%."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """A 95% interval of a proportion.

    Args:
        successes: how many of `n` succeeded.
        n: at least 1.

    Returns:
        Lower and upper end, within 0..1.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", the score interval.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of {n} is no proportion")
    p, z2 = successes / n, _Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the formula is exact, its rounding is not.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def median_interval(readings: Sequence[float]) -> tuple[float, float]:
    """A 95% interval of the median, whatever the readings' distribution.

    The k-th smallest and k-th largest reading miss the median with probability 2 P(Binomial(n, 1/2) < k); k is the
    largest that keeps this within 5%.

    Args:
        readings: at least `FEWEST_READINGS`, in any order.

    Returns:
        Lower and upper end, both of them readings.

    Source: Conover, "Practical Nonparametric Statistics", the confidence interval for a quantile.
    """
    n = len(readings)
    if n < FEWEST_READINGS:
        raise ValueError(f"{n} readings give no 95% interval of the median; at least {FEWEST_READINGS} do")
    ordered = sorted(readings)
    k, below = 0, 1
    while below <= 0.025 * 2**n:
        k += 1
        below += math.comb(n, k)
    return ordered[k - 1], ordered[n - k]
