"""Reads results of earlier searches: from runs, from shared stores and from tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from codesign.errors import InputError, StoreError
from codesign.job import Earlier, Job, load_job, parse_job
from codesign.store import Store
from codesign.store_url import store_url
from codesign.table_file import TableFile
from codesign.table_rows import codes_of_columns, codes_of_texts
from codesign.trial import FloatArray
from search_spaces.ops import IntArray
from search_spaces.space import SearchSpace

MIN_RESULTS = 10
"""Fewer results than this teach nothing that could be checked."""

STOPPED = "stopped_early"
"""Metric of a trial that was stopped early: what it learned until then is no result; what it costs is."""

SpaceOf = Callable[[Job, Path], SearchSpace]
"""The space of a job that lies in a folder, without accelerators; Raises InputError."""


@dataclass(frozen=True, eq=False)
class Results:
    """What an earlier search found out about one metric.

    Attributes:
        source: where it lies, and the metric's name there.
        objective: the metric of this job that it tells about.
        codes: shape (n, d), canonical in the space of this job, accelerators left out.
        values: shape (n,), finite.
    """

    source: str
    objective: str
    codes: IntArray
    values: FloatArray


@dataclass(frozen=True)
class Wanted:
    """What this job could learn.

    Attributes:
        space: of this job, accelerators left out.
        space_of: builds that of an earlier job.
        objectives: its objectives that are not known before an evaluation.
        job_folder: where relative paths begin.
    """

    space: SearchSpace
    space_of: SpaceOf
    objectives: tuple[str, ...]
    job_folder: Path


@dataclass(frozen=True)
class _Study:
    """One search in a store."""

    label: str
    job: Job
    job_folder: Path
    store: Store
    number: int


def read_results(earlier: Earlier, key: str, wanted: Wanted) -> list[Results]:
    """The results that one entry of `warm_start` names.

    Args:
        earlier: the entry.
        key: where it stands in the job, for messages.
        wanted: what this job could learn.

    Raises:
        InputError: it cannot be read, is of another space, or has too few results of what is wanted.
    """
    if earlier.objective is not None and earlier.objective not in wanted.objectives:
        raise InputError.about(f"{key}.objective", earlier.objective, wanted.objectives)
    if earlier.table is not None:
        return [_read_table(earlier, key, wanted)]
    place = str(earlier.run)
    if "://" not in place:
        study = _study_in_folder(wanted.job_folder / place, key)
        try:
            return _read_study(study, earlier, key, wanted)
        finally:
            study.store.close()
    return _read_store(place, earlier, key, wanted)


def _study_in_folder(folder: Path, key: str) -> _Study:
    if not (folder / "job.yaml").is_file():
        raise InputError(
            f"{key}: {str(folder)!r} holds no run (no job.yaml in it; a relative path begins at the job file)"
        )
    job = load_job(folder / "job.yaml")
    try:
        origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        job_folder = Path(origin["job_folder"])
        store = Store(store_url(job.store, folder, job_folder), create=False)
        return _Study(str(folder), job, job_folder, store, store.study_id(origin["study"]))
    except (OSError, ValueError, KeyError, TypeError, StoreError) as error:
        raise InputError(f"{key}: the run in {str(folder)!r} cannot be read: {error}") from error


def _read_store(url: str, earlier: Earlier, key: str, wanted: Wanted) -> list[Results]:
    """Of a shared store every study that fits; if none does, why the one with most trials does not."""
    if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
        url = f"sqlite:///{wanted.job_folder.absolute() / url.removeprefix('sqlite:///')}"
    try:
        store = Store(url, create=False)
    except StoreError as error:
        raise InputError(f"{key}: {error}") from error
    found: list[Results] = []
    reasons: list[tuple[int, str]] = []
    try:
        for record in store.studies():
            label = f"{url}#{record['name']}"
            try:
                job = parse_job(yaml.safe_load(str(record["job"])))
                study = _Study(label, job, wanted.job_folder, store, int(str(record["id"])))
                found += _read_study(study, earlier, key, wanted)
            except InputError as error:
                reasons.append((int(str(record["measured"])), str(error)))
    finally:
        store.close()
    if not found:
        nearest = max(reasons, default=(0, f"{key}: {url!r} holds no search"))[1]
        raise InputError(f"{nearest} (no other search in the store fits either)" if len(reasons) > 1 else nearest)
    return found


def _read_study(study: _Study, earlier: Earlier, key: str, wanted: Wanted) -> list[Results]:
    space = wanted.space_of(study.job, study.job_folder)
    difference = space_difference(space, wanted.space)
    if difference:
        raise InputError(f"{key}: {study.label} searched another space, {difference}")
    searched = {name for name, target in study.job.targets.items() if target.search}
    there = [
        name for name in study.store.metric_names(study.number) if name.rpartition("@")[2] not in searched
    ]  # what accelerators cost that were searched too tells nothing of a network alone
    pairs = _pairs(there, earlier, f"{key}: {study.label}", wanted.objectives)
    columns = study.store.columns(study.number, {STOPPED, *(metric for metric, _ in pairs)})
    n = {metric: int(_usable(columns, metric).sum()) for metric, _ in pairs}
    enough = [(metric, objective) for metric, objective in pairs if n[metric] >= MIN_RESULTS]
    if not enough:
        most = max(n, key=lambda metric: n[metric])
        raise InputError(
            f"{key}: {study.label} has {n[most]} results of {most!r}, and {MIN_RESULTS} are needed to learn "
            "from; leave it out, or give it more trials"
        )
    found = []
    for metric, objective in enough:
        numbers = np.flatnonzero(_usable(columns, metric))
        codes = study.store.codes(study.number, numbers.tolist())[:, : len(wanted.space.choices)]
        source = f"{study.label}:{metric}"
        found.append(Results(source, objective, wanted.space.canonical(codes), columns[metric][numbers]))
    return found


def _usable(columns: dict[str, FloatArray], metric: str) -> np.typing.NDArray[np.bool_]:
    """Which trials have a number for a metric, and did not fail or stop before it was what others' are."""
    is_whole = (columns[STOPPED] != 1) | ("@" in metric)
    return np.asarray(np.isfinite(columns[metric]) & ~np.isposinf(columns["violation"]) & is_whole)


