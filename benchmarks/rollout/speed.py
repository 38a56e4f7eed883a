"""`python -m benchmarks.rollout.speed`: how long the gate's own code takes; writes speed.md.

In seconds of the processor, so that what else the machine does is left out."""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.rollout.traffic import BUCKETS, EDGES
from serving.rollout.evidence import AbsoluteEvidence, RelativeEvidence
from serving.rollout.gate import (
    ArmCounts,
    AuditLog,
    Observation,
    Plan,
    begin,
    decide,
    finished,
    parse_plan,
    replay,
)
from serving.rollout.gate.audit import stream
from serving.rollout.gate.rules import share_of
from serving.rollout.gate.state import Model

METRICS, EVENTS = 50, 10_000
RATE = 200
"""Requests a second of both arms, with one look a second."""
FAILS, LATE = 0.005, 0.001
DECISIONS = {"approve": 0.9, "decline": 0.03, "review": 0.07}
LOOK_BAR_MS, REPLAY_BAR_S = 50, 60


def one_look(seed: int) -> float:
    """CPU seconds for one look over METRICS metrics with EVENTS events each, fresh counts."""
    rng = np.random.default_rng(seed)
    counts = []
    for _ in range(METRICS):
        n_c = int(rng.integers(150_000, 250_000))
        x = int(rng.binomial(EVENTS, n_c / 2_000_000))
        counts.append((n_c, x, 2_000_000 - n_c, EVENTS - x))
    pairs = [(RelativeEvidence(), AbsoluteEvidence(0.01)) for _ in range(METRICS)]
    started = time.process_time()
    for (relative, absolute), (n_c, x, n_s, s) in zip(pairs, counts, strict=True):
        after, alone = relative.updated(n_c, x, n_s, s), absolute.updated(n_c, x)
        _ = after.log_e_bad, after.log_e_good, alone.log_e_good
    return time.process_time() - started


@dataclass(frozen=True)
class Replayed:
    requests: int
    looks: int
    different: int
    seconds: float
    """Of the CPU: reading and verifying the log as well as deciding again."""


def recorded(requests: int, folder: Path) -> Path:
    """The audit log of a run with that many requests and one look a second."""
    looks = -(-requests // RATE)
    plan = _plan(looks)
    v1, v2 = Model("v1", "pvc://b/v1", "1" * 64), Model("v2", "pvc://b/v2", "2" * 64)
    state = begin(plan, run="speed", service="fraud", stable=v1, canary=v2)
    log = AuditLog(folder / "audit.jsonl")
    log.append(log.begun(plan, state))
    rng = np.random.default_rng(0)
    for look in range(looks):
        weight = share_of(plan, state)
        n_c = int(rng.binomial(RATE, weight / 100))
        stable, canary = _arm(RATE - n_c, rng), _arm(n_c, rng)
        times = float(look), float(look + 1)
        observation = Observation(*times, stable, canary, EDGES, True, 0, weight)
        before = finished(state)
        state, action, reason = decide(plan, before, observation)
        log.append(log.looked(plan, before, observation, state, action, reason))
    return log.path


def replayed(log: Path) -> Replayed:
    started = time.process_time()
    found = replay(stream(log))
    seconds = time.process_time() - started
    return Replayed(found.requests, len(found.steps), len(found.different), seconds)


def _plan(looks: int) -> Plan:
    """Four metrics, and steps long enough for the whole run to be one canary's."""
    return parse_plan(
        {
            "canary": "v2",
            "steps": [10, 20, 30, 40, 50],
            "min_seconds": looks / 5,
            "look_seconds": 1.0,
            "time_cap_seconds": 2.0 * looks,
            "metrics": [
                {"kind": "errors", "max_rate": 0.01},
                {"kind": "latency", "slo_seconds": 0.5, "max_rate": 0.01},
                {"kind": "scores", "tolerance": 1.5},
                {"kind": "decisions", "tolerance": 1.5},
            ],
        },
        "benchmarks/rollout/speed",
    )


def _arm(n: int, rng: np.random.Generator) -> ArmCounts:
    scores = rng.multinomial(n, np.full(BUCKETS, 1 / BUCKETS))
    decisions = rng.multinomial(n, list(DECISIONS.values()))
    return ArmCounts(
        requests=n,
        errors=int(rng.binomial(n, FAILS)),
        slow=int(rng.binomial(n, LATE)),
        scores=tuple(scores.tolist()),
        decisions=tuple(zip(DECISIONS, decisions.tolist(), strict=True)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.rollout.speed", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000, help="of the replayed run")
    parser.add_argument("--times", type=int, default=3, help="replays (default 3)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder of speed.md"
    )
    args = parser.parse_args()
    looks = sorted(1000 * one_look(seed) for seed in range(20))
    with tempfile.TemporaryDirectory() as folder:
        log = recorded(args.requests, Path(folder))
        runs = [replayed(log) for _ in range(args.times)]
    text = _markdown(looks, runs)
    (args.out / "speed.md").write_text(text)
    sys.stdout.write(text)
    return 0


def _markdown(looks: list[float], runs: list[Replayed]) -> str:
    seconds, one = sorted(run.seconds for run in runs), runs[0]
    look, again = statistics.median(looks), statistics.median(seconds)
    different = sum(run.different for run in runs)
    rows = [
        (
            f"one look over {METRICS} metrics with {EVENTS:,} events each",
            f"{look:.1f} ms ({looks[0]:.1f}–{looks[-1]:.1f} of {len(looks)})",
            f"< {LOOK_BAR_MS} ms",
            look < LOOK_BAR_MS,
        ),
        (
            (
                f"replay of {one.requests:,} requests, {one.looks:,} looks, four metrics,"
                f" {different} decisions differ"
            ),
            f"{again:.1f} s ({seconds[0]:.1f}–{seconds[-1]:.1f} of {len(seconds)})",
            f"< {REPLAY_BAR_S} s",
            again < REPLAY_BAR_S and not different,
        ),
    ]
    lines = [
        "# How long the gate's own code takes",
        "",
        (
            f"`python -m benchmarks.rollout.speed`, part of `make bench-rollout`, wrote this on"
            f" {platform.machine()}, one core, Python {platform.python_version()}."
        ),
        "CPU time: median (least–most). A replay reads and verifies the audit log as well.",
        "",
        "| what | takes | bar | reached |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {what} | {took} | {bar} | {'yes' if ok else '**missed**'} |"
        for what, took, bar, ok in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
