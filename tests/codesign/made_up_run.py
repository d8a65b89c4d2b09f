"""Runs made by hand: trials are put into a real store, nothing is searched or trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from codesign.assemble import Parts
from codesign.context import Context
from codesign.cost import CostEvaluator
from codesign.cost_only import CostOnly
from codesign.data.dataset import DataShape
from codesign.expressions import parse_budget
from codesign.job import dump_job, parse_job
from codesign.objectives import Objective, Objectives
from codesign.run import Run
from codesign.store import Final, Finished, NewTrials, Store
from codesign.trial import Evaluator, FloatArray, State
from search_spaces.ops import IntArray
from tests.codesign.fakes import Grid, Quality


class _Uncounted:
    """Stands for the cost evaluator, of which a report asks one thing."""

    def uncounted(self, codes: IntArray) -> list[str]:
        return [f"edge: pooling <b>ops</b> ({len(codes)} networks)"]


@dataclass
class MadeUpRun:
    """What the trials of a run are; number i has row i of each column.

    Attributes:
        columns: metrics, each of shape (n,), NaN where not measured.
        objectives: `+name` to maximise, `name` to minimise.
        budgets: as in a job.
        failed: reason by number; their metrics of `costly` are dropped.
        running: numbers that are not finished.
        screened: numbers that were over a cheap budget, so that `costly` was never measured.
        costly: the metrics that take an evaluation.
    """

    columns: Mapping[str, Sequence[float] | FloatArray]
    objectives: Sequence[str] = ("+accuracy", "latency_ms@edge")
    budgets: Sequence[str] = ()
    failed: Mapping[int, str] = field(default_factory=dict)
    running: Sequence[int] = ()
    screened: Sequence[int] = ()
    reused: Sequence[int] = ()
    costly: Sequence[str] = ("accuracy",)
    genotypes: Sequence[Mapping[str, object]] | None = None
    finals: Mapping[int, Mapping[str, Final]] = field(default_factory=dict)
    weights: Sequence[int] = ()
    is_cost_only: bool = False
    name: str = "made-up"
    job: Mapping[str, object] = field(default_factory=dict)

    def make(self, folder: Path | None = None) -> tuple[Run, Parts]:
        """Write the run into a folder, or keep it in memory."""
        parts = self._parts()
        columns = {name: np.array(values, dtype=np.float64) for name, values in self.columns.items()}
        n = len(next(iter(columns.values())))
        without = [*self.failed, *self.running, *self.screened]
        for name in set(self.costly) & set(columns):
            columns[name][without] = np.nan
        violations = parts.objectives.violations({name: columns[name] for name in parts.objectives.needed_metrics})
        screened_over = parts.objectives.violations({k: v for k, v in columns.items() if k not in self.costly})
        violations[list(self.screened)] = screened_over[list(self.screened)]
        violations[list(self.failed)] = np.inf
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        store = Store("sqlite://" if folder is None else f"sqlite:///{folder / 'codesign.db'}")
        folder = folder or Path("nowhere")
        study_id = store.add_study(self.name, dump_job(parts.job))
        run = Run(folder, parts.job, folder, store, study_id, DataShape(1, 8, 8, 10), self.name)
        self._record(run, n, columns, violations)
        for number, finals in self.finals.items():
            store.set_finals(run.study_id, number, finals)
        for number in self.weights:
            (folder / "weights").mkdir(exist_ok=True)
            (folder / f"weights/{number}.safetensors").write_bytes(b"")
        return run, parts

    def _parts(self) -> Parts:
        objectives = Objectives(
            tuple(Objective(name.removeprefix("+"), name.startswith("+")) for name in self.objectives),
            tuple(parse_budget(text) for text in self.budgets),
        )
        content: dict[str, object] = {
            "name": "made-up", "space": {"type": "grid", "width": 6}, "objectives": {"maximize": [], "minimize": []},
            "targets": {"edge": {"type": "systolic", "preset": "edge-16x16"}},
            "evaluate": "cost" if self.is_cost_only else "train", "budgets": list(self.budgets),
        }  # fmt: skip
        job = parse_job(content | dict(self.job)).model_copy(update={"name": self.name})
        evaluator = CostOnly(()) if self.is_cost_only else Quality(metrics=tuple(self.columns))
        context, cost = cast(Context, None), cast(CostEvaluator, _Uncounted())
        return Parts(job, context, Grid(), objectives, cast(Evaluator, evaluator), (), cost)

    def _record(self, run: Run, n: int, columns: Mapping[str, FloatArray], violations: FloatArray) -> None:
        if n == 0:
            return
        is_screened = np.isin(np.arange(n), list(self.screened))
        genotypes = self.genotypes or [{"x": [i % 8, 0]} for i in range(n)]
        run.store.record(
            run.study_id,
            new=NewTrials(
                first_number=0,
                rounds=np.where(is_screened, -1, np.arange(n)).tolist(),
                states=[State.MEASURED if out else State.RUNNING for out in is_screened],
                keys=[str(i) for i in range(n)],
                codes=[[i % 8] * 6 for i in range(n)],
                genotypes=genotypes,
                violations=np.where(is_screened, violations, np.nan),
                errors=[""] * n,
                metrics={name: values for name, values in columns.items() if name not in self.costly},
            ),
        )
        for is_reused in (False, True):
            numbers = [
                i for i in range(n) if not is_screened[i] and i not in self.running and (i in self.reused) is is_reused
            ]
            run.store.record(
                run.study_id,
                finished=Finished(
                    numbers=numbers,
                    states=[State.FAILED if i in self.failed else State.MEASURED for i in numbers],
                    violations=violations[numbers],
                    errors=[self.failed.get(i, "") for i in numbers],
                    metrics={name: values[numbers] for name, values in columns.items() if name in self.costly},
                    artifacts=[{"weights": f"weights/{i}.safetensors"} for i in numbers],
                    is_reused=is_reused,
                ),
            )
