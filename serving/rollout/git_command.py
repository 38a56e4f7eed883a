"""One git command in a folder, without questions and in the language that we read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from serving.errors import GateError

TIMEOUT_S = 120.0


def run_git(folder: Path, *arguments: str) -> str:
    """What it printed, stripped. Raises GateError with git's own sentence."""
    command = next(word for word in arguments if word != "-c" and "=" not in word)
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
        raise GateError(f"git {command} in {folder} failed: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise GateError(f"git {command} in {folder} failed: {said}")
    return done.stdout.strip("\n")  # fields may be separated by what strip() takes for spaces
