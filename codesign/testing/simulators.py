"""What every simulator must hold: `check_simulator`, for the tests of a plug-in as for our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from simulators.accelerator import Columns, Field, Value, columns, count_accelerators
from simulators.report import CostReport
from simulators.simulator import Simulator
from simulators.workload import FloatArray, IntArray, Workload

_GROWING = ("batch", "out_channels", "in_channels", "out_y", "out_x", "filter_y", "filter_x", "bits")


def check_simulator(simulator: Simulator, rng: np.random.Generator | None = None) -> None:
    """Check a simulator against what every simulator promises.

    Its id carries a version, its defaults pass its own checks and its report holds exactly its metrics. Figures are
    finite and non-negative, of shape (L, A) or (L,); layers and accelerators do not influence one another, so that
    subsets, orders and pairs give the same numbers; a larger layer never costs less (if that holds for some metrics
    and accelerators alone, the simulator names them in `monotone`, metrics, and `monotone_where`, values of fields); an
    empty workload has a report; inputs are left alone; and malformed inputs are refused.

    Args:
        simulator: the one to check.
        rng: draws the layers and accelerators; a fixed seed if None.

    Raises:
        AssertionError: it breaks a promise; the message says which.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    _check_description(simulator)
    workload, accelerators = random_workload(12, rng), random_accelerators(simulator.fields, 9, rng)
    report = _undisturbed(simulator, workload, accelerators)
    _check_report(simulator, report, (12, 9))
    _check_independence(simulator, workload, accelerators, report, rng)
    _check_growth(simulator, workload, accelerators)
    empty = simulator.simulate(workload.take(np.zeros(0, dtype=np.int64)), accelerators)
    _check_report(simulator, empty, (0, 9))
    _same("an empty workload changes a figure of the accelerators", empty.per_accelerator, report.per_accelerator)
    _check_refusals(simulator, workload, accelerators)


def random_workload(n_layers: int, rng: np.random.Generator) -> Workload:
    """Layers of all shapes: convolutions, grouped and depthwise ones, matrix products."""
    groups = rng.choice([1, 1, 2, 8], n_layers)
    per_group = rng.integers(1, 20, size=(2, n_layers))
    per_group[:, groups == 8] = 1
    is_conv = rng.random(n_layers) < 0.7
    kernel = np.where(is_conv, rng.choice([1, 3, 5], n_layers), 1)
    return Workload.from_layers(
        batch=rng.choice([1, 1, 4], n_layers),
        in_channels=groups * per_group[0],
        out_channels=groups * per_group[1],
        out_y=rng.integers(1, 40, n_layers),
        out_x=np.where(is_conv, rng.integers(1, 40, n_layers), 1),
        filter_y=kernel,
        filter_x=kernel,
        stride=np.where(is_conv, rng.choice([1, 2], n_layers), 1),
        groups=groups,
        bits=rng.choice([8, 16], n_layers),
    )


def random_accelerators(simulator_fields: tuple[Field, ...], n: int, rng: np.random.Generator) -> Columns:
    """Accelerators around the defaults: numbers between half and twice the default, names from those allowed."""
    return columns(simulator_fields, [{f.name: _random_value(f, rng) for f in simulator_fields} for _ in range(n)])


def _random_value(spec: Field, rng: np.random.Generator) -> Value:
    if spec.allowed:
        return spec.allowed[int(rng.integers(len(spec.allowed)))]
    if isinstance(spec.default, str):
        return spec.default
    value = max(spec.default * float(rng.uniform(0.5, 2.0)), -np.inf if spec.lowest is None else spec.lowest)
    return round(value) if spec.kind == "int" else value


