"""Several processes that share the ports and add their numbers up, under one leader.

The leader serves nothing. It holds the ports, starts a worker again that crashed, passes on the
order to stop, and ends with the code of a worker that refused to serve.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.errors import SeatrialError
from serving.lifeline import die_with_parent
from serving.predictor.board import board_file
from serving.predictor.settings import Settings

_WORKER, _BOARD, _LEADER = (f"SEATRIAL_GROUP_{name}" for name in ("WORKER", "BOARD", "LEADER"))
_STOP_SECONDS = 6.0
_AGAIN_SECONDS = 1.0

logger = logging.getLogger("seatrial.predictor")


@dataclass(frozen=True)
class Membership:
    """What a worker knows of its group."""

    worker: int
    board: Path
    leader: int


def membership(env: Mapping[str, str]) -> Membership | None:
    """None for a process that serves alone, or leads."""
    if _WORKER not in env:
        return None
    die_with_parent()
    return Membership(int(env[_WORKER]), Path(env[_BOARD]), int(env[_LEADER]))


def listen(host: str, port: int, *, flag: str, shared: bool) -> socket.socket:
    """A bound socket. Raises SeatrialError when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        shown = f"[{host}]" if ":" in host else host
        raise SeatrialError(
            f"cannot bind {flag.removesuffix('_port').upper()} to {shown}:{port}: {error.strerror};"
            f" stop its owner or give another --{flag}"
        ) from None
    return listener


def lead(settings: Settings, argv: Sequence[str]) -> int:
    """Runs the group until it is told to stop; the exit code. Raises SeatrialError."""
    held = []
    for flag in ("http_port", "grpc_port"):
        port = getattr(settings, flag)
        listen(settings.host, port, flag=flag, shared=False).close()
        # Bound and never listening: strangers cannot take the port between two workers' lives.
        held.append(listen(settings.host, port, flag=flag, shared=True))
    board = board_file()
    try:
        return _Group(settings.workers, argv, board).run()
    finally:
        board.unlink(missing_ok=True)
        for holder in held:
            holder.close()


class _Group:
    def __init__(self, workers: int, argv: Sequence[str], board: Path) -> None:
        self._argv = argv
        self._board = board
        self._stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._members = {worker: self._start(worker) for worker in range(workers)}

    def run(self) -> int:
        refused = 0
        while not self._stopping and not refused:
            time.sleep(0.1)
            for worker, process in self._members.items():
                code = process.poll()
                if code is None:
                    continue
                if code > 0:
                    refused = code
                    break
                if not self._stopping:
                    logger.error("worker %d ended by signal %d: starting it again", worker, -code)
                    time.sleep(_AGAIN_SECONDS)
                    self._members[worker] = self._start(worker)
        return self._end() or refused

    def _start(self, worker: int) -> subprocess.Popen[bytes]:
        own = {_WORKER: str(worker), _BOARD: str(self._board), _LEADER: str(os.getpid())}
        return subprocess.Popen(
            [sys.executable, "-m", "serving.predictor", *self._argv], env={**os.environ, **own}
        )

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _end(self) -> int:
        """Stops all; the first code that is not 0."""
        for process in self._members.values():
            process.terminate()
        end = time.monotonic() + _STOP_SECONDS
        codes = []
        for process in self._members.values():
            try:
                codes.append(process.wait(max(0.1, end - time.monotonic())))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
        # A worker still starting has no handler yet and ends by the signal: as good as 0.
        return next((code for code in codes if code not in (0, -signal.SIGTERM)), 0)
