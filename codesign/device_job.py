"""Calibrating this machine for the space of a job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from codesign.assemble import assemble
from codesign.context import Context
from codesign.data.dataset import DataShape
from codesign.device import Calibration
from codesign.device_calibrate import Note, Plan, begin, calibrate, check_same
from codesign.device_file import load_calibration, save_calibration
from codesign.errors import InputError
from codesign.job import Job, ObjectiveNames, Search, apply_override, parse_job


def space_of_job(job: Job, job_folder: Path, shape: DataShape | None = None) -> Context:
    """The space of a job, whatever its targets, objectives and search are: they may need the calibration.

    Args:
        job: names the space.
        job_folder: where its relative paths are found.
        shape: of the data, if it is known; then the data itself need not be here.

    Raises:
        InputError: the job's data, space or evaluator is wrong, or it searches designs.
    """
    bare = job.model_copy(
        update={"targets": {}, "objectives": ObjectiveNames(minimize=["macs"]), "budgets": [], "search": Search()}
    )
    context = assemble(bare, job_folder, job_folder, shape).context
    if context.networks is None:
        raise InputError("space: it holds designs, not networks; only networks run on this machine")
    return context


def space_of_type(name: str, overrides: Sequence[str], image_shape: tuple[int, int, int], classes: int) -> Context:
    """A space by its name, for images of a shape.

    Args:
        name: as in `space.type` of a job.
        overrides: `option=value`, as in `space` of a job.
        image_shape: channels, height, width.
        classes: number of logits.

    Raises:
        InputError: the space or one of its options is wrong.
    """
    content: dict[str, Any] = {"name": "space", "space": {"type": name}, "objectives": {"minimize": "macs"}}
    for override in overrides:
        apply_override(content, f"space.{override}")
    job = parse_job({**content, "evaluate": "cost"})
    return space_of_job(job, Path(), DataShape(*image_shape, classes))


def calibrate_space(
    context: Context,
    out: Path,
    *,
    seconds: float,
    n_networks: int,
    threads: int,
    seed: int,
    note: Note = lambda share, text: None,
) -> Calibration:
    """Calibrate this machine for a space, going on from what the file holds.

    Args:
        context: of `space_of_job` or `space_of_type`.
        out: the file.
        seconds: to spend in all, earlier spells included.
        n_networks: to measure.
        threads: within an op.
        seed: of what is drawn.
        note: told of the progress.

    Raises:
        InputError: the file holds something else or was given the time already, it cannot be written, or the time was
            too short.
    """
    _check_out(out)
    bench_onnx: Any = import_module("codesign.device_bench_onnx")
    machine = bench_onnx.this_machine(threads)
    plan = Plan(context.network_space, context.space_identity, n_networks, seed, machine)
    if out.exists():
        held = load_calibration(out)
        check_same(held, plan)
        if held.is_finished and held.spent_s >= seconds:
            raise InputError(
                f"--out: {str(out)!r} holds a calibration of {held.spent_s:.0f} s; give more --minutes to go on with "
                "it, or name a new file"
            )
    else:
        held = begin(plan)
    bench = bench_onnx.OnnxBench(plan.space, context.data_shape.image_shape, threads)
    return calibrate(held, bench, seconds, save=lambda found: save_calibration(out, found), note=note)


def _check_out(out: Path) -> None:
    """Refuse a file that cannot be written, before anything is measured."""
    if out.is_dir():
        raise InputError(f"--out: {str(out)!r} is a folder; name a file")
    parent = next(path for path in (out.absolute().parent, *out.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"--out: {str(out)!r} cannot be written: no permission in {str(parent)!r}")
