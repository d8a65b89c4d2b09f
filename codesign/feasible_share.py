"""An exact interval of a proportion, for shares so small that a sample holds none of them."""

from __future__ import annotations

import math

_TAIL = 0.025
_TINY = 1e-300


def exact_interval(successes: int, n: int) -> tuple[float, float]:
    """A 95% interval of a proportion that covers it whatever it is, by inverting the binomial distribution.

    With no success of n the upper end is 1 - 0.025**(1 / n), about 3.7 / n.

    Args:
        successes: how many of `n` independent draws succeeded.
        n: at least 1.

    Returns:
        Lower and upper end, within 0..1.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
    binomial"; its ends are quantiles of beta distributions.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of {n} is no proportion")
    low = 0.0 if successes == 0 else _beta_quantile(_TAIL, successes, n - successes + 1)
    high = 1.0 if successes == n else _beta_quantile(1 - _TAIL, successes + 1, n - successes)
    return low, high


def _beta_quantile(q: float, a: int, b: int) -> float:
    """Where the distribution function of Beta(a, b) reaches q, by halving."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if _beta_distribution(middle, a, b) < q:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_distribution(x: float, a: int, b: int) -> float:
    """Regularised incomplete beta function by its continued fraction, on the side where that converges quickly."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_distribution(1 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(scale) * _fraction(x, a, b) / a


def _fraction(x: float, a: int, b: int) -> float:
    """Lentz's evaluation (Press et al., Numerical Recipes, section 6.4)."""
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        change = 1.0
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away(1.0 + term * d)
            c = _away(1.0 + term / c)
            change = d * c
            value *= change
        if abs(change - 1.0) < 1e-15:
            break
    return value


def _away(value: float) -> float:
    """The value, or a tiny one in place of zero."""
    return value if abs(value) > _TINY else _TINY
