"""`codesign stop ID`: stop a submitted job."""

from __future__ import annotations

import click

from codesign.verbs.cluster import address_option, connect


@click.command("stop")
@click.argument("submission_id", metavar="ID")
@address_option
def command(submission_id: str, address: str | None) -> None:
    """Stop a submitted job and wait until it has ended. What it has finished is kept: fetch its run."""
    cluster = connect(address)
    was_finished = cluster.job(submission_id).is_finished
    job = cluster.stop(submission_id)
    click.echo(f"{job.id} had ended before: {job.status}" if was_finished else f"{job.id}: {job.status}")
