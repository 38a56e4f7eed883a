"""`python -m benchmarks.rollout.speed`: how long the gate's own code takes."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.rollout.gate import PLAN
from benchmarks.rollout.observations import observed
from benchmarks.rollout.traffic import LOOK_SECONDS, SCENARIOS, Traffic
from serving.rollout.evidence import AbsoluteEvidence, RelativeEvidence
from serving.rollout.gate import AuditLog, begin, decide, finished, read, replay
from serving.rollout.gate.rules import share_of
from serving.rollout.gate.state import Model

METRICS, EVENTS = 50, 10_000
RATE = 200


def one_look() -> float:
    """Seconds for one look over METRICS metrics with EVENTS events each, fresh counts."""
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(METRICS):
        n_c = int(rng.integers(150_000, 250_000))
        x = int(rng.binomial(EVENTS, n_c / 2_000_000))
        counts.append((n_c, x, 2_000_000 - n_c, EVENTS - x))
    pairs = [(RelativeEvidence(), AbsoluteEvidence(0.01)) for _ in range(METRICS)]
    started = time.perf_counter()
    for (relative, absolute), (n_c, x, n_s, s) in zip(pairs, counts, strict=True):
        after, alone = relative.updated(n_c, x, n_s, s), absolute.updated(n_c, x)
        _ = after.log_e_bad, after.log_e_good, alone.log_e_good
    return time.perf_counter() - started


@dataclass(frozen=True)
class Replayed:
    requests: int
    looks: int
    different: int
    seconds: float
    """Reading and verifying the log as well as deciding again."""


def replayed(requests: int, folder: Path) -> Replayed:
    """Replays the audit log of a run with that many requests, at RATE a second."""
    looks = -(-requests // (RATE * LOOK_SECONDS))
    plan = PLAN.model_copy(update={"min_seconds": looks * LOOK_SECONDS / len(PLAN.steps)})
    traffic = Traffic(SCENARIOS[0], RATE, 1, seed=0)
    v1, v2 = Model("v1", "pvc://b/v1", "1" * 64), Model("v2", "pvc://b/v2", "2" * 64)
    state = begin(plan, run="speed", service="fraud", stable=v1, canary=v2)
    file = folder / "audit.jsonl"
    log = AuditLog(file)
    log.append(log.begun(plan, state))
    nobody = np.zeros(1, np.int64)
    for look in range(looks):
        weight = share_of(plan, state)
        counts = traffic.look(look, np.array([weight / 100]), nobody)
        observation = replace(observed(counts, traffic, 0, look), weight=weight)
        before = finished(state)
        state, action, reason = decide(plan, before, observation)
        log.append(log.looked(plan, before, observation, state, action, reason))
    started = time.perf_counter()
    found = replay(read(file))
    seconds = time.perf_counter() - started
    return Replayed(found.requests, looks, len(found.different), seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.rollout.speed", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000, help="of the replayed run")
    args = parser.parse_args()
    best = min(one_look() for _ in range(5))
    sys.stdout.write(f"one look, {METRICS} metrics of {EVENTS:,} events: {1000 * best:.1f} ms\n")
    with tempfile.TemporaryDirectory() as folder:
        found = replayed(args.requests, Path(folder))
    sys.stdout.write(
        f"replay of {found.requests:,} requests in {found.looks:,} looks: {found.seconds:.1f} s,"
        f" {found.different} decisions differ\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
