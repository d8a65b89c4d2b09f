"""`codesign run JOB`: check everything, then carry the job out."""

from __future__ import annotations

import time
from pathlib import Path

import click

from codesign.verbs.carry_out import carry_out


@click.command("run")
@click.argument("job", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. [default: runs/NAME-TIME]")
@click.option(
    "--address", default="local", show_default=True, help="Ray to use: 'local' starts one, 'auto' joins the cluster."
)
def command(job: Path, overrides: tuple[str, ...], out: Path | None, address: str) -> None:
    """Carry out a job file. KEY=VALUE replaces a value in it, for example search.trials=200."""
    from codesign.address import require_ray
    from codesign.job import load_job
    from codesign.run import create_run, plan_run

    require_ray(address)
    loaded = load_job(job, overrides)
    folder = out or Path("runs") / f"{loaded.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    parts = plan_run(loaded, folder, job.absolute().parent, lambda text: click.echo(text, err=True))
    carry_out(create_run(parts, job.absolute().parent), parts, address)
