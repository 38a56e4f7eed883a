"""Takes all connections that wait, and not one a turn of the loop as libuv does.

In a burst of new connections a loop that is busy with requests would else leave callers in the
kernel's queue for seconds, where nobody can even refuse them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

_BACKLOG = 4096
_AT_ONCE = 1024
# After an accept that failed for want of something, such as file descriptors.
_PAUSE_SECONDS = 0.5

logger = logging.getLogger("seatrial.predictor")


class Acceptor:
    """For one listening socket and the running loop; `start`, then `stop`."""

    def __init__(
        self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[object]] = set()
        self._open = False

    def start(self) -> None:
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._open = True
        self._watch()

    def stop(self) -> None:
        """Takes no more and closes the socket."""
        self._open = False
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def _watch(self) -> None:
        if self._open:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.error("cannot take a connection: %s", error.strerror)
                self._loop.remove_reader(self._listener.fileno())
                self._loop.call_later(_PAUSE_SECONDS, self._watch)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begun: asyncio.Task[object] = self._loop.create_task(self._begin(connection))
            self._beginning.add(begun)
            begun.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:
            connection.close()  # it has gone again
