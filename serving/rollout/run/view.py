"""What there is to say about a run, for people and programs. Reads files only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.rollout.gate.plan import Plan
from serving.rollout.gate.proof import Reading
from serving.rollout.gate.rules import share_of
from serving.rollout.gate.state import SHIFTING, GateState
from serving.rollout.run.lease import held, holder
from serving.rollout.run.memory import Memory
from serving.rollout.run.store import Run, Runs

WINDOW = 30
"""Looks from which the pace of the evidence is told."""
TAIL_BYTES = 1 << 18


@dataclass(frozen=True)
class RunView:
    run: Run
    state: GateState
    plan: Plan
    gate: str
    """Who leads it; empty when no gate is at work."""
    looks: tuple[Mapping[str, Any], ...]
    """Bodies of the last audit lines of looks."""

    @property
    def share(self) -> int:
        return share_of(self.plan, self.state)

    @property
    def weight(self) -> int | None:
        """Percent that the traffic was last seen to give the canary."""
        if not self.looks:
            return None
        weight: int | None = self.looks[-1]["observation"]["weight"]
        return weight

    @property
    def reason(self) -> str:
        return str(self.looks[-1]["decision"]["reason"]) if self.looks else "not looked yet"

    @property
    def problem(self) -> str:
        return Memory.of(self.state).problem

    @property
    def readings(self) -> tuple[Reading, ...]:
        return self.state.proofs.readings(self.plan, self.share)

    def seconds_left(self) -> float | None:
        """To the promotion, if the evidence goes on growing as it did; None when it does not."""
        state, plan = self.state, self.plan
        if state.phase not in SHIFTING:
            return None
        steps_left = len(plan.steps) - state.step - 1
        here = plan.min_seconds
        if state.step_started is not None and state.now is not None:
            here -= state.now - state.step_started
        waits = [max(0.0, here) + steps_left * plan.min_seconds]
        for reading in self.readings:
            if not reading.proven:
                pace = self._pace(reading.kind)
                if pace <= 0:
                    return None
                waits.append((reading.good_at - reading.good) / pace)
        return max(waits)

    def _pace(self, kind: str) -> float:
        """ln E a second, over the last looks."""
        points = [
            (look["observation"]["end"], found["good"])
            for look in self.looks[-WINDOW:]
            for found in look["decision"]["evidence"]
            if found["kind"] == kind and found["good"] is not None
        ]
        if len(points) < 2 or points[-1][0] <= points[0][0]:
            return 0.0
        return float((points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0]))

    def to_json(self) -> dict[str, Any]:
        state = self.state
        return {
            "run": state.run,
            "service": state.service,
            "stable": state.stable.to_json(),
            "canary": state.canary.to_json(),
            "phase": state.phase.value,
            "ended": state.ended,
            "paused": state.orders.paused,
            "step": state.step,
            "steps": list(self.plan.steps),
            "share": self.share,
            "weight": self.weight,
            "looks": state.looks,
            "started": state.started,
            "now": state.now,
            "reason": self.reason,
            "problem": self.problem,
            "gate": self.gate,
            "seconds_left": self.seconds_left(),
            "evidence": [reading.to_json() for reading in self.readings],
        }


def view(runs: Runs, run: str | None = None) -> RunView:
    """Raises GateError when there is no such run."""
    found = runs.get(run)
    leader = holder(runs.lease_file) if held(runs.lease_file) else ""
    current = runs.current()
    mine = current is not None and current.id == found.id
    return RunView(
        run=found,
        state=found.load(),
        plan=found.plan(),
        gate=leader if mine else "",
        looks=tuple(_last_looks(found)),
    )


def _last_looks(run: Run) -> Sequence[Mapping[str, Any]]:
    """Not verified: that is another command's work."""
    try:
        with run.audit_file.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    # What was cut off at the front, or is still being written at the end, is no whole line.
    whole = lines[1:-1] if size > TAIL_BYTES else lines[:-1]
    entries = [json.loads(line) for line in whole if line]
    return [entry["body"] for entry in entries if entry["kind"] == "look"]
