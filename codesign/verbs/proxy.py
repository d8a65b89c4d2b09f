"""`codesign proxy`: log designs, learn a proxy from logs, and say how good it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codesign.proxy_files import SavedProxy


@click.group("proxy")
def command() -> None:
    """Learn cost models from logs of designs, to be used in place of a simulator."""


@command.command("log")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of the log; it may hold one already."
)
def log_command(run_folder: Path, out: Path) -> None:
    """Append every finished trial of a run to a log of designs (Parquet)."""
    from codesign.design_log import DesignLog
    from codesign.log_run import log_of_run
    from codesign.run import open_run

    run = open_run(run_folder)
    batch = log_of_run(run)
    run.store.close()
    part = DesignLog(out).append(batch)
    click.echo(f"{len(batch):,} designs of {batch.model} logged in {part}")


@command.command("fit")
@click.argument("sources", metavar="LOG_OR_RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the proxy.")
@click.option(
    "--holdout", default=0.2, show_default=True, type=click.FloatRange(0, 0.9),
    help="Share of the designs that are not learned from but held out to measure the errors.",
)  # fmt: skip
@click.option("--hold-out-context", metavar="NAME", default="", help="Hold out a whole context, such as a trace.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Learn this one alone. May be repeated.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of everything random.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fit_command(
    sources: tuple[Path, ...],
    out: Path,
    holdout: float,
    hold_out_context: str,
    metrics: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Learn a proxy from logs and runs."""
    from rich.console import Console

    from codesign.log_run import read_logs
    from codesign.proxy_files import MANIFEST, save_proxy
    from codesign.proxy_fit import FitOptions
    from codesign.proxy_learn import check_out, learn_saved
    from codesign.proxy_progress import fit_progress

    console = Console(highlight=False, markup=False, stderr=as_json)
    check_out(out)
    batches = read_logs(sources)
    with fit_progress(console) as note:
        saved, table = learn_saved(
            batches,
            holdout=holdout,
            hold_out_context=hold_out_context,
            metrics=metrics,
            options=FitOptions(seed=seed),
            note=note,
        )
    save_proxy(saved, out, table)
    _print(saved, as_json)
    if not as_json:
        click.echo(f"use it as  space: {{type: design, model: {{type: proxy, path: {out / MANIFEST}}}, ...}}")


@command.command("show")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(folder: Path, as_json: bool) -> None:
    """Print what a proxy learned from, its range and its errors."""
    from codesign.proxy_files import load_proxy

    _print(load_proxy(folder), as_json)


def _print(saved: SavedProxy, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(saved.to_json(), indent=2, allow_nan=False))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    failed = f", {saved.n_failed:,} of which cannot work" if saved.n_failed else ""
    console.print(f"proxy of {saved.model}: {saved.n_rows:,} designs{failed}", soft_wrap=True)
    for count, what in ((saved.n_repeated, "repeated"), (saved.n_partial, "not measured in every metric")):
        if count:
            console.print(f"left out: {count:,} designs {what}", soft_wrap=True)
    for given in saved.learned.encoder.inputs:
        console.print(f"  {given}", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    contexts = [context for context in saved.held_out if context]
    for name in ("metric", "predicted by", *(["context"] if contexts else [])):
        table.add_column(name, overflow="fold", min_width=10)
    for name in ("validated", "forest", "held out", "95 % within"):
        table.add_column(name, justify="right", no_wrap=True)
    for output in saved.learned.outputs:
        validated = [_percent(error) for error in (output.error, output.validation.get("forest"))]
        for context in contexts or [""]:
            errors = saved.held_out.get(context, {}).get(output.metric)
            measured = ["-", "-"]
            if errors is not None:
                bar = f"{100 * errors.lowest_relative:+.2g}..{100 * errors.highest_relative:+.2g} %"
                measured = [_percent(errors.rmse_over_mean), bar]
            named = [output.metric, output.choice, *([context] if contexts else [])]
            table.add_row(*named, *validated, *measured)
    console.print(table)
    console.print(
        "errors are RMSE / mean; validated: by cross-validation within the designs learned from", soft_wrap=True
    )
    if saved.held_out_context:
        console.print(f"held out: context {saved.held_out_context}, none of which was learned from", soft_wrap=True)
    if saved.told_right is not None:
        console.print(f"whether a held-out design works was predicted rightly for {saved.told_right:.1%}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
