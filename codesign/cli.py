"""The command line. A verb's module is imported only when the verb runs, so `--help` loads click and nothing else.

Exit status: 0 done, 1 failed, 2 wrong input (one message says what).
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from codesign import __version__
from codesign.errors import CodesignError, InputError

VERBS = {
    "init": "write a commented job file to start from",
    "check": "check a job file and whether its budgets can be kept",
    "run": "carry out a job",
    "resume": "continue a run that was cut off",
    "front": "print the Pareto front of one or several runs",
    "show": "print everything about a trial",
    "export": "write the best network as a verified ONNX file",
    "verify": "check an ONNX file against its manifest",
    "simulate": "cost of a network on an accelerator, beside a published simulator",
    "proxy": "logs of simulated designs, and cost models learned from them",
    "device": "latency of networks on this machine, predicted from a calibration",
    "profile": "cost of any ONNX file on any target, layer by layer",
    "report": "write the HTML report of a run",
    "lottery": "compare search agents over many hyper-parameter settings",
    "list": "list runs, spaces, strategies, simulators, presets, ...",
    "submit": "run a job on a Ray cluster",
    "status": "state of submitted jobs",
    "logs": "output of a submitted job",
    "stop": "stop a submitted job",
    "fetch": "bring a submitted run to this machine",
}


class _Verbs(click.Group):
    """A group whose commands are modules `codesign.verbs.<verb>`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            raise InputError.about("verb", cmd_name, VERBS)
        command: click.Command = import_module(f"codesign.verbs.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="codesign")
def cli() -> None:
    """Hardware-aware network search: from a job file to a verified ONNX file."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    try:
        status = cli.main(args=arguments, prog_name="codesign", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        status = 2
    except click.ClickException as error:
        hint = (
            f" (see codesign {error.ctx.info_name} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        )
        click.echo(f"error: {error.format_message()}{hint}", err=True)
        status = 2
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        status = 2
    except CodesignError as error:
        click.echo(f"failed: {error}", err=True)
        status = 1
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        status = 130
    except BrokenPipeError:  # `codesign front DIR | head`
        sys.stderr.close()
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
