"""Picks the trial to export, and gathers what its manifest should say."""

from __future__ import annotations

from pathlib import Path

from codesign.assemble import Parts
from codesign.errors import InputError
from codesign.expressions import Condition
from codesign.front import front_table
from codesign.run import Run
from codesign.trial import State
from search_spaces.ops import IntArray


def pick(run: Run, parts: Parts, best: str | None, where: Condition | None) -> int:
    """The front's best member in a metric.

    Args:
        run: the run.
        parts: its parts.
        best: a metric; None means the first objective. An objective is improved in its own sense, `accuracy`-like
            metrics and other measures of cost are taken as costs.
        where: only members that meet this.

    Raises:
        InputError: the metric is unknown, or no member is left.
    """
    first = parts.objectives.objectives[0]
    metric = best or first.metric
    finals = run.store.finals(run.study_id)
    known = [*parts.metrics, *({name for found in finals.values() for name in found} - set(parts.metrics))]
    if metric not in known:
        raise InputError.about("--best", metric, known)
    members = front_table(run, parts, where=where, upto=None).numbers
    if not members:
        condition = f" that meets {where.text!r}" if where else ""
        raise InputError(f"{str(run.folder)!r} has no feasible trial{condition} to export")
    maximize = any(objective.metric == metric and objective.maximize for objective in parts.objectives.objectives)
    maximize = maximize or metric in ("accuracy", "test_accuracy")
    if metric in parts.metrics:
        column = run.store.columns(run.study_id, [metric])[metric]
        values = {number: float(column[number]) for number in members}
    else:
        values = {number: finals[number][metric].value for number in members if metric in finals.get(number, {})}
        members = list(values)
    return max(members, key=lambda number: values[number] if maximize else -values[number])


def export_facts(run: Run, parts: Parts, number: int) -> tuple[IntArray, Path, dict[str, object]]:
    """The code of a trial, shape (d,), the file of its weights, and facts for the manifest.

    Raises:
        InputError: the trial does not exist, failed, or has no weights.
    """
    found = run.store.trials(run.study_id, [number])
    if not found:
        raise InputError(f"--trial: {number} is not in {str(run.folder)!r}")
    trial = found[0]
    if not parts.trains:
        raise InputError(
            f"{str(run.folder)!r} holds no weights to export: evaluate.type {run.job.evaluate.type!r} trains nothing. "
            "Run the job with evaluate.type train"
        )
    weights = run.store.artifacts(run.study_id, number).get("weights")
    if trial.state is not State.MEASURED or weights is None:
        reason = trial.error or (
            "it is over budget and was not trained" if trial.violation > 0 else "it has no weights"
        )
        raise InputError(f"--trial: {number} cannot be exported: {reason}")
    path = run.folder / weights
    if not path.is_file():
        raise InputError(f"--trial: the weights of {number} are gone: {str(path)!r}")
    codes = run.store.codes(run.study_id, [number])
    finals = run.store.finals(run.study_id).get(number, {})
    metrics: dict[str, object] = {
        name: {"value": value, **_interval(finals, name)} for name, value in sorted(trial.metrics.items())
    }
    facts: dict[str, object] = {
        "genotype": dict(trial.genotype),
        "metrics": metrics,
        "run": {"name": run.job.name, "trial": number, "job": run.job.model_dump()},
        "uncounted": parts.uncounted(codes),
    }
    return codes[0], path, facts


def _interval(finals: object, name: str) -> dict[str, float | None]:
    assert isinstance(finals, dict)
    if name not in finals:
        return {}
    final = finals[name]
    return {"final": final.value, "final_low": final.low, "final_high": final.high}
