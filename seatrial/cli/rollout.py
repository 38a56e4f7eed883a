"""A rollout: edits of rollout.yaml by hand, and the gate that makes them on evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from seatrial.cli import gate, gate_books
from serving.errors import UsageError
from serving.rollout import (
    Arm,
    RolloutState,
    promoted,
    read_rollout,
    rolled_back,
    with_canary,
    with_replicas,
    with_weight,
    without_canary,
    write_rollout,
)
from serving.rollout.run.lease import held, holder
from serving.rollout.run.store import FOLDER as RUNS
from serving.rollout.run.store import Runs

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
NAME = click.argument("name")


@click.group()
def rollout() -> None:
    """Edit the rollout.yaml in FOLDER by hand, or let a gate lead it by plan.yaml.

    By hand: show, canary, weight, replicas, promote NAME, rollback, remove; `seatrial apply` or a
    commit makes an edit happen. By a gate: start, then status, watch, pause, resume, approve,
    promote, abort; history, replay, verify, simulate and plan look back and ahead.
    """


@rollout.command()
@FOLDER
def show(folder: Path) -> None:
    """Print the arms and their weights."""
    _print(read_rollout(folder))


@rollout.command()
@FOLDER
@NAME
@click.argument("storage_uri")
@click.option("--percent", default=10, show_default=True, type=click.IntRange(0, 100))
def canary(folder: Path, name: str, storage_uri: str, percent: int) -> None:
    """Add the canary NAME, serving the bundle at STORAGE_URI."""
    _edit(folder, lambda state: with_canary(state, Arm(name, storage_uri), percent))


@rollout.command()
@FOLDER
@NAME
@click.argument("percent", type=click.IntRange(0, 100))
def weight(folder: Path, name: str, percent: int) -> None:
    """Give the canary NAME PERCENT of the traffic."""
    _edit(folder, lambda state: with_weight(state, name, percent))


@rollout.command()
@FOLDER
@NAME
@click.argument("pods", type=click.IntRange(1))
def replicas(folder: Path, name: str, pods: int) -> None:
    """Give the arm NAME that many PODS of its own."""
    _edit(folder, lambda state: with_replicas(state, name, pods))


@rollout.command()
@FOLDER
@click.argument("name", required=False)
@gate.RUNS_DIR
def promote(folder: Path, name: str | None, runs_dir: Path | None) -> None:
    """Make the canary stable; the old stable stays listed at 0 %, warm.

    Without NAME the gate that leads the run is asked to do it, whatever the evidence. With NAME
    rollout.yaml is edited by hand.
    """
    if name is None:
        gate.request(folder, "promote", runs_dir=runs_dir)
        return
    _edit(folder, lambda state: promoted(state, name))


@rollout.command()
@FOLDER
def rollback(folder: Path) -> None:
    """The dark state: all traffic to stable, canaries warm at 0 %."""
    _edit(folder, rolled_back)


@rollout.command()
@FOLDER
@NAME
def remove(folder: Path, name: str) -> None:
    """Remove the canary NAME, which must be at 0 %."""
    _edit(folder, lambda state: without_canary(state, name))


for command in (*gate.COMMANDS, *gate_books.COMMANDS):
    rollout.add_command(command)


def _edit(folder: Path, change: Callable[[RolloutState], RolloutState]) -> None:
    runs = Runs((folder if folder.is_dir() else folder.parent) / RUNS)
    run = runs.current()
    if held(runs.lease_file) and run is not None and not run.load().orders.paused:
        raise UsageError(
            f"{folder}: {holder(runs.lease_file)} leads run {run.id}; use 'promote' without a name,"
            " 'abort', or 'pause' it before you edit by hand"
        )
    state = change(read_rollout(folder))
    write_rollout(folder, state)
    _print(state)


def _print(state: RolloutState) -> None:
    for arm in state.arms:
        role = "stable" if arm is state.stable else "canary"
        click.echo(f"{arm.name}\t{role}\t{state.weights[arm.name]} %\t{arm.storage_uri}")
