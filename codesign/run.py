"""A run: one job carried out in one folder.

    DIR/job.yaml       the resolved job
    DIR/origin.json    where its job file lay, and what made it
    DIR/codesign.db    the store (unless the job names another)
    DIR/weights/       weights of every trained candidate, as safetensors
    DIR/report.html    the report

All of a run can be moved or copied as one folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from codesign import __version__
from codesign.assemble import MEASURED, Parts, assemble
from codesign.data.dataset import Dataset, DataShape
from codesign.errors import InputError, StoreError
from codesign.feasible import require_feasible
from codesign.honesty_shadow import Shadow
from codesign.job import Job, dump_job, load_job
from codesign.pareto import is_nondominated
from codesign.store import Final, Store
from codesign.store_url import store_url
from codesign.study import Study
from codesign.trial import FloatArray
from codesign.warm_start_files import save_learned
from codesign.zero_cost_prior import is_scored, learn_scores

MAX_FINALS = 60
"""Front members whose final figures are measured after the search; a larger front is thinned evenly."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder, its job and its place in a store.

    Attributes:
        folder: the run's folder.
        job: the job, as far as it was extended.
        job_folder: where its job file lay: relative paths of the job are found there.
        store: holds the trials.
        study_id: which study of the store.
        data_shape: of the data, so that a run can be queried where its data is not; None for a search of designs.
        uid: unique among runs.
    """

    folder: Path
    job: Job
    job_folder: Path
    store: Store
    study_id: int
    data_shape: DataShape | None
    uid: str

    def check_data(self, data: Dataset) -> None:
        """Note which data the run began with; later, refuse other data.

        Raises:
            InputError: the data has changed since the run began.
        """
        self.check_unchanged("data", data.fingerprint)

    def check_unchanged(self, what: str, fingerprint: str) -> None:
        """Note a fingerprint that the run began with; later, refuse another.

        Args:
            what: the section of the job that it is of (`data`, `evaluate`).
            fingerprint: of what was read.

        Raises:
            InputError: it has changed since the run began.
        """
        path = self.folder / "origin.json"
        origin = json.loads(path.read_text(encoding="utf-8"))
        began_with = origin.setdefault(f"{what}_fingerprint", fingerprint)
        if began_with != fingerprint:
            raise InputError(
                f"{what}: what it reads has changed since the run in {str(self.folder)!r} began; its results would be "
                "of two kinds. Bring the old files back, or start a new run"
            )
        write_text(path, json.dumps(origin, indent=2) + "\n")

    def parts(self) -> Parts:
        """The parts of the job, put together again."""
        return assemble(self.job, self.folder, self.job_folder, self.data_shape)

    def losses(self, parts: Parts) -> tuple[FloatArray, FloatArray]:
        """Losses, shape (n, m), and violations, shape (n,), of all trials by number; NaN where there are none."""
        columns = self.store.columns(self.study_id, parts.objectives.needed_metrics)
        return parts.objectives.losses(columns), columns["violation"]

    def front(self, parts: Parts) -> list[int]:
        """Numbers of the trials on the Pareto front, cheapest in the last objective first."""
        losses, violations = self.losses(parts)
        if len(losses) == 0:
            return []
        members = np.flatnonzero(is_nondominated(losses, np.nan_to_num(violations, nan=np.inf)))
        return [int(i) for i in members[np.lexsort(losses[members].T)]]


def plan_run(job: Job, folder: Path, job_folder: Path, progress: Callable[[str], None] = lambda text: None) -> Parts:
    """Check everything about a run before it starts; writes nothing. `progress` is told of a check that lasts.

    Raises:
        InputError: the job is wrong, no candidate meets its budgets, or the folder cannot take a run.
    """
    if (folder / "job.yaml").exists():
        raise InputError(f"--out: {str(folder)!r} holds a run already; continue it with `codesign resume {folder}`")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: {str(folder)!r} is a file; name a folder")
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"--out: {str(folder)!r} cannot be written: no permission in {str(parent)!r}")
    parts = assemble(job, folder, job_folder)
    parts = replace(parts, note=require_feasible(parts, job.search.seed, progress=progress))
    if job.store is not None:
        try:
            Store(store_url(job.store, folder, job_folder)).close()
        except StoreError as error:
            raise InputError(f"store: {error}") from error
    return parts


def create_run(parts: Parts, job_folder: Path) -> Run:
    """Make the folder and the store's entry of a run that `plan_run` has checked."""
    job, folder = parts.job, parts.context.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store = Store(store_url(job.store, folder, job_folder))
        name = f"{job.name}#{time.time_ns()}"  # a shared store, or one that a cut start left behind, may hold others
        study_id = store.add_study(name, dump_job(job))
        origin = {
            "job_folder": str(job_folder.absolute()), "study": name, "codesign": __version__,
            "data_shape": asdict(parts.context.shape) if parts.context.shape else None,
            "python": platform.python_version(), "machine": platform.platform(), "created_at": time.time(),
        }  # fmt: skip
        write_text(folder / "origin.json", json.dumps(origin, indent=2) + "\n")
        save_learned(parts.learned, folder)
        write_text(folder / "job.yaml", dump_job(job))  # last: a folder with a job.yaml is a whole run
    except OSError as error:
        raise InputError(f"--out: {str(folder)!r} cannot be written: {error.strerror}") from error
    return Run(folder, job, job_folder, store, study_id, parts.context.shape, name)


