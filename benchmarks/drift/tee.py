"""What the tee costs the predictor: `python -m benchmarks.drift.tee --write`.

Two predictors of one bundle share a core, one of them with a real drift sidecar; the load and the
sidecar are on another core. They take turns, in pairs of slices whose order alternates. A slice
lasts until the tee has sent what it holds, so that its work is all in the slice that caused it.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from scipy.stats import t as student

from benchmarks.serving import models
from benchmarks.serving.payloads import task
from benchmarks.serving.processes import (
    LOAD_CORE,
    Load,
    cpu_seconds,
    predictor,
    spawn,
    stop,
    wait_ready,
)
from serving.bundle import Bundle, write_bundle
from tests.serving.predictor.servers import free_port

BAR = 1.10
REQUESTS: tuple[tuple[str, tuple[str, int]], ...] = (
    ("V2 JSON, 1 row", ("v2", 1)),
    ("V2 JSON, 32 rows", ("v2", 32)),
    ("gRPC, 1 row", ("grpc", 1)),
)
"""Names, wires and rows."""
AFTERWARDS = 0.5
"""Seconds after a slice's last answer in which the tee sends what it holds."""

Server = tuple[subprocess.Popen[str], int, int]


@dataclass(frozen=True)
class Slice:
    ms: float
    """CPU per request."""
    sent: float
    dropped: float
    """Rows of the tee."""


@dataclass(frozen=True)
class Ratio:
    """CPU per request with the tee over that without it."""

    mean: float
    low: float
    high: float
    """95 % interval."""


def watched_bundle(folder: Path) -> Path:
    """The serving benchmark's 30→256→128→1 bundle, with a drift reference that has scores."""
    made = models.bundle(folder / "plain", models.SMALL)
    files = {name: (made.path / name).read_bytes() for name in made.files}
    rows = models.sample(10_000, seed=7)
    columns = dict(zip(models.FEATURES, np.ascontiguousarray(rows.T), strict=True))
    session = onnxruntime.InferenceSession(files["model.onnx"], providers=["CPUExecutionProvider"])
    reference = io.BytesIO()
    np.savez(reference, **columns, score=session.run(["score"], columns)[0])
    files |= {"drift/reference.npz": reference.getvalue(), "drift/config.json": b'{"watch": {}}'}
    bundle: Bundle = write_bundle(folder / "watched", files, attestation={"run": "bench"})
    return bundle.path


def compare(
    load: Load, servers: dict[str, Server], requests: tuple[str, int], *, pairs: int, seconds: float
) -> list[tuple[Slice, Slice]]:
    """(on, off) of each pair."""
    found = []
    for number in range(pairs + 1):
        order = ("on", "off") if number % 2 else ("off", "on")
        # The first pair warms up.
        length = seconds if number else 0.5
        pair = {name: measure(load, servers[name], *requests, length) for name in order}
        if number:
            found.append((pair["on"], pair["off"]))
    return found


def measure(load: Load, server: Server, wire: str, rows: int, seconds: float) -> Slice:
    process, http, grpc = server
    teed, spent = tee_rows(http), cpu_seconds(process.pid)
    answer = load.run({**task(wire, rows, (http, grpc)), "connections": 8, "seconds": seconds})
    time.sleep(AFTERWARDS)
    spent = cpu_seconds(process.pid) - spent
    if set(answer["statuses"]) - {"200", "OK"}:
        raise RuntimeError(f"{wire}: {answer['statuses']}")
    sent, dropped = (now - before for now, before in zip(tee_rows(http), teed, strict=True))
    return Slice(1000 * spent / answer["requests"], sent, dropped)


def tee_rows(port: int) -> tuple[float, float]:
    """(sent, dropped) so far, as the predictor's /metrics says."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    totals = {"seatrial_tee_rows_total": 0.0, "seatrial_tee_dropped_rows_total": 0.0}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in totals:
            totals[name] += float(line.rpartition(" ")[2])
    sent, dropped = totals.values()
    return sent, dropped


def ratio(pairs: Sequence[tuple[Slice, Slice]]) -> Ratio:
    """Geometric mean, with Student's interval of the logarithms."""
    logs = [math.log(on.ms / off.ms) for on, off in pairs]
    middle = statistics.mean(logs)
    wide = student.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(middle), math.exp(middle - wide), math.exp(middle + wide))


def line(title: str, pairs: Sequence[tuple[Slice, Slice]]) -> str:
    found = ratio(pairs)
    on, off = (statistics.median(pair[side].ms for pair in pairs) for side in (0, 1))
    sent, dropped = sum(a.sent for a, _ in pairs), sum(a.dropped for a, _ in pairs)
    verdict = "met" if found.high <= BAR else "**missed**"
    return (
        f"| {title} | {off:.4f} | {on:.4f} | {found.mean - 1:+.1%} | {found.low - 1:+.1%} to"
        f" {found.high - 1:+.1%} | {verdict} | {sent / max(sent + dropped, 1):.1%} |"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift.tee", description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one slice")
    parser.add_argument("--write", action="store_true", help="write benchmarks/drift/tee.md")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as name:
        folder = Path(name)
        log, port = folder / "log", free_port()
        bundle = watched_bundle(folder)
        sidecar = spawn(
            LOAD_CORE, ["serving.drift", "--port", str(port), "--heartbeat_seconds", "0"], log
        )
        load, servers = Load(log), dict[str, Server]()
        try:
            wait_ready([port], [sidecar])
            servers = {"off": predictor(bundle, log), "on": predictor(bundle, log, tee=port)}
            rows = [
                line(
                    title,
                    compare(load, servers, sent, pairs=given.pairs, seconds=given.seconds),
                )
                for title, sent in REQUESTS
            ]
            told = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/status"))
        finally:
            load.stop()
            stop([sidecar, *(process for process, _, _ in servers.values())])
    lines = [
        "# What the tee costs the predictor",
        "",
        (
            f"`python -m benchmarks.drift.tee {' '.join(arguments)}`: the 30→256→128→1 model, eight"
            f" connections; {given.pairs} pairs of slices of {given.seconds:g} s. CPU milliseconds"
            " of the predictor's process per request: medians; geometric mean of the pairs' ratios"
            " and its 95 % interval, whose upper end is to be at most +10 %. Sent: the tee's rows"
            " that the sidecar took; the others were dropped at the tee's bound, which it counts."
        ),
        "",
        "| requests | tee off | tee on | more | 95 % | | sent |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"The sidecar has watched {told['rows']:,} rows.",
    ]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if given.write:
        Path(__file__).with_name("tee.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
