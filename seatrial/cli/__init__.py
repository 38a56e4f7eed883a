"""The command line: `seatrial COMMAND`. Exit code 2 for a wrong request, 1 for a failure."""

from __future__ import annotations

import logging
import sys
from importlib import import_module

import click

from serving.errors import SeatrialError

COMMANDS = {
    "simulate": ("seatrial.cli.model", "write a table of simulated card transactions"),
    "train": ("seatrial.cli.model", "train a bundle from a table and its contract"),
    "pipeline": ("seatrial.cli.pipeline", "run a pipeline here or on KFP; preflight for a cluster"),
    "bundle": ("seatrial.cli.model", "verify a bundle and show what it is"),
    "init": ("seatrial.cli.play", "write a deploy folder for a bundle"),
    "up": ("seatrial.cli.play", "play an InferenceService on this machine"),
    "apply": ("seatrial.cli.play", "make what runs equal to an edited manifest"),
    "status": ("seatrial.cli.play", "show arms, weights, processes"),
    "logs": ("seatrial.cli.play", "print the log of a container"),
    "down": ("seatrial.cli.play", "end everything the player started"),
    "check": ("seatrial.cli.play", "say what a cluster would refuse in a manifest"),
    "audit": ("seatrial.cli.audit", "ask the predictor's audit log, or make it forget"),
    "doctor": ("seatrial.cli.doctor", "say what will and won't work on the current cluster"),
    "rollout": ("seatrial.cli.rollout", "edit rollout.yaml by hand, or let the gate lead a canary"),
    "registry": ("seatrial.cli.registry", "register bundles, list them, choose the champion"),
    "back": ("seatrial.cli.registry", "go back to any registered bundle"),
    "replay": ("seatrial.cli.story", "send a table's rows through the gateway, counting answers"),
    "drift": ("seatrial.cli.drift", "a page of what the drift sidecars saw; replicas merged"),
    "labels": ("seatrial.cli.labels", "tell the drift sidecars what predictions turned out to be"),
    "demo": ("seatrial.cli.story", "the whole story, from a table to a canary"),
    "report": ("seatrial.cli.story", "write and summarise the report of a run"),
}


class _Commands(click.Group):
    """Imports a command's module only when it is called: `seatrial status` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="seatrial")
def cli() -> None:
    """From a table of data to a guarded production canary on KServe."""


def main() -> None:
    """The console script."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        cli(standalone_mode=False)
    except SeatrialError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
