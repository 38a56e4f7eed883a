"""Rows that one core decodes and watches: `python -m benchmarks.drift.ingest --write`.

The sidecar is a process of its own, without Alibi Detect; it is sent requests over a loopback
socket. Rows per second are rows watched over the CPU seconds that its process spent on them:
HTTP, decoding, the contract check, sketches and the watch.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.serving.predictor.servers import free_port

NUMBERS = [f"n{i}" for i in range(30)]
TEXTS = {"channel": ["web", "shop", "phone"], "country": ["CH", "DE", "FR"], "kind": ["a", "b"]}
CONTRACT = {
    "name": "ingest",
    "features": [
        *({"name": name, "dtype": "float32"} for name in NUMBERS),
        *(
            {"name": name, "dtype": "string", "categories": categories}
            for name, categories in TEXTS.items()
        ),
    ],
    "label": {"column": "label"},
    "decision": {"review": 0.3, "decline": 0.8},
}
DIGEST, ARM = "d" * 64, "v1"
BATCH_ROWS = 1024
_TICKS = os.sysconf("SC_CLK_TCK")

Request = tuple[bytes, Mapping[str, str]]


@dataclass(frozen=True)
class Way:
    """How rows are sent."""

    name: str
    flags: Sequence[str]
    rows: int
    """In a request."""
    target: int
    make: Callable[[int], Request]


def values(count: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {name: rng.normal(size=count).astype(np.float32) for name in NUMBERS}
    for name, categories in TEXTS.items():
        found[name] = np.array(categories)[rng.integers(0, len(categories), count)]
    return found


def introduction() -> bytes:
    packed = io.BytesIO()
    rows = values(10_000, seed=1)
    rows["score"] = np.random.default_rng(2).random(10_000)
    np.savez(packed, **rows)
    return json.dumps(
        {
            "digest": DIGEST,
            "arm": ARM,
            "model": "ingest",
            "contract": CONTRACT,
            "config": {"watch": {}},
            "reference": base64.b64encode(packed.getvalue()).decode(),
        }
    ).encode()


def tensors(number: int) -> Request:
    """A V2 request of KServe's logger: one packed matrix and three packed columns of texts."""
    rows = values(BATCH_ROWS, seed=100 + number)
    parts = [("matrix", "FP32", np.column_stack([rows[n] for n in NUMBERS]).tobytes(), NUMBERS)]
    for name in TEXTS:
        texts = b"".join(struct.pack("<I", len(t)) + t.encode() for t in rows[name].tolist())
        parts.append((name, "BYTES", texts, [name]))
    inputs = [
        {
            "name": name,
            "datatype": kind,
            "shape": [BATCH_ROWS, len(columns)] if len(columns) > 1 else [BATCH_ROWS],
            "parameters": {"binary_data_size": len(data), "columns": ",".join(columns)},
        }
        for name, kind, data, columns in parts
    ]
    body = json.dumps({"inputs": inputs}).encode() + b"".join(data for _, _, data, _ in parts)
    headers = {
        "content-type": "application/octet-stream",
        "ce-specversion": "1.0",
        "ce-type": "org.kubeflow.serving.inference.request",
        "ce-source": "/ingest",
    }
    return body, headers


def row_event(number: int, seed: int) -> dict[str, Any]:
    """One row as our predictor's tee sends it."""
    rows = values(1, seed)
    return {
        "specversion": "1.0",
        "type": "io.seatrial.inference.rows",
        "source": "/ingest",
        "id": f"e{number}",
        "time": "2026-03-01T12:00:00Z",
        "data": {
            "digest": DIGEST,
            "arm": ARM,
            "ids": [f"row-{number}"],
            "columns": {name: column.tolist() for name, column in rows.items()},
            "outputs": {"score": [(seed * 0.618034) % 1], "decision": ["approve"]},
        },
    }


def event_batch(number: int) -> Request:
    events = [row_event(number * 256 + i, 1000 + i) for i in range(256)]
    return json.dumps(events).encode(), {"content-type": "application/cloudevents-batch+json"}


def single(number: int) -> Request:
    body = json.dumps(row_event(number, 1000 + number % 256)).encode()
    return body, {"content-type": "application/cloudevents+json"}


