"""Costs that need no training: MACs, parameters, memory, and what simulators say of each target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from codesign.errors import InputError
from codesign.joint import JointSpace, Knobs
from codesign.lower import Lowered, distinct_rows, lower, network_totals, paired_totals
from search_spaces.ops import IntArray, OpTable, total_macs, total_params
from search_spaces.space import NetworkSpace
from simulators.accelerator import Columns, Value, check_values, columns
from simulators.report import CostReport
from simulators.simulator import Simulator
from simulators.workload import FloatArray, Workload

NETWORK_METRICS = ("macs", "params", "weight_bytes", "activation_bytes")

BLOCK = 1_024  # candidates at once: bounds the memory of their op table (hundreds of ops of 16 columns each)


@dataclass(frozen=True, slots=True)
class Target:
    """An accelerator that networks are costed on.

    Attributes:
        name: as in metrics, `latency_ms@<name>`.
        simulator: its model.
        values: one value per field of the simulator; absent ones take its defaults. In a joint search the searched
            fields of each candidate take their place.
    """

    name: str
    simulator: Simulator
    values: Mapping[str, Value]


@dataclass(frozen=True)
class CostEvaluator:
    """Evaluates codes of a space without training, vectorised over candidates.

    Metrics, each named in `metrics`: `macs` (per image) and `params`, counted as `search_spaces.ops` says;
    `weight_bytes`, parameters times `bits` / 8; `activation_bytes`, the largest sum of one op's inputs and outputs,
    which is a lower bound on peak activation memory, as no other live tensor is counted; and `<metric>@<target>` for
    every metric of every target's simulator, for the whole batch.

    Attributes:
        space: of networks, or a `JointSpace`, whose every candidate is costed on its own accelerators.
        targets: by name.
        bits: per weight and activation.
        batch: images per inference.

    Raises:
        InputError: a target's value is wrong, or the joint space searches a target or field that does not exist.
    """

    space: NetworkSpace | JointSpace
    targets: Mapping[str, Target] = field(default_factory=dict)
    bits: int = 8
    batch: int = 1

    def __post_init__(self) -> None:
        """Check the targets before anything is evaluated."""
        for name, target in self.targets.items():
            _accelerator(target, f"targets.{name}")
        searched = self.space.accelerators if isinstance(self.space, JointSpace) else {}
        for name, preset in searched.items():
            if name not in self.targets:
                raise InputError.about("targets", name, self.targets)
            target = self.targets[name]
            for knob, options in preset.search.items():
                for option in options:
                    _accelerator(Target(name, target.simulator, {**target.values, knob: option}), f"targets.{name}")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that `evaluate` returns, in order."""
        simulated = (f"{metric}@{name}" for name, target in self.targets.items() for metric in target.simulator.metrics)
        return (*NETWORK_METRICS, *simulated)

    def evaluate(self, codes: IntArray) -> dict[str, FloatArray]:
        """Costs of candidates.

        Args:
            codes: shape (n, d), codes of the space.

        Returns:
            One array of shape (n,) for each of `metrics`. A candidate's figures do not depend on the rest of the batch.
        """
        parts = [self._evaluate_block(block) for block in _blocks(codes)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.metrics}

    def uncounted(self, codes: IntArray) -> list[str]:
        """What the figures of these candidates leave out, as phrases.

        Args:
            codes: shape (n, d); for instance the members of a front.

        Returns:
            What each target's model leaves out, then how many ops of each kind have no loop nest and cost nothing.
        """
        phrases = [
            f"{name}: {phrase}"
            for name, target in self.targets.items()
            for phrase in _on_nothing(target.simulator, _accelerator(target, name)).uncounted
        ]
        kinds: dict[str, int] = {}
        for block in _blocks(codes):
            for kind, count in self._lower(self._split(block)[0])[1].uncounted.items():
                kinds[kind] = kinds.get(kind, 0) + count
        scope = "every target" if self.targets else "macs"
        return phrases + [f"{scope}: {kind} ops ({count} in {len(codes)} networks)" for kind, count in kinds.items()]

    def _split(self, codes: IntArray) -> tuple[IntArray, dict[str, Knobs]]:
        return self.space.split(codes) if isinstance(self.space, JointSpace) else (codes, {})

    def _lower(self, network_codes: IntArray) -> tuple[OpTable, Lowered]:
        network = self.space.network if isinstance(self.space, JointSpace) else self.space
        table = network.ops(network_codes)
        return table, lower(table, self.bits, self.batch)

    def _evaluate_block(self, codes: IntArray) -> dict[str, FloatArray]:
        network_codes, knobs = self._split(codes)
        table, lowered = self._lower(network_codes)
        result = self._network_metrics(table)
        for name, target in self.targets.items():
            accelerators = _accelerator(target, f"targets.{name}")
            if name in knobs:
                values = _on_own(target.simulator, lowered, accelerators, knobs[name])
            else:
                values = _on_one(target.simulator, lowered, accelerators)
            result |= {f"{metric}@{name}": values[metric] for metric in target.simulator.metrics}
        return result

    def _network_metrics(self, table: OpTable) -> dict[str, FloatArray]:
        params = total_params(table).astype(np.float64)
        elements = table.max_per_candidate(table.elements_in() + table.elements_out()).astype(np.float64)
        return {
            "macs": total_macs(table).astype(np.float64),
            "params": params,
            "weight_bytes": params * self.bits / 8,
            "activation_bytes": elements * self.batch * self.bits / 8,
        }


def _accelerator(target: Target, key: str) -> dict[str, NDArray[np.generic]]:
    """The target as a struct of arrays of length 1."""
    try:
        values = check_values(target.simulator.fields, target.values, key)
    except ValueError as error:
        raise InputError(str(error)) from error
    return columns(target.simulator.fields, [values])


def _on_one(simulator: Simulator, lowered: Lowered, accelerator: Columns) -> dict[str, FloatArray]:
    """Metrics of every network on one accelerator, shape (n,) each."""
    report = simulator.simulate(lowered.workload, accelerator)
    totals = {name: total[:, 0] for name, total in network_totals(report.columns, lowered).items()}
    own = {name: np.full(lowered.n_networks, values[0]) for name, values in report.per_accelerator.items()}
    return totals | own


def _on_own(simulator: Simulator, lowered: Lowered, base: Columns, knobs: Knobs) -> dict[str, FloatArray]:
    """Metrics of every network on its own accelerator, `base` with the searched fields replaced, shape (n,) each."""
    first, accelerator = distinct_rows(list(knobs.values()))
    distinct = {name: np.repeat(value, len(first)) for name, value in base.items()}
    distinct |= {name: values[first].astype(distinct[name].dtype.type) for name, values in knobs.items()}
    totals = paired_totals(simulator, lowered, distinct, accelerator)
    own = _on_nothing(simulator, distinct).per_accelerator
    return totals | {name: values[accelerator] for name, values in own.items()}


def _on_nothing(simulator: Simulator, accelerators: Columns) -> CostReport:
    """The report of an empty workload: what depends on the accelerators alone."""
    empty = Workload.from_layers(batch=np.zeros(0, dtype=np.int64))
    return simulator.simulate(empty, accelerators)


def _blocks(codes: IntArray) -> Iterator[IntArray]:
    """At least one block, so that an empty batch has its metrics too."""
    for start in range(0, max(1, len(codes)), BLOCK):
        yield codes[start : start + BLOCK]
