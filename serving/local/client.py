"""LocalPlayer: the commands up, apply, status, logs and down as a Python API."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import serving.errors
from serving.errors import FileError, ManifestError, PlayerError, SeatrialError
from serving.local.identity import Identity, end_all, identity_of, reap, wait_ended
from serving.local.launch import INHERITED
from serving.local.orphans import GRACE_S, end_at_once, end_orphans, locked
from serving.local.pods import MODEL_CONTAINER
from serving.local.settings import (
    SETTINGS_FILE,
    PlayerSettings,
    default_state_dir,
    load_settings,
)
from serving.local.state import EVENTS_FILE, LOGS, SOCKET, last_line, log_file, read_state
from serving.local.status import Status, parse_status
from serving.rollout.gate.plan import PLAN_FILE, read_plan
from serving.rollout.manifest import read_manifest

START_S = 20.0
logger = logging.getLogger("seatrial.player")

Progress = Callable[[str], None]


class LocalPlayer:
    """The player of one state directory; every call asks the supervisor that runs there.

    Each call first ends what a kill -9 left behind, and says so through `notify`.
    """

    def __init__(self, state_dir: Path | None = None, *, notify: Progress = logger.warning) -> None:
        self.state_dir = (state_dir or default_state_dir()).absolute()
        self._notify = notify
        self._child: Identity | None = None
        """The supervisor, if this object has started it: its exit status must be taken."""

    @property
    def events_file(self) -> Path:
        """One CloudEvent of a sidecar a line, in structured form; absent before the first."""
        return self.state_dir / EVENTS_FILE

    def up(
        self,
        manifest: Path,
        settings: PlayerSettings | None = None,
        *,
        owner_pid: int | None = None,
        wait_seconds: float = 60.0,
        progress: Progress | None = None,
    ) -> Status:
        """Starts what the manifest asks for and waits until it is ready; where the player runs
        already, the same as `apply`.

        Without `settings` they come from player.yaml in the manifest's folder, if it is there.
        With `owner_pid`, the first command after that process's death ends everything. Raises
        ManifestError and the like before anything starts; PlayerError when the stable predictor
        does not become ready, and then nothing is left running.
        """
        self._end_orphans()
        order = self._order(manifest, settings or self._settings(manifest), wait_seconds)
        if self._supervisor() is not None:
            return self._apply(order, progress)
        owner = None
        if owner_pid is not None:
            owner = identity_of(owner_pid)
            if owner is None:
                raise PlayerError(f"owner_pid {owner_pid}: no such process; give a running one")
        try:
            self._child = self._spawn(owner)
            self._wait_for(self._child)
            return self._apply(order, progress)
        except BaseException:
            self.down()
            if self._child is not None:  # it had not got as far as writing its state
                end_all([self._child], GRACE_S)
                reap(self._child.pid)
            raise

    def apply(
        self, manifest: Path, *, wait_seconds: float = 60.0, progress: Progress | None = None
    ) -> Status:
        """Makes what runs equal to the manifest without failing a request.

        Returns when that is so, or when a predictor has not become ready: it then gets no
        traffic, and the status says why. Raises ManifestError, BundleError or PlayerError with
        nothing changed.
        """
        self._end_orphans()
        self._require()
        return self._apply(self._order(manifest, self._settings(manifest), wait_seconds), progress)

    def status(self) -> Status:
        """Raises PlayerError if nothing runs."""
        self._end_orphans()
        self._require()
        with self._ask("GET", "/status") as answer:
            return parse_status(_checked(json.loads(answer.read()))["status"])

    def down(self) -> None:
        """Ends everything within 5 s; nothing to do where nothing runs."""
        self._end_orphans()
        supervisor = self._supervisor()
        if supervisor is None:
            _wait_while(lambda: locked(self.state_dir), GRACE_S)  # it is ending already
            return
        with contextlib.suppress(PlayerError), self._ask("POST", "/down"):
            pass
        if not _wait_ended(supervisor, GRACE_S):
            end_at_once(self.state_dir)
            _wait_ended(supervisor, 1.0)

    def disown(self) -> None:
        """Lets everything run on after the death of the owner that `up` was given."""
        self._require()
        with self._ask("POST", "/disown"):
            pass

    def end_orphans(self) -> list[str]:
        """What every other call does first; returns one sentence about what was found, or none."""
        found = end_orphans(self.state_dir)
        if self._child is not None and not self._child.alive:
            reap(self._child.pid)
            self._child = None
        return [] if found is None else [found]

    def logs(self, name: str) -> Path:
        """The log of "arm/container", of "arm" (its model), "gateway" or "player".

        Raises PlayerError naming the logs there are.
        """
        self._end_orphans()
        root = self.state_dir / LOGS
        for candidate in (name, f"{name}/{MODEL_CONTAINER}"):
            file = log_file(self.state_dir, candidate)
            if file.is_file() and file.resolve().is_relative_to(root.resolve()):
                return file
        known = sorted(f.relative_to(root).with_suffix("").as_posix() for f in root.rglob("*.log"))
        raise PlayerError(f"no log '{name}'; there are: {', '.join(known) or 'none yet'}")

    def _end_orphans(self) -> None:
        for line in self.end_orphans():
            self._notify(line)

    def _supervisor(self) -> Identity | None:
        state = read_state(self.state_dir)
        return state.supervisor if state is not None and state.supervisor.alive else None

    def _require(self) -> None:
        if self._supervisor() is None:
            raise PlayerError(f"nothing runs in {self.state_dir}; start it with 'seatrial up'")

    def _settings(self, manifest: Path) -> PlayerSettings | None:
        """None where the manifest brings none: those given before stay."""
        file = (manifest if manifest.is_dir() else manifest.parent) / SETTINGS_FILE
        return load_settings(file) if file.is_file() else None

    def _order(
        self, manifest: Path, settings: PlayerSettings | None, wait_seconds: float
    ) -> dict[str, Any]:
        found = read_manifest(manifest)
        return {
            "manifest": str(manifest.absolute()),
            "documents": found.documents,
            "settings": None if settings is None else settings.model_dump(mode="json"),
            **self._sticky(manifest),
            "wait_seconds": wait_seconds,
        }

    def _sticky(self, manifest: Path) -> dict[str, str | None]:
        """The header by which the folder's plan.yaml, if there is one, keeps users on one arm.

        Read at every apply, so that whoever applies (the gate, its dead-man, a person) plays the
        same. A plan with a mistake leaves it as it was: it must not keep a rollback from being
        played.
        """
        file = manifest / PLAN_FILE
        try:
            sticky = read_plan(file).sticky if file.is_file() else None
        except ManifestError as error:
            self._notify(f"sticky users stay as they are: {error}")
            return {}
        return {"sticky": None if sticky is None else sticky.header}

    def _apply(self, order: dict[str, Any], progress: Progress | None) -> Status:
        with self._ask("POST", "/apply", order) as answer:
            while line := answer.readline():
                step = _checked(json.loads(line))
                if "status" in step:
                    return parse_status(step["status"])
                if progress is not None:
                    progress(step["progress"])
        said = last_line(log_file(self.state_dir, "player"))
        raise PlayerError(f"the player ended while it was applying the manifest: {said}")

    def _spawn(self, owner: Identity | None) -> Identity:
        """Starts the supervisor in a session of its own."""
        log = log_file(self.state_dir, "player")
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"{self.state_dir}: cannot keep the player's state here: {error.strerror}; set"
                " SEATRIAL_STATE to another folder"
            ) from None
        _wait_while(lambda: locked(self.state_dir), GRACE_S)  # one that is just ending
        argv = [sys.executable, "-m", "serving.local", "--state", str(self.state_dir)]
        if owner is not None:
            argv += ["--owner", f"{owner.pid}:{owner.start}"]
        # posix_spawn and not Popen: the supervisor is meant to outlive this process.
        pid = os.posix_spawn(
            sys.executable,
            argv,
            {name: os.environ[name] for name in INHERITED if name in os.environ},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        found = identity_of(pid)
        return Identity(pid, 0) if found is None else found  # 0: it has ended already

    def _wait_for(self, supervisor: Identity) -> None:
        """Waits until it listens. Raises PlayerError with its last words if it has ended."""
        _wait_while(lambda: supervisor.alive and not (self.state_dir / SOCKET).exists(), START_S)
        if not supervisor.alive:
            log = log_file(self.state_dir, "player")
            raise PlayerError(f"the player did not start: {last_line(log)} (log: {log})")

    @contextlib.contextmanager
    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _UnixConnection(self.state_dir / SOCKET)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            said = last_line(log_file(self.state_dir, "player"))
            raise PlayerError(
                f"the player in {self.state_dir} does not answer ({error or type(error).__name__});"
                f" its log ends with: {said}"
            ) from None
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, file: Path) -> None:
        super().__init__("player")
        self._file = file

    def connect(self) -> None:
        # By way of /proc, because a socket's path may have 107 bytes only.
        folder = os.open(self._file.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(f"/proc/self/fd/{folder}/{self._file.name}")
        finally:
            os.close(folder)


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """Raises the supervisor's error here, with its own type."""
    if "error" in line:
        kind = getattr(serving.errors, line["error"], PlayerError)
        found = kind(line["message"])
        raise found if isinstance(found, SeatrialError) else PlayerError(line["message"])
    return line


def _wait_while(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def _wait_ended(process: Identity, seconds: float) -> bool:
    ended = wait_ended([process], seconds)
    reap(process.pid)
    return ended
