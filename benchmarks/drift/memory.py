"""Resident memory over ten million rows: `python -m benchmarks.drift.memory --write`.

Rows come as the tee sends them, with scores, decisions and ids that wait for labels; the sidecar
writes its snapshots. Once with the watch alone, and once with Alibi Detect's TabularDrift beside
it, in the environment that has it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drift.real import ROOT
from benchmarks.drift.sidecar import WATCH, Sidecar, tee_event

EVENT_ROWS = 1000
EVENTS = 64
"""That differ; they are sent again and again, as other events."""
LOOK = 10
"""Events between two looks at memory, and at how far behind the sidecar is."""
BEHIND = 5_000
"""Rows that may wait, and two windows: no tee is faster than its sidecar for long."""
SETTLED = 0.1
"""Share of the rows after which memory is expected to be flat: caches and rings are full."""
GROWTH_MIB = 10
TABULAR = {**WATCH, "windows": {"detector": "tabular", "p_value": 0.05, "size": 5000}}


@dataclass(frozen=True)
class Kind:
    name: str
    python: Path
    config: Mapping[str, Any]
    most_mib: int


KINDS = (
    Kind("the watch alone", Path(sys.executable), WATCH, 150),
    Kind("the watch and TabularDrift", ROOT / ".venv-drift" / "bin" / "python", TABULAR, 450),
)


@dataclass
class Run:
    rows: int = 0
    tested: int = 0
    """Windows."""
    settled: float = 0.0
    last: float = 0.0
    highest: float = 0.0
    """MiB."""
    loaded: list[str] = field(default_factory=list)
    """Heavy libraries that the process has mapped."""


def play(kind: Kind, rows: int) -> Run:
    bodies = [
        json.dumps(tee_event(number, 5000 + number, EVENT_ROWS)).encode()
        for number in range(EVENTS)
    ]
    run = Run()
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as state:
        sidecar = Sidecar(("--state_dir", state), kind.config, str(kind.python))
        try:
            connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=60)
            while run.rows < rows:
                number = run.rows // EVENT_ROWS
                body = bodies[number % EVENTS]
                body = body.replace(b'"source": "/ingest"', b'"source": "/%06d"' % number)
                headers = {"content-type": "application/cloudevents+json"}
                connection.request("POST", "/events", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 202:
                    raise RuntimeError(f"answered {answer.status}")
                run.rows += EVENT_ROWS
                if number % LOOK == 0:
                    run.highest = max(run.highest, sidecar.resident())
                    connection.close()  # or the sidecar does, should this take long
                    _let_it_catch_up(sidecar)
                if not run.settled and run.rows >= SETTLED * rows:
                    run.settled = sidecar.resident()
            sidecar.settle()
            run.last = sidecar.resident()
            status = json.loads(sidecar.get("/status"))
            if sidecar.watched() != run.rows:
                raise RuntimeError(f"{sidecar.watched():,} of {run.rows:,} rows were watched")
            run.tested = status["window"]["tested"]
            maps = Path(f"/proc/{sidecar.process.pid}/maps").read_text()
            run.loaded = [n for n in ("torch", "transformers", "scipy") if f"/{n}/" in maps]
        finally:
            sidecar.stop()
    return run


def _let_it_catch_up(sidecar: Sidecar) -> None:
    while True:
        status = json.loads(sidecar.get("/status"))
        rows = status["input"]["waiting"]
        if rows <= BEHIND and status["window"]["waiting"] - rows <= 2:
            return
        time.sleep(0.02)


def line(kind: Kind, run: Run) -> str:
    flat = run.last - run.settled <= GROWTH_MIB
    verdict = "met" if flat and run.highest <= kind.most_mib else "**missed**"
    return (
        f"| {kind.name} | {run.rows:,} | {run.tested:,} | {run.settled:.0f} | {run.last:.0f} |"
        f" {run.highest:.0f} | {kind.most_mib} | {verdict} | {', '.join(run.loaded) or 'none'} |"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift.memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true", help="write benchmarks/drift/memory.md")
    given = parser.parse_args(arguments)
    lines = [
        "# Memory over a long stream",
        "",
        (
            f"`python -m benchmarks.drift.memory {' '.join(arguments)}`: 33 features with scores,"
            f" decisions and ids, in events of {EVENT_ROWS:,} as fast as they are watched,"
            " snapshots every 5 seconds. MiB resident: after the first tenth of the rows, after all"
            f" of them, and the highest seen; at most {GROWTH_MIB} may come between the first two."
        ),
        "",
        (
            "| detectors | rows | windows tested | settled | at the end | highest | at most | |"
            " torch, transformers, SciPy |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        if not kind.python.exists():
            raise SystemExit(f"error: {kind.python} is not built; run 'make environments'")
        lines.append(line(kind, play(kind, given.rows)))
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
    if given.write:
        Path(__file__).with_name("memory.md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
