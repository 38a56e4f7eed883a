"""Commit mode: rollout.yaml in a Git repository; Argo CD, Flux or the player applies it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from serving.errors import GateError
from serving.rollout.actuators.actuator import Health, Plane
from serving.rollout.git_command import run_git
from serving.rollout.overlay import read_rollout, rollout_file, write_rollout
from serving.rollout.state import RolloutState

LOCK_WAIT_S = 5.0
PUSH_TRIES = 3
AUTHOR = ("-c", "user.name=seatrial gate", "-c", "user.email=gate@localhost")


class GitActuator:
    """An Actuator: one commit a move, with the evidence's hash in a trailer."""

    def __init__(
        self,
        folder: Path,
        plane: Plane,
        *,
        push: bool = False,
        apply: Callable[[], None] | None = None,
    ) -> None:
        """`push` keeps the branch equal to its upstream; `apply` is called after each commit,
        where no one else watches the repository."""
        self._folder, self._plane = folder, plane
        self._push, self._apply = push, apply
        self._file = rollout_file(folder)
        if self._git("rev-parse", "--is-inside-work-tree") != "true":
            raise GateError(f"{folder}: no Git work tree; give a deploy folder that is committed")

    def read(self) -> RolloutState:
        if self._push:
            self._pull()
        return read_rollout(self._file)

    def write(self, state: RolloutState, message: str, trailers: Mapping[str, str]) -> str:
        """Commits rollout.yaml alone; returns the id of the commit that made it so."""
        if self._push:
            self._pull()
        write_rollout(self._file, state)
        name = self._file.name
        if self._git("status", "--porcelain", "--", name):
            text = message + "\n\n" + "".join(f"{k}: {v}\n" for k, v in trailers.items())
            # add first: the very first commit of the file knows no path to commit by.
            self._waiting_for_the_lock("add", "--", name)
            self._waiting_for_the_lock(
                *AUTHOR, "commit", "--quiet", "--only", "--message", text, "--", name
            )
        if self._push:
            self._publish()
        if self._apply is not None:
            self._apply()
        return self._git("log", "-1", "--format=%H", "--", name)

    def settled(self, state: RolloutState) -> bool:
        return self._plane.settled(state)

    def health(self, stable: str, canary: str) -> Health:
        return self._plane.health(stable, canary)

    def _pull(self) -> None:
        """Others may have pushed; their edits of other files do not concern the gate."""
        try:
            self._git(*AUTHOR, "pull", "--quiet", "--rebase", "--autostash")
        except GateError as error:
            rebasing = self._git("rev-parse", "--git-path", "rebase-merge")
            if (self._folder / rebasing).exists():
                self._git("rebase", "--abort")
                who = self._git("log", "-1", "--format=%an", "@{upstream}", "--", self._file.name)
                raise GateError(
                    f"{self._file}: {who or 'someone'} has pushed another edit of it; one writer"
                    " only: leave the rollout to the gate, or end the run"
                ) from error
            raise

    def _publish(self) -> None:
        for left in reversed(range(PUSH_TRIES)):
            try:
                self._git("push", "--quiet")
            except GateError:
                if not left:
                    raise
                self._pull()
            else:
                return

    def _waiting_for_the_lock(self, *arguments: str) -> None:
        """A gate that was killed may have left a git command that is just ending."""
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                self._git(*arguments)
            except GateError as error:
                if "index.lock" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _git(self, *arguments: str) -> str:
        return run_git(self._file.parent, *arguments)