def _check_description(simulator: Simulator) -> None:
    _require(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-v\d+", simulator.id), f"id {simulator.id!r} is not like 'name-v1'")
    names = [f.name for f in simulator.fields]
    _require(names, "no fields")
    _require(len(set(names)) == len(names), f"a field is named twice: {names}")
    _require(len(set(simulator.metrics)) == len(simulator.metrics), f"a metric is named twice: {simulator.metrics}")
    for f in simulator.fields:
        _require(f.check(f.default) == f.default, f"the default of field {f.name!r} is not one of its values")
        _require(f.doc, f"field {f.name!r} has no doc")


def _check_report(simulator: Simulator, report: CostReport, shape: tuple[int, ...]) -> None:
    names = [*report.columns, *report.per_accelerator]
    _require(sorted(names) == sorted(simulator.metrics), f"report holds {names}, metrics are {simulator.metrics}")
    n_accelerators = shape[-1]
    for table, expected in ((report.columns, shape), (report.per_accelerator, (n_accelerators,))):
        for name, values in table.items():
            _require(values.shape == expected, f"{name} has shape {values.shape}, not {expected}")
            _require(values.dtype == np.float64, f"{name} is {values.dtype}, not float64")
            _require(np.isfinite(values).all() and (values >= 0).all(), f"{name} is not finite and non-negative")
    _require(all(isinstance(p, str) and p for p in report.uncounted), "uncounted holds something other than phrases")


def _check_independence(
    simulator: Simulator, workload: Workload, accelerators: Columns, report: CostReport, rng: np.random.Generator
) -> None:
    """Any selection of layers and accelerators, in any order, one by one or paired, gives the same numbers."""
    n_layers, n_accelerators = len(workload), count_accelerators(simulator.fields, accelerators)
    layers, chosen = rng.permutation(n_layers), rng.permutation(n_accelerators)
    shuffled = simulator.simulate(workload.take(layers), _take(accelerators, chosen))
    expected = {name: values[np.ix_(layers, chosen)] for name, values in report.columns.items()}
    _same("shuffling layers and accelerators changes a figure", shuffled.columns, expected)
    for i in range(n_layers):
        for a in range(n_accelerators):
            one = simulator.simulate(workload.take(np.array([i])), _take(accelerators, np.array([a])))
            expected = {name: values[i : i + 1, a : a + 1] for name, values in report.columns.items()}
            _same("one layer on one accelerator differs from the batch", one.columns, expected)
            own = {name: values[a : a + 1] for name, values in report.per_accelerator.items()}
            _same("one accelerator alone differs from the batch", one.per_accelerator, own)
    some, others = rng.integers(0, n_layers, 40), rng.integers(0, n_accelerators, 40)
    paired = simulator.simulate(workload.take(some), _take(accelerators, others), paired=True)
    _check_report(simulator, paired, (40,))
    expected = {name: values[some, others] for name, values in report.columns.items()}
    _same("a pair differs from the outer result", paired.columns, expected)


def _check_growth(simulator: Simulator, workload: Workload, accelerators: Columns) -> None:
    """Of the metrics in `simulator.monotone`, on accelerators with the values of `simulator.monotone_where`."""
    fixed: Mapping[str, Value] = getattr(simulator, "monotone_where", {})
    growing: tuple[str, ...] = getattr(simulator, "monotone", simulator.metrics)
    accelerators = {
        name: np.full(len(values), fixed[name]) if name in fixed else values for name, values in accelerators.items()
    }
    report = simulator.simulate(workload, accelerators)
    for name in _GROWING:
        larger = simulator.simulate(replace(workload, **{name: 2 * getattr(workload, name)}), accelerators)
        for metric in larger.columns:
            is_larger = metric not in growing or (larger.columns[metric] >= report.columns[metric]).all()
            _require(is_larger, f"twice the {name} lowers {metric}")


def _check_refusals(simulator: Simulator, workload: Workload, accelerators: Columns) -> None:
    missing = {name: values for name, values in accelerators.items() if name != simulator.fields[0].name}
    _must_refuse("a missing column", lambda: simulator.simulate(workload, missing))
    if len(simulator.fields) > 1:
        ragged = {**accelerators, simulator.fields[0].name: accelerators[simulator.fields[0].name][:-1]}
        _must_refuse("columns of different length", lambda: simulator.simulate(workload, ragged))
    _must_refuse("unequal numbers paired", lambda: simulator.simulate(workload, accelerators, paired=True))


def _must_refuse(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"{what} is not refused with a ValueError")


def _undisturbed(simulator: Simulator, workload: Workload, accelerators: Columns) -> CostReport:
    """A report, after checking that a second call agrees and that the inputs are as they were."""
    before = {f.name: getattr(workload, f.name).copy() for f in fields(workload)}
    arrays = {name: values.copy() for name, values in accelerators.items()}
    report = simulator.simulate(workload, accelerators)
    again = simulator.simulate(workload, accelerators)
    unchanged = all((getattr(workload, name) == values).all() for name, values in before.items())
    _require(unchanged and all((accelerators[k] == v).all() for k, v in arrays.items()), "an input was changed")
    _same("two equal calls differ", again.columns, report.columns)
    return report


def _take(accelerators: Columns, rows: IntArray) -> dict[str, NDArray[np.generic]]:
    return {name: values[rows] for name, values in accelerators.items()}


def _same(message: str, found: Mapping[str, FloatArray], expected: Mapping[str, FloatArray]) -> None:
    for name, values in expected.items():
        _require(np.array_equal(found[name], values, equal_nan=True), f"{message}: {name}")


def _require(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)
