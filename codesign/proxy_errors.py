"""How far predictions are from simulated figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codesign.proxy_model import Learned
from codesign.proxy_table import Table
from codesign.trial import FloatArray


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one metric over some designs.

    Attributes:
        n: designs.
        rmse: root of the mean squared error, in the metric's unit.
        rmse_over_mean: the same as a part of the mean of the simulated values.
        median_relative, p95_relative, worst_relative: of the absolute error as a part of each simulated value.
        lowest_relative, highest_relative: 2.5 % and 97.5 % quantile of predicted / simulated - 1: an error bar.
    """

    n: int
    rmse: float
    rmse_over_mean: float
    median_relative: float
    p95_relative: float
    worst_relative: float
    lowest_relative: float
    highest_relative: float


def errors_of(predicted: FloatArray, simulated: FloatArray) -> Errors:
    """Errors of predictions, both of shape (n,), n >= 1. Relative figures leave out simulated values of 0."""
    rmse = float(np.sqrt(np.mean((predicted - simulated) ** 2)))
    mean = float(np.abs(simulated).mean())
    shown = simulated != 0
    relative = predicted[shown] / simulated[shown] - 1 if shown.any() else np.zeros(1)
    size = np.abs(relative)
    low, high = np.quantile(relative, [0.025, 0.975])
    return Errors(
        len(simulated), rmse, rmse / mean if mean else 0.0, float(np.median(size)), float(np.quantile(size, 0.95)),
        float(size.max()), float(low), float(high),
    )  # fmt: skip


def held_out_errors(learned: Learned, table: Table) -> dict[str, dict[str, Errors]]:
    """context -> metric -> errors on designs that were not learned from; only those that work count."""
    rows = table.take(np.flatnonzero(table.works))
    if not len(rows):
        return {}
    predicted, works = learned.predict(rows.designs)
    found: dict[str, dict[str, Errors]] = {}
    for context in dict.fromkeys(rows.contexts.tolist()):
        here = (rows.contexts == context) & works
        if here.any():
            found[context] = {
                name: errors_of(predicted[name][here], values[here]) for name, values in rows.metrics.items()
            }
    return found


def share_told_right(learned: Learned, table: Table) -> float | None:
    """Share of the designs for which whether they work is predicted rightly; None if nothing was learned of that."""
    if learned.works is None or not len(table):
        return None
    return float((learned.predict(table.designs)[1] == table.works).mean())


def largest(errors: Mapping[str, Mapping[str, Errors]], metric: str) -> float | None:
    """The largest RMSE / mean of a metric over all contexts; None if none was measured."""
    found = [by_metric[metric].rmse_over_mean for by_metric in errors.values() if metric in by_metric]
    return max(found) if found else None
