"""What `run` and `resume` share: the search under a progress line, then final figures, front and report."""

from __future__ import annotations

import time

import click

from codesign.assemble import Parts
from codesign.run import Run, drive, exclusive, finish_run, study_of, with_scores


def carry_out(run: Run, parts: Parts, address: str) -> None:
    """Drive a run to its end and show what it found. No second process may do so at the same time."""
    with exclusive(run.folder):
        _carry_out(run, parts, address)


def _carry_out(run: Run, parts: Parts, address: str) -> None:
    from rich.console import Console

    from codesign.front import front_table, print_front
    from codesign.honesty import compare_with_random, honesty_of
    from codesign.honesty_text import lines
    from codesign.progress import progress_line
    from codesign.report import write_report
    from codesign.units import size_text

    console = Console(highlight=False, markup=False)
    began = time.monotonic()
    job = run.job
    console.print(
        f"{job.name}: {' x '.join(filter(None, (job.space.type, ', '.join(job.targets))))}, "
        f"{size_text(parts.space.size)} candidates, {job.search.strategy.type}, {job.search.trials:,} trials, "
        f"driver {job.driver.type}; folder {run.folder}",
        soft_wrap=True,
    )
    if parts.note:
        console.print(f"note: {parts.note}", soft_wrap=True)
    with console.status("") as status:
        parts = with_scores(parts, status.update)
    for model in parts.learned:
        console.print(
            f"warm start: {model.objective} from {model.source}: {model.n_results:,} results, skill {model.skill:.2f}",
            soft_wrap=True,
        )
    study = study_of(run, parts)
    idle = job.driver.workers - parts.in_flight * parts.batch
    if job.driver.type != "serial" and idle > 0:
        console.print(
            f"note: search.in_flight {parts.in_flight} x batch {parts.batch} keeps {idle} of {job.driver.workers} "
            f"workers idle; search.in_flight={job.driver.workers} would use them all",
            soft_wrap=True,
        )
    if study.n_finished:
        console.print(f"resuming: {study.n_finished:,} of {job.search.trials:,} trials are done")
    try:
        with progress_line(study, parts.objectives, console):
            drive(run, parts, study, address)
    except KeyboardInterrupt:
        click.echo(f"stopped; everything finished is kept: codesign resume {run.folder}", err=True)
        raise
    if study.is_exhausted:
        console.print(
            f"the search ended after {study.n_finished:,} trials: no further new candidate within the budgets was found"
        )
    finish_run(run, parts, console.print)
    compare_with_random(run, parts)
    print_front(front_table(run, parts, where=None, upto=None), console)
    for line in lines(honesty_of(run, parts), parts.objectives.objectives):
        console.print(line, soft_wrap=True)
    report = write_report(run, parts, run.folder / "report.html")
    console.print(f"report: {report}", soft_wrap=True)
    console.print(f"done in {time.monotonic() - began:.1f} s")
