"""`codesign front DIR...`: the Pareto front, asked again at no cost."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("front")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--where", help='Only trials that meet this, for example "latency_ms@edge <= 0.5 and params <= 60k".')
@click.option("--upto", type=click.IntRange(min=1), metavar="N", help="The front as it stood after the first N trials.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write a CSV file.")
@click.option("--parquet", type=click.Path(path_type=Path), help="Write a Parquet file.")
def command(
    folders: tuple[Path, ...],
    where: str | None,
    upto: int | None,
    as_json: bool,
    csv: Path | None,
    parquet: Path | None,
) -> None:
    """Print the Pareto front of one or several runs. Works while a run is under way."""
    from codesign.expressions import parse_condition
    from codesign.front import fronts, print_front
    from codesign.run import open_run

    condition = parse_condition(where) if where else None
    runs = [open_run(folder) for folder in folders]
    pairs = [(run, run.parts()) for run in runs]
    table = fronts(pairs, condition, upto)
    if csv:
        table.to_csv(csv)
    if parquet:
        table.to_parquet(parquet)
    if as_json:
        from codesign.honesty import honesty_of

        is_whole = condition is None and upto is None  # the meter reads whole runs
        readings = [{"run": str(run.folder), **honesty_of(run, parts).to_dict()} for run, parts in pairs if is_whole]
        click.echo(table.to_json({"honesty": readings} if is_whole else None))
    elif not (csv or parquet):
        from rich.console import Console

        print_front(table, Console(highlight=False))
