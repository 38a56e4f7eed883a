"""Requests at a rate that nobody slows down: `python -m benchmarks.serving.flood`.

One JSON line in ({"port", "path", "body", "json_size", "rate", "seconds"}), one out. An arrival
takes an idle connection or opens one, as callers do that know nothing of each other, and is given
up on after `_GIVE_UP` seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from time import perf_counter
from typing import Any

import uvloop

from benchmarks.serving.load import http_request

_GIVE_UP = 10.0
_TICK = 0.002
# Twice what Envoy opens to one host unless it is told otherwise.
_MOST_CONNECTIONS = 2048


class _Caller(asyncio.Protocol):
    def __init__(self, idle: list[_Caller], answered: list[tuple[float, str]]) -> None:
        self._idle = idle
        self._answered = answered
        self._buffer = b""
        self.start = 0.0
        self.waiting = False
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> None:
        self.start, self.waiting = perf_counter(), True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        at = lower.find(b"content-length:")
        if len(self._buffer) < head + 4 + int(lower[at + 15 :].split(b"\r\n", 1)[0]):
            return
        self._answered.append((perf_counter() - self.start, self._buffer[9:12].decode()))
        self._buffer, self.waiting = b"", False
        self._idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting:
            self._answered.append((perf_counter() - self.start, "broken off"))
            self.waiting = False
        if self in self._idle:
            self._idle.remove(self)


async def flood(task: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    request = http_request(task)
    idle: list[_Caller] = []
    callers: list[_Caller] = []
    answered: list[tuple[float, str]] = []
    opening: set[asyncio.Task[None]] = set()
    short = 0

    async def open_and_ask() -> None:
        try:
            _, caller = await loop.create_connection(
                lambda: _Caller(idle, answered), "127.0.0.1", task["port"]
            )
        except OSError:
            answered.append((0.0, "no connection"))
            return
        callers.append(caller)
        caller.ask(request)

    start = perf_counter()
    sent = 0
    while (now := perf_counter() - start) < task["seconds"]:
        due = int(now * task["rate"])
        while sent < due:
            sent += 1
            if idle:
                idle.pop().ask(request)
            elif len(callers) + len(opening) < _MOST_CONNECTIONS:
                begun = loop.create_task(open_and_ask())
                opening.add(begun)
                begun.add_done_callback(opening.discard)
            else:
                short += 1
        await asyncio.sleep(_TICK)
    end = perf_counter()
    while len(answered) + short < sent and perf_counter() - end < _GIVE_UP:
        await asyncio.sleep(0.01)
    silent = sent - short - len(answered)
    for caller in callers:
        caller.waiting = False
        caller.transport.abort()
    statuses = Counter(status for _, status in answered)
    if silent:
        statuses["no answer"] = silent
    times = sorted(seconds for seconds, _ in answered)
    taken = sorted(seconds for seconds, status in answered if status == "200")
    return {
        "sent": sent - short,
        "not_sent": short,
        "rate": (sent - short) / (end - start),
        "statuses": dict(statuses),
        "p50_ms": _at(taken, 0.5),
        "p99_ms": _at(taken, 0.99),
        "max_ms": _at(times, 1.0),
    }


def _at(times: list[float], share: float) -> float:
    return 1000 * times[min(len(times) - 1, int(len(times) * share))] if times else 0.0


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(uvloop.run(flood(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
