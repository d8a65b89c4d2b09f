"""The drivers: same job, same ledger; crashes, kills and lost workers cost nothing that was finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml

from codesign.drive_serial import drive_serial
from codesign.job import load_job, parse_job
from codesign.run import Run, create_run, drive, open_run, plan_run, study_of
from codesign.strategies.random import Random
from codesign.trial import Evaluation
from search_spaces.ops import IntArray
from tests.codesign.fakes import Grid, Quality
from tests.codesign.test_study import ledger, make_study

ROOT = Path(__file__).parents[2]
JOB: dict[str, Any] = {
    "name": "tiny",
    "data": {"type": "digits", "split": {"limit": 200}},
    "space": {"type": "nasnet", "blocks": 1, "cells": 1, "channels": 2},
    "targets": {"edge": {"type": "systolic", "preset": "edge-16x16"}},
    "objectives": {"maximize": "accuracy", "minimize": "latency_ms@edge"},
    "budgets": ["params <= 3k"],
    "search": {"trials": 8, "seed": 3, "strategy": {"type": "evolution", "population_size": 3, "sample_size": 2}},
    "evaluate": {"type": "train", "epochs": 2},
}


def carried_out(folder: Path, **changes: Any) -> Run:
    """A finished run of the small job."""
    job = parse_job({**JOB, **changes})
    parts = plan_run(job, folder, folder)
    run = create_run(parts, folder)
    drive(run, parts, study_of(run, parts))
    return run


def facts(run: Run) -> list[tuple[object, ...]]:
    """The ledger but for times."""
    return [
        (t.number, t.state, str(t.genotype), t.violation, t.error,
         tuple((name, value) for name, value in sorted(t.metrics.items()) if name != "train_seconds"))
        for t in run.store.trials(run.study_id)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return carried_out(tmp_path_factory.mktemp("serial") / "run")


@pytest.mark.torch
@pytest.mark.slow
def test_same_seed_same_ledger(serial: Run, tmp_path: Path) -> None:
    assert facts(carried_out(tmp_path / "again")) == facts(serial)
    other = carried_out(tmp_path / "other", search={**JOB["search"], "seed": 4})
    assert facts(other) != facts(serial)


@pytest.mark.torch
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("driver", ["tune", "ray"])
def test_the_same_job_gives_the_same_ledger_under_every_driver(driver: str, serial: Run, tmp_path: Path) -> None:
    run = carried_out(tmp_path / driver, driver={"type": driver, "workers": 2})
    assert facts(run) == facts(serial)
    measured = [trial for trial in run.store.trials(run.study_id) if trial.is_feasible]
    assert len(measured) == 8
    for trial in measured:
        weights = run.store.artifacts(run.study_id, trial.number)["weights"]
        assert (run.folder / weights).read_bytes() == (serial.folder / weights).read_bytes()
    assert not (run.folder / "tune").exists()


@pytest.mark.torch
@pytest.mark.ray
@pytest.mark.slow
def test_asha_stops_the_worse_half_early_and_keeps_what_they_reached(tmp_path: Path) -> None:
    run = carried_out(
        tmp_path / "asha",
        driver={"type": "tune", "workers": 2, "asha": {"grace_epochs": 1, "reduction": 2}},
        evaluate={"type": "train", "epochs": 4},
    )
    trials = [trial for trial in run.store.trials(run.study_id) if trial.violation == 0]
    stopped = [trial for trial in trials if trial.metrics["stopped_early"]]
    assert len(trials) == 8
    assert 1 <= len(stopped) < 8
    assert all(trial.metrics["epochs"] < 4 for trial in stopped)
    assert all(trial.metrics["epochs"] == 4 for trial in trials if trial not in stopped)
    assert all(run.store.artifacts(run.study_id, trial.number)["weights"] for trial in trials)


@dataclass
class StepwiseQuality(Quality):
    """A stepwise evaluator that can lose its worker or crash."""

    kill_when_first: int = -1
    kill_once: Path | None = None
    max_epochs: int = 3
    metrics: tuple[str, ...] = ("accuracy", "epochs")
    Options: ClassVar[type | None] = None
    evaluated: list[tuple[int, ...]] = field(default_factory=list)

    def start(self, code: IntArray, key: str) -> StepwiseSession:
        return StepwiseSession(self, code)

    def result(self, found: Mapping[str, float], stopped_early: bool = False) -> dict[str, float]:
        return {name: found[name] for name in self.metrics}


@dataclass
class StepwiseSession:
    evaluator: StepwiseQuality
    code: IntArray
    epoch: int = 0

    @property
    def is_done(self) -> bool:
        return self.epoch == 3

    @property
    def metrics(self) -> dict[str, float]:
        value = self.evaluator.evaluate(self.code[None]).metrics["accuracy"][0]
        return {"accuracy": float(value), "epochs": float(self.epoch)}

    def step(self) -> None:
        self.epoch += 1
        once = self.evaluator.kill_once
        if self.epoch == 2 and self.code[0] == self.evaluator.kill_when_first and not (once and once.exists()):
            if once:
                once.write_text("killed")
            os.kill(os.getpid(), signal.SIGKILL)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "epoch").write_text(str(self.epoch))

    def resume(self, folder: Path) -> bool:
        if (folder / "epoch").is_file():
            self.epoch = int((folder / "epoch").read_text())
        return self.epoch > 0

    def write_artifacts(self, folder: Path) -> dict[str, str]:
        return {}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("heals", [True, False])
def test_a_lost_worker_is_retried_and_fails_its_trial_alone_if_it_stays_lost(heals: bool, tmp_path: Path) -> None:
    from codesign.drive_ray import ray_cluster
    from codesign.drive_tune_ray import drive_tune
    from codesign.job import Driver

    quality = StepwiseQuality(kill_when_first=1, kill_once=tmp_path / "killed" if heals else None, crash_when_first=2)
    driver = Driver.model_validate({"type": "tune", "workers": 2, "retries": 1, "checkpoint_epochs": 1})
    study = make_study(tmp_path / "a.db", quality, strategy=Random, space=Grid(6, 4), trials=16, in_flight=4)
    with ray_cluster("local", driver):
        drive_tune(study, quality, driver, tmp_path, "uid")
    trials = [trial for trial in study.store.trials(study.id) if trial.violation == 0 or trial.error]
    assert len(trials) == 16
    for trial in trials:
        first = trial.genotype["x"][0]  # type: ignore[index]
        if first == 2:
            assert trial.error.startswith("RuntimeError: cannot build")
        elif first == 1 and not heals:
            assert "the worker was lost 2 times" in trial.error
        else:
            assert not trial.error
            assert trial.metrics["epochs"] == 3
    assert any(trial.genotype["x"][0] == 1 for trial in trials), "no trial tried the kill"  # type: ignore[index]


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from codesign.drive_serial import drive_serial
from codesign.strategies.random import Random
from tests.codesign.fakes import Grid, Quality
from tests.codesign.test_study import make_study
if __name__ == "__main__":
    quality = Quality(log=Path({log!r}), seconds=0.004)
    drive_serial(make_study(Path({db!r}), quality, trials=120, in_flight=3, batch=2), quality)
"""