LOGGER = ("--input", "kserve", "--logger_mode", "request")
WAYS = (
    Way("packed tensors, 1,024 rows a request", LOGGER, BATCH_ROWS, 200_000, tensors),
    Way("CloudEvents batches of 256 single-row JSON events", (), 256, 20_000, event_batch),
    Way("single POSTs of one-row JSON events", (), 1, 5_000, single),
)


class Sidecar:
    def __init__(self, flags: Sequence[str]) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "serving.drift", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--heartbeat_seconds", "0", "--ring_rows", "1000000", *flags],
            env={**os.environ, "SEATRIAL_HOST": "127.0.0.1", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 60
        while True:
            try:
                self.get("/healthz")
                break
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.05)
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("PUT", "/bundle", introduction())
        assert connection.getresponse().status == 204  # noqa: S101
        connection.close()

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def watched(self) -> int:
        status = json.loads(self.get("/status"))
        assert not status["input"]["dropped"], status["input"]  # noqa: S101
        return int(status["rows"])

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident(self) -> float:
        """MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(way: Way, seconds: float, connections: int = 4) -> tuple[float, float, float]:
    """(rows per CPU second, rows per second of wall time, resident MiB)."""
    sidecar = Sidecar(way.flags)
    try:
        made = [way.make(number) for number in range(16 if way.rows > 1 else 2000)]
        numbers: Iterator[int] = iter(range(10**9))
        lock = threading.Lock()
        sent = 0

        def send(until: float) -> None:
            nonlocal sent
            connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=30)
            while time.monotonic() < until:
                with lock:
                    number = next(numbers)
                body, headers = made[number % len(made)]
                # A new id, or it would be a duplicate; same length, same cost.
                headers = {**headers, "ce-id": f"e{number}"} if "ce-type" in headers else headers
                if way.rows != BATCH_ROWS:
                    body = body.replace(b'"source": "/ingest"', b'"source": "/%06d"' % number)
                connection.request("POST", "/events", body, dict(headers))
                answer = connection.getresponse()
                answer.read()
                if answer.status != 202:
                    raise RuntimeError(f"answered {answer.status}")
                with lock:
                    sent += way.rows
            connection.close()

        def drive(span: float) -> None:
            until = time.monotonic() + span
            threads = [threading.Thread(target=send, args=(until,)) for _ in range(connections)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            while sidecar.watched() < sent:
                time.sleep(0.25)

        drive(min(1.0, seconds / 2))  # caches, imports
        before, cpu, began = sent, sidecar.cpu(), time.monotonic()
        drive(seconds)
        rows, spent = sent - before, sidecar.cpu() - cpu
        return rows / spent, rows / (time.monotonic() - began), sidecar.resident()
    finally:
        sidecar.process.terminate()
        sidecar.process.wait(10)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift.ingest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of load in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write benchmarks/drift/ingest.md")
    given = parser.parse_args(arguments)
    lines = [
        "# Rows that one core takes in",
        "",
        (
            f"`python -m benchmarks.drift.ingest --seconds {given.seconds:g}"
            f" --rounds {given.rounds}{' --write' if given.write else ''}`: 33 features"
            " (30 numbers, 3 texts), the watch on, no Alibi Detect; requests over a loopback"
            " socket. Rows per CPU second of the sidecar's process (HTTP, decoding, contract check,"
            " sketches, watch): median of the rounds, and the smallest and largest."
        ),
        "",
        "| rows come as | rows per CPU second | from | to | asked | | resident MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        rounds = [measure(way, given.seconds) for _ in range(given.rounds)]
        rates = [rate for rate, _, _ in rounds]
        middle = statistics.median(rates)
        verdict = "met" if middle >= way.target else "**missed**"
        resident = max(mib for _, _, mib in rounds)
        lines.append(
            f"| {way.name} | {middle:,.0f} | {min(rates):,.0f} | {max(rates):,.0f} |"
            f" {way.target:,} | {verdict} | {resident:.0f} |"
        )
        sys.stdout.write(lines[-1] + "\n")
    if given.write:
        Path(__file__).with_name("ingest.md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
