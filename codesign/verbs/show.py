"""`codesign show DIR NUMBER`: everything about one trial."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click


@click.command("show")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("number", type=click.IntRange(min=0))
@click.option("--ops", is_flag=True, help="List every op with its shapes, MACs and parameters.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, number: int, ops: bool, as_json: bool) -> None:
    """Print a trial's genotype, metrics and, with --ops, what it computes."""
    from codesign.errors import InputError
    from codesign.run import open_run

    run = open_run(folder)
    found = run.store.trials(run.study_id, [number])
    if not found:
        raise InputError(f"trial {number} is not in {str(folder)!r}; see codesign front {folder}")
    trial = found[0]
    finals = {
        name: [final.value, final.low, final.high]
        for name, final in run.store.finals(run.study_id).get(number, {}).items()
    }
    record: dict[str, object] = {
        "number": trial.number, "state": trial.state.value, "violation": trial.violation, "error": trial.error,
        "metrics": dict(trial.metrics), "finals": finals, "genotype": dict(trial.genotype),
        "artifacts": run.store.artifacts(run.study_id, number),
        "forecasts": run.store.notes.forecast_of(run.study_id, number),
        "drawn": run.store.notes.origin_of(run.study_id, number),
    }  # fmt: skip
    rows: list[dict[str, object]] = []
    if ops:
        parts = run.parts()
        table = parts.context.network_space.ops(parts.context.network_codes(run.store.codes(run.study_id, [number])))
        counts = zip(table.rows(), table.macs().tolist(), table.params().tolist(), strict=True)
        rows = [{**row, "macs": macs, "params": params} for row, macs, params in counts]
        record["ops"] = rows
    if as_json:
        finite = record["violation"] if math.isfinite(trial.violation) else None  # JSON has no NaN and no infinity
        click.echo(json.dumps(record | {"violation": finite}, indent=2, allow_nan=False))
        return
    _print(record, rows)


def _print(record: dict[str, object], rows: list[dict[str, object]]) -> None:
    click.echo(f"trial {record['number']}: {record['state']}" + (f", {record['error']}" if record["error"] else ""))
    if record["drawn"]:
        click.echo("  drawn at random" + (", past the strategy" if record["drawn"] == "shadow" else ""))
    metrics, finals, forecasts = record["metrics"], record["finals"], record["forecasts"]
    assert isinstance(metrics, dict)
    assert isinstance(finals, dict)
    assert isinstance(forecasts, dict)
    for name, value in sorted(metrics.items()):
        click.echo(f"  {name:<28} {value:.6g}")
    for name, value in forecasts.items():
        click.echo(f"  {name + ', forecast':<28} {value:.6g}")
    for name, (value, low, high) in finals.items():
        interval = f" (95 %: {low:.4g} to {high:.4g})" if low is not None else ""
        click.echo(f"  {name + ', final':<28} {value:.6g}{interval}")
    click.echo(json.dumps(record["genotype"], indent=2))
    if rows:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        names = (
            *("label", "kind", "in_channels", "out_channels", "out_height", "out_width"),
            *("kernel_height", "kernel_width", "stride", "groups", "repeat", "macs", "params"),
        )
        table = Table(box=box.SIMPLE_HEAD, title="ops")
        for name in names:
            table.add_column(name.replace("_", "\n"), justify="left" if name in ("label", "kind") else "right")
        for row in rows:
            table.add_row(*(str(row[name]) for name in names))
        Console(highlight=False).print(table)
