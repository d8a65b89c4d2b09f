"""What a report says of a run, gathered once from its store."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from codesign import __version__
from codesign.assemble import Parts
from codesign.expressions import Budget
from codesign.front import FrontTable, front_table
from codesign.honesty import Honesty, honesty_of
from codesign.job import Job, dump_job
from codesign.pareto import default_reference, hypervolume_curve
from codesign.run import Run
from codesign.trial import FloatArray, State

BoolArray = NDArray[np.bool_]

LIBRARIES = ("numpy", "torch", "ray", "optuna", "onnx", "onnxruntime", "sqlalchemy", "pydantic", "plotly")
"""Libraries whose versions a report names."""
_COSTED = 200
"""Members of the front whose ops are looked through for what no figure counts."""
_LISTED_FAILURES = 5
"""Trial numbers named for each reason of failure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Trials that failed for one reason (texts that differ in their digits alone are one)."""

    reason: str
    numbers: tuple[int, ...]

    @property
    def named(self) -> tuple[int, ...]:
        """The first few of them."""
        return self.numbers[:_LISTED_FAILURES]


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """What became of each trial, over trial numbers: arrays of shape (n,).

    Attributes:
        is_running: not finished.
        is_failed: finished without a result.
        is_screened_out: over a budget on cheap metrics, so never evaluated in full.
        is_reused: its result was found earlier, for an equal candidate.
        failures: reasons with their trials, the most frequent first.
        seconds: from the first proposal to the last result; breaks included.
    """

    is_running: BoolArray
    is_failed: BoolArray
    is_screened_out: BoolArray
    is_reused: BoolArray
    failures: tuple[Failure, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class ReportData:
    """A run as a report sees it.

    Attributes:
        run, parts: the run.
        table: its front.
        ledger: what became of its trials.
        columns: metrics of all trials, by name, shape (n,): objectives, budgets, training time and early stops.
        has_weights: for each member of the front, whether its weights are there.
        uncounted: what the counted and simulated figures of the front leave out, as phrases.
        origin: what `origin.json` says; empty if it is gone.
        honesty: what the run's trials say of its strategy.
    """

    run: Run
    parts: Parts
    table: FrontTable
    ledger: Ledger
    columns: Mapping[str, FloatArray]
    has_weights: list[bool]
    uncounted: list[str]
    origin: Mapping[str, Any]
    honesty: Honesty

    @property
    def job(self) -> Job:
        """The job."""
        return self.run.job

    @property
    def n_trials(self) -> int:
        """Trials in the ledger."""
        return len(self.violations)

    @property
    def violations(self) -> FloatArray:
        """Shape (n,): 0 within the budgets, NaN while running, infinite if failed."""
        return self.columns["violation"]

    @cached_property
    def is_feasible(self) -> BoolArray:
        """Shape (n,): measured, and within every budget."""
        return np.asarray((self.violations == 0) & ~np.isnan(self.losses).any(axis=1))

    @cached_property
    def is_over_budget(self) -> BoolArray:
        """Shape (n,): outside a budget; screened out or measured."""
        over = (self.violations > 0) & ~self.ledger.is_failed
        return np.asarray(over)

    @cached_property
    def losses(self) -> FloatArray:
        """Shape (n, m), to be minimised."""
        return self.parts.objectives.losses(self.columns)

    @cached_property
    def reference(self) -> FloatArray:
        """The hypervolume's reference point, shape (m,): a tenth of the range behind the worst trial in the budgets."""
        return default_reference(self.losses[self.is_feasible])

    @cached_property
    def hypervolumes(self) -> FloatArray:
        """The hypervolume after each trial, shape (n,)."""
        return hypervolume_curve(self.losses, self.reference, np.where(self.is_feasible, 0.0, 1.0))

    @cached_property
    def improvements(self) -> NDArray[np.int64]:
        """Numbers of the trials that enlarged the hypervolume, ascending."""
        return np.flatnonzero(np.diff(self.hypervolumes, prepend=0.0) > 0)

    @property
    def training_seconds(self) -> float:
        """Time spent in training, summed over trials; NaN if nothing was timed."""
        if "train_seconds" not in self.columns:
            return float("nan")
        own = self.columns["train_seconds"][~self.ledger.is_reused]
        return float(np.nansum(own)) if np.isfinite(own).any() else float("nan")

    def breaks(self, budget: Budget) -> int:
        """How many trials break a budget."""
        values = self.columns[budget.metric]
        return int((values > budget.limit).sum() if budget.upper else (values < budget.limit).sum())