@pytest.mark.slow
def test_killed_at_ten_random_instants_nothing_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    whole = make_study(tmp_path / "whole.db", trials=120, in_flight=3, batch=2)
    drive_serial(whole, Quality())
    log, db = tmp_path / "log", tmp_path / "cut.db"
    script = tmp_path / "drive.py"
    script.write_text(KILLED.format(root=str(ROOT), log=str(log), db=str(db)))
    rng = np.random.default_rng(0)
    for _ in range(10):
        process = subprocess.Popen([sys.executable, str(script)])
        time.sleep(0.6 + rng.random())
        process.kill()
        process.wait()
    subprocess.run([sys.executable, str(script)], check=True)
    cut = make_study(db, trials=120, in_flight=3, batch=2)
    assert ledger(cut) == ledger(whole)
    runs = log.read_text().splitlines()
    # A candidate at work in the very instant of a kill is worked on again: it had not finished.
    assert len(set(runs)) == 120
    assert len(runs) <= 120 + 10 * 2


RESUMED = """
import sys
from pathlib import Path
from codesign.run import open_run, study_of, drive
if __name__ == "__main__":
    run = open_run(Path(sys.argv[1]))
    parts = run.parts()
    drive(run, parts, study_of(run, parts))
"""


@pytest.mark.torch
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("driver", ["serial", "tune"])
def test_a_killed_training_run_resumes_to_the_same_ledger(driver: str, serial: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    job = parse_job({**JOB, "driver": {"type": driver, "workers": 2, "checkpoint_epochs": 1}})
    create_run(plan_run(job, folder, folder), folder)
    script = tmp_path / "drive.py"
    script.write_text(RESUMED)
    for wait in (9.0 if driver == "tune" else 3.0, 11.0 if driver == "tune" else 4.0):
        process = subprocess.Popen([sys.executable, str(script), str(folder)])
        time.sleep(wait)
        process.kill()
        process.wait()
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    assert facts(open_run(folder)) == facts(serial)


@pytest.mark.torch
def test_an_evaluation_of_another_run_is_taken_over_with_its_weights(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'shared.db'}"
    small = {
        **JOB,
        "search": {**JOB["search"], "trials": 2},
        "evaluate": {"type": "train", "epochs": 1},
        "store": store,
    }
    first = carried_out(tmp_path / "first", **small)
    second = carried_out(tmp_path / "second", **small)
    assert [row["is_reused"] for row in second.store.ledger(second.study_id) if row["round"] != -1] == [True, True]
    for trial in second.store.trials(second.study_id):
        if trial.is_feasible:
            weights = second.store.artifacts(second.study_id, trial.number)["weights"]
            assert (second.folder / weights).read_bytes() == (first.folder / weights).read_bytes()
    other = carried_out(tmp_path / "third", **{**small, "evaluate": {"type": "train", "epochs": 2}})
    assert not any(row["is_reused"] for row in other.store.ledger(other.study_id))


def test_evaluation_has_one_reason_per_candidate() -> None:
    failed = Evaluation.failed(("a", "b"), 3, "why")
    assert failed.errors == ["why"] * 3
    assert all(np.isnan(column).all() for column in failed.metrics.values())


def test_the_stored_job_is_the_resolved_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    job = parse_job(JOB)
    create_run(plan_run(job, folder, tmp_path), tmp_path)
    assert load_job(folder / "job.yaml") == job
    assert yaml.safe_load((folder / "job.yaml").read_text())["driver"]["retries"] == 2
