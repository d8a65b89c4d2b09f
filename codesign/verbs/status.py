"""`codesign status [ID]`: state of submitted jobs."""

from __future__ import annotations

import click

from codesign.verbs.cluster import address_option, connect


@click.command("status")
@click.argument("submission_id", required=False, metavar="[ID]")
@address_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(submission_id: str | None, address: str | None, as_json: bool) -> None:
    """Show one submitted job, or all that codesign submitted to a cluster."""
    import json
    import time

    from codesign.jobs import duration, jobs_table, moment

    cluster = connect(address)
    now = time.time()
    if submission_id is None:
        jobs = cluster.jobs()
        if as_json:
            click.echo(json.dumps([job.to_json(now) for job in jobs], indent=2))
        else:
            click.echo(jobs_table(jobs, now) if jobs else f"no jobs of codesign on {cluster.address}")
        return
    job = cluster.job(submission_id)
    if as_json:
        click.echo(json.dumps(job.to_json(now), indent=2))
        return
    click.echo(f"{job.id}: {job.status}\nstarted {moment(job.started_at)}, ran {duration(job.runtime_seconds(now))}")
    if job.message:
        click.echo(job.message.rstrip())
