"""Runs on this machine: a command of the settings, once per event, in a folder of its own.

FOLDER/EVENT/event.json   the event, in structured mode
FOLDER/EVENT/claim        held locked by the one process that runs the command; its pid
FOLDER/EVENT/log          what the command prints
FOLDER/EVENT/exit         its exit code, once it has ended
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from serving.errors import UsageError
from serving.retrain.cloudevent import CloudEvent
from serving.retrain.launcher import LaunchError, RunState, Template
from serving.whole import write_text

CLAIMED_WITHIN = 10.0
"""Seconds that a started process may take until it has claimed its folder."""
STARTED_NOTHING = 75
"""Exit code of a process that found the folder claimed (EX_TEMPFAIL)."""


@dataclass(frozen=True)
class CommandSettings:
    command: tuple[str, ...]
    """Program and arguments; texts may have {places}, {event} is the file of the event."""
    folder: Path
    """Gets a folder for each run."""

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not self.command:
            raise UsageError('command is empty; give a JSON list, as in ["retrain.sh", "{event}"]')
        for argument in self.command:
            Template("command", argument)


class CommandLauncher:
    """A Launcher. Runs outlive the receiver, and a receiver that comes back finds them."""

    def __init__(self, settings: CommandSettings) -> None:
        self._settings = settings

    def start(self, event: CloudEvent) -> str:
        folder = self._settings.folder / _name(event)
        file = folder / "event.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(event.to_json(), indent=1) + "\n")
            if not (folder / "claim").exists():
                self._spawn(folder, event, file)
        except OSError as error:
            raise LaunchError(f"{folder}: {error.strerror or error}") from error
        return folder.name

    def state(self, run: str) -> RunState:
        folder = self._settings.folder / run
        code = _exit_code(folder)
        if code is None and _is_claimed(folder / "claim"):
            return RunState.ACTIVE
        # It may have ended between the two looks.
        code = _exit_code(folder)
        return RunState.SUCCEEDED if code == 0 else RunState.FAILED

    def _spawn(self, folder: Path, event: CloudEvent, file: Path) -> None:
        """Whoever else spawned for this folder before a crash: one of them gets the claim."""
        arguments = [
            Template("command", argument).fill(event, str(file))
            for argument in self._settings.command
        ]
        child = subprocess.Popen(
            [sys.executable, "-m", "serving.retrain.command", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + CLAIMED_WITHIN
        while not (folder / "claim").exists():
            code = child.poll()
            if code is not None and not (folder / "claim").exists():
                raise LaunchError(f"{folder}: the process for the run ended with code {code}")
            if time.monotonic() > deadline:
                raise LaunchError(f"{folder}: no process claimed it within {CLAIMED_WITHIN:g} s")
            time.sleep(0.01)


def _name(event: CloudEvent) -> str:
    """The folder of an event's run; ids may hold anything."""
    return hashlib.sha256("\0".join(event.key).encode()).hexdigest()[:16]


def _exit_code(folder: Path) -> int | None:
    try:
        return int((folder / "exit").read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _is_claimed(claim: Path) -> bool:
    """Whether the process that claimed a folder still lives: its lock ends with it."""
    try:
        descriptor = os.open(claim, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def run_once(folder: Path, arguments: list[str]) -> int:
    """Claims the folder, runs the command and keeps its exit code; the second to come does nothing.

    The claim is locked before it gets its name: nobody sees one that no living process holds.
    """
    mine = folder / f".claim-{os.getpid()}"
    descriptor = os.open(mine, os.O_RDWR | os.O_CREAT, 0o644)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        os.link(mine, folder / "claim")
    except FileExistsError:
        return STARTED_NOTHING
    finally:
        mine.unlink()
    with (folder / "log").open("ab") as log:
        try:
            code = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            ).returncode
        except OSError as error:
            log.write(f"{arguments[0]}: {error.strerror}\n".encode())
            code = 127
    write_text(folder / "exit", f"{code}\n")
    return code


if __name__ == "__main__":
    sys.exit(run_once(Path(sys.argv[1]), sys.argv[2:]))
