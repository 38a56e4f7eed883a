"""Rows that one core decodes and watches: `python -m benchmarks.drift.ingest --write`.

The sidecar is a process of its own, without Alibi Detect; it is sent requests over a loopback
socket. Rows per second are rows watched over the CPU seconds that its process spent on them:
HTTP, decoding, the contract check, sketches and the watch.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.drift.sidecar import NUMBERS, TEXTS, Sidecar, tee_event, values

BATCH_ROWS = 1024
BURST = 90_000
"""Rows sent before the sidecar has watched them: a few less than its ring keeps by default."""
CONNECTIONS = 4

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


def event_batch(number: int) -> Request:
    events = [tee_event(number * 256 + i, 1000 + number * 256 + i) for i in range(256)]
    return json.dumps(events).encode(), {"content-type": "application/cloudevents-batch+json"}


def single(number: int) -> Request:
    body = json.dumps(tee_event(number, 1000 + number)).encode()
    return body, {"content-type": "application/cloudevents+json"}


LOGGER = ("--input", "kserve", "--logger_mode", "request")
WAYS = (
    Way("packed tensors, 1,024 rows a request", LOGGER, BATCH_ROWS, 200_000, tensors),
    Way("CloudEvents batches of 256 single-row JSON events", (), 256, 20_000, event_batch),
    Way("single POSTs of one-row JSON events", (), 1, 5_000, single),
)


class Load:
    """Sends rows in bursts that the sidecar's ring holds: what is sent is watched."""

    def __init__(self, way: Way, port: int) -> None:
        self._way, self._port = way, port
        self._made = [way.make(number) for number in range(64 if way.rows > 1 else 4000)]
        self._numbers: Iterator[int] = iter(range(10**9))
        self.sent = 0

    def burst(self, rows: int) -> None:
        lock, left = threading.Lock(), iter(range(max(rows // self._way.rows, 1)))
        failed: list[Exception] = []

        def send() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                while True:
                    with lock:
                        if next(left, None) is None:
                            return
                        number = next(self._numbers)
                        self.sent += self._way.rows
                    self._post(connection, number)
            except (OSError, http.client.HTTPException) as error:
                failed.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=send) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def _post(self, connection: http.client.HTTPConnection, number: int) -> None:
        body, headers = self._made[number % len(self._made)]
        # A new id, or it would be a duplicate; same length, same cost.
        if "ce-type" in headers:
            headers = {**headers, "ce-id": f"e{number}"}
        else:
            body = body.replace(b'"source": "/ingest"', b'"source": "/%06d"' % number)
        connection.request("POST", "/events", body, dict(headers))
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise http.client.HTTPException(f"answered {answer.status}")


def measure(way: Way, seconds: float) -> tuple[float, float]:
    """(rows per CPU second, resident MiB). As many rows as `way` should take in `seconds`."""
    sidecar = Sidecar(way.flags)
    try:
        load = Load(way, sidecar.port)

        def send(rows: int) -> None:
            for start in range(0, rows, BURST):
                load.burst(min(BURST, rows - start))
                sidecar.settle()
            assert sidecar.watched() == load.sent  # noqa: S101

        send(min(BURST, way.target))  # caches, imports
        before, cpu = load.sent, sidecar.cpu()
        send(int(way.target * seconds))
        return (load.sent - before) / (sidecar.cpu() - cpu), sidecar.resident()
    finally:
        sidecar.stop()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift.ingest", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of load in each round, at the rate asked"
    )
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
        rates = [rate for rate, _ in rounds]
        middle = statistics.median(rates)
        verdict = "met" if middle >= way.target else "**missed**"
        resident = max(mib for _, mib in rounds)
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
