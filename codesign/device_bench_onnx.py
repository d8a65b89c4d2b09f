"""Measures networks and units through onnxruntime on this machine; see `codesign.latency_onnx` for the readings."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from codesign.device import Machine
from codesign.device_models_onnx import empty_model, unit_model
from codesign.device_units import FloatArray
from codesign.errors import TrialError
from codesign.latency_onnx import new_reference, open_and_read
from codesign.session_onnx import RUNTIME_VERSION
from search_spaces.ops import IntArray
from search_spaces.space import NetworkSpace

_READINGS = 5
_UNIT_MS, _NETWORK_MS = 0.5, 2.0
"""How long a reading lasts at least."""


class OnnxBench:
    """This machine as a `codesign.device_calibrate.Bench`.

    Args:
        space: of the networks.
        image_shape: channels, height, width.
        threads: within an op.
    """

    def __init__(self, space: NetworkSpace, image_shape: tuple[int, int, int], threads: int) -> None:
        self._space, self._image_shape, self._threads = space, image_shape, threads
        self._networks: dict[bytes, bytes | None] = {}
        self._units: dict[bytes, bytes] = {}
        self._reference = new_reference()

    def networks(self, codes: IntArray, seed: int) -> FloatArray:
        """See `Bench.networks`."""
        models = [self._network(code) for code in codes]
        found = np.full(len(codes), np.nan)
        rows = [row for row, model in enumerate(models) if model is not None]
        found[rows] = self._read([model for model in models if model is not None], _NETWORK_MS, seed)
        return found

    def units(self, signatures: IntArray, seed: int) -> FloatArray:
        """See `Bench.units`."""
        return self._read([self._unit(signature) for signature in signatures], _UNIT_MS, seed)

    def empty(self, seed: int) -> float:
        """See `Bench.empty`."""
        return float(self._read([empty_model()], _UNIT_MS, seed)[0])

    def _read(self, models: list[bytes], min_reading_ms: float, seed: int) -> FloatArray:
        return open_and_read(
            models,
            threads=self._threads,
            readings=_READINGS,
            min_reading_ms=min_reading_ms,
            seed=seed,
            reference=self._reference,
        ).quickest_ms

    def _network(self, code: IntArray) -> bytes | None:
        """A network as ONNX; None if it cannot be converted."""
        key = code.tobytes()
        if key not in self._networks:
            convert: Any = import_module("codesign.convert_torch_onnx")
            try:
                self._networks[key] = convert.to_onnx(self._space.build(code), self._image_shape)
            except TrialError:
                self._networks[key] = None
        return self._networks[key]

    def _unit(self, signature: IntArray) -> bytes:
        key = signature.tobytes()
        if key not in self._units:
            self._units[key] = unit_model(signature.tolist(), np.random.default_rng(0))
        return self._units[key]


def this_machine(threads: int) -> Machine:
    """Where this process runs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    system = f"{platform.system()} {platform.machine()}"
    return Machine(_cpu_name(), cores, system, f"onnxruntime {RUNTIME_VERSION}", threads)


def _cpu_name() -> str:
    """The processor's name, as Linux tells it; elsewhere as Python does."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
