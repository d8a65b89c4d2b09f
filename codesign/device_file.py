"""The file of a calibration: JSON that people can read, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from codesign import __version__
from codesign.device import Calibration, HeldOut, Machine
from codesign.device_fit import Widths
from codesign.device_units import SIGNATURE_COLUMNS, FloatArray, unit_text
from codesign.errors import InputError

FORMAT = "codesign-device-1"


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration.

    Raises:
        InputError: the file cannot be written.
    """
    text = _lines(to_json(calibration))
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"--out: {str(path)!r} cannot be written: {error.strerror}") from error


def load_calibration(path: Path) -> Calibration:
    """Read a calibration, finished or cut off.

    Raises:
        InputError: it cannot be read or is no calibration.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"calibration {str(path)!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"calibration {str(path)!r} is not JSON text: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise InputError(f"{str(path)!r} is no calibration of a device: its format is {found!r}, not {FORMAT!r}")
    try:
        return from_json(content)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"calibration {str(path)!r} is damaged ({type(error).__name__}: {error})") from error


def to_json(calibration: Calibration) -> dict[str, Any]:
    """The file's content."""
    units = [
        {
            "unit": unit_text(signature), "signature": signature.tolist(), "importance": _rounded(float(share)),
            "ms": _numbers(ms),
        }
        for signature, share, ms in zip(
            calibration.signatures, calibration.importance, calibration.unit_ms, strict=True
        )
    ]  # fmt: skip
    networks = [
        {
            "code": code.tolist(), "held_out": bool(held_out), "ms": _numbers(ms),
            "units": [[int(unit), int(counts[unit])] for unit in np.flatnonzero(counts)],
        }
        for code, held_out, ms, counts in zip(
            calibration.codes, calibration.is_held_out, calibration.network_ms, calibration.counts, strict=True
        )
    ]  # fmt: skip
    return {
        "format": FORMAT, "codesign": __version__, "finished": calibration.is_finished,
        "started_at": calibration.started_at, "spent_s": round(calibration.spent_s, 1),
        "machine": asdict(calibration.machine), "space": calibration.space, "seed": calibration.seed,
        "held_out_errors": asdict(calibration.errors) if calibration.errors else None,
        "widths": asdict(calibration.widths) if calibration.widths else None,
        "signature_columns": list(SIGNATURE_COLUMNS), "empty_ms": _numbers(calibration.empty_ms),
        "networks": networks, "units": units,
    }  # fmt: skip


def from_json(content: Mapping[str, Any]) -> Calibration:
    """A calibration from the file's content. Raises KeyError, TypeError or ValueError if it is not whole."""
    if tuple(content["signature_columns"]) != SIGNATURE_COLUMNS:
        raise ValueError(f"signature_columns are not {', '.join(SIGNATURE_COLUMNS)}")
    units, networks = content["units"], content["networks"]
    empty_ms = _array(content["empty_ms"])
    counts = np.zeros((len(networks), len(units)), dtype=np.int64)
    for row, network in enumerate(networks):
        for unit, count in network["units"]:
            counts[row, unit] = count
    widths = content["widths"]
    return Calibration(
        space=content["space"], machine=Machine(**content["machine"]), seed=content["seed"],
        signatures=np.array([unit["signature"] for unit in units], dtype=np.int64).reshape(-1, len(SIGNATURE_COLUMNS)),
        importance=np.array([unit["importance"] for unit in units], dtype=np.float64),
        codes=np.array([network["code"] for network in networks], dtype=np.int64),
        is_held_out=np.array([network["held_out"] for network in networks], dtype=np.bool_),
        counts=counts, empty_ms=empty_ms, unit_ms=_table(units, len(empty_ms)),
        network_ms=_table(networks, len(empty_ms)), passes=len(empty_ms), spent_s=content["spent_s"],
        started_at=content["started_at"], widths=Widths(**widths) if widths else None,
        errors=_errors(content["held_out_errors"]),
    )  # fmt: skip


def _errors(content: Mapping[str, Any] | None) -> HeldOut | None:
    if content is None:
        return None
    known: dict[str, Any] = {name: np.nan if value is None else value for name, value in content.items()}
    return HeldOut(**known)


def _table(items: list[Mapping[str, Any]], passes: int) -> FloatArray:
    table = np.array([_array(item["ms"]) for item in items], dtype=np.float64)
    if table.shape != (len(items), passes):
        raise ValueError(f"times have the shape {table.shape}, not {(len(items), passes)}")
    if (table <= 0).any():
        raise ValueError("a time is not positive")
    return table


def _array(values: list[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _numbers(values: FloatArray) -> list[float | None]:
    return [None if np.isnan(value) else _rounded(value) for value in values.tolist()]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _lines(content: Mapping[str, Any]) -> str:
    """JSON with one line for each entry of a list of records, so that a table reads as one."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in value)
            parts.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(_without_nan(value), allow_nan=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
