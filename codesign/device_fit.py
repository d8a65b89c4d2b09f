"""From times of units to the latency of networks: corrections learned from whole networks, with their uncertainty.

A network's latency is an overhead, a little for each unit, and for each unit its own measured time with a correction:

    y = o + g n + sum_units t (m_class + a_class + b_unit) + y r(shares)

m is 1, or 0 for a unit that was probably fused into the one before. The overhead o, the time g per unit, the
corrections a and b and the smooth function r of how the time is shared out among classes of units have normal priors
with mean 0, so that the latency is normal too and all of it follows from one Gaussian process over the calibrated
networks (Rasmussen and Williams 2006, equations 2.25, 2.26 and 2.30). The priors' widths maximise the likelihood of
those networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from codesign.device_costs import UnitCosts
from codesign.device_units import ABSORBED_CLASSES, CLASSES, FloatArray, Units, classes_of

_JITTER = 1e-9


@dataclass(frozen=True, slots=True)
class Widths:
    """Standard deviations of the priors.

    Attributes:
        overhead: of o, as a share of the median latency.
        per_unit: of g, as a share of the median latency per unit.
        by_class: of a.
        absorbed: of a, for classes that may be fused into other units.
        by_unit: of b.
        shares: of r.
        length: over which r changes, in standard deviations of the shares.
        noise: what is left, as a share of the latency.
    """

    overhead: float = 0.1
    per_unit: float = 0.1
    by_class: float = 0.3
    absorbed: float = 0.5
    by_unit: float = 0.1
    shares: float = 0.05
    length: float = 2.0
    noise: float = 0.03


_FACTORS = (4.0, 0.25, 2.0, 0.5, 1.4, 0.7)
_LEAST, _MOST = 1e-3, 10.0


@dataclass(frozen=True, slots=True)
class Features:
    """What the fit sees of n networks.

    Attributes:
        n_units: shape (n,), units that run.
        by_class: shape (n, C), milliseconds of units alone, summed by class.
        by_unit: shape (n, S), milliseconds of each of the calibrated units, corrections apart.
        extrapolated: shape (n,), share of the milliseconds that units beyond every measured one take.
    """

    n_units: FloatArray
    by_class: FloatArray
    by_unit: FloatArray
    extrapolated: FloatArray

    @property
    def expected_ms(self) -> FloatArray:
        """Latency without any correction, shape (n,)."""
        return self.by_class @ _EXPECTED

    @property
    def shares(self) -> FloatArray:
        """Of each class in the time, and the logarithm of the time, shape (n, C + 1)."""
        total = np.maximum(self.by_class.sum(axis=1, keepdims=True), 1e-9)
        return np.hstack([self.by_class / total, np.log(total) / 4])


_EXPECTED: FloatArray = np.where(np.isin(np.arange(len(CLASSES)), ABSORBED_CLASSES), 0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Latencies of n networks, shape (n,) each.

    Attributes:
        latency_ms: expected.
        sd_ms: standard deviation of a measurement around it.
        is_outside: whether the network lies outside what was calibrated: it is quicker or slower than every calibrated
            one by a quarter, units unlike any measured one take over 5 % of its time, or its uncertainty is large.
    """

    latency_ms: FloatArray
    sd_ms: FloatArray
    is_outside: np.typing.NDArray[np.bool_]


_BEYOND = 1.25
_EXTRAPOLATED = 0.05
_UNCERTAIN = 3.0
"""A network is outside if its relative deviation is so many times that of a typical calibrated one."""


class Fit:
    """Latency of networks from their units.

    Args:
        costs: of single units.
        signatures: shape (S, 13), units that occur in the calibrated networks.
        features: of the calibrated networks, by `features_of`.
        latency_ms: theirs, shape (n,), measured.
        widths: of the priors; found by `learn`.
    """

    def __init__(
        self, costs: UnitCosts, signatures: np.typing.NDArray[np.int64], features: Features, latency_ms: FloatArray,
        widths: Widths,
    ) -> None:  # fmt: skip
        self.costs = costs
        self.widths = widths
        self._column = {tuple(row): column for column, row in enumerate(signatures.tolist())}
        self._features = features
        self._latency_ms = latency_ms
        self._scale = _Scale.of(features, latency_ms)
        kernel = _kernel(features, features, self._scale, widths)
        kernel[np.diag_indices_from(kernel)] += (widths.noise * latency_ms) ** 2
        whitening = np.diag(1 / latency_ms)
        self._factor = np.linalg.cholesky(whitening @ kernel @ whitening + _JITTER * np.eye(len(kernel)))
        residual = (latency_ms - features.expected_ms) / latency_ms
        self._weights = np.linalg.solve(self._factor.T, np.linalg.solve(self._factor, residual)) / latency_ms
        own = self._deviations(features)
        self._typical = float(np.median(own / latency_ms))

    @classmethod
    def learn(
        cls, costs: UnitCosts, signatures: np.typing.NDArray[np.int64], units: Units, latency_ms: FloatArray
    ) -> Fit:
        """Find the priors' widths by coordinate descent on the negative log likelihood."""
        features = cls.features_for(costs, signatures, units)
        scale = _Scale.of(features, latency_ms)
        widths = Widths()
        best = _misfit(features, latency_ms, scale, widths)
        for factor in _FACTORS * 3:
            for field in fields(Widths):
                value = float(np.clip(getattr(widths, field.name) * factor, _LEAST, _MOST))
                changed = replace(widths, **{field.name: value})
                misfit = _misfit(features, latency_ms, scale, changed)
                if misfit < best:
                    best, widths = misfit, changed
        return cls(costs, signatures, features, latency_ms, widths)

    @staticmethod
    def features_for(costs: UnitCosts, signatures: np.typing.NDArray[np.int64], units: Units) -> Features:
        """What a fit to networks with these units sees of networks."""
        return features_of(units, costs, {tuple(row): i for i, row in enumerate(signatures.tolist())})

    def features(self, units: Units) -> Features:
        """What the fit sees of networks."""
        return features_of(units, self.costs, self._column)

    def predict(self, units: Units) -> Prediction:
        """Latency of networks."""
        features = self.features(units)
        near = _kernel(features, self._features, self._scale, self.widths)
        expected = features.expected_ms
        latency = np.maximum(expected + near @ self._weights, 0.05 * expected + 1e-6)
        deviation = self._deviations(features, near)
        slowest, quickest = self._latency_ms.max() * _BEYOND, self._latency_ms.min() / _BEYOND
        is_outside = (latency > slowest) | (latency < quickest) | (features.extrapolated > _EXTRAPOLATED)
        is_outside |= deviation / latency > max(_UNCERTAIN * self._typical, 0.1)
        return Prediction(latency, deviation, is_outside)

    def _deviations(self, features: Features, near: FloatArray | None = None) -> FloatArray:
        near = _kernel(features, self._features, self._scale, self.widths) if near is None else near
        own = _own_variance(features, self._scale, self.widths)
        white = np.linalg.solve(self._factor, (near / self._latency_ms).T)
        noise = (self.widths.noise * features.expected_ms) ** 2
        return np.asarray(np.sqrt(np.maximum(own - (white**2).sum(axis=0), 0.0) + noise))


