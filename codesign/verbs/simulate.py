"""`codesign simulate NETWORK --on PRESET`: what a network costs on an accelerator, beside a published simulator."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codesign.simulate import Simulation
    from simulators.workload import Workload

SHOWN = ("latency_cycles", "stall_cycles", "dram_bytes", "energy_uj")
"""Columns of the printed table, where a simulator has them; --json holds all."""
SHAPE = ("out_channels", "in_channels", "out_y", "out_x", "filter_y", "filter_x", "stride", "groups")


@click.command("simulate")
@click.argument("network")
@click.option("--on", "preset", required=True, metavar="PRESET", help="Preset name or .toml file of the accelerator.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Replace a field. May be repeated.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(min=1), help="Images per inference.")
@click.option("--bits", default=8, show_default=True, type=click.IntRange(1, 64), help="Bits per word.")
@click.option("--against", default="", metavar="NAME", help="Run a published simulator too: scalesim or zigzag.")
@click.option("--python", default=sys.executable, metavar="PATH", help="Python of the environment that has it.")
@click.option("--layers/--totals", default=True, help="List every distinct layer, or totals alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    network: str,
    preset: str,
    settings: tuple[str, ...],
    batch: int,
    bits: int,
    against: str,
    python: str,
    layers: bool,
    as_json: bool,
) -> None:
    """Print what NETWORK (a shipped name, a .csv of layers or an .onnx file) costs on an accelerator."""
    from codesign.simulate import simulate

    given = dict(_setting(text) for text in settings)
    found = simulate(network, preset, given, batch=batch, bits=bits, against=against, python=python)
    if as_json:
        click.echo(json.dumps(_record(found), indent=2))
    else:
        _print(found, layers)


def _setting(text: str) -> tuple[str, int | float | str]:
    from codesign.errors import InputError

    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InputError(f"--set: {text!r} is not allowed; write it as field=value, for example rows=32")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _record(found: Simulation) -> dict[str, object]:
    shapes = {f.name: getattr(found.workload, f.name) for f in fields(found.workload)}
    differences = found.differences()
    rows = []
    for i in range(len(found.workload)):
        row: dict[str, object] = {name: int(column[i]) for name, column in shapes.items()}
        row |= {"count": int(found.count[i]), **{name: float(column[i]) for name, column in found.layers.items()}}
        if found.external is not None:
            row["external"] = {name: float(column[i]) for name, column in found.external.columns.items()}
            row["difference"] = {name: float(column[i]) for name, column in differences.items()}
            if found.external.mappings:
                row["external_mapping"] = dict(zip(("spatial", "temporal"), found.external.mappings[i], strict=True))
        rows.append(row)
    record: dict[str, object] = {
        "accelerator": dict(found.accelerator), "totals": dict(found.totals), "seconds": found.seconds,
        "provenance": dict(found.provenance), "uncounted": list(found.uncounted), "layers": rows,
    }  # fmt: skip
    if found.external is not None:
        record["external"] = {
            "name": found.external_name, "version": found.external.version, "seconds": found.external_seconds,
        }  # fmt: skip
    return record


def _print(found: Simulation, layers: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    external = found.external
    differences = found.differences()
    if layers:
        shown = list(differences) if external else [name for name in SHOWN if name in found.layers]
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("layer", no_wrap=True)
        for name in ("count", *shown):
            table.add_column(name.replace("_", "\n"), justify="right")
        for i in range(len(found.workload)):
            if external:
                cells = ["=" if differences[name][i] == 0 else f"{differences[name][i]:+.2%}" for name in shown]
            else:
                cells = [f"{found.layers[name][i]:,.4g}" for name in shown]
            table.add_row(_shape(found.workload, i), str(found.count[i]), *cells)
        console.print(table)
    for name, value in found.totals.items():
        console.print(f"{name:<28} {value:>16,.6g}", soft_wrap=True)
    if external:
        for name, column in differences.items():
            equal, n = int((column == 0).sum()), len(column)
            worst = float(abs(column).max(initial=0.0))
            console.print(f"{name:<28} equal on {equal} of {n} layers, worst difference {worst:.3%}", soft_wrap=True)
        console.print(
            f"{found.external_name} {external.version}: {found.external_seconds:.1f} s; codesign {found.seconds:.2g} s"
        )
    for name, phrase in found.provenance.items():
        if phrase != "closed form":
            console.print(f"{name}: {phrase}", soft_wrap=True)
    for phrase in found.uncounted:
        console.print(f"not counted: {phrase}", soft_wrap=True)


def _shape(workload: Workload, i: int) -> str:
    """A layer in one word: `64x3 32x32 7x7/2` is 64 filters on 3 channels, 32 x 32 pixels out, stride 2."""
    k, c, oy, ox, fy, fx, stride, groups = (int(getattr(workload, name)[i]) for name in SHAPE)
    stepped = f"/{stride}" if stride > 1 else ""
    return f"{k}x{c} {oy}x{ox} {fy}x{fx}{stepped}" + (f" g{groups}" if groups > 1 else "")
