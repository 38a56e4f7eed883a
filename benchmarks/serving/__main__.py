"""`python -m benchmarks.serving`: server CPU per request, in slices that take turns.

Every server runs on one core, the load generator and the drift sidecar's stand-in on another. A
round measures each cell once; what is shown is the median round, as milliseconds and as a multiple
of the floor of the same round, which cancels what else the machine was doing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks.serving import models
from benchmarks.serving.payloads import task
from benchmarks.serving.processes import (
    LOAD_CORE,
    SERVER_CORE,
    Load,
    cpu_seconds,
    predictor,
    resident_mib,
    spawn,
    stop,
    wait_ready,
)
from benchmarks.serving.report import table
from tests.serving.predictor.servers import free_port

CELLS: tuple[tuple[str, str, int], ...] = (
    ("floor", "v2", 1),
    ("ours", "v2", 1),
    ("stock", "v2", 1),
    ("ours", "v1", 1),
    ("ours", "v1-named", 1),
    ("stock", "v1", 1),
    ("floor", "v2", 32),
    ("ours", "v2", 32),
    ("stock", "v2", 32),
    ("floor", "v2-binary", 32),
    ("ours", "v2-binary", 32),
    ("stock", "v2-binary", 32),
    ("bare grpc", "grpc", 1),
    ("ours", "grpc", 1),
    ("stock", "grpc", 1),
)


def measure(rounds: int, seconds: float, connections: int, only: str) -> dict[str, Any]:
    """{"cells": [{"server", "wire", "rows", "ms": [...], ...}], ...}, one number a round."""
    folder = Path(tempfile.mkdtemp(prefix="seatrial-bench-"))
    log = folder / "log"
    model = folder / "plain.onnx"
    model.write_bytes(models.plain_model(models.SMALL))
    bundle = models.bundle(folder, models.SMALL).path
    ports = {name: (free_port(), free_port()) for name in ("floor", "stock", "bare grpc", "sink")}
    http, grpc = ports["stock"]
    floor, bare = ports["floor"][0], ports["bare grpc"][1]
    module = "benchmarks.serving.floor"
    stock = ["benchmarks.serving.stock", f"--onnx={model}"]
    processes = {
        "floor": spawn(SERVER_CORE, [module, "http", str(model), str(floor)], log),
        "bare grpc": spawn(SERVER_CORE, [module, "grpc", str(model), str(bare)], log),
        "stock": spawn(SERVER_CORE, [*stock, f"--http_port={http}", f"--grpc_port={grpc}"], log),
        "sink": spawn(LOAD_CORE, ["benchmarks.serving.sink", str(ports["sink"][0])], log),
    }
    cells: list[dict[str, Any]] = [
        {"server": s, "wire": w, "rows": r, "ms": [], "rps": [], "p50_ms": [], "p99_ms": []}
        for s, w, r in CELLS
        if only in f"{s} {w}"
    ]
    load = Load(log)
    try:
        ours, *own_ports = predictor(bundle, log, tee=ports["sink"][0])
        processes["ours"] = ours
        ports["ours"] = (own_ports[0], own_ports[1])
        wait_ready([floor, bare, http, grpc], list(processes.values()))
        for turn in range(rounds + 1):
            for cell in cells:
                pid = processes[cell["server"]].pid
                job = task(cell["wire"], cell["rows"], ports[cell["server"]])
                # The first turn warms up.
                length = seconds if turn else 0.3
                before = cpu_seconds(pid)
                found = load.run({**job, "connections": connections, "seconds": length})
                spent = cpu_seconds(pid) - before
                if set(found["statuses"]) - {"200", "OK"}:
                    raise RuntimeError(f"{cell['server']} {cell['wire']}: {found['statuses']}")
                if turn:
                    cell["ms"].append(1000 * spent / found["requests"])
                    cell["rps"].append(found["requests"] / found["seconds"])
                    cell["p50_ms"].append(found["p50_ms"])
                    cell["p99_ms"].append(found["p99_ms"])
        memory = {name: resident_mib(process.pid) for name, process in processes.items()}
    finally:
        load.stop()
        stop(list(processes.values()))
    return {
        "format": "seatrial.bench-serving/1",
        "command": "python -m benchmarks.serving " + " ".join(sys.argv[1:]),
        "machine": f"{platform.processor() or platform.machine()}, one core for every server",
        "versions": {"kserve": version("kserve"), "onnxruntime": onnxruntime.__version__},
        "rounds": rounds,
        "seconds": seconds,
        "connections": connections,
        "resident_mib": {k: round(v) for k, v in memory.items()},
        "cells": [
            {k: [round(x, 4) for x in v] if isinstance(v, list) else v for k, v in cell.items()}
            for cell in cells
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.2, help="length of one slice")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--only", default="", help="cells whose 'server wire' has this text in it")
    parser.add_argument("--write", action="store_true", help="replace results.json and results.md")
    args = parser.parse_args()
    results = measure(args.rounds, args.seconds, args.connections, args.only)
    text = table(results)
    sys.stdout.write(text)
    if args.write:
        here = Path(__file__).parent
        (here / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (here / "results.md").write_text(text)


if __name__ == "__main__":
    main()
