"""What the runner keeps in the record beside the evidence (GateState.snapshots)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.rollout.gate.state import GateState
from serving.rollout.sources.source import Snapshot


@dataclass(frozen=True)
class Memory:
    source: Snapshot | None = None
    """Up to where the counters have been counted."""
    restarts: Mapping[str, int] | None = None
    """By pod: container restarts that have been counted; None before the first look."""
    restarted: int = 0
    """Restarts of the canary's pods since the run began, those of pods that are gone included."""
    written: dict[str, int] | None = None
    """The weights that the gate wrote last."""
    mark: str = ""
    """Name of that write: a commit, a resource version, a hash."""
    why: str = ""
    """Reason of the last look that moved something."""
    evidence: str = ""
    """Hash of that look's audit line."""
    problem: str = ""
    """What kept the gate from seeing or acting."""
    heard: str = ""
    """Name of the last request that was taken in."""

    @classmethod
    def of(cls, state: GateState) -> Memory:
        found = state.snapshots
        if not found:
            return cls()
        source = found["source"]
        return cls(
            source=None if source is None else Snapshot.from_json(source),
            restarts=found["restarts"],
            restarted=found["restarted"],
            written=found["written"],
            mark=found["mark"],
            why=found["why"],
            evidence=found["evidence"],
            problem=found["problem"],
            heard=found["heard"],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "source": None if self.source is None else self.source.to_json(),
            "restarts": None if self.restarts is None else dict(self.restarts),
            "restarted": self.restarted,
            "written": self.written,
            "mark": self.mark,
            "why": self.why,
            "evidence": self.evidence,
            "problem": self.problem,
            "heard": self.heard,
        }
