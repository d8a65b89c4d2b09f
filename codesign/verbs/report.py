"""`codesign report DIR`: the HTML report."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="HTML file. [default: DIR/report.html]")
def command(folder: Path, out: Path | None) -> None:
    """Write the HTML report of a run, finished or under way."""
    from codesign.report import write_report
    from codesign.run import open_run

    run = open_run(folder)
    click.echo(str(write_report(run, run.parts(), out or folder / "report.html")))
