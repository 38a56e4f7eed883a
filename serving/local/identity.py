"""A process is its pid and its start time: a pid alone may have a new owner tomorrow."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02


@dataclass(frozen=True)
class Identity:
    pid: int
    start: int
    """Clock ticks after boot (field 22 of /proc/PID/stat)."""

    @property
    def alive(self) -> bool:
        """True while this very process runs; a zombie has ended."""
        return identity_of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Signals the process group it leads, or it alone; never a stranger with its pid."""
        if not self.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)


def identity_of(pid: int) -> Identity | None:
    """The running process of that pid; None if there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else Identity(pid, int(fields[19]))


def end_all(processes: Iterable[Identity], grace_seconds: float) -> None:
    """SIGTERM, after the grace SIGKILL."""
    alive = [process for process in processes if process.alive]
    for process in alive:
        process.send(signal.SIGTERM)
    if not wait_ended(alive, grace_seconds):
        for process in alive:
            process.send(signal.SIGKILL)
        wait_ended(alive, 2.0)


def wait_ended(processes: Iterable[Identity], seconds: float) -> bool:
    """True as soon as all have ended; False if one is still alive after that time."""
    deadline = time.monotonic() + seconds
    waiting = list(processes)
    while True:
        waiting = [process for process in waiting if process.alive]
        if not waiting:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)


def reap(pid: int) -> None:
    """Takes the exit status if the process is an ended child of ours, so that no zombie stays."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def port_holder(port: int) -> str | None:
    """ "name (pid N)" of the process that listens on a TCP port, if this user may know."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for handle in (process / "fd").iterdir():
                if os.readlink(handle) in inodes:
                    return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None
