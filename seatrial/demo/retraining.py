"""The retrain receiver of a demo: a real process that gets this run's drift events."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seatrial.demo.windows import Window
from serving.errors import StageError
from serving.lifeline import die_with_parent

Event = dict[str, Any]
PREFIX = "io.seatrial.drift."
COOLDOWN = 3600
"""Seconds: one run a demo; what the bad canaries' sidecars tell afterwards must start no other."""


def train_command(
    table: Path, contract: Path, out: Path, *, work: Path, seed: int, window: Window
) -> list[str]:
    """What a run is here: `seatrial train` on the window, by kfp.local; the parent is the bundle
    that the event speaks of."""
    start, end = window

    def path(name: Path) -> str:
        # Braces in a folder's name are no places.
        return str(name.resolve()).replace("{", "{{").replace("}", "}}")

    return [
        *(sys.executable, "-m", "seatrial", "train", "--quiet", "--json"),
        *("--data", path(table), "--contract", path(contract)),
        *("--out", path(out), "--work", path(work)),
        *("--parent", "{bundle}", "--seed", str(seed)),
        *("--window-from", repr(start), "--window-to", repr(end)),
    ]


class Retraining:
    """One `python -m serving.retrain`, and what stands for the broker's trigger in front of it."""

    def __init__(
        self,
        folder: Path,
        events: Path,
        since: str,
        command: Sequence[str],
        log: Path,
    ) -> None:
        """`events`: the file that the player appends the sidecars' events to; those before `since`
        are of other runs. `command`: what a run is, with {places} that its event fills."""
        self._journal = folder
        self._events, self._since, self._log = events, since, log
        self._command = [sys.executable, "-m", "seatrial.demo.owned", str(os.getpid()), *command]
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._delivered = 0
        """Lines of the file that are done with."""
        self.seen: list[Event] = []
        """The sidecars' events of this run, as far as they have been delivered."""

    def start(self) -> None:
        """Returns once it answers. Raises StageError when it does not."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        settings = {
            "port": port,
            "journal": self._journal,
            "launcher": "command",
            "command": json.dumps(self._command),
            "types": PREFIX + "opened",
            "cooldown_seconds": COOLDOWN,
            "poll_seconds": 0.2,
        }
        flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.retrain", *flags],
                # One thread for each library: the other cores carry the traffic meanwhile, and
                # threads that wait for a busy core make training many times slower.
                env={**os.environ, "SEATRIAL_HOST": "127.0.0.1", "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509
            )
        deadline = time.monotonic() + 30
        while not self._ask("/healthz"):
            self.check()
            if time.monotonic() > deadline:
                raise StageError(f"the retrain receiver did not answer within 30 s; {self._where}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raises StageError when the receiver is no longer running."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise StageError(f"the retrain receiver ended with code {code}; {self._where}")

    def deliver(self) -> None:
        """Hands it the events that the sidecars have sent since the last time, in their order."""
        self.check()
        for event in self._new():
            if str(event.get("time", "")) < self._since:
                self._delivered += 1
                continue
            body = json.dumps(event).encode()
            headers = {"content-type": "application/cloudevents+json"}
            request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - loopback
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                    answer.read()
            except OSError as error:
                raise StageError(
                    f"the retrain receiver did not take event {event['id']}: {error}; {self._where}"
                ) from None
            self._delivered += 1
            self.seen.append(event)

    def await_event(
        self, transition: str, digest: str, within: float, wait: Callable[[], None]
    ) -> Event:
        """The first such event about a bundle; `wait` is called between looks and may raise."""
        deadline = time.monotonic() + within
        while True:
            self.deliver()
            for event in self.seen:
                if event["type"] == PREFIX + transition and event["data"]["bundle"] == digest:
                    return event
            if time.monotonic() > deadline:
                raise StageError(
                    f"no sidecar told of drift {transition} for bundle {digest[:12]} within"
                    f" {within:g} s"
                )
            wait()

    def await_run(self, event: Event, within: float, wait: Callable[[], None]) -> Path:
        """The bundle of the run that the event started."""
        deadline = time.monotonic() + within
        while True:
            self.check()
            told: dict[str, Any] = next(
                (e for e in self.status()["events"] if e["id"] == event["id"]), {}
            )
            if told.get("state") == "succeeded":
                return self._bundle(told["run"])
            if told.get("state") in ("failed", "skipped") or time.monotonic() > deadline:
                raise StageError(
                    f"event {event['id']} led to no new bundle: {told.get('state')},"
                    f" {told.get('why')}; {self._where}"
                )
            self.deliver()
            wait()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self._ask("/status") or b'{"events": []}'))

    def stop(self) -> None:
        """Ends it in order. Raises StageError when it does not end well."""
        self.check()
        assert self._process is not None  # noqa: S101 - check() has seen it
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(10) != 0:
            raise StageError(f"the retrain receiver ended badly; {self._where}")

    def kill(self) -> None:
        """Ends it and its runs at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for claim in self._journal.glob("runs/*/claim"):
            if not claim.with_name("exit").exists():
                with contextlib.suppress(OSError, ValueError):
                    os.killpg(int(claim.read_text()), signal.SIGKILL)

    def _new(self) -> list[Event]:
        if not self._events.exists():
            return []
        text = self._events.read_text("utf-8")
        whole = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in whole[self._delivered :]]

    def _bundle(self, run: str) -> Path:
        log = self._journal / "runs" / run / "log"
        for line in reversed(log.read_text(errors="replace").splitlines()):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return Path(json.loads(line)["bundle"])
        raise StageError(f"the run did not say where its bundle is; see {log}")

    def _ask(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(self._url + path, timeout=5) as answer:  # noqa: S310
                return bytes(answer.read())
        except OSError:
            return b""

    @property
    def _where(self) -> str:
        return f"see {self._log}"
