"""One gate at a time: whoever holds the lease may act, and a dead holder holds nothing."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Protocol

from serving.errors import GateError


class Lease(Protocol):
    def take(self) -> None:
        """Raises GateError naming the holder when there is one."""
        ...

    def renew(self) -> None:
        """Raises GateError when the lease has been lost: the holder must not act any more."""
        ...

    def release(self) -> None: ...


class FileLease:
    """A lock on a file of this machine; the kernel takes it back when the process ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._handle: int | None = None

    def take(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise GateError(
                f"{self._file}: held by {holder(self._file)}; only one gate may act on a rollout:"
                " let it end, or end it"
            ) from None
        mine = {"holder": identity(), "since": time.time()}
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(mine).encode() + b"\n", 0)
        self._handle = handle

    def renew(self) -> None:
        """The lock cannot be taken away, but its file can: another gate would lock a new one."""
        try:
            same = self._handle is not None and os.path.samestat(
                os.fstat(self._handle), os.stat(self._file)
            )
        except FileNotFoundError:
            same = False
        if not same:
            raise GateError(f"{self._file}: the lease is lost, because the file was removed")

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def held(file: Path) -> bool:
    """True while a gate that lives holds the lease."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def holder(file: Path) -> str:
    """Who wrote itself into the lease last."""
    try:
        return str(json.loads(file.read_text())["holder"])
    except (OSError, ValueError, KeyError, TypeError):
        return "a gate that has not named itself yet"


def identity() -> str:
    return f"{socket.gethostname()} process {os.getpid()}"
