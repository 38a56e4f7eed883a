"""A client in a process of its own that sends rows to a gateway and writes every answer down."""

from __future__ import annotations

import http.client
import itertools
import json
import multiprocessing
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serving.local.load import v2_rows
from tests.support.tiny import rows

PAUSE_S = 0.1
EVERY = 10
"""One row in so many is one that a faulty model fails on."""
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Answer:
    sent: float
    """Unix seconds."""
    arm: str
    status: int
    """0 where there was no answer."""
    text: str
    """Of an answer that is not 200."""


class Sender:
    """`with Sender(gateway, file):` sends until the block ends. A process, so that whoever uses it
    may fork and kill; a request waits for its answer."""

    def __init__(self, gateway: str, file: Path, threads: int = 24) -> None:
        self._file = file
        self._stop = _FORK.Event()
        self._process = _FORK.Process(
            target=_send, args=(gateway, file, threads, self._stop), daemon=True
        )

    def __enter__(self) -> Sender:
        self._file.touch()
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join(40)
        if self._process.is_alive():
            self._process.kill()

    def answers(self, since: float = 0.0) -> list[Answer]:
        """Those so far that were sent after `since`."""
        lines = self._file.read_text().splitlines(keepends=True)
        found = [Answer(*json.loads(line)) for line in lines if line.endswith("\n")]
        return [answer for answer in found if answer.sent >= since]


def _send(gateway: str, file: Path, threads: int, stop: Any) -> None:
    lock = threading.Lock()
    with file.open("a", buffering=1) as out:
        loops = [
            threading.Thread(target=_loop, args=(gateway, seed, stop, out, lock))
            for seed in range(threads)
        ]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join()


def _loop(gateway: str, seed: int, stop: Any, out: Any, lock: Any) -> None:
    columns = rows(200, seed)
    # Not all clients at once: that would be a burst.
    columns["visits"][seed % EVERY :: EVERY] = 5000
    bodies = [
        json.dumps(v2_rows({name: values[i : i + 1] for name, values in columns.items()}))
        for i in range(200)
    ]
    connection = http.client.HTTPConnection(gateway, timeout=20)
    for body in itertools.cycle(bodies):
        if stop.is_set():
            break
        sent, arm, status, text = time.time(), "", 0, ""
        try:
            connection.request("POST", "/v2/models/tiny/infer", body)
            answer = connection.getresponse()
            arm, status = answer.headers.get("x-seatrial-arm", ""), answer.status
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            text = repr(error)
            connection.close()
        with lock:
            out.write(json.dumps([sent, arm, status, "" if status == 200 else text]) + "\n")
        time.sleep(PAUSE_S)
    connection.close()