def open_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        InputError: there is none.
    """
    if not (folder / "job.yaml").is_file():
        raise InputError(f"{str(folder)!r} holds no run (no job.yaml in it)")
    job = load_job(folder / "job.yaml")
    try:
        origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        job_folder = Path(origin["job_folder"])
        store = Store(store_url(job.store, folder, job_folder), create=False)
        shape = DataShape(**origin["data_shape"]) if origin["data_shape"] else None
        return Run(folder, job, job_folder, store, store.study_id(origin["study"]), shape, origin["study"])
    except (OSError, ValueError, KeyError, TypeError, StoreError) as error:
        raise InputError(f"the run in {str(folder)!r} cannot be opened: {error}") from error


def extend_run(run: Run, overrides: Iterable[str]) -> Run:
    """The run with more trials or another driver; the change is written to its job file.

    Raises:
        InputError: an override touches anything else, or lowers the number of trials.
    """
    job = load_job(run.folder / "job.yaml", overrides)
    held = run.job.model_dump() | {"driver": None}
    wanted = job.model_dump() | {"driver": None}
    held["search"] = held["search"] | {"trials": None}
    wanted["search"] = wanted["search"] | {"trials": None}
    if held != wanted:
        key = next(name for name in held if held[name] != wanted[name])
        raise InputError(f"{key}: a run goes on with the job it began with; only search.trials and driver.* may change")
    if job.search.trials < run.job.search.trials:
        raise InputError(f"search.trials: {job.search.trials} is fewer than the {run.job.search.trials} of this run")
    extended = replace(run, job=job)
    extended.parts()  # refuses what does not fit together before anything is written
    write_text(run.folder / "job.yaml", dump_job(job))
    return extended


def study_of(run: Run, parts: Parts, progress: Callable[[str], None] = lambda text: None) -> Study:
    """The study of a run, as far as it has come. Prepares the evaluator, which loads the data.

    Networks are scored first if the job's warm start asks for scores; `progress` is told of each.
    """
    parts.evaluator.prepare()
    if hasattr(parts.evaluator, "dataset"):
        run.check_data(parts.evaluator.dataset)
    elif parts.evaluator.fingerprint:
        run.check_unchanged("evaluate", parts.evaluator.fingerprint)
    parts = with_scores(parts, progress)
    return Study(
        parts.space,
        parts.strategy(),
        parts.objectives,
        run.store,
        run.study_id,
        parts.evaluator,
        parts.screens,
        folder=run.folder,
        trials=run.job.search.trials,
        batch=parts.batch,
        in_flight=parts.in_flight,
        shadow=Shadow(run.job.search.shadow, run.job.search.seed),
    )


def with_scores(parts: Parts, progress: Callable[[str], None]) -> Parts:
    """The parts, with what zero-cost scores tell if the job asks for it; networks are scored when it first begins."""
    if not parts.scorings:
        return parts
    scored = learn_scores(parts.scorings, parts.context, parts.counter(), progress)
    others = [one for one in parts.learned if not is_scored(one)]
    return replace(parts, learned=(*others, *scored))


def drive(run: Run, parts: Parts, study: Study, address: str = "local") -> None:
    """Carry the study out with the job's driver until it is done."""
    driver = run.job.driver
    if study.is_done:
        return
    if driver.type == "serial":
        serial: Any = import_module("codesign.drive_serial")
        serial.drive_serial(study, parts.evaluator)
        return
    ray_part: Any = import_module("codesign.drive_ray")
    with ray_part.ray_cluster(address, driver):
        if driver.type == "ray":
            ray_part.drive_ray(study, parts.evaluator, driver)
        else:
            tune_part: Any = import_module("codesign.drive_tune_ray")
            tune_part.drive_tune(study, parts.evaluator, driver, run.folder.absolute(), run.uid)


def finish_run(run: Run, parts: Parts, note: Callable[[str], None] = lambda text: None) -> None:
    """Measure the front's members once more, now that nothing else runs: accuracy on the test split, latency.

    The test split is used here and nowhere before. What was measured already is left alone.
    """
    measuring = [screen for screen in parts.screens if hasattr(screen, "intervals")]
    if not measuring and not hasattr(parts.evaluator, "test"):
        return
    done = run.store.finals(run.study_id)
    members = [number for number in _thinned(run.front(parts)) if number not in done]
    if not members:
        return
    note(f"measuring {len(members)} members of the front on the test split and the measured targets")
    codes = run.store.codes(run.study_id, members)
    finals: dict[int, dict[str, Final]] = {number: {} for number in members}
    if hasattr(parts.evaluator, "test"):
        for number, code in zip(members, codes, strict=True):
            weights = run.store.artifacts(run.study_id, number).get("weights")
            if weights and not (run.folder / weights).is_file():
                note(f"the weights of trial {number} are gone: {weights}; its test accuracy is not measured")
            elif weights:
                finals[number]["test_accuracy"] = parts.evaluator.test(code, run.folder / weights)
    for screen in measuring:
        for name, values in screen.intervals(codes).items():
            for number, final in zip(members, values, strict=True):
                finals[number][name] = final
    for number, found in finals.items():
        run.store.set_finals(run.study_id, number, found)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a run's or lottery's folder for the length of a block; the kernel frees it when the process ends.

    Raises:
        InputError: another process holds it.
    """
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"{str(folder)!r} is carried out by another process (pid {lock.read().strip() or 'unknown'}); "
                "front, show and report work meanwhile"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def measured_targets(job: Job) -> list[str]:
    """Names of the targets that are timed on this machine."""
    return [name for name, target in job.targets.items() if target.type == MEASURED]


def _thinned(members: list[int]) -> list[int]:
    if len(members) <= MAX_FINALS:
        return members
    return [members[i] for i in np.unique(np.linspace(0, len(members) - 1, MAX_FINALS).round().astype(int))]
