"""A sidecar as a real process, a little sink, and streams of the tiny contract's rows."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.client
import io
import json
import math
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from serving.drift import events
from tests.support import tiny

Columns = dict[str, NDArray[Any]]
DIGEST = "d" * 64
ARM = "isvc.tiny-v1-predictor"
WINDOW = 200
CONFIG: dict[str, Any] = {
    "watch": {},
    "windows": {"detector": "tabular", "p_value": 0.05, "size": WINDOW},
}


def columns(count: int, seed: int) -> Columns:
    """Clean rows with their score."""
    rows = tiny.rows(count, seed)
    return {**rows, "score": tiny.expected_scores(rows)}


def as_json(column: NDArray[Any]) -> list[Any]:
    """The column as the tee sends it: null for missing."""
    numbers = column.dtype != object
    return [None if (math.isnan(v) if numbers else v == "") else v for v in column.tolist()]


def reference_bytes(rows: Columns) -> bytes:
    packed = io.BytesIO()
    arrays: dict[str, Any] = {k: v.astype("U") if v.dtype == object else v for k, v in rows.items()}
    np.savez(packed, **arrays)
    return packed.getvalue()


REFERENCE = reference_bytes(columns(3000, seed=1))


def introduction(digest: str = DIGEST, **changes: Any) -> dict[str, Any]:
    """The body of PUT /bundle."""
    return {
        "digest": digest,
        "arm": ARM,
        "model": "tiny",
        "contract": tiny.CONTRACT,
        "config": CONFIG,
        "reference": base64.b64encode(REFERENCE).decode(),
        **changes,
    }


def rows_event(
    rows: Columns, event_id: str, digest: str = DIGEST, when: str = "2026-03-01T12:00:00Z"
) -> dict[str, Any]:
    """A structured CloudEvent as the tee sends it."""
    count = len(rows["score"])
    return {
        "specversion": "1.0",
        "type": "io.seatrial.inference.rows",
        "source": f"/seatrial/tiny/{ARM}",
        "id": event_id,
        "time": when,
        "datacontenttype": "application/json",
        "data": {
            "digest": digest,
            "arm": ARM,
            "ids": [f"{event_id}-{row}" for row in range(count)],
            "columns": {name: as_json(values) for name, values in rows.items() if name != "score"},
            "outputs": {"score": rows["score"].tolist(), "decision": ["approve"] * count},
        },
    }


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_until(done: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


class Sidecar:
    """python -m serving.drift on a free loopback port."""

    def __init__(self, python: Path, log: Path, *flags: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(python), "-m", "serving.drift", "--port", str(self.port), *flags],
                env={**os.environ, "SEATRIAL_HOST": "127.0.0.1"},
                stdout=output,
                stderr=output,
            )
        wait_until(self._answers, "the first /healthz")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.request("GET", "/healthz")[0] == 200
        except OSError:
            return False

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """A request on a connection of its own; a dict is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = json.dumps(body).encode() if isinstance(body, Mapping) else body
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def status(self) -> Any:
        return json.loads(self.request("GET", "/status")[1])

    def metric(self, sample: str) -> float:
        text = self.request("GET", "/metrics")[1].decode()
        for line in text.splitlines():
            if line.startswith(sample + " "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no {sample} in:\n{text}")

    def introduce(self, **changes: Any) -> None:
        assert self.request("PUT", "/bundle", introduction(**changes)) == (204, b"")

    def send(self, rows: Columns, event_id: str, size: int = 100, digest: str = DIGEST) -> None:
        """Sends rows as events of `size` rows."""
        for start in range(0, len(rows["score"]), size):
            part = {name: values[start : start + size] for name, values in rows.items()}
            event = rows_event(part, f"{event_id}-{start}", digest)
            assert self.request("POST", "/events", event) == (202, b"")

    def wait_tested(self, windows: int) -> None:
        # Importing Alibi takes a busy machine long.
        wait_until(lambda: self.status()["window"]["tested"] >= windows, f"window {windows}", 90)

    def wait_rows(self, rows: int) -> None:
        """Until so many rows are watched, those before a restart included."""
        wait_until(lambda: (self.status()["timeline"] or [{}])[-1].get("rows", 0) >= rows, "rows")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Sink:
    """An HTTP server that keeps the events it takes; `answers` are its first statuses."""

    def __init__(
        self,
        port: int = 0,
        answers: tuple[int, ...] = (),
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.attempts = 0
        self.times: list[float] = []
        self.wrong: list[str] = []
        """What the events sent here break: their published schema, or CloudEvents."""
        pending = list(answers)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                time.sleep(delay)
                status = pending.pop(0) if pending else 202
                sink.attempts += 1
                sink.times.append(time.monotonic())
                if status < 300:
                    given = {k.lower(): v for k, v in self.headers.items()}
                    sink.take({"headers": given, "data": json.loads(body)})
                self.send_response(status)
                for name, value in (headers or {}).items() if status >= 300 else ():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, event: dict[str, Any]) -> None:
        headers = event["headers"]
        self.events.append(event)
        missing = {"ce-id", "ce-type", "ce-source", "ce-specversion", "ce-time"} - headers.keys()
        self.wrong += [f"no {name}" for name in missing]
        if headers["ce-type"].startswith("io.seatrial."):
            schema = schemas()[headers["ce-dataschema"]]
            self.wrong += [error.message for error in schema.iter_errors(event["data"])]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The data of the events whose type ends so."""
        return [e["data"] for e in self.events if e["headers"]["ce-type"].endswith(kind)]

    @property
    def ids(self) -> list[str]:
        return [event["headers"]["ce-id"] for event in self.events]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        assert self.wrong == []


@functools.cache
def schemas() -> dict[str, jsonschema.Draft202012Validator]:
    """The published schemas by their $id."""
    folder = Path(events.__file__).parent / "schema"
    found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    return {schema["$id"]: jsonschema.Draft202012Validator(schema) for schema in found}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
