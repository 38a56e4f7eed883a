"""The demo's deploy folder as a Git repository of its own: its history is the rollout's."""

from __future__ import annotations

import subprocess
from pathlib import Path

from serving.errors import StageError

_IDENTITY = (
    *("-c", "user.name=seatrial demo", "-c", "user.email=demo@localhost"),
    *("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0"),
)


def create_repository(folder: Path) -> None:
    _git(folder, "init", "--quiet", "--initial-branch=main")


def commit_all(folder: Path, message: str) -> str:
    """Commits every change and returns the abbreviated commit id."""
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", message)
    return head(folder)


def head(folder: Path) -> str:
    """The abbreviated id of the last commit."""
    return _git(folder, "rev-parse", "--short", "HEAD")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *_IDENTITY, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StageError(f"git {arguments[0]} in {folder} failed: {done.stderr.strip()}")
    return done.stdout.strip()
