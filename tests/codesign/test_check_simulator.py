"""The conformance kit passes our simulators and catches those that break a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.testing.simulators import check_simulator
from simulators.accelerator import Columns, Field
from simulators.report import CostReport
from simulators.roofline import Roofline
from simulators.systolic import Systolic
from simulators.workload import Workload


@pytest.mark.parametrize("simulator", [Systolic(), Roofline()], ids=lambda s: s.id)
@pytest.mark.parametrize("seed", range(3))
def test_our_simulators_conform(simulator: Systolic | Roofline, seed: int) -> None:
    check_simulator(simulator, np.random.default_rng(seed))


@pytest.mark.slow
def test_every_registered_simulator_conforms_and_bears_its_id() -> None:
    points = [p for p in entry_points(group="codesign.simulators") if p.dist and p.dist.name == "codesign"]
    assert points
    for point in points:
        simulator = point.load()()
        assert simulator.id == point.name
        check_simulator(simulator)


class Broken(Systolic):
    """A systolic array with a defect put into its report or its description."""

    def __init__(self, defect: Callable[[CostReport, Workload, Columns], CostReport]) -> None:
        self.defect = defect

    def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
        """The parent's report, spoilt."""
        return self.defect(super().simulate(workload, accelerators, paired=paired), workload, accelerators)


def _spoil(report: CostReport, **changed: NDArray[Any]) -> CostReport:
    return replace(report, columns={**report.columns, **changed})


def _drift(report: CostReport, workload: Workload, accelerators: Columns) -> CostReport:
    """Each layer costs more by its place in the workload."""
    cycles = report.columns["latency_cycles"]
    place = np.arange(len(workload))
    return _spoil(report, latency_cycles=cycles + (place if cycles.ndim == 1 else place[:, None]))


DEFECTS: dict[str, Callable[[CostReport, Workload, Columns], CostReport]] = {
    "not finite": lambda r, w, a: _spoil(r, latency_ms=r.columns["latency_ms"] * np.nan),
    "non-negative": lambda r, w, a: _spoil(r, latency_ms=-r.columns["latency_ms"] - 1),
    "shape": lambda r, w, a: _spoil(r, latency_ms=r.columns["latency_ms"].sum(axis=0)),
    "not float64": lambda r, w, a: _spoil(r, latency_ms=r.columns["latency_ms"].astype(np.float32)),
    "report holds": lambda r, w, a: _spoil(r, energy_pj=r.columns["latency_ms"]),
    "shuffling layers": _drift,
    "lowers latency_cycles": lambda r, w, a: _spoil(r, latency_cycles=1 / (1 + r.columns["latency_cycles"])),
    "phrases": lambda r, w, a: replace(r, uncounted=("",)),
}


@pytest.mark.parametrize("message", DEFECTS)
def test_a_defect_is_caught(message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_simulator(Broken(DEFECTS[message]))


def test_pairs_that_differ_are_caught() -> None:
    def defect(report: CostReport, workload: Workload, accelerators: Columns) -> CostReport:
        cycles = report.columns["latency_cycles"]
        return _spoil(report, latency_cycles=cycles + 1) if cycles.ndim == 1 else report

    with pytest.raises(AssertionError, match="a pair differs from the outer result"):
        check_simulator(Broken(defect))


def test_an_input_that_is_changed_is_caught() -> None:
    def defect(report: CostReport, workload: Workload, accelerators: Columns) -> CostReport:
        workload.bits[:] = 4
        return report

    with pytest.raises(AssertionError, match="an input was changed"):
        check_simulator(Broken(defect))


def test_a_wrong_description_is_caught() -> None:
    class Unversioned(Systolic):
        id = "systolic"

    class WrongDefault(Systolic):
        fields = (Field("rows", "int", "", 0, lowest=1, doc="rows"),)

    class Silent(Systolic):
        fields = (Field("rows", "int", "", 1),)

    with pytest.raises(AssertionError, match="is not like 'name-v1'"):
        check_simulator(Unversioned())
    with pytest.raises(ValueError, match="rows: 0"):
        check_simulator(WrongDefault())
    with pytest.raises(AssertionError, match="has no doc"):
        check_simulator(Silent())


def test_a_missing_column_that_is_let_through_is_caught() -> None:
    class Lenient(Systolic):
        def simulate(self, workload: Workload, accelerators: Columns, *, paired: bool = False) -> CostReport:
            n = len(next(iter(accelerators.values())))
            return super().simulate(workload, {"rows": np.full(n, 16), **accelerators}, paired=paired)

    with pytest.raises(AssertionError, match="a missing column is not refused"):
        check_simulator(Lenient())