@dataclass(frozen=True, slots=True)
class _Scale:
    """What makes features of networks comparable: medians and deviations of the calibrated ones."""

    latency_ms: float
    n_units: float
    centre: FloatArray
    spread: FloatArray

    @classmethod
    def of(cls, features: Features, latency_ms: FloatArray) -> _Scale:
        shares = features.shares
        spread = np.maximum(shares.std(axis=0), 0.02)
        n_units = max(1.0, float(np.median(features.n_units)))
        return cls(float(np.median(latency_ms)), n_units, shares.mean(axis=0), spread)


def features_of(units: Units, costs: UnitCosts, columns: Mapping[tuple[int, ...], int]) -> Features:
    """What the fit sees of networks; `columns` says which of the calibrated units each signature is."""
    ms, how = costs.of(units.signatures)
    of_class = classes_of(units.signatures)
    time = units.count * ms[units.signature]
    n = units.n_networks
    time_by_class = np.bincount(
        units.network * len(CLASSES) + of_class[units.signature], weights=time, minlength=n * len(CLASSES)
    )
    by_class = time_by_class.reshape(n, len(CLASSES)).astype(np.float64)
    column = np.array([columns.get(tuple(row), -1) for row in units.signatures.tolist()], dtype=np.int64)
    is_calibrated = column[units.signature] >= 0
    by_unit = np.zeros((n, len(columns)))
    by_unit[units.network[is_calibrated], column[units.signature[is_calibrated]]] = time[is_calibrated]
    is_run = _EXPECTED[of_class[units.signature]] > 0
    n_units = np.bincount(units.network, weights=units.count * is_run, minlength=n).astype(np.float64)
    beyond = np.bincount(units.network, weights=time * (how[units.signature] == 2), minlength=n)
    return Features(n_units, by_class, by_unit, beyond / np.maximum(by_class.sum(axis=1), 1e-9))


def _kernel(a: Features, b: Features, scale: _Scale, widths: Widths) -> FloatArray:
    """Prior covariance of the corrections to the latencies of networks, ms^2, shape (n, m)."""
    result = np.full((len(a.n_units), len(b.n_units)), (widths.overhead * scale.latency_ms) ** 2)
    result += np.outer(a.n_units, b.n_units) * (widths.per_unit * scale.latency_ms / scale.n_units) ** 2
    result += (a.by_class * _class_variance(widths)) @ b.by_class.T
    result += widths.by_unit**2 * (a.by_unit @ b.by_unit.T)
    za, zb = ((f.shares - scale.centre) / scale.spread for f in (a, b))
    squared = (za**2).sum(axis=1)[:, None] + (zb**2).sum(axis=1)[None] - 2 * za @ zb.T
    smooth = np.exp(-np.maximum(squared, 0) / (2 * widths.length**2))
    result += widths.shares**2 * np.outer(a.expected_ms, b.expected_ms) * smooth
    return result


def _own_variance(features: Features, scale: _Scale, widths: Widths) -> FloatArray:
    """The diagonal of `_kernel`, shape (n,)."""
    result = (widths.overhead * scale.latency_ms) ** 2 * np.ones(len(features.n_units))
    result += (features.n_units * widths.per_unit * scale.latency_ms / scale.n_units) ** 2
    result += (features.by_class**2 * _class_variance(widths)).sum(axis=1)
    result += widths.by_unit**2 * (features.by_unit**2).sum(axis=1)
    return np.asarray(result + (widths.shares * features.expected_ms) ** 2)


def _class_variance(widths: Widths) -> FloatArray:
    return np.where(_EXPECTED > 0, widths.by_class, widths.absorbed) ** 2


def _misfit(features: Features, latency_ms: FloatArray, scale: _Scale, widths: Widths) -> float:
    """Negative log likelihood of the relative residuals, up to a constant (equation 2.30)."""
    kernel = _kernel(features, features, scale, widths) / np.outer(latency_ms, latency_ms)
    kernel[np.diag_indices_from(kernel)] += widths.noise**2 + _JITTER
    factor = np.linalg.cholesky(kernel)
    white = np.linalg.solve(factor, (latency_ms - features.expected_ms) / latency_ms)
    return float(white @ white / 2 + np.log(np.diag(factor)).sum())