def slack(budget: Budget, values: FloatArray) -> FloatArray:
    """How far inside a budget values lie, relative to |limit| (absolute for a limit of 0); negative outside."""
    room = budget.limit - values if budget.upper else values - budget.limit
    return room / (abs(budget.limit) or 1.0)


def gather(run: Run, parts: Parts) -> ReportData:
    """Read everything a report needs; the run may still be under way."""
    table = front_table(run, parts)
    stored = run.store.metric_names(run.study_id)
    extra = [name for name in ("train_seconds", "stopped_early") if name in stored]
    columns = run.store.columns(run.study_id, dict.fromkeys([*parts.objectives.needed_metrics, *extra]))
    rows = run.store.ledger(run.study_id)
    n = min(len(rows), len(columns["violation"]))  # a run under way may have grown between the two
    return ReportData(
        run=run,
        parts=parts,
        table=table,
        ledger=_ledger(rows[:n]),
        columns={name: values[:n] for name, values in columns.items()},
        has_weights=[_has_weights(run, number) for number in table.numbers],
        uncounted=_uncounted(run, parts, table.numbers),
        origin=_origin(run.folder),
        honesty=honesty_of(run, parts),
    )


def _ledger(rows: Sequence[Mapping[str, Any]]) -> Ledger:
    states = np.array([row["state"] for row in rows], dtype=np.str_)
    failed: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == State.FAILED:
            failed.setdefault(re.sub(r"\d+", "#", row["error"]), []).append(row)
    failures = [
        Failure(alike[0]["error"] or "no reason was recorded", tuple(row["number"] for row in alike))
        for alike in failed.values()
    ]
    finished = [row["finished_at"] for row in rows if row["finished_at"] is not None]
    return Ledger(
        is_running=states == State.RUNNING.value,
        is_failed=states == State.FAILED.value,
        is_screened_out=np.array([row["round"] < 0 for row in rows], dtype=np.bool_),
        is_reused=np.array([bool(row["is_reused"]) for row in rows], dtype=np.bool_),
        failures=tuple(sorted(failures, key=lambda failure: -len(failure.numbers))),
        seconds=max(finished) - min(row["asked_at"] for row in rows) if finished else 0.0,
    )


def _has_weights(run: Run, number: int) -> bool:
    path = run.store.artifacts(run.study_id, number).get("weights")
    return path is not None and (run.folder / path).is_file()


def _uncounted(run: Run, parts: Parts, numbers: Sequence[int]) -> list[str]:
    """Of at most `_COSTED` members, evenly spread."""
    some = spread(len(numbers), _COSTED)
    codes = run.store.codes(run.study_id, [numbers[i] for i in some])
    return parts.uncounted(codes if some else np.zeros((0, len(parts.space.choices)), dtype=np.int64))


def spread(n: int, limit: int) -> list[int]:
    """At most `limit` of 0..n-1, evenly spread, both ends included."""
    return np.unique(np.linspace(0, n - 1, min(n, limit)).round().astype(int)).tolist() if n else []


def _origin(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def shareable_job(job: Job) -> str:
    """The resolved job as YAML, without the password of its database."""
    if job.store is not None:
        try:
            masked = sa.make_url(job.store).render_as_string(hide_password=True)
        except sa.exc.ArgumentError:
            masked = "***"
        job = job.model_copy(update={"store": masked})
    return dump_job(job)


def versions(origin: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """By name: the version that made the run ("" if not recorded), and the one that writes the report."""
    found = {
        "codesign": (str(origin.get("codesign", "")), __version__),
        "Python": (str(origin.get("python", "")), platform.python_version()),
        "machine": (str(origin.get("machine", "")), platform.platform()),
    }
    for name in LIBRARIES:
        try:
            found[name] = ("", version(name))
        except PackageNotFoundError:
            continue
    return found
