"""`codesign profile M.onnx`: what any ONNX file costs, layer by layer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codesign.cost import Target
    from codesign.profile import Profile

MEASURED = "cpu"
"""The target that is this machine, timed through onnxruntime; every other target is a simulator's preset."""


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", "names", multiple=True, metavar="NAME", help="Preset, .toml file, or cpu. May be repeated.")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=N,C,H,W", help="Shape of an input with free axes.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(min=1), help="Images per inference.")
@click.option(
    "--bits", default=8, show_default=True, type=click.IntRange(1, 64), help="Bits per weight and activation."
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="Threads of cpu.")
@click.option("--layers/--totals", default=True, help="List every op, or totals alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    model: Path,
    names: tuple[str, ...],
    shapes: tuple[str, ...],
    batch: int,
    bits: int,
    threads: int,
    layers: bool,
    as_json: bool,
) -> None:
    """Print MACs, parameters, memory and, for each target, latency of an ONNX file, and what is not counted."""
    from codesign.latency import RuntimeTarget
    from codesign.profile import profile

    given = dict(_shape(text) for text in shapes)
    targets: dict[str, Target | RuntimeTarget] = {}
    for name in names:
        if name == MEASURED:
            targets[MEASURED] = RuntimeTarget(threads=threads, batch=batch)
        else:
            target = _simulated(name)
            targets[target.name] = target
    found = profile(model, targets, shape=given or None, bits=bits, batch=batch)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        _print(found, layers)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    from codesign.errors import InputError

    name, equals, numbers = text.partition("=")
    try:
        shape = tuple(int(number) for number in numbers.split(","))
    except ValueError:
        shape = ()
    if not equals or not shape or min(shape) < 1:
        raise InputError(f"--shape: {text!r} is not allowed; write it as input=1,3,32,32")
    return name, shape


def _simulated(name: str) -> Target:
    from codesign.cost import Target
    from codesign.plugins import make
    from codesign.registry import lookup
    from simulators.accelerator import load_preset

    preset = make(load_preset, "--target", name)  # type: ignore[arg-type]
    simulator = make(lookup("simulators", preset.simulator, "--target"), "--target")
    checked = make(preset.checked, "--target", simulator)
    return Target(Path(name).stem, simulator, checked.values)


def _print(found: Profile, layers: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if layers:
        table = Table(box=box.SIMPLE_HEAD)
        costs = list(found.layers[0].costs) if found.layers else []
        for name in ("layer", "op", "in", "out"):
            table.add_column(name, overflow="fold")
        for name in ("macs", "params", *costs):
            table.add_column(name, justify="right")
        for layer in found.layers:
            shapes = ("x".join(map(str, layer.shape_in)), "x".join(map(str, layer.shape_out)))
            numbers = (f"{layer.macs:,}", f"{layer.params:,}", *(f"{layer.costs[name]:.4g}" for name in costs))
            table.add_row(layer.name, layer.kind, *shapes, *numbers)
        console.print(table)
    for name, value in found.metrics.items():
        interval = ""
        for target, latency in found.measured.items():
            if name == f"latency_ms@{target}":
                interval = f"  (95 %: {latency.low_ms:.4g} to {latency.high_ms:.4g}, {latency.readings} readings)"
        console.print(f"{name:<28} {value:>16,.6g}{interval}", soft_wrap=True)
    for kind, count in found.uncounted.items():
        console.print(f"not counted: {count} x {kind}", soft_wrap=True)
    for note in found.notes:
        console.print(f"not counted: {note}", soft_wrap=True)
