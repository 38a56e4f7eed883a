"""`python -m benchmarks.serving.queue`: requests that share a run of the 30→1024→1024→512→1 model.

Rows per second and core with and without it, at one connection and at 64.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.serving import models
from benchmarks.serving.payloads import task
from benchmarks.serving.processes import Load, cpu_seconds, predictor, stop

CONNECTIONS = (1, 64)


def batching(seconds: float, rounds: int) -> list[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(prefix="seatrial-bench-"))
    log = folder / "log"
    bundle = models.bundle(folder, models.LARGE).path
    load = Load(log)
    servers = {}
    found: list[dict[str, Any]] = []
    try:
        for name, rows in (("batches", 1024), ("one by one", 1)):
            servers[name] = predictor(bundle, log, f"--max_batch_rows={rows}")
        for turn in range(rounds + 1):
            for connections in CONNECTIONS:
                for name, (process, http, grpc) in servers.items():
                    before = cpu_seconds(process.pid)
                    job = {**task("v2", 1, (http, grpc)), "connections": connections}
                    answer = load.run({**job, "seconds": seconds if turn else 0.5})
                    spent = cpu_seconds(process.pid) - before
                    if turn:
                        found.append(
                            {
                                "server": name,
                                "connections": connections,
                                "rows_per_core_second": round(answer["requests"] / spent),
                                "p50_ms": round(answer["p50_ms"], 3),
                                "statuses": answer["statuses"],
                            }
                        )
    finally:
        load.stop()
        stop([process for process, _, _ in servers.values()])
    return found


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Shared runs",
        "",
        (
            f"`{results['command']}`: the 30→1024→1024→512→1 model, V2 JSON, one row a request, the"
            " server on one core, the load generator on another; median of the rounds."
        ),
        "",
        "| connections | shared runs | rows/s per core | p50 ms |",
        "|---|---|---|---|",
    ]
    for connections in CONNECTIONS:
        for server in ("batches", "one by one"):
            cells = [
                cell
                for cell in results["batching"]
                if (cell["server"], cell["connections"]) == (server, connections)
            ]
            rate, wait = (
                statistics.median(cell[key] for cell in cells)
                for key in ("rows_per_core_second", "p50_ms")
            )
            shared = "yes" if server == "batches" else "no"
            lines.append(f"| {connections} | {shared} | {rate:,.0f} | {wait:.2f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.queue", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="replace queue.json")
    args = parser.parse_args()
    results: dict[str, Any] = {
        "command": "python -m benchmarks.serving.queue " + " ".join(sys.argv[1:]),
        "batching": batching(args.seconds, args.rounds),
    }
    text = json.dumps(results, indent=1) + "\n"
    sys.stdout.write(text)
    if args.write:
        here = Path(__file__).parent
        (here / "queue.json").write_text(text)
        (here / "queue.md").write_text(table(results))


if __name__ == "__main__":
    main()
