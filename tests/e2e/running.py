"""A demo as a child process of the tests, with a state directory and a port of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

SMALL = ("--customers", "400", "--days", "45")
"""For tests of how a story ends badly before its drift has been found."""


class Demo:
    """One `seatrial demo`, watched through its facts.json and its process tree."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.state = folder / "state"
        self.environment = {**os.environ, "SEATRIAL_STATE": str(self.state)}
        self.peak_bytes = 0
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "seatrial", "demo", "--runs", str(folder / "runs")),
                *("--port", str(self.port), *arguments),
            ],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=(folder / "stdout").open("wb"),
            stderr=subprocess.STDOUT,
        )

    @property
    def run(self) -> Path:
        (found,) = (self.folder / "runs").iterdir()
        return found

    @property
    def output(self) -> str:
        return (self.folder / "stdout").read_text(errors="replace")

    def facts(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.run / "facts.json").read_text()))
        return {"stages": []}

    def seatrial(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command of the same user, beside the demo."""
        return subprocess.run(
            [sys.executable, "-m", "seatrial", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def wait_for_stage(self, name: str, seconds: float = 150) -> None:
        self.wait_until(
            lambda: any(s["name"] == name and s["ok"] is None for s in self.facts()["stages"]),
            f"stage '{name}'",
            seconds,
        )

    def wait_for_step(self, step: str, seconds: float = 150) -> None:
        self.wait_until(
            lambda: any(entry["step"] == step for entry in self.facts().get("timeline", [])),
            f"step '{step}'",
            seconds,
        )

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended before {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {what} within {seconds} s:\n{self.output}"
            time.sleep(0.05)

    def wait(self, seconds: float) -> int:
        """The exit code; notes the peak of the resident memory of all its processes."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running after {seconds} s:\n{self.output}"
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident, self.processes())))
            time.sleep(0.25)
        return self.process.returncode

    def processes(self) -> list[psutil.Process]:
        """The demo's children of any depth, and all that the player runs for it."""
        roots = {self.process.pid, *_player_pids(self.state)}
        found: dict[int, psutil.Process] = {}
        for pid in roots:
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(pid)
                found[pid] = root
                found.update({p.pid: p for p in root.children(recursive=True)})
        return list(found.values())

    def child(self, *words: str) -> psutil.Process:
        """Its youngest process whose command line holds all the words."""
        for process in sorted(self.processes(), key=lambda p: -p.pid):
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if process.pid != self.process.pid and all(word in line for word in words):
                    return process
        raise LookupError(f"no process with {words}")

    def end(self) -> None:
        """Leaves nothing behind, whatever the test did."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.seatrial("down")


@contextlib.contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[Demo]:
    started = Demo(folder, *arguments)
    try:
        yield started
    finally:
        started.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def all_gone(processes: list[psutil.Process], seconds: float) -> bool:
    """True when all have ended within that time; zombies of others count as ended."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _player_pids(state: Path) -> set[int]:
    with contextlib.suppress(OSError, ValueError, KeyError):
        data = json.loads((state / "state.json").read_text())
        return {
            data["supervisor"]["pid"],
            *(child["pid"] for child in data["children"].values()),
        }
    return set()


def _resident(process: psutil.Process) -> int:
    """Proportional set size: memory that processes share is counted once."""
    with contextlib.suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0
