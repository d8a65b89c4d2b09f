"""`codesign verify M.onnx`: does the file still compute what its manifest says?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("verify")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", "job", type=click.Path(path_type=Path), help="Job file or run folder: measure the test accuracy again."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: Path, job: Path | None, as_json: bool) -> None:
    """Check an ONNX file and its manifest with onnxruntime alone. Exit status 1 if anything differs."""
    from codesign.verify_onnx import verify

    data = None
    if job is not None:
        from codesign.assemble import read_data
        from codesign.job import load_job
        from codesign.run import open_run

        run = open_run(job) if job.is_dir() else None
        data = read_data(run.job, run.job_folder) if run else read_data(load_job(job), job.absolute().parent)
    report = verify(model, data=data)
    click.echo(json.dumps(asdict(report), indent=2, default=str) if as_json else str(report))
