"""Which candidates a model of the losses expects to move the front most.

The model is kernel ridge regression with the kernel exp(-r h), h the distance of two candidates, summed over decisions:
1 where they differ, or for a decision between numbers, if that predicts better, twice the share of its range between
them. It needs no gradient, and predicts additive costs and their products well (the kernel is a product of one factor
per decision). r and the kind of distance are those with the smallest leave-one-out error on the latest results. Losses
and the violation are learned on a logarithmic scale above their smallest.
"""

from __future__ import annotations

import numpy as np

from codesign.pareto import is_nondominated
from codesign.strategies.population import Population
from codesign.strategies.strategy import FloatArray
from search_spaces.ops import IntArray

RATES = (0.05, 0.2, 0.8)
"""Choices of r: how fast two candidates' likeness falls with their distance."""
COMPARED = 300
"""The latest results, on which kernels are compared."""
NUGGET = 1e-6
SCALE = 10.0
"""Standard deviations are multiplied by it before the logarithm: larger looks closer at the small losses."""


def promising(pool: IntArray, results: Population, n: int, spans: FloatArray) -> IntArray:
    """Rows of the candidates that are expected to move the front most, best first.

    Args:
        pool: shape (p, d), candidates to choose from.
        results: evaluated candidates with finite losses, at least one of them feasible.
        n: how many to choose.
        spans: shape (d,), for a decision between numbers its number of options less one, else 0.

    Returns:
        Shape (min(n, p),). Each one counts as a member of the front when the next is chosen, by the additive
        epsilon: the smallest shift, in units of the front's logarithmic range, by which the front would cover it.
    """
    if len(pool) == 0:
        return np.zeros(0, dtype=np.int64)
    n_losses = results.losses.shape[1]
    targets = np.column_stack([results.losses, results.violations])
    lowest, spread = targets.min(axis=0), targets.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    learned = np.log1p((targets - lowest) / spread * SCALE)
    predicted = _predict(pool, results.codes, learned, spans)
    feasible = learned[results.violations == 0, :n_losses]
    front = feasible[is_nondominated(feasible)]
    span = front.max(axis=0) - front.min(axis=0)
    span = np.where(span > 0, span, 1.0)
    expected = predicted[:, :n_losses] / span
    expected[predicted[:, -1] > 0.05 * learned[:, -1].std()] += 10.0  # probably over a budget: last
    gain = ((front / span)[None] - expected[:, None]).max(axis=2).min(axis=1)
    chosen = []
    for _ in range(min(n, len(pool))):
        best = int(gain.argmax())
        chosen.append(best)
        gain = np.minimum(gain, (expected[best] - expected).max(axis=1))
        gain[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)


def _predict(pool: IntArray, codes: IntArray, values: FloatArray, spans: FloatArray) -> FloatArray:
    """Kernel ridge regression of each column of values, shape (p, m)."""
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    targets = (values - mean) / scale
    spans, rate = _best_kernel(codes[-COMPARED:], targets[-COMPARED:], spans)
    weights = np.linalg.solve(_kernel(codes, codes, spans, rate) + NUGGET * np.eye(len(codes)), targets)
    return np.asarray(_kernel(pool, codes, spans, rate) @ weights * scale + mean)


def _best_kernel(codes: IntArray, targets: FloatArray, spans: FloatArray) -> tuple[FloatArray, float]:
    """Spans and r with the smallest leave-one-out error; spans of 0 throughout mean that order is not used."""
    best, error = (spans * 0, RATES[1]), np.inf
    for tried in (spans * 0, spans) if spans.any() else (spans,):
        for rate in RATES:
            inverse = np.linalg.inv(_kernel(codes, codes, tried, rate) + NUGGET * np.eye(len(codes)))
            left_out = inverse @ targets / np.diag(inverse)[:, None]  # residuals without the row itself
            if (found := float((left_out**2).mean())) < error:
                best, error = (tried, rate), found
    return best


def _kernel(first: IntArray, second: IntArray, spans: FloatArray, rate: float) -> FloatArray:
    """exp(-r h) for every pair, shape (n, m); one decision at a time keeps the memory at n x m."""
    distance = np.zeros((len(first), len(second)))
    for a, b, span in zip(first.T, second.T, spans, strict=True):
        distance += a[:, None] != b[None, :] if span == 0 else np.abs(a[:, None] - b[None, :]) * (2.0 / span)
    return np.asarray(np.exp(-rate * distance))
