"""Calibrated devices as targets of jobs, and the verb `device`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codesign.assemble import Parts, assemble
from codesign.cli import main
from codesign.device import Calibration
from codesign.device_calibrate import Plan, begin, calibrate
from codesign.device_file import save_calibration
from codesign.device_job import calibrate_space, space_of_job, space_of_type
from codesign.device_units import units_of
from codesign.errors import InputError
from codesign.job import parse_job
from tests.codesign.test_device import MACHINE, MadeUp

SPACE = {"type": "nasnet", "blocks": 2, "cells": 1, "channels": [4, 8]}
JOB = {
    "name": "on-a-device", "space": SPACE, "targets": {"here": {"type": "device", "calibration": "here.json"}},
    "objectives": {"minimize": ["latency_ms@here", "params"]}, "budgets": ["latency_ms@here <= 1"], "evaluate": "cost",
}  # fmt: skip


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    context = space_of_job(parse_job(JOB), Path())
    space = context.network_space
    device = MadeUp(space)  # type: ignore[arg-type]
    return calibrate(begin(Plan(space, context.space_identity, 60, 0, MACHINE)), device, 1_000.0, clock=device.clock)


@pytest.fixture
def folder(calibration: Calibration, tmp_path: Path) -> Path:
    save_calibration(tmp_path / "here.json", calibration)
    return tmp_path


def parts_of(folder: Path, **changes: object) -> Parts:
    return assemble(parse_job({**JOB, **changes}), folder, folder)


def test_a_job_has_the_latency_of_any_candidate_for_free(folder: Path, calibration: Calibration) -> None:
    parts = parts_of(folder, evaluate={"type": "train"}, objectives={"maximize": "accuracy", "minimize": "params"})
    assert {"latency_ms@here", "latency_sd_ms@here"} <= set(parts.metrics)
    codes = parts.space.sample(2_000, np.random.default_rng(0))  # two blocks
    [screen] = parts.screens
    found = screen.evaluate(codes).metrics
    expected = calibration.predict(units_of(parts.context.network_space.ops(codes)))
    np.testing.assert_allclose(found["latency_ms@here"], expected.latency_ms, rtol=1e-4)
    np.testing.assert_allclose(found["latency_sd_ms@here"], expected.sd_ms, rtol=1e-2)
    empty = screen.evaluate(codes[:0]).metrics
    assert empty["latency_ms@here"].shape == (0,)


def test_strategies_foresee_it(folder: Path) -> None:
    parts = parts_of(
        folder, evaluate={"type": "train"}, objectives={"maximize": "accuracy", "minimize": "latency_ms@here"}
    )
    codes = parts.space.sample(20, np.random.default_rng(0))
    foreseen = parts.foresight()(codes)
    assert np.isnan(foreseen.losses[:, 0]).all()
    assert np.isfinite(foreseen.losses[:, 1]).all()


def test_what_is_extrapolated_is_told(folder: Path, calibration: Calibration) -> None:
    parts = parts_of(folder)
    codes = parts.space.sample(50, np.random.default_rng(1))
    told = "; ".join(parts.uncounted(codes))
    assert "here: latency is predicted, not measured; median error" in told
    assert "another space" not in told
    wide = parts_of(folder, space={**SPACE, "channels": [64, 96]})
    told = "; ".join(wide.uncounted(wide.space.sample(50, np.random.default_rng(1))))
    assert re.search(r"here: \d+ of 50 networks lie outside what was calibrated", told)
    assert "here: the device was calibrated on another space" in told


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, r"targets.here.calibration: name the file"),
        ({"calibration": "none.json"}, r"targets.here.calibration: .*cannot be read"),
        ({"calibration": "here.json", "preset": "edge-16x16"}, r"targets.here.preset: it does not belong"),
        ({"calibration": "here.json", "batch": 4}, r"targets.here.batch: it does not belong"),
        ({"calibration": "begun.json"}, r"targets.here.calibration: it is not finished"),
    ],
)
def test_wrong_targets(folder: Path, calibration: Calibration, target: dict[str, object], message: str) -> None:
    save_calibration(folder / "begun.json", replace(calibration, widths=None, errors=None))
    with pytest.raises(InputError, match=message):
        parts_of(folder, targets={"here": {"type": "device", **target}})


def test_a_calibration_belongs_to_devices_alone(folder: Path) -> None:
    for kind, key in (("onnxruntime", "here"), ("systolic", "here")):
        with pytest.raises(InputError, match="it belongs to a target of type device"):
            parts_of(folder, targets={key: {"type": kind, "calibration": "here.json"}})
    with pytest.raises(InputError, match="device"):
        parts_of(folder, targets={"here": {"type": "devise"}})


def test_a_space_by_name_is_that_of_a_job() -> None:
    by_name = space_of_type("nasnet", ["blocks=2", "cells=1", "channels=[4, 8]"], (1, 8, 8), 10)
    assert by_name.space_identity == space_of_job(parse_job(JOB), Path()).space_identity
    assert by_name.data_shape.image_shape == (1, 8, 8)
    with pytest.raises(InputError, match="nasnet"):
        space_of_type("nasmet", (), (1, 8, 8), 10)
    with pytest.raises(InputError, match="blocks"):
        space_of_type("nasnet", ["block=2"], (1, 8, 8), 10)


def status(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_show(folder: Path, capsys: pytest.CaptureFixture[str], calibration: Calibration) -> None:
    assert status(["device", "show", str(folder / "here.json"), "--units", "3"]) == 0
    shown = capsys.readouterr().out
    assert "a processor, 2 cores, onnxruntime 1.0, 1 thread" in shown
    assert "on 20 networks held out" in shown
    assert "convolution" in shown
    assert status(["device", "show", str(folder / "here.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["held_out_errors"]["n"] == 20
    save_calibration(folder / "begun.json", replace(calibration, widths=None, errors=None))
    assert status(["device", "show", str(folder / "begun.json")]) == 0
    assert "not finished" in capsys.readouterr().out


def write_job(folder: Path) -> str:
    (folder / "job.yaml").write_text(json.dumps(JOB))
    return str(folder / "job.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda d: ["device", "calibrate", "--out", str(d / "new.json")], "name a job file, or a space"),
        (lambda d: ["device", "calibrate", str(d / "none.yaml"), "--out", str(d / "new.json")], "cannot be read"),
        (lambda d: ["device", "calibrate", write_job(d), "--out", str(d)], "is a folder"),
        (lambda d: ["device", "calibrate", write_job(d), "--out", str(d / "new.json"), "--minutes", "0"], "minutes"),
        (lambda d: ["device", "calibrate", write_job(d), "--out", str(d / "job.yaml")], "calibration of a device|JSON"),
        (lambda d: ["device", "calibrate", write_job(d), "--out", str(d / "here.json")], "calibration of another"),
        (lambda d: ["device", "calibrate", "--space", "nasmet", "--out", str(d / "new.json")], "did you mean 'nasnet'"),
        (lambda d: ["device", "calibrate", "--space", "nasnet", "--image", "3,x", "--out", str(d / "n")], "3,32,32"),
        (lambda d: ["device", "show", str(d / "none.json")], "cannot be read"),
        (lambda d: ["device", "predict", str(d / "here.json"), str(d / "none.onnx")], "none.onnx"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: Callable[[Path], list[str]], message: str
) -> None:
    assert status(arguments(folder)) == 2
    caught = capsys.readouterr()
    assert re.search(message, caught.err)
    assert caught.err.startswith("error: ")
    assert caught.err.count("\n") == 1


def test_a_space_of_designs_cannot_run_here(tmp_path: Path) -> None:
    space = {"type": "design", "model": "function", "path": "none"}
    job = parse_job({**JOB, "space": space, "targets": {}})
    with pytest.raises(InputError):
        space_of_job(job, tmp_path)


def test_the_file_is_gone_on_with_only_where_it_fits(folder: Path, calibration: Calibration) -> None:
    context = space_of_job(parse_job(JOB), folder)
    with pytest.raises(InputError, match="calibration of another CPU"):
        calibrate_space(context, folder / "here.json", seconds=1.0, n_networks=60, threads=1, seed=0)
