"""`codesign device`: calibrate this machine for a space, look at a calibration, and predict with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codesign.device import Calibration


@click.group("device")
def command() -> None:
    """Predict the latency of a space's networks on a device from what was measured on it."""


@command.command("calibrate")
@click.argument("given", nargs=-1, metavar="[JOB] [KEY=VALUE]...")
@click.option("--space", metavar="NAME", help="Instead of JOB: a space; KEY=VALUE are its options.")
@click.option("--image", default="3,32,32", show_default=True, metavar="C,H,W", help="Shape of images, with --space.")
@click.option("--classes", default=10, show_default=True, type=click.IntRange(min=1), help="With --space.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The calibration; one cut off goes on.")
@click.option(
    "--minutes",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Time to measure, in all.",
)
@click.option("--networks", default=120, show_default=True, type=click.IntRange(min=30), help="Networks to measure.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="Threads within an op.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of what is drawn.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate_command(
    given: tuple[str, ...],
    space: str | None,
    image: str,
    classes: int,
    out: Path,
    minutes: float,
    networks: int,
    threads: int,
    seed: int,
    as_json: bool,
) -> None:
    """Measure units and networks of a job's space through onnxruntime on this machine, and fit."""
    from rich.console import Console

    from codesign.device_job import calibrate_space, space_of_job, space_of_type
    from codesign.device_progress import calibration_progress
    from codesign.errors import InputError
    from codesign.job import load_job

    console = Console(highlight=False, markup=False, stderr=as_json)
    if space is not None:
        context = space_of_type(space, given, _image_shape(image), classes)
    elif given:
        job = Path(given[0])
        context = space_of_job(load_job(job, given[1:]), job.absolute().parent)
    else:
        raise InputError("JOB: name a job file, or a space with --space")
    with calibration_progress(console) as note:
        found = calibrate_space(
            context, out, seconds=60 * minutes, n_networks=networks, threads=threads, seed=seed, note=note
        )
    _print(found, out, as_json)
    if not as_json:
        click.echo(f"use it as  targets: {{here: {{type: device, calibration: {out}}}}}")


def _image_shape(text: str) -> tuple[int, int, int]:
    from codesign.errors import InputError

    try:
        channels, height, width = (int(number) for number in text.split(","))
    except ValueError:
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise InputError(f"--image: {text!r} is not allowed; write it as 3,32,32")
    return channels, height, width


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--units", "n_units", default=0, type=click.IntRange(min=0), help="List so many units, largest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(file: Path, n_units: int, as_json: bool) -> None:
    """Print what a calibration measured and how well it predicts."""
    from codesign.device_file import load_calibration

    found = load_calibration(file)
    _print(found, file, as_json)
    if n_units and not as_json:
        _print_units(found, n_units)


@command.command("predict")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("model", metavar="M.onnx", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict_command(file: Path, model: Path, as_json: bool) -> None:
    """Print the latency that a calibration predicts for any ONNX file."""
    from codesign.device_file import load_calibration
    from codesign.device_units import units_of
    from codesign.read_onnx import read_ops

    calibration = load_calibration(file)
    ops = read_ops(model)
    found = calibration.predict(units_of(ops.table))
    latency_ms, sd_ms, is_outside = (values[0].item() for values in (found.latency_ms, found.sd_ms, found.is_outside))
    if as_json:
        facts = {"latency_ms": latency_ms, "latency_sd_ms": sd_ms, "is_outside": is_outside}
        click.echo(json.dumps({**facts, "uncounted": dict(ops.uncounted)}, indent=2))
        return
    click.echo(f"latency {latency_ms:.4g} ms, give or take {2 * sd_ms:.2g} ms (95 %)")
    if is_outside:
        click.echo("the network lies outside what was calibrated: this is extrapolated")
    for kind, count in ops.uncounted.items():
        click.echo(f"not counted: {count} x {kind}")


def _print(found: Calibration, path: Path, as_json: bool) -> None:
    import numpy as np

    n_units, n_networks = (int((~np.isnan(ms)).any(axis=1).sum()) for ms in (found.unit_ms, found.network_ms))
    if as_json:
        from codesign.device_file import to_json

        content = {name: value for name, value in to_json(found).items() if name not in ("units", "networks")}
        click.echo(json.dumps({**content, "n_units": n_units, "n_networks": n_networks}, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    machine = found.machine
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    console.print(f"{path}: {machine.cpu}, {machine.cores} cores, {machine.runtime}, {threads}", soft_wrap=True)
    console.print(
        f"measured {n_networks} networks and {n_units} units of {len(found.signatures)} in {found.spent_s:.0f} s, "
        f"begun {found.started_at}",
        soft_wrap=True,
    )
    errors = found.errors
    if errors is None:
        console.print("not finished: run `codesign device calibrate` again with the same --out", soft_wrap=True)
        return
    for name, value in (
        (f"on {errors.n} networks held out", ""),
        ("  median error", f"{errors.median_error:.1%}"),
        ("  90 % of errors below", f"{errors.p90_error:.1%}"),
        ("  worst error", f"{errors.worst_error:.1%}"),
        ("  Kendall's tau", f"{errors.tau:.3f} (95 %: {errors.tau_low:.2f} to {errors.tau_high:.2f})"),
        ("  within two deviations", f"{errors.covered:.0%}"),
        ("  outside the calibrated range", f"{errors.outside:.0%}"),
    ):
        console.print(f"{name:<32}{value}".rstrip(), soft_wrap=True)


def _print_units(found: Calibration, n: int) -> None:
    """The units with the largest share of the candidates' work."""
    import numpy as np
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from codesign.device_units import unit_text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("unit", overflow="fold")
    for name in ("share of work", "µs"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in np.argsort(-found.importance, kind="stable")[:n]:
        ms = float(found.cost_ms[row])
        shown = "-" if np.isnan(ms) else f"{1000 * ms:.2f}"
        table.add_row(unit_text(found.signatures[row].tolist()), f"{found.importance[row]:.1%}", shown)
    Console(highlight=False, markup=False).print(table)
