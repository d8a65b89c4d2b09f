"""`codesign logs ID`: what a submitted job has written."""

from __future__ import annotations

import click

from codesign.verbs.cluster import address_option, connect, follow


@click.command("logs")
@click.argument("submission_id", metavar="ID")
@address_option
@click.option("--follow", "is_followed", is_flag=True, help="Go on until the job ends.")
def command(submission_id: str, address: str | None, is_followed: bool) -> None:
    """Print what a submitted job has written."""
    cluster = connect(address)
    job = cluster.job(submission_id)
    if is_followed:
        ended = follow(cluster, job.id)
        click.echo(f"{job.id}: {ended.status}", err=True)
    else:
        click.echo(cluster.log(job.id), nl=False)
