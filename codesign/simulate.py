"""One network on one accelerator, layer by layer, beside a published simulator where one is asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codesign.errors import InputError
from codesign.external.compare import External, check_host, comparable, run_external
from codesign.lower import lower
from codesign.plugins import make
from codesign.registry import lookup
from simulators.accelerator import Value, check_values, columns, load_preset
from simulators.networks import load_network
from simulators.report import CostReport
from simulators.workload import FloatArray, IntArray, Workload


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a network costs on an accelerator.

    Attributes:
        workload: its distinct layers.
        count: shape (L,), how often each occurs.
        accelerator: value of every field.
        layers: metric -> shape (L,), of one occurrence of each layer.
        totals: metric -> the network's total or the accelerator's own figure.
        uncounted, provenance: see `CostReport`.
        seconds: that our simulator took.
        external: what a published simulator says, if one was asked for.
        external_seconds: that it took, its start included.
        external_name: its name, or "".
    """

    workload: Workload
    count: IntArray
    accelerator: Mapping[str, Value]
    layers: Mapping[str, FloatArray]
    totals: Mapping[str, float]
    uncounted: tuple[str, ...]
    provenance: Mapping[str, str]
    seconds: float
    external: External | None = None
    external_seconds: float = 0.0
    external_name: str = ""

    def differences(self) -> dict[str, FloatArray]:
        """Relative difference ours / theirs - 1 per layer, shape (L,), for each metric that both know.

        Where the published simulator chooses mappings there are two: `<metric> on its mapping`, which compares the
        models, and `<metric>`, which compares the mappings too. 0 is for figures that agree to nine digits, or are 0.
        """
        if self.external is None:
            return {}
        result = {}
        for suffix, figures in ((" on its mapping", self.external.ours), ("", self.layers)):
            for name in self.external.columns.keys() & figures.keys():
                theirs, ours = self.external.columns[name], figures[name]
                difference = (ours - theirs) / np.where(theirs == 0, 1.0, theirs)
                result[name + suffix] = np.where(np.abs(difference) < 1e-9, 0.0, difference)
        return dict(sorted(result.items()))


def read_network(name: str, batch: int = 1, bits: int = 8) -> tuple[Workload, IntArray]:
    """A network's layers and counts: an ONNX file, a .csv file of layers, or the name of one that ships.

    Raises:
        InputError: an unknown name or a file that cannot be read.
    """
    if not name.endswith(".onnx"):
        workload, count = make(load_network, "network", name)  # type: ignore[arg-type]
        columns_ = {f: getattr(workload, f) for f in workload.__slots__}
        return Workload(
            **columns_ | {"batch": workload.batch * batch, "bits": np.full_like(workload.bits, bits)}
        ), count
    from codesign.read_onnx import read_ops

    lowered = lower(read_ops(Path(name)).table, bits, batch)
    count = np.zeros(len(lowered.workload), dtype=np.int64)
    count[lowered.layer] = lowered.count
    return lowered.workload, count


def simulate(
    network: str,
    preset: str,
    settings: Mapping[str, Value] | None = None,
    *,
    batch: int = 1,
    bits: int = 8,
    against: str = "",
    python: str = sys.executable,
) -> Simulation:
    """Simulate a network on an accelerator.

    Args:
        network: see `read_network`.
        preset: name of a preset or a .toml file.
        settings: fields that replace the preset's.
        batch: images per inference.
        bits: per word of inputs and weights.
        against: a published simulator to run on the same layers, or "".
        python: interpreter of the environment where that one is installed.

    Raises:
        InputError: anything that was given is wrong.
        ExternalError: the published simulator is missing or failed.
    """
    loaded = make(load_preset, "--on", preset)  # type: ignore[arg-type]
    simulator = make(lookup("simulators", loaded.simulator, "--on"), "--on")
    try:
        checked = loaded.checked(simulator)
        values = check_values(simulator.fields, {**checked.values, **(settings or {})}, "--set")
    except ValueError as error:
        raise InputError(str(error)) from error
    if against:
        check_host(against, simulator.id)
    workload, count = read_network(network, batch, bits)
    if against:
        workload = comparable(workload)
    began = time.perf_counter()
    report: CostReport = simulator.simulate(workload, columns(simulator.fields, [values]))
    layers = {name: column[:, 0] for name, column in report.columns.items()}
    seconds = time.perf_counter() - began
    totals = {name: float(count @ column) for name, column in layers.items()}
    totals |= {name: float(own[0]) for name, own in report.per_accelerator.items()}
    external, external_seconds = None, 0.0
    if against:
        began = time.perf_counter()
        external = run_external(against, workload, values, python)
        external_seconds = time.perf_counter() - began
    return Simulation(
        workload, count, values, layers, totals, report.uncounted, dict(report.provenance), seconds, external,
        external_seconds, against,
    )  # fmt: skip
