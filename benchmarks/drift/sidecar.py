"""A drift sidecar as a process of its own, and rows of 33 features for it."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
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
WATCH: Mapping[str, Any] = {"watch": {}}
QUIET = 0.25
"""Seconds without work after which it has watched what it was sent."""
_TICKS = os.sysconf("SC_CLK_TCK")


def values(count: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {name: rng.normal(size=count).astype(np.float32) for name in NUMBERS}
    for name, categories in TEXTS.items():
        found[name] = np.array(categories)[rng.integers(0, len(categories), count)]
    return found


def introduction(config: Mapping[str, Any]) -> bytes:
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
            "config": config,
            "reference": base64.b64encode(packed.getvalue()).decode(),
        }
    ).encode()


def tee_event(number: int, seed: int, count: int = 1) -> dict[str, Any]:
    """Rows as our predictor's tee sends them."""
    rows = values(count, seed)
    scores = np.random.default_rng([seed, 1]).random(count)
    return {
        "specversion": "1.0",
        "type": "io.seatrial.inference.rows",
        "source": "/ingest",
        "id": f"e{number}",
        "time": "2026-03-01T12:00:00Z",
        "data": {
            "digest": DIGEST,
            "arm": ARM,
            "ids": [f"row-{number}/{row}" for row in range(count)],
            "columns": {name: column.tolist() for name, column in rows.items()},
            "outputs": {"score": scores.tolist(), "decision": ["approve"] * count},
        },
    }


class Sidecar:
    """At its default settings, but for `flags`; it watches a bundle of this drift config."""

    def __init__(
        self,
        flags: Sequence[str] = (),
        config: Mapping[str, Any] = WATCH,
        python: str = sys.executable,
    ) -> None:
        self.port = free_port()
        command = [python, "-m", "serving.drift", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--heartbeat_seconds", "0", *flags],
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
        connection.request("PUT", "/bundle", introduction(config))
        assert connection.getresponse().status == 204  # noqa: S101
        connection.close()

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def settle(self) -> None:
        """Waits until it has nothing left to do: /status would cost it time."""
        spent = -1.0
        while (now := self.cpu()) > spent:
            spent = now
            time.sleep(QUIET)

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

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
