"""Edits of rollout.yaml; `seatrial apply` or a commit makes them happen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from serving.rollout import (
    Arm,
    RolloutState,
    promoted,
    read_rollout,
    rolled_back,
    with_canary,
    with_weight,
    without_canary,
    write_rollout,
)

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
NAME = click.argument("name")


@click.group()
def rollout() -> None:
    """Edit the rollout.yaml in FOLDER (or that file); nothing is applied."""


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
def promote(folder: Path, name: str) -> None:
    """Make the canary NAME stable; the old stable stays listed at 0 %, warm."""
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


def _edit(folder: Path, change: Callable[[RolloutState], RolloutState]) -> None:
    state = change(read_rollout(folder))
    write_rollout(folder, state)
    _print(state)


def _print(state: RolloutState) -> None:
    for arm in state.arms:
        role = "stable" if arm is state.stable else "canary"
        click.echo(f"{arm.name}\t{role}\t{state.weights[arm.name]} %\t{arm.storage_uri}")
