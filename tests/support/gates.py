"""A site for a gate without predictors: counters are a function of time, traffic is a file.

So every total is known at any moment, by whoever asks, and a gate that was killed can be checked
to the last request.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.rollout import Arm, RolloutState, read_rollout, with_canary, write_rollout
from serving.rollout.actuators import Health
from serving.rollout.gate import Plan, parse_plan
from serving.rollout.sources.counters import PodCounters
from serving.rollout.sources.increments import Reading, close_interval
from serving.rollout.sources.source import Arms, Look, Snapshot

STABLE = RolloutState("tiny", "seatrial", Arm("v1", "pvc://b/v1"))
DARK = with_canary(STABLE, Arm("v2", "pvc://b/v2"))


def plan(**changed: Any) -> Plan:
    """Quick looks, everything else as in production."""
    return parse_plan(
        {
            "format": "seatrial.rollout/1",
            "canary": "v2",
            "steps": [10, 50, 100],
            "metrics": [{"kind": "errors", "max_rate": 0.01}],
            "min_seconds": 0.0,
            "min_requests": 10,
            "look_seconds": 0.2,
            "cleanup_seconds": 0.0,
            **changed,
        },
        "plan",
    )


class Traffic:
    """A MetricsSource: so many requests and errors a second, since `began`."""

    def __init__(
        self, began: float, rate: float = 3000.0, errors: Mapping[str, float] = {}
    ) -> None:
        self.began, self.rate, self.errors = began, rate, errors

    def totals(self, role: str, at: float) -> tuple[int, int]:
        requests = int((at - self.began) * self.rate)
        return requests, int(requests * self.errors.get(role, 0.0))

    def look(self, arms: Arms, since: Snapshot | None, now: float) -> Look:
        pods = {}
        for role in ("stable", "canary"):
            requests, errors = self.totals(role, now)
            pods[role] = PodCounters(role, self.began, requests, errors)
        return close_interval(since, Reading(now, pods))


class Road:
    """An Actuator on a folder: what is written is at once so. Every change is in moves.jsonl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ready = True
        self.restarts: dict[str, int] = {}

    def lay(self, state: RolloutState = DARK) -> Road:
        self.folder.mkdir(parents=True)
        write_rollout(self.folder / "rollout.yaml", state)
        return self

    def read(self) -> RolloutState:
        return read_rollout(self.folder)

    def write(self, state: RolloutState, message: str, trailers: Mapping[str, str]) -> str:
        if write_rollout(self.folder, state):
            with (self.folder / "moves.jsonl").open("a") as file:
                move = {"weights": state.weights, "message": message, **trailers}
                file.write(json.dumps(move) + "\n")
        return str(time.time())

    def settled(self, state: RolloutState) -> bool:
        return self.read() == state

    def health(self, stable: str, canary: str) -> Health:
        weights = self.read().weights
        ready = self.ready and canary in weights
        return Health(stable in weights, ready, self.restarts, weights.get(canary, 0))

    def moves(self) -> list[dict[str, Any]]:
        file = self.folder / "moves.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def weights(self) -> list[dict[str, int]]:
        return [move["weights"] for move in self.moves()]
