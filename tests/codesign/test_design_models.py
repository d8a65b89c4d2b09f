"""Jobs that search the shipped memory controllers: options, files beside the job file, messages."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from codesign.design_log import features_of
from codesign.design_space import DesignSpace
from codesign.errors import InputError
from codesign.job import parse_job
from codesign.run import create_run, drive, finish_run, open_run, plan_run, study_of
from simulators import dram_device, dramsim3_device
from simulators.dram import Dram
from simulators.dramsim3 import Dramsim3

STL = "".join(f"{4 * i}: {'write' if i % 3 == 0 else 'read'} 0x{i * 8192 % 65536 + i * 64:x}\n" for i in range(60))
OBJECTIVES = {"dram": ["latency_ns", "power_mw"], "dramsim3": ["read_latency_ns", "power_mw"]}


def space_of(model: dict[str, object], preset: str, folder: Path) -> DesignSpace:
    return DesignSpace(model=model, preset=preset, job_folder=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job's own files: a trace, and a device for each model."""
    (tmp_path / "own.stl").write_text(STL)
    shutil.copy(dram_device.DEVICE_FOLDER / "ddr3-1600-1gb-x8.toml", tmp_path / "mine.toml")
    shutil.copy(dramsim3_device.DEVICE_FOLDER / "ddr3-1600.toml", tmp_path / "mine3.toml")
    return tmp_path


JOBS = [
    pytest.param(
        {"type": "dram", "device": "ddr4-2400-4gb-x8", "trace": "stream", "requests": 100}, "dram-ddr4", id="dram-ddr4"
    ),
    pytest.param({"type": "dram", "device": "mine.toml", "trace": "own.stl"}, "dram-ddr3", id="dram-files"),
    pytest.param(
        {"type": "dramsim3", "device": "ddr4-2400", "trace": "hot_cold", "requests": 80, "seed": 3, "cycles": 900},
        "dramsim3-ddr4",
        id="dramsim3-ddr4",
    ),
    pytest.param(
        {"type": "dramsim3", "device": "mine3.toml", "trace": "own.stl", "cycles": 600},
        "dramsim3-ddr3",
        id="dramsim3-files",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "preset"), JOBS)
def test_a_job_of_twenty_random_designs(model: dict[str, object], preset: str, folder: Path) -> None:
    objectives = OBJECTIVES[str(model["type"])]
    job = parse_job(
        {
            "name": "memory",
            "space": {"type": "design", "model": model, "preset": preset},
            "objectives": {"minimize": objectives},
            "search": {"strategy": "random", "trials": 20, "seed": 1},
            "evaluate": {"type": "cost"},
        }
    )
    parts = plan_run(job, folder / "run", folder)
    run = create_run(parts, folder)
    drive(run, parts, study_of(run, parts))
    finish_run(run, parts)
    trials = open_run(folder / "run").store.trials(run.study_id)
    assert len(trials) == 20
    found = parts.space
    assert isinstance(found, DesignSpace)
    codes = np.array([found.encode(trial.genotype) for trial in trials])
    report = found.design_model.evaluate(found.designs(codes))
    assert len({tuple(trial.metrics.values()) for trial in trials}) > 3
    for i, trial in enumerate(trials):
        assert [trial.metrics[name] for name in objectives] == [report.metrics[name][i] for name in objectives]


def test_options_reach_the_models(folder: Path) -> None:
    dram = space_of({"type": "dram", "trace": "random", "requests": 50, "seed": 7}, "dram-ddr3", folder).design_model
    assert isinstance(dram, Dram)
    assert len(dram.trace) == 50
    assert (dram.trace.address == Dram(trace="random", requests=50, seed=7).trace.address).all()
    assert (dram.trace.address != Dram(trace="random", requests=50, seed=8).trace.address).any()
    own = space_of({"type": "dram", "device": "mine.toml", "trace": "own.stl", "requests": 9}, "dram-ddr3", folder)
    assert isinstance(own.design_model, Dram)
    assert (len(own.design_model.trace), own.design_model.device.standard) == (9, "DDR3")
    options = {"device": "mine3.toml", "trace": "own.stl", "cycles": 500}
    other = space_of({"type": "dramsim3", **options}, "dramsim3-ddr3", folder).design_model
    assert isinstance(other, Dramsim3)
    assert (len(other.trace), other.cycles) == (60, 500)


def test_the_presets_name_their_device(folder: Path) -> None:
    for model, generation, device in (
        ("dram", 3, "ddr3-1600-1gb-x8"), ("dram", 4, "ddr4-2400-4gb-x8"),
        ("dramsim3", 3, "ddr3-1600"), ("dramsim3", 4, "ddr4-2400"),
    ):  # fmt: skip
        space = space_of({"type": model, "requests": 5}, f"{model}-ddr{generation}", folder)
        assert space.checked_preset.options == {"device": device}
        assert f"DDR{generation}" in space.design_model.device.name.upper()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"type": "dram", "device": "ddr4-2400"}, "model: device: 'ddr4-2400' is not one of .*'ddr4-2400-4gb-x8'"),
        ({"type": "dram", "trace": "strem"}, "model: trace: 'strem' is not one of .*did you mean 'stream'"),
        ({"type": "dram", "trace": "none.stl"}, "model: trace: cannot read 'none.stl'"),
        ({"type": "dram", "requests": 0}, "model: requests: 0 is not allowed"),
        ({"type": "dram", "seed": -1}, "model: seed: -1 is not allowed"),
        ({"type": "dram", "requests": "many"}, "model.requests"),
        ({"type": "dram", "tracing": "stream"}, "model.*'tracing'"),
        ({"type": "dramsim3", "device": "ddr4-2400-4gb-x8"}, "model: device: .*'ddr4-2400'"),
        ({"type": "dramsim3", "cycles": 0}, "model: cycles: 0"),
        ({"type": "dramsim3", "trace": "own.txt"}, "model: trace: 'own.txt' must end in one of"),
    ],
)
def test_wrong_options_have_one_clear_message(model: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        space_of(model, f"{model['type']}-ddr3", folder)


def test_features_are_finite_and_tell_traces_and_devices_apart() -> None:
    seen = [
        features_of(Dram(device, trace))
        for device in dram_device.device_names()
        for trace in ("stream", "random", "hot_cold", "gemm")
    ]
    assert len({tuple(sorted(found)) for found in seen}) == 1
    assert len({tuple(found.values()) for found in seen}) == len(seen)
    assert all(np.isfinite(list(found.values())).all() for found in seen)
