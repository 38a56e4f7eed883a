"""`python -m benchmarks.serving.burst`: ten times the sustainable load, then what is left of it.

Requests of 256 rows to the 30→1024→1024→512→1 model, which has a queue. What a closed loop of 64
connections gets answered is taken for the sustainable rate; then arrivals come at ten times that
rate, whether or not earlier ones are answered. Bars: every request is answered or refused, memory
stays flat, and within 5 s of the end latency is what it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.serving import models
from benchmarks.serving.payloads import task
from benchmarks.serving.processes import Load, predictor, resident_mib, stop

ROWS = 256
FACTOR = 10
RECOVERY_SECONDS = 5.0
# Of memory that a burst may leave behind, and of latency that counts as back to normal.
FLAT_MIB = 32.0
NORMAL_FACTOR, NORMAL_MS = 2.0, 2.0
ANSWERS = frozenset({"200", "503"})
"""Of the model, or a refusal that says when to come again."""


def burst(seconds: float, probe_seconds: float, folder: Path) -> dict[str, Any]:
    """Loads, floods and looks again; `probe_seconds` is the length of the other measurements."""
    log = folder / "log"
    bundle = models.bundle(folder, models.LARGE).path
    load, flood = Load(log), Load(log, "flood")
    process, http, grpc = predictor(bundle, log, f"--max_batch_rows={4 * ROWS}")
    job = task("v2-binary", ROWS, (http, grpc))
    quiet = {**job, "connections": 1, "seconds": probe_seconds}
    try:
        full = load.run({**job, "connections": 64, "seconds": probe_seconds})
        sustainable = full["statuses"].get("200", 0) / full["seconds"]
        # Whatever the first flood lets the process grow by once is no leak of the second.
        flood.run({**job, "rate": FACTOR * sustainable, "seconds": probe_seconds})
        time.sleep(1)
        before = load.run(quiet)
        memory = resident_mib(process.pid)
        storm = flood.run({**job, "rate": FACTOR * sustainable, "seconds": seconds})
        ended = time.monotonic()
        recovery = None
        after = before
        while recovery is None and time.monotonic() - ended < 2 * RECOVERY_SECONDS:
            after = load.run({**quiet, "seconds": 0.5})
            if after["p50_ms"] <= NORMAL_FACTOR * before["p50_ms"] + NORMAL_MS:
                recovery = time.monotonic() - ended
        left = resident_mib(process.pid)
    finally:
        load.stop()
        flood.stop()
        stop([process])
    return {
        "seconds": seconds,
        "rows": ROWS,
        "sustainable_per_second": round(sustainable),
        "offered_per_second": round(storm["rate"]),
        "not_sent": storm["not_sent"],
        "statuses": storm["statuses"],
        "answered_p50_ms": round(storm["p50_ms"], 1),
        "answered_p99_ms": round(storm["p99_ms"], 1),
        "longest_ms": round(storm["max_ms"]),
        "quiet_p50_ms": [round(before["p50_ms"], 2), round(after["p50_ms"], 2)],
        "normal_after_seconds": None if recovery is None else round(recovery, 1),
        "resident_mib": [round(memory, 1), round(left, 1)],
    }


def bars(found: dict[str, Any]) -> dict[str, bool]:
    """What was promised, and whether it held."""
    recovery = found["normal_after_seconds"]
    return {
        "only answers and refusals": set(found["statuses"]) <= ANSWERS,
        "memory flat": found["resident_mib"][1] - found["resident_mib"][0] <= FLAT_MIB,
        "normal again within 5 s": recovery is not None and recovery <= RECOVERY_SECONDS,
    }


def table(results: dict[str, Any]) -> str:
    found = results["burst"]
    statuses = ", ".join(f"{n:,} × {code}" for code, n in sorted(found["statuses"].items()))
    quiet, memory = found["quiet_p50_ms"], found["resident_mib"]
    rows = [
        ("sustainable", f"{found['sustainable_per_second']:,} requests/s of {found['rows']} rows"),
        ("offered", f"{found['offered_per_second']:,} requests/s for {found['seconds']:g} s"),
        ("so many times", f"{found['offered_per_second'] / found['sustainable_per_second']:.1f}"),
        ("answers by status", statuses),
        (
            "latency of what was taken",
            f"p50 {found['answered_p50_ms']:g} ms, p99 {found['answered_p99_ms']:g} ms",
        ),
        ("longest wait for any answer", f"{found['longest_ms']:,} ms"),
        ("one quiet client, p50", f"{quiet[0]:g} ms before, {quiet[1]:g} ms after"),
        ("normal again after", f"{found['normal_after_seconds']} s"),
        ("resident memory", f"{memory[0]:g} MiB before, {memory[1]:g} MiB at the end"),
        *((name, "held" if held else "**missed**") for name, held in bars(found).items()),
    ]
    about = (
        f"`{results['command']}`: the 30→1024→1024→512→1 model, V2 binary, the server on one core,"
        " the load generator on another. Arrivals do not wait for answers."
    )
    shown = [f"| {name} | {value} |" for name, value in rows]
    title = "# A burst of ten times what is sustainable"
    return "\n".join([title, "", about, "", "| | |", "|---|---|", *shown, ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.burst", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the burst")
    parser.add_argument("--write", action="store_true", help="replace burst.json and burst.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as folder:
        results = {
            "command": " ".join(["python -m benchmarks.serving.burst", *sys.argv[1:]]),
            "burst": burst(args.seconds, 3.0, Path(folder)),
        }
    text = table(results)
    sys.stdout.write(text)
    if args.write:
        here = Path(__file__).parent
        (here / "burst.json").write_text(json.dumps(results, indent=1) + "\n")
        (here / "burst.md").write_text(text)


if __name__ == "__main__":
    main()
