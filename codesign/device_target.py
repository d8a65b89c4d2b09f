"""Targets that are calibrated devices: latency of any candidate for free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from codesign.context import Context
from codesign.device import Calibration
from codesign.device_file import load_calibration
from codesign.device_units import units_of
from codesign.errors import InputError
from codesign.job import Target
from codesign.trial import Evaluation, Evaluator, FloatArray
from search_spaces.ops import IntArray

DEVICE = "device"
"""The target type that predicts from a calibration."""
_BLOCK = 1_024
"""Candidates at once: bounds the memory of their op table."""


class PredictedLatency(Evaluator):
    """Predicted latency of candidates on calibrated devices, and its standard deviation.

    Args:
        calibrations: finished ones, by target name.
        context: the run.

    Raises:
        InputError: a calibration is not finished.
    """

    is_free = True
    """Its metrics are arithmetic: strategies may ask for those of any number of candidates."""
    metrics: tuple[str, ...] = ()

    def __init__(self, calibrations: Mapping[str, Calibration], context: Context) -> None:
        self._calibrations = dict(calibrations)
        self._context = context
        self.metrics = tuple(
            f"{metric}@{name}" for name in self._calibrations for metric in ("latency_ms", "latency_sd_ms")
        )
        for name, calibration in self._calibrations.items():
            if not calibration.is_finished:
                raise InputError(
                    f"targets.{name}.calibration: it is not finished; run `codesign device calibrate` on it again"
                )

    def evaluate(self, codes: IntArray) -> Evaluation:
        """Latency in ms and its standard deviation, shape (n,) per target."""
        metrics, _ = self._predict(codes)
        return Evaluation(metrics, [""] * len(codes))

    def uncounted(self, codes: IntArray) -> list[str]:
        """What to bear in mind of the figures of these candidates, as phrases."""
        phrases = []
        for name, outside in self._predict(codes)[1].items():
            calibration = self._calibrations[name]
            if outside.any():
                phrases.append(
                    f"{name}: {int(outside.sum())} of {len(codes)} networks lie outside what was calibrated; their "
                    "latency is extrapolated"
                )
            if calibration.space != self._context.space_identity:
                phrases.append(f"{name}: the device was calibrated on another space")
            if calibration.errors:
                error = calibration.errors.median_error
                phrases.append(f"{name}: latency is predicted, not measured; median error {error:.1%} where calibrated")
        return phrases

    def _predict(self, codes: IntArray) -> tuple[dict[str, FloatArray], dict[str, np.typing.NDArray[np.bool_]]]:
        """Metrics, and whether candidates lie outside, shape (n,) per target."""
        networks = self._context.network_codes(codes)
        metrics: dict[str, list[FloatArray]] = {name: [np.zeros(0)] for name in self.metrics}
        outside = {name: [np.zeros(0, dtype=np.bool_)] for name in self._calibrations}
        for start in range(0, len(networks), _BLOCK):
            units = units_of(self._context.network_space.ops(networks[start : start + _BLOCK]))
            for name, calibration in self._calibrations.items():
                found = calibration.predict(units)
                metrics[f"latency_ms@{name}"].append(found.latency_ms)
                metrics[f"latency_sd_ms@{name}"].append(found.sd_ms)
                outside[name].append(found.is_outside)
        return (
            {name: np.concatenate(parts) for name, parts in metrics.items()},
            {name: np.concatenate(parts) for name, parts in outside.items()},
        )


def device_targets(targets: Mapping[str, Target], job_folder: Path) -> dict[str, Calibration]:
    """The calibrations that a job's targets name.

    Args:
        targets: of type `device`, by name.
        job_folder: where relative paths are found.

    Raises:
        InputError: a key is missing or belongs to another type of target, or the file is no calibration.
    """
    found: dict[str, Calibration] = {}
    for name, target in targets.items():
        key = f"targets.{name}"
        plain = Target(type=DEVICE, calibration=target.calibration)
        foreign = [field for field in Target.model_fields if getattr(target, field) != getattr(plain, field)]
        if foreign:
            raise InputError(f"{key}.{foreign[0]}: it does not belong to a {DEVICE}, which needs 'calibration' alone")
        if target.calibration is None:
            raise InputError(f"{key}.calibration: name the file that `codesign device calibrate JOB --out FILE` wrote")
        try:
            found[name] = load_calibration(job_folder / target.calibration)
        except InputError as error:
            raise InputError(f"{key}.calibration: {error}") from error
    return found
