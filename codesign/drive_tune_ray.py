"""The `tune` driver: each evaluation is a Ray Tune trial, with reused actors, checkpoints, early stopping and retries.

Tune carries trials out; the study decides what they are and keeps what they gave. The store is the truth, so a run is
resumed from it: candidates that were under way are handed to a new Tune experiment, each with its last checkpoint.
With early stopping, what was read at the rungs is in `rungs.jsonl` of the run's folder, so that a resumed run stops as
the unbroken one would have.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import deque
from pathlib import Path
from typing import Any, cast

import numpy as np
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from codesign.errors import StoreError, TrialError
from codesign.job import Asha, Driver
from codesign.rungs import Rungs, append_log, read_log
from codesign.study import Batch, Study
from codesign.train import SteppedEvaluator
from codesign.trial import Evaluation

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the store keeps results; Tune's CSV, JSON and TensorBoard files do not
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshot of the experiment is never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class _Worker(tune.Trainable):
    """An actor that evaluates one candidate after another, a step at a time."""

    def setup(
        self, config: dict[str, Any], evaluator: SteppedEvaluator | None = None, epochs_per_step: int = 1
    ) -> None:
        assert evaluator is not None
        self._evaluator = evaluator
        self._epochs_per_step = epochs_per_step
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._failure = ""
        try:
            code = np.array(config["code"], dtype=np.int64)
            self._session = self._evaluator.start(code, config["key"])
            if config["checkpoint"]:
                try:
                    self._session.resume(Path(config["checkpoint"]))
                except StoreError:  # a checkpoint of something else: train from the start
                    self._session = self._evaluator.start(code, config["key"])
        except TrialError as error:
            self._failure = str(error)
        except Exception as error:  # noqa: BLE001  the trial border
            self._failure = f"{type(error).__name__}: {error}"

    def step(self) -> dict[str, Any]:
        """Some epochs; a crash ends the trial with its reason: a retry would crash again."""
        found: dict[str, float] = {}
        try:
            for _ in range(self._epochs_per_step):
                if not self._failure and not self._session.is_done:
                    self._session.step()
            if not self._failure:
                found = self._session.metrics
        except TrialError as error:
            self._failure = str(error)
        except Exception as error:  # noqa: BLE001  the trial border
            self._failure = f"{type(error).__name__}: {error}"
        is_done = bool(self._failure) or self._session.is_done
        return {**found, "failure": self._failure, tune.result.DONE: is_done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        if not self._failure:
            self._session.save(Path(checkpoint_dir) / "state")
            self._session.write_artifacts(Path(checkpoint_dir) / "artifacts")

    def load_checkpoint(self, checkpoint_dir: str | dict[str, Any] | None) -> None:
        if not self._failure:
            self._session.resume(Path(str(checkpoint_dir)) / "state")


class _Asks(Searcher):
    """Hands the study's candidates to Tune."""

    def __init__(self, study: Study, folder: Path) -> None:
        super().__init__(metric=None, mode=None)
        self._study = study
        self.folder = folder
        self._queue: deque[tuple[int, list[int], str]] = deque()
        self.trial_of: dict[str, tuple[int, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher to restore it; ours lives in the store

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next candidate; None while results must be awaited."""
        self.look_ahead()
        if not self._queue:
            return cast("dict[str, Any]", Searcher.FINISHED) if self._study.is_asked_out else None
        number, code, key = self._queue.popleft()
        self.trial_of[trial_id] = (number, key)
        return {"number": number, "code": code, "key": key, "checkpoint": _last_checkpoint(self.folder / key)}

    def look_ahead(self) -> None:
        """Have the next candidate screened and ready before a worker is free to take it."""
        if not self._queue:
            batch: Batch | None = self._study.ask(1)
            if batch is not None:
                self._queue.extend(zip(batch.numbers, batch.codes.tolist(), batch.keys, strict=True))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Results are taken by the callback, which also sees checkpoints and errors."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store holds the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the store holds the state."""


class _Halving(FIFOScheduler):
    """Stops trials at the rungs."""

    def __init__(self, study: Study, evaluator: SteppedEvaluator, asha: Asha, log: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._study = study
        self._evaluator = evaluator
        self._log = log
        self._rungs = Rungs(min(asha.grace_epochs, evaluator.max_epochs), evaluator.max_epochs, asha.reduction)
        self._rungs.restore(read_log(log))
        self._n_logged = len(self._rungs.readings)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its scheduler to restore it; the readings are in the log

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Compare the objectives, known costs included, with those of the trials that came so far before."""
        if result.get("failure") or "epochs" not in result:
            return TrialScheduler.CONTINUE
        number = int(trial.config["number"])
        known = self._study.store.trials(self._study.id, [number])[0].metrics
        found = {**known, **self._evaluator.result(_numbers(result), stopped_early=True)}
        metrics = {name: np.array([value]) for name, value in found.items()}
        losses, violations = self._study.objectives.losses(metrics), self._study.objectives.violations(metrics)
        goes_on = self._rungs.decide(number, int(result["epochs"]), losses[0], float(violations[0]))
        append_log(self._log, self._rungs.readings[self._n_logged :])
        self._n_logged = len(self._rungs.readings)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


class _Tells(Callback):
    """Gives results to the study."""

    def __init__(self, study: Study, evaluator: SteppedEvaluator, asks: _Asks) -> None:
        self._study = study
        self._evaluator = evaluator
        self._asks = asks

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self._asks.look_ahead()  # the workers have just been given their next step

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        found = trial.last_result or {}
        failure = str(found.get("failure") or "")
        if not failure and "epochs" not in found:
            failure = "the trial ended without a result"
        self._finish(trial, found, failure)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        error = trial.get_error()
        reason = (str(error).strip().splitlines() or ["the worker died"])[-1]
        self._finish(trial, {}, f"the worker was lost {trial.num_failures} times: {reason}")

    def _finish(self, trial: TuneTrial, found: dict[str, Any], failure: str) -> None:
        number, key = self._asks.trial_of[trial.trial_id]
        if failure:
            shutil.rmtree(self._asks.folder / key, ignore_errors=True)
            self._study.finish([number], Evaluation.failed(self._evaluator.metrics, 1, failure))
            return
        stopped_early = found["epochs"] < self._evaluator.max_epochs
        metrics = self._evaluator.result(_numbers(found), stopped_early)
        artifacts = self._fetch(trial, key)
        self._study.finish([number], Evaluation({k: np.array([v]) for k, v in metrics.items()}, [""], [artifacts]))
        shutil.rmtree(self._asks.folder / key, ignore_errors=True)

    def _fetch(self, trial: TuneTrial, key: str) -> dict[str, str]:
        """Bring the artifacts of a finished trial into the run's folder, from wherever Tune keeps its checkpoints."""
        if trial.checkpoint is None:
            return {}
        with trial.checkpoint.as_directory() as folder:
            files = {file.stem: str(file) for file in (Path(folder) / "artifacts").glob("*")}
            return dict(self._evaluator.adopt(files, key) or {})


def drive_tune(study: Study, evaluator: SteppedEvaluator, driver: Driver, folder: Path, uid: str) -> None:
    """Extend the study until it is done, each evaluation a Tune trial.

    Args:
        study: what to evaluate.
        evaluator: one that works in steps (it has `start`).
        driver: workers, resources, retries, early stopping, and where checkpoints lie.
        folder: the run's folder.
        uid: unique among the runs that share a place for checkpoints.
    """
    evaluator.prepare()
    if study.is_done:
        return
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    for name in ("ray.tune", "ray.air", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # failed trials are reported by the study
    storage, name = driver.storage or str(folder / "tune"), uid.replace("#", "-")
    asks = _Asks(study, Path(storage) / name)
    # A step costs a round trip to the driver; only early stopping needs to hear of every epoch.
    epochs_per_step = 1 if driver.asha else driver.checkpoint_epochs
    trainable = tune.with_resources(
        tune.with_parameters(_Worker, evaluator=evaluator, epochs_per_step=epochs_per_step),
        {"cpu": driver.cpus_per_worker, "gpu": driver.gpus_per_worker},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=TuneConfig(
            search_alg=asks,
            scheduler=_scheduler(study, evaluator, driver, folder),
            num_samples=-1,
            max_concurrent_trials=driver.workers,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.config["key"]),
            trial_name_creator=lambda trial: f"trial-{trial.config['number']:06d}",
        ),
        run_config=RunConfig(
            name=name,
            storage_path=storage,
            callbacks=[_Tells(study, evaluator, asks)],
            failure_config=FailureConfig(max_failures=driver.retries),
            checkpoint_config=CheckpointConfig(
                num_to_keep=1,
                checkpoint_frequency=driver.checkpoint_epochs if driver.asha else 1,  # in steps
                checkpoint_at_end=True,
            ),
            verbose=0,
        ),
    )
    tuner.fit()
    if not driver.storage:
        shutil.rmtree(folder / "tune", ignore_errors=True)


def study_folder_name(study: Study) -> str:
    """Name of the folder in which Tune keeps a study's checkpoints."""
    return f"study-{study.id}"


def _scheduler(study: Study, evaluator: SteppedEvaluator, driver: Driver, folder: Path) -> FIFOScheduler:
    if driver.asha is None:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return _Halving(study, evaluator, driver.asha, folder / "rungs.jsonl")


def _numbers(result: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in result.items() if isinstance(value, int | float)}


def _last_checkpoint(folder: Path) -> str:
    """The state in the newest whole checkpoint of a trial that an earlier process left behind, or ""."""
    found = sorted(folder.glob("checkpoint_*/state"), key=lambda path: path.parent.name)
    return str(found[-1].absolute()) if found else ""
