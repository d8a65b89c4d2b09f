"""`codesign submit JOB`: check a job here, send it to a Ray cluster with its files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codesign.verbs.cluster import address_option, connect, follow

if TYPE_CHECKING:
    from codesign.jobs_ray import Cluster


@click.command("submit")
@click.argument("job", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@address_option
@click.option("--follow", "is_followed", is_flag=True, help="Print the job's log until it ends, then fetch its run.")
@click.option("--out", type=click.Path(path_type=Path), help="With --follow: where its run is put. [default: runs/ID]")
def command(job: Path, overrides: tuple[str, ...], address: str | None, is_followed: bool, out: Path | None) -> None:
    """Run a job file on a Ray cluster. KEY=VALUE replaces a value in it, for example search.trials=200.

    The job is checked here first. Data given by a relative path, presets and modules beside the job file travel with
    it; data given by an absolute path is read by the cluster. Prints the job's id.
    """
    from codesign.errors import InputError
    from codesign.job import load_job
    from codesign.jobs import choose_address
    from codesign.jobs_receive import check_target
    from codesign.jobs_upload import check_job, plan_upload, write_upload

    if out and not is_followed:
        raise InputError(
            "--out: a run is put there at the end of --follow; add --follow, or use `codesign fetch` later"
        )
    if out:
        check_target(out, "")
    choose_address(address, os.environ)
    loaded = load_job(job, overrides)
    job_folder = job.absolute().parent
    notes = check_job(loaded, job_folder)
    upload = plan_upload(loaded, job_folder)
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "job.zip"
        write_upload(upload, package)
        cluster = connect(address)
        if loaded.driver.type == "tune" and not loaded.driver.storage and (cluster.count_nodes() or 1) > 1:
            notes.append(
                "the cluster has several nodes: set driver.storage to a folder that all of them share, or to s3://..., "
                "so that a checkpoint can be read where it is needed"
            )
        for note in notes:
            click.echo(f"note: {note}", err=True)
        submission_id = cluster.submit(loaded.name, job_folder, package, upload.job_path)
    click.echo(submission_id)
    if is_followed:
        _follow_and_fetch(cluster, submission_id, out or Path("runs") / submission_id, job_folder)
    else:
        at = f"{submission_id} --address {cluster.address}"
        click.echo(f"follow it: codesign logs --follow {at}\nbring its run here: codesign fetch {at}", err=True)


def _follow_and_fetch(cluster: Cluster, submission_id: str, folder: Path, job_folder: Path) -> None:
    from codesign.errors import InputError
    from codesign.jobs import failure

    ended = follow(cluster, submission_id)
    has_succeeded = ended.status == "SUCCEEDED"
    try:
        cluster.fetch(submission_id, folder, job_folder)
        click.echo(f"its run is in {folder}; look at it: codesign front {folder}", err=True)
    except InputError:
        if has_succeeded:
            raise
    if not has_succeeded:
        raise failure(ended, cluster.log(submission_id))
