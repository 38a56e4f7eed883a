"""Servers on one core and what measures them on another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.serving.predictor.servers import free_port

SERVER_CORE, LOAD_CORE = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")


def spawn(core: int, arguments: Sequence[str], log: Path, **more: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SEATRIAL_HOST": "127.0.0.1"}
    with log.open("a") as handle:
        return subprocess.Popen(
            ["taskset", "-c", str(core % (os.cpu_count() or 1)), sys.executable, "-m", *arguments],
            stderr=handle,
            env=env,
            text=True,
            **({"stdout": handle} | more),
        )


def wait_ready(ports: Sequence[int], processes: Sequence[subprocess.Popen[str]]) -> None:
    """Until every port accepts. Raises RuntimeError when a process ends before."""
    import socket  # noqa: PLC0415

    end = time.monotonic() + 60
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                dead = [p.args for p in processes if p.poll() is not None]
                if dead or time.monotonic() > end:
                    raise RuntimeError(f"nothing listens on port {port}; ended: {dead}") from None
                time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """CPU time of the process and its living descendants, 10 ms steps."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    spent = (int(fields[11]) + int(fields[12])) / _TICKS
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        spent += cpu_seconds(int(child))
    return spent


def resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Load:
    """The load generator's process."""

    def __init__(self, log: Path, module: str = "load") -> None:
        self._process = spawn(
            LOAD_CORE,
            [f"benchmarks.serving.{module}"],
            log,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended; its log says why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def predictor(
    bundle: Path, log: Path, *flags: str, tee: int | None = None
) -> tuple[subprocess.Popen[str], int, int]:
    """Our predictor on the server's core, ready: its process, HTTP port and gRPC port."""
    http, grpc = free_port(), free_port()
    process = spawn(
        SERVER_CORE,
        [
            "serving.predictor",
            "--model_name=bench",
            f"--model_dir={bundle}",
            f"--http_port={http}",
            f"--grpc_port={grpc}",
            f"--tee_url={f'http://127.0.0.1:{tee}' if tee else ''}",
            *flags,
        ],
        log,
    )
    wait_ready([http], [process])
    urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/models/bench/ready")
    return process, http, grpc


def stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
