"""`codesign init`: a commented job file to start from, or the JSON Schema for an editor."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import click

TEMPLATES = ("digits", "cifar10", "cost-only", "nasbench201")


@click.command("init")
@click.argument("path", default="job.yaml", type=click.Path(path_type=Path))
@click.option("--template", default="digits", show_default=True, help=f"One of {', '.join(TEMPLATES)}.")
@click.option("--schema", is_flag=True, help="Write the JSON Schema of a job instead.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(path: Path, template: str, schema: bool, force: bool) -> None:
    """Write a commented job file."""
    from codesign.errors import InputError

    if template not in TEMPLATES:
        raise InputError.about("--template", template, TEMPLATES)
    if path.exists() and not force:
        raise InputError(f"{str(path)!r} exists; name another file or add --force")
    if schema:
        from codesign.job import json_schema

        text = json.dumps(json_schema(), indent=2) + "\n"
    else:
        text = (files("codesign") / "templates" / f"{template}.yaml").read_text(encoding="utf-8")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    click.echo(f"wrote {path}" if schema else f"wrote {path}; run it with: codesign run {path}")
