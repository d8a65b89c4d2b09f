"""What the verbs about submitted jobs share: `--address`, connecting, following a log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codesign.jobs import Submitted
    from codesign.jobs_ray import Cluster

address_option = click.option(
    "--address",
    metavar="URL",
    help="Dashboard of the cluster. [default: $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS, or http://127.0.0.1:8265]",
)


def connect(address: str | None) -> Cluster:
    """The cluster at `--address`. What can go wrong is found before Ray is loaded."""
    from codesign.jobs import authorize, choose_address, require_listener

    url = choose_address(address, os.environ)
    require_listener(url)
    headers = authorize(url, os.environ, Path.home())
    from codesign.jobs_ray import Cluster

    return Cluster(url, headers)


def follow(cluster: Cluster, submission_id: str) -> Submitted:
    """Print a job's log until it ends; Ctrl-C leaves the job alone."""
    try:
        return cluster.follow(submission_id, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        at = f"{submission_id} --address {cluster.address}"
        click.echo(
            f"\nthe job goes on; follow it again: codesign logs --follow {at}\n"
            f"stop it: codesign stop {at}\nbring its run here: codesign fetch {at}",
            err=True,
        )
        click.get_current_context().exit(130)
