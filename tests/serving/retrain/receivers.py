"""Receivers as real processes, and the events to send them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.retrain.cloudevent import CloudEvent
from serving.retrain.rules import OPENED

ROOT = Path(__file__).parents[3]


def event(number: int = 1, kind: str = OPENED, model: str = "fraud", **data: object) -> CloudEvent:
    return CloudEvent(
        id=f"event-{number}",
        source=f"/seatrial/{model}/v1/drift",
        type=kind,
        data={"model": model, "arm": "v1", "bundle": "ab" * 32, **data},
    )


class Receiver:
    """One `python -m serving.retrain` with quick looks and no cool-down."""

    def __init__(self, folder: Path, **settings: object) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.log = folder / "receiver.log"
        arguments = {
            "port": self.port,
            "journal": folder / "journal",
            "poll_seconds": 0.1,
            "cooldown_seconds": 0,
            **settings,
        }
        self._command = [sys.executable, "-m", "serving.retrain"]
        for name, value in arguments.items():
            self._command += [f"--{name}", str(value)]
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**os.environ, "SEATRIAL_HOST": "127.0.0.1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: self.ask("/healthz") == b"ok\n", within=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def send(self, sent: CloudEvent) -> tuple[int, bytes]:
        """Status and body of the answer to an event in structured mode."""
        headers = {"content-type": "application/cloudevents+json"}
        return self.post(json.dumps(sent.to_json()).encode(), headers)

    def post(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ask(self, path: str) -> bytes:
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            return b""

    def told(self, event_id: str = "event-1") -> dict[str, Any]:
        """What /status says of an event; {} while it says nothing."""
        events = json.loads(self.ask("/status") or b'{"events": []}')["events"]
        return next((dict(e) for e in events if e["id"] == event_id), {})


def eventually(true: Callable[[], bool], within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
