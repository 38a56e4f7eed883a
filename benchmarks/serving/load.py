"""Requests in a closed loop from a process of its own: `python -m benchmarks.serving.load`.

One JSON line in ({"wire", "port", "body", ...}), one out ({"requests", "statuses", ...});
it lives for the whole benchmark, so that its start is in no measurement.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections import Counter
from time import perf_counter
from typing import Any

import grpc.aio
import uvloop


class _Connection(asyncio.Protocol):
    """Sends the same request again as soon as its answer is there."""

    def __init__(self, request: bytes, until: float) -> None:
        self._request = request
        self._until = until
        self._buffer = b""
        self._start = 0.0
        self._transport: Any = None
        self.waiting = False
        self.times: list[float] = []
        self.statuses: dict[str, int] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < head + 4 + length:
            return
        now = perf_counter()
        self.times.append(now - self._start)
        status = self._buffer[9:12].decode()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._buffer = b""
        self.waiting = False
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._start = perf_counter()
        self.waiting = True
        self._transport.write(self._request)


def http_request(task: dict[str, Any]) -> bytes:
    """As it goes over the wire."""
    body = base64.b64decode(task["body"])
    kind = "octet-stream" if task["json_size"] else "json"
    head = f"POST {task['path']} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/{kind}\r\n"
    if task["json_size"]:
        head += f"inference-header-content-length: {task['json_size']}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _http(task: dict[str, Any], until: float) -> tuple[list[float], Counter[str]]:
    request = http_request(task)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Connection(request, until), "127.0.0.1", task["port"])
        for _ in range(task["connections"])
    ]
    await asyncio.gather(*(connection.done for _, connection in made))
    times = [seconds for _, connection in made for seconds in connection.times]
    statuses: Counter[str] = Counter()
    for _, connection in made:
        statuses.update(connection.statuses)
        if connection.waiting:
            statuses["none"] += 1
    return times, statuses


async def _grpc(task: dict[str, Any], until: float) -> tuple[list[float], Counter[str]]:
    message = base64.b64decode(task["body"])
    times: list[float] = []
    statuses: Counter[str] = Counter()

    async def ask() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{task['port']}", options) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            while True:
                start = perf_counter()
                try:
                    await call(message)
                    statuses["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    statuses[error.code().name] += 1
                now = perf_counter()
                times.append(now - start)
                if now >= until:
                    return

    await asyncio.gather(*(ask() for _ in range(task["connections"])))
    return times, statuses


async def _run(task: dict[str, Any]) -> dict[str, Any]:
    start = perf_counter()
    kind = _grpc if task["wire"] == "grpc" else _http
    times, statuses = await kind(task, start + task["seconds"])
    times.sort()
    return {
        "requests": len(times),
        "statuses": dict(statuses),
        "seconds": perf_counter() - start,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[int(len(times) * 0.99)],
        "max_ms": 1000 * times[-1],
    }


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(uvloop.run(_run(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
