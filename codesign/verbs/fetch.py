"""`codesign fetch ID`: bring the run of a submitted job to this machine."""

from __future__ import annotations

from pathlib import Path

import click

from codesign.verbs.cluster import address_option, connect


@click.command("fetch")
@click.argument("submission_id", metavar="ID")
@address_option
@click.option("--out", type=click.Path(path_type=Path), help="Where the run is put. [default: runs/ID]")
def command(submission_id: str, address: str | None, out: Path | None) -> None:
    """Bring the run of a submitted job to this machine, as far as it has come.

    Fetched again into the same folder, it is brought up to date.
    """
    from codesign.jobs_receive import check_target

    folder = out or Path("runs") / submission_id
    check_target(folder, submission_id)
    cluster = connect(address)
    job = cluster.job(submission_id)
    cluster.fetch(job.id, folder)
    state = "" if job.is_finished else f" (the job is {job.status}: this is how far it has come)"
    click.echo(f"its run is in {folder}{state}; look at it: codesign front {folder}")
