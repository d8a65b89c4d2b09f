"""`codesign list`: what there is to choose from, and what was run."""

from __future__ import annotations

import json
from pathlib import Path

import click

KINDS = ("runs", "spaces", "data", "strategies", "evaluators", "simulators", "models", "presets", "architectures")


@click.command("list")
@click.argument("kind", default="runs", metavar=f"[{'|'.join(KINDS)}]")
@click.argument("folder", default="runs", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str, folder: Path, as_json: bool) -> None:
    """List runs below a folder, or everything that can be named in a job."""
    from codesign.errors import InputError
    from codesign.registry import names

    if kind not in KINDS:
        raise InputError.about("list", kind, KINDS)
    if kind == "runs":
        rows = _runs(folder)
    elif kind == "presets":
        from simulators.accelerator import load_preset, preset_names

        rows = [{"name": n, **_preset_row(load_preset(n))} for n in preset_names()]
    elif kind == "architectures":
        from search_spaces.nasnet_published import ARCHITECTURES

        rows = [{"name": name} for name in ARCHITECTURES]
    else:
        rows = [{"name": name} for name in names(kind)]  # type: ignore[arg-type]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    _print(rows)


def _preset_row(preset: object) -> dict[str, object]:
    return {"simulator": getattr(preset, "simulator", ""), "description": getattr(preset, "description", "")}


def _runs(folder: Path) -> list[dict[str, object]]:
    from codesign.errors import CodesignError
    from codesign.run import open_run

    rows: list[dict[str, object]] = []
    for job in sorted(folder.glob("**/job.yaml")):
        try:
            run = open_run(job.parent)
        except CodesignError:
            continue  # some other tool's job.yaml
        record = next(study for study in run.store.studies() if study["id"] == run.study_id)
        states = {state: record[state] for state in ("measured", "running", "failed")}
        rows.append({"folder": str(job.parent), "name": run.job.name, "trials": run.job.search.trials, **states})
        run.store.close()
    return rows


def _print(rows: list[dict[str, object]]) -> None:
    if not rows:
        click.echo("nothing here")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(highlight=False).print(table)
