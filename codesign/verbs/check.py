"""`codesign check JOB`: is everything about a job right, and can its budgets be kept?"""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("check")
@click.argument("job", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(job: Path, overrides: tuple[str, ...], as_json: bool) -> int:
    """Check a job file without running it. Exit status 2 if `run` would refuse it, and why."""
    from codesign.assemble import assemble
    from codesign.errors import BudgetError
    from codesign.feasible import find_feasible, refuse
    from codesign.feasible_text import lines
    from codesign.job import load_job
    from codesign.units import size_text

    folder = job.absolute().parent
    loaded = load_job(job, overrides)
    parts = assemble(loaded, folder / "runs" / loaded.name, folder)
    found = find_feasible(parts, loaded.search.seed, progress=lambda text: click.echo(text, err=True))
    reason = ""
    try:
        refuse(parts, found)
    except BudgetError as error:
        reason = str(error)
    if as_json:
        record = {"job": str(job), "metrics": parts.metrics, "refused": reason, "feasibility": found.to_dict()}
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(
            f"{job}: every part fits; {size_text(parts.space.size)} candidates, metrics {', '.join(parts.metrics)}"
        )
        for line in lines(found):
            click.echo(line)
    if reason and not as_json:
        raise BudgetError(reason)
    return 2 if reason else 0
