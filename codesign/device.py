"""A calibrated device: what was measured on it, how well latencies of whole networks follow, and the predictor itself.

A calibration is one JSON file, fit to be read by people: the machine, the space, a table of units with their times, the
networks that were measured, and the errors on those that the fit has not seen. The fit is made again when the file is
read, from the measured figures and the widths of the priors: it is a matter of milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from codesign.device_costs import UnitCosts
from codesign.device_fit import Fit, Prediction, Widths
from codesign.device_units import FloatArray, Units
from codesign.errors import InputError
from codesign.honesty_ranks import rank_correlation
from search_spaces.ops import IntArray

FEWEST_FITTED, FEWEST_HELD_OUT = 20, 10
"""With fewer networks no calibration is finished."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and how times were taken.

    Attributes:
        cpu: its name, as the system tells it.
        cores: that this process may use.
        system: operating system and architecture.
        runtime: "onnxruntime" and its version.
        threads: within an op.
    """

    cpu: str
    cores: int
    system: str
    runtime: str
    threads: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Errors on whole networks that the fit has not seen.

    Attributes:
        n: networks.
        median_error, p90_error, worst_error: of the absolute error as a part of the measured latency.
        tau, tau_low, tau_high: Kendall's tau-b between predicted and measured, and its 95 % interval.
        outside: share that was flagged as outside the calibrated range.
        covered: share of measurements within two standard deviations of the prediction.
    """

    n: int
    median_error: float
    p90_error: float
    worst_error: float
    tau: float
    tau_low: float
    tau_high: float
    outside: float
    covered: float


def held_out_errors(prediction: Prediction, measured_ms: FloatArray) -> HeldOut:
    """Errors of predictions for n >= 1 networks."""
    error = np.abs(prediction.latency_ms / measured_ms - 1)
    ranks = rank_correlation(prediction.latency_ms, measured_ms)
    near = np.abs(prediction.latency_ms - measured_ms) <= 2 * prediction.sd_ms
    return HeldOut(
        len(measured_ms), float(np.median(error)), float(np.quantile(error, 0.9)), float(error.max()), ranks.tau,
        ranks.tau_low, ranks.tau_high, float(prediction.is_outside.mean()), float(near.mean()),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured so far.

    Attributes:
        space: text that is equal for equal spaces; see `Context.space_identity`.
        machine: where.
        seed: of what was drawn.
        signatures: shape (S, 13), units; those of the networks and of other candidates, the most important first.
        importance: shape (S,), share of the candidates' work that each unit makes up.
        codes: shape (N, d), networks, in the order in which they are measured.
        is_held_out: shape (N,), whether a network judges the fit instead of making it.
        counts: shape (N, S), how often each network has each unit.
        empty_ms: shape (P,), what a call costs, in each pass.
        unit_ms: shape (S, P), quickest reading of each unit in each pass; NaN where there is none.
        network_ms: shape (N, P), of each network.
        passes: passes wanted.
        spent_s: seconds of measuring.
        started_at: ISO date and time.
        widths: of the fit's priors, once it is made.
        errors: on the networks held out, once it is made.
    """

    space: str
    machine: Machine
    seed: int
    signatures: IntArray
    importance: FloatArray
    codes: IntArray
    is_held_out: np.typing.NDArray[np.bool_]
    counts: IntArray
    empty_ms: FloatArray
    unit_ms: FloatArray
    network_ms: FloatArray
    passes: int
    spent_s: float = 0.0
    started_at: str = ""
    widths: Widths | None = None
    errors: HeldOut | None = None

    @property
    def is_finished(self) -> bool:
        """Whether a fit was made."""
        return self.widths is not None

    @cached_property
    def latency_ms(self) -> FloatArray:
        """Of each network, shape (N,): over the passes as `quickest_third`; NaN if it was never measured."""
        return _over_passes(self.network_ms)

    @cached_property
    def cost_ms(self) -> FloatArray:
        """Of each unit without the call, shape (S,); NaN if it was never measured."""
        net = self.unit_ms - self.empty_ms[None]
        return _over_passes(np.where(np.isnan(net), np.nan, np.maximum(net, LEAST_UNIT_MS)))

    @cached_property
    def fit(self) -> Fit:
        """The predictor. Raises InputError if the calibration is not finished."""
        if self.widths is None:
            raise InputError("the calibration is not finished; run `codesign device calibrate` on it again")
        costs, rows, signatures = self._basis()
        features = Fit.features_for(costs, signatures, self.units(rows))
        return Fit(costs, signatures, features, self.latency_ms[rows], self.widths)

    def predict(self, units: Units) -> Prediction:
        """Latency of networks, given by their units."""
        return self.fit.predict(units)

    def finished(self) -> Calibration:
        """With a fit to the networks that are not held out, and its errors on those that are.

        Raises:
            InputError: too few networks were measured.
        """
        is_known = ~np.isnan(self.latency_ms)
        held_out = np.flatnonzero(is_known & self.is_held_out)
        n_fitted = int((is_known & ~self.is_held_out).sum())
        if n_fitted < FEWEST_FITTED or len(held_out) < FEWEST_HELD_OUT:
            raise InputError(
                f"{n_fitted} networks to fit and {len(held_out)} to judge were measured, {FEWEST_FITTED} and "
                f"{FEWEST_HELD_OUT} are needed; run it again with more --minutes, and it goes on from here"
            )
        costs, rows, signatures = self._basis()
        fit = Fit.learn(costs, signatures, self.units(rows), self.latency_ms[rows])
        errors = held_out_errors(fit.predict(self.units(held_out)), self.latency_ms[held_out])
        return replace(self, widths=fit.widths, errors=errors)

    def units(self, rows: IntArray) -> Units:
        """Units of some of the networks."""
        network, signature = np.nonzero(self.counts[rows])
        return Units(self.signatures, network, signature, self.counts[rows][network, signature], len(rows))

    def _basis(self) -> tuple[UnitCosts, IntArray, IntArray]:
        """Costs of units, the networks that are fitted, and the units that occur in them."""
        is_measured = ~np.isnan(self.cost_ms)
        if not is_measured.any():
            raise InputError("no unit was measured; run it again with more --minutes")
        costs = UnitCosts.learn(self.signatures[is_measured], self.cost_ms[is_measured])
        rows = np.flatnonzero(~np.isnan(self.latency_ms) & ~self.is_held_out)
        occurs = (self.counts[rows] > 0).any(axis=0)
        return costs, rows, self.signatures[occurs]


LEAST_UNIT_MS = 1e-4
"""What a unit takes at least: a tenth of a microsecond."""


def _over_passes(quickest_ms: FloatArray) -> FloatArray:
    """Geometric mean of the quickest third of the passes that there are, shape (n,) of (n, P); see `quickest_third`."""
    logs = np.sort(np.log(quickest_ms), axis=1)  # NaN last
    n = (~np.isnan(logs)).sum(axis=1)
    kept = (n + 2) // 3
    total = np.where(np.arange(logs.shape[1]) < kept[:, None], logs, 0.0).sum(axis=1)
    return np.asarray(np.where(n > 0, np.exp(total / np.maximum(kept, 1)), np.nan))
