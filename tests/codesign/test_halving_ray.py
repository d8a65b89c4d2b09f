"""Early stopping on fronts under the `tune` driver: the rungs decide, the ledger keeps what was reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codesign.drive_ray import ray_cluster
from codesign.drive_tune_ray import drive_tune
from codesign.job import Driver
from codesign.rungs import Rungs, read_log
from codesign.strategies.random import Random
from tests.codesign.fakes import Grid
from tests.codesign.test_drivers import StepwiseQuality
from tests.codesign.test_study import make_study

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_trials_stop_as_the_rungs_say_also_after_a_resume(tmp_path: Path) -> None:
    driver = Driver.model_validate({"type": "tune", "workers": 2, "asha": {"grace_epochs": 1, "reduction": 2}})
    with ray_cluster("local", driver):
        for trials in (8, 16):  # the second time a resumed run with more trials
            quality = StepwiseQuality()
            study = make_study(
                tmp_path / "a.db", quality, strategy=Random, space=Grid(6, 8), trials=trials, in_flight=4
            )
            drive_tune(study, quality, driver, tmp_path, "uid")
    readings = read_log(tmp_path / "rungs.jsonl")
    again = Rungs(1, 3, 2)
    for reading in readings:  # what was decided follows from the order of arrival alone
        assert again.decide(reading.trial, reading.level, np.array(reading.losses), reading.violation) is (
            reading.goes_on
        )
    evaluated = [trial for trial in study.store.trials(study.id) if trial.violation == 0]
    assert len(evaluated) == 16
    first = {reading.trial: reading for reading in readings if reading.level == 1}
    second = {reading.trial: reading for reading in readings if reading.level == 2}
    assert set(first) == {trial.number for trial in evaluated}
    assert set(second) == {number for number, reading in first.items() if reading.goes_on}
    for trial in evaluated:
        assert first[trial.number].losses == (-trial.metrics["accuracy"], trial.metrics["cost"])
        goes_on = [at[trial.number].goes_on for at in (first, second) if trial.number in at]
        assert trial.metrics["epochs"] == (1 if not goes_on[0] else 2 if not goes_on[1] else 3)
    assert 3 < len(second) < 14
