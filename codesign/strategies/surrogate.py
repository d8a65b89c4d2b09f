"""A Gaussian process over a fixed pool of candidates that learns row by row.

For rows X it keeps the Cholesky factor L of their covariance and V = L^-1 k(X, pool), so that one more row costs
O(n x pool), and mean and variance of the whole pool follow from one product with V. The variance depends on where the
rows are, not on their values: a row may be added while its value is still unknown. The mean then rests on the known
rows alone (an unknown value is taken to be its expectation, which leaves every other expectation as it is).
"""

from __future__ import annotations

import numpy as np

from codesign.strategies.strategy import BoolArray, FloatArray
from codesign.strategies.surrogate_kernel import Kernel

Float32Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
_GROW = 64


class Surrogate:
    """Posterior of a Gaussian process at every candidate of a pool.

    Args:
        kernel: the covariance.
        pool: features of the candidates, shape (p, d).
        rows: features of the first rows, shape (n, d).
    """

    def __init__(self, kernel: Kernel, pool: FloatArray, rows: FloatArray) -> None:
        from scipy.linalg import solve_triangular  # type: ignore[import-untyped]

        self.kernel = kernel
        self._solve = solve_triangular
        self._pool = kernel.prepare(pool.astype(np.float32))
        self._rows = rows.copy()
        n = len(rows)
        covariance = kernel(rows, rows)
        covariance[np.diag_indices(n)] += kernel.noise
        self._lower = np.zeros((n + _GROW, n + _GROW))
        self._lower[:n, :n] = np.linalg.cholesky(covariance)
        self._v: Float32Array = np.zeros((n + _GROW, len(pool)), dtype=np.float32)
        if n:
            crossed = kernel(rows.astype(np.float32), self._pool)
            self._v[:n] = solve_triangular(self._lower[:n, :n].astype(np.float32), crossed, lower=True)
        explained = np.zeros(len(pool))
        for start in range(0, n, _GROW):
            explained += np.square(self._v[start : min(n, start + _GROW)], dtype=np.float64).sum(axis=0)
        self._variance = kernel.diagonal(pool) - explained

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: FloatArray) -> None:
        """Add a row, features of shape (d,); its value may follow later."""
        n = len(self._rows)
        if n == len(self._lower):
            size = n + max(_GROW, n // 4)
            lower, v = np.zeros((size, size)), np.zeros((size, self._v.shape[1]), dtype=np.float32)
            lower[:n, :n], v[:n] = self._lower, self._v
            self._lower, self._v = lower, v
        to_rows = self.kernel(row[None], self._rows)[0]
        projected = self._solve(self._lower[:n, :n], to_rows, lower=True) if n else to_rows
        left = max(float(self.kernel.diagonal(row[None])[0]) - float(projected @ projected), 0.0) + self.kernel.noise
        root = float(np.sqrt(left))
        self._lower[n, :n], self._lower[n, n] = projected, root
        to_pool = self.kernel(row[None].astype(np.float32), self._pool)[0]
        if n:
            to_pool = to_pool - projected.astype(np.float32) @ self._v[:n]
        self._v[n] = to_pool / np.float32(root)
        self._variance -= np.square(self._v[n], dtype=np.float64)
        self._rows = np.vstack([self._rows, row])

    def mean(self, values: FloatArray, known: BoolArray) -> FloatArray:
        """Expectation at every candidate, shape (p,).

        Args:
            values: shape (n,), of each row; those that are not known are not looked at.
            known: shape (n,).
        """
        n = len(self._rows)
        if n == 0:
            return np.zeros(self._v.shape[1])
        residual = self._solve(self._lower[:n, :n], self._completed(values, known), lower=True)
        return np.asarray(residual.astype(np.float32) @ self._v[:n], dtype=np.float64)

    def variance(self) -> FloatArray:
        """Variance of a new result at every candidate, noise included, shape (p,)."""
        return np.asarray(np.maximum(self._variance, 0.0) + self.kernel.noise)

    def mean_at(self, features: FloatArray, values: FloatArray, known: BoolArray) -> FloatArray:
        """Expectation at any candidates, features of shape (q, d); see `mean`."""
        n = len(self._rows)
        if n == 0:
            return np.zeros(len(features))
        lower = self._lower[:n, :n]
        residual = self._solve(lower, self._completed(values, known), lower=True)
        weights = self._solve(lower, residual, lower=True, trans=1)
        return np.asarray(self.kernel(features, self._rows) @ weights)

    def _completed(self, values: FloatArray, known: BoolArray) -> FloatArray:
        """Values with the unknown ones replaced by their expectation given the known, shape (n,)."""
        n = len(self._rows)
        completed = np.where(known, values, 0.0)
        unknown = np.flatnonzero(~known)
        if len(unknown) == 0 or len(unknown) == n:
            return completed
        # With K^-1 completed = weights, the unknown rows are at their expectation where their weights vanish.
        lower = self._lower[:n, :n]
        units = np.zeros((n, len(unknown)))
        units[unknown, np.arange(len(unknown))] = 1.0
        half = self._solve(lower, units, lower=True)
        weights = half.T @ self._solve(lower, completed, lower=True)
        completed[unknown] = -np.linalg.solve(half.T @ half, weights)
        return completed
