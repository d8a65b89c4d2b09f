"""The trials of a run as a log of designs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from codesign.assemble import Parts
from codesign.design_log import DesignLog, LogBatch, features_of, join_batches, read_part
from codesign.design_space import DesignSpace
from codesign.errors import DataError, InputError
from codesign.plugins import qualified
from codesign.run import Run, open_run
from codesign.trial import State
from search_spaces.ops import IntArray
from search_spaces.space import Choice, SearchSpace
from simulators.accelerator import Columns, Field


def log_of_run(run: Run) -> LogBatch:
    """Every finished trial of a run.

    Designs are logged with all fields of their model. In a search of networks the choices of the space are the fields,
    and the model is whatever gave the metrics: the evaluator and the simulators, with their versions.

    Raises:
        InputError: no trial is finished.
    """
    parts = run.parts()
    finished = [
        row for row in run.store.ledger(run.study_id) if row["state"] in (State.MEASURED.value, State.FAILED.value)
    ]
    numbers = [int(str(row["number"])) for row in finished]
    if not numbers:
        raise InputError(f"the run in {str(run.folder)!r} has no finished trial to log")
    names = run.store.metric_names(run.study_id)
    columns = run.store.columns(run.study_id, names)
    codes = run.store.codes(run.study_id, numbers)
    fields, designs = fields_and_designs(parts.space, codes)
    model, context, features = _model_of(run, parts)
    return LogBatch(
        qualified("spaces", run.job.space.type),
        model,
        context,
        fields,
        designs,
        {name: columns[name][numbers] for name in names},
        [str(row["error"]) for row in finished],
        codes,
        features,
    )


def fields_and_designs(space: SearchSpace, codes: IntArray) -> tuple[tuple[Field, ...], Columns]:
    """Candidates as designs: the model's fields for a space of designs, else a field for each choice.

    Args:
        space: where they come from.
        codes: shape (n, d).
    """
    if isinstance(space, DesignSpace):
        return tuple(space.design_model.fields), space.designs(codes)
    fields = tuple(_choice_field(choice) for choice in space.choices)
    kinds: dict[str, type[np.generic]] = {"int": np.int64, "float": np.float64, "str": np.str_}
    designs = {
        spec.name: np.array([_as_kind(option, spec.kind) for option in choice.options], dtype=kinds[spec.kind])[
            codes[:, i]
        ]
        for i, (choice, spec) in enumerate(zip(space.choices, fields, strict=True))
    }
    return fields, designs


def read_logs(sources: Sequence[Path]) -> list[LogBatch]:
    """Logged designs from logs, single Parquet files and runs, batches of equal kind joined.

    Raises:
        InputError: a source is none of these, or cannot be read.
    """
    batches: list[LogBatch] = []
    for source in sources:
        if (source / "job.yaml").is_file():
            run = open_run(source)
            batches.append(log_of_run(run))
            run.store.close()
        elif source.is_dir():
            batches.extend(DesignLog(source).read())
        elif source.is_file():
            batches.append(read_part(source))
        else:
            raise DataError(f"{str(source)!r} is neither a log of designs nor a run: there is no such file or folder")
    return join_batches(batches)


def _model_of(run: Run, parts: Parts) -> tuple[str, str, Mapping[str, float]]:
    """The id of what gave the metrics, its context as text, and the context's features."""
    if isinstance(parts.space, DesignSpace):
        section = {} if isinstance(parts.space.model, str) else parts.space.model
        context = ",".join(f"{name}={value}" for name, value in section.items() if name != "type")
        return parts.space.design_model.id, context, features_of(parts.space.design_model)
    ids = dict.fromkeys(_target_id(target.type) for target in run.job.targets.values())
    return "+".join([run.job.evaluate.type, *ids]), "", {}


def _target_id(name: str) -> str:
    try:
        return qualified("simulators", name)
    except InputError:
        return name  # a target that is measured, not simulated


def _choice_field(choice: Choice) -> Field:
    kind: Literal["int", "float", "str"] = "str"
    if all(isinstance(option, int) for option in choice.options):
        kind = "int"
    elif not any(isinstance(option, str) for option in choice.options):
        kind = "float"
    allowed = tuple(_as_kind(option, kind) for option in choice.options)
    return Field(choice.name, kind, "", allowed[0], allowed=allowed, doc="a choice of the space")


def _as_kind(option: int | float | str, kind: str) -> int | float | str:
    return {"int": int, "float": float, "str": str}[kind](option)  # type: ignore[no-any-return]
