"""Evaluator for targets that are this machine: candidates timed through onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from codesign.context import Context
from codesign.job import Target
from codesign.store import Final
from codesign.study import candidate_keys
from codesign.trial import Evaluation
from search_spaces.ops import IntArray


class MeasuredLatency:
    """Latency of each candidate on this machine, for every onnxruntime target of a job.

    Candidates of one call are timed in turn, reading by reading, so that a slow spell hits all alike. Weights are
    random: latency does not depend on them. Networks that differ in their accelerator alone are timed once.

    Args:
        targets: onnxruntime targets by name.
        context: the run.
    """

    def __init__(self, targets: Mapping[str, Target], context: Context) -> None:
        self._targets = dict(targets)
        self._context = context
        self.metrics: tuple[str, ...] = tuple(f"latency_ms@{name}" for name in self._targets)
        self.fingerprint = ""

    def keys(self, codes: IntArray) -> list[str]:
        """Keys of the networks."""
        return candidate_keys(self._context.network_codes(codes))

    def prepare(self) -> None:
        """Nothing to do."""

    def adopt(self, artifacts: Mapping[str, str], key: str) -> Mapping[str, str] | None:
        """A reading of another run is never taken over."""
        return None

    def evaluate(self, codes: IntArray) -> Evaluation:
        """Latency in ms, shape (n,) per target."""
        metrics = {
            name: np.array([reading.value for reading in readings]) for name, readings in self.intervals(codes).items()
        }
        return Evaluation(metrics, [""] * len(codes))

    def intervals(self, codes: IntArray) -> dict[str, list[Final]]:
        """Latency in ms with its 95 % interval, n per target."""
        networks, inverse = np.unique(self._context.network_codes(codes), axis=0, return_inverse=True)
        convert: Any = import_module("codesign.convert_torch_onnx")
        latency: Any = import_module("codesign.latency_onnx")
        space = self._context.network_space
        models = [convert.to_onnx(space.build(code), self._context.data_shape.image_shape) for code in networks]
        found: dict[str, list[Final]] = {}
        for name, target in self._targets.items():
            readings = latency.measure(models, batch=target.batch, threads=target.threads, readings=target.readings)
            finals = [Final(reading.latency_ms, reading.low_ms, reading.high_ms) for reading in readings]
            found[f"latency_ms@{name}"] = [finals[row] for row in inverse.reshape(-1)]
        return found