def _pairs(there: Sequence[str], earlier: Earlier, label: str, objectives: tuple[str, ...]) -> list[tuple[str, str]]:
    """Metric there and objective here of what is learned: names that are equal, or equal but for the device."""
    if earlier.metric is not None and earlier.metric not in there:
        raise InputError.about(f"{label} has no such metric", earlier.metric, there)
    metrics = [earlier.metric] if earlier.metric is not None else list(there)
    wanted = [earlier.objective] if earlier.objective is not None else list(objectives)
    if earlier.metric is not None and earlier.objective is not None:
        return [(earlier.metric, earlier.objective)]
    pairs = [(metric, objective) for objective in wanted for metric in metrics if _kind(metric) == _kind(objective)]
    if not pairs:
        known = ", ".join(there) or "none"
        raise InputError(
            f"{label} has nothing to learn {' or '.join(map(repr, wanted))} from; its metrics: {known}. They are "
            "matched by name, those of devices by what is before the @; or say {run: ..., metric: ..., objective: ...}"
        )
    return pairs


def _kind(metric: str) -> str:
    return metric.partition("@")[0] + ("@" if "@" in metric else "")


def _read_table(earlier: Earlier, key: str, wanted: Wanted) -> Results:
    metric = str(earlier.metric)
    objective = earlier.objective
    if objective is None:
        matches = [name for name in wanted.objectives if _kind(name) == _kind(metric)] or list(wanted.objectives)
        if len(matches) != 1:
            raise InputError(f"{key}.objective: say which of {', '.join(wanted.objectives)} {metric!r} tells about")
        objective = matches[0]
    try:
        columns = [("architecture", earlier.architecture)] if earlier.architecture is not None else []
        columns += [("codes", name) for name in earlier.codes]
        file = TableFile(wanted.job_folder / str(earlier.table), [*columns, ("metric", metric)])
        if earlier.architecture is not None:
            texts = file.texts("architecture", earlier.architecture)
            codes, rows = codes_of_texts(wanted.space, texts, "architecture")
        else:
            codes, rows = codes_of_columns(wanted.space, file, earlier.codes)
        values = file.numbers("metric", metric)[rows]
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    known = np.isfinite(values)
    if known.sum() < MIN_RESULTS:
        raise InputError(f"{key}: {file.path} has {known.sum()} results of {metric!r}, and {MIN_RESULTS} are needed")
    return Results(f"{earlier.table}:{metric}", objective, wanted.space.canonical(codes[known]), values[known])


def space_difference(there: SearchSpace, here: SearchSpace) -> str:
    """The first difference between two spaces' choices in words; "" if codes mean the same in both."""
    names_there, names_here = ([choice.name for choice in space.choices] for space in (there, here))
    if names_there != names_here:
        gone = [name for name in names_there if name not in names_here]
        new = [name for name in names_here if name not in names_there]
        what = [f"with the choice {gone[0]!r} that this one lacks"] if gone else []
        what += [f"without the choice {new[0]!r}"] if new else []
        return " and ".join(what) or "with its choices in another order"
    for one, other in zip(there.choices, here.choices, strict=True):
        if one.options != other.options:
            return f"whose choice {one.name!r} is among {list(one.options)}; here it is {list(other.options)}"
    return ""
