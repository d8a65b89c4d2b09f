"""`codesign resume DIR`: continue a run from wherever it was cut off."""

from __future__ import annotations

from pathlib import Path

import click

from codesign.verbs.carry_out import carry_out


@click.command("resume")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--address", default="local", show_default=True, help="Ray to use: 'local' starts one, 'auto' joins the cluster."
)
def command(folder: Path, overrides: tuple[str, ...], address: str) -> None:
    """Continue a run. No finished trial is lost, none is run twice.

    KEY=VALUE may raise search.trials or change driver.* alone: anything else would make it another run.
    """
    from codesign.address import require_ray
    from codesign.run import extend_run, open_run

    require_ray(address)
    run = open_run(folder)
    if overrides:
        run = extend_run(run, overrides)
    carry_out(run, run.parts(), address)
