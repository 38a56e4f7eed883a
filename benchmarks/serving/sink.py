"""A sidecar that takes everything and keeps nothing: `python -m benchmarks.serving.sink PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop


class _Sink(asyncio.Protocol):
    def __init__(self) -> None:
        self._left = 0
        self._head = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            lower = self._head[:end].lower()
            at = lower.find(b"content-length:")
            self._left = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            data = self._head[end + 4 :]
            self._head = b""
        self._left -= len(data)
        if self._left <= 0:
            self._left = 0
            self._transport.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
