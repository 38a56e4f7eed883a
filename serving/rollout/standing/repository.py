"""The gate's own clone of the repository that it commits to."""

from __future__ import annotations

import shutil
from pathlib import Path

from serving.errors import GateError
from serving.rollout.git_command import run_git


def cloned(url: str, branch: str, clone: Path) -> None:
    """Clones the branch to `clone`, once; commits of an earlier gate stay.

    Raises GateError when it cannot be cloned, or when `clone` is of another repository.
    """
    if (clone / ".git").exists():
        found = run_git(clone, "remote", "get-url", "origin")
        if found != url:
            raise GateError(f"{clone}: a clone of {found} and not of {url}; remove it")
        return
    partial = clone.with_name(clone.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    clone.parent.mkdir(parents=True, exist_ok=True)
    run_git(clone.parent, "clone", "--quiet", "--branch", branch, "--", url, str(partial))
    partial.rename(clone)
