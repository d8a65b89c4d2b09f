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
@click.option("--check", is_flag=True, help="Check the job and stop.")
def command(job: Path, overrides: tuple[str, ...], out: Path | None, address: str, check: bool) -> None:
    """Carry out a job file. KEY=VALUE replaces a value in it, for example search.trials=200."""
    from codesign.address import require_ray
    from codesign.job import load_job
    from codesign.run import create_run, plan_run
    from codesign.units import size_text

    require_ray(address)
    loaded = load_job(job, overrides)
    folder = out or Path("runs") / f"{loaded.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    parts = plan_run(loaded, folder, job.absolute().parent)
    if check:
        click.echo(
            f"{job}: every part fits; {size_text(parts.space.size)} candidates, metrics {', '.join(parts.metrics)}"
        )
        return
    carry_out(create_run(parts, job.absolute().parent), parts, address)
