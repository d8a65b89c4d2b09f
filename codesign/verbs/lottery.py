"""`codesign lottery FILE`: what agents find, as distributions over their hyper-parameters."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("lottery")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the tickets. [default: runs/lottery-NAME]")
@click.option(
    "--address", default="local", show_default=True, help="Ray to use: 'local' starts one, 'auto' joins the cluster."
)
@click.option("--check", is_flag=True, help="Check the lottery and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, overrides: tuple[str, ...], out: Path | None, address: str, check: bool, as_json: bool) -> None:
    """Search one design problem with several agents, each with many hyper-parameter settings.

    Every ticket has the same number of evaluations. Tickets already in the folder are not drawn again: the same command
    goes on where a killed one stopped. KEY=VALUE replaces a value, for example evaluations=100.
    """
    from rich.console import Console

    from codesign.address import require_ray
    from codesign.lottery import make_problem
    from codesign.lottery_job import load_lottery, plan_tickets
    from codesign.lottery_report import print_result, write_pictures
    from codesign.lottery_run import draw_lottery
    from codesign.lottery_store import check_folder
    from codesign.units import size_text

    console = Console(highlight=False, markup=False, stderr=as_json)
    require_ray(address)
    lottery = load_lottery(file, overrides)
    folder = out or Path("runs") / f"lottery-{lottery.name}"
    problem, _ = make_problem(lottery, folder, file.absolute().parent)
    tickets = plan_tickets(lottery)
    fingerprint = problem.fingerprint()
    check_folder(folder, fingerprint)
    described = (
        f"{len(lottery.agents)} agents x {lottery.settings * lottery.seeds} tickets x {lottery.evaluations} "
        f"evaluations, {size_text(problem.space.size)} candidates"
    )
    if check:
        click.echo(f"{file}: every part fits; {described}")
        return
    console.print(f"{lottery.name}: {described}; folder {folder}", soft_wrap=True)
    result = draw_lottery(lottery, problem, tickets, fingerprint, folder, address, console)
    write_pictures(result, lottery, folder)
    if as_json:
        click.echo(result.to_json())
    else:
        print_result(result, console)
    console.print(f"pictures: {folder / 'lottery.html'}, {folder / 'lottery.svg'}", soft_wrap=True)
