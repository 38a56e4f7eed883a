"""The gate's own clone of the repository that it commits to."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from serving.errors import GateError

TIMEOUT_S = 120.0


def cloned(url: str, branch: str, clone: Path) -> None:
    """Clones the branch to `clone`, once; commits of an earlier gate stay.

    Raises GateError when it cannot be cloned, or when `clone` is of another repository.
    """
    if (clone / ".git").exists():
        found = _git(clone, "remote", "get-url", "origin")
        if found != url:
            raise GateError(f"{clone}: a clone of {found} and not of {url}; remove it")
        return
    partial = clone.with_name(clone.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    clone.parent.mkdir(parents=True, exist_ok=True)
    _git(clone.parent, "clone", "--quiet", "--branch", branch, "--", url, str(partial))
    partial.rename(clone)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GateError(f"git {arguments[0]} failed: {error}") from None
    if done.returncode:
        raise GateError(f"git {arguments[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout.strip()
