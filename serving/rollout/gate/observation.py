"""What was counted of both arms in one interval: increments, never totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LabelCohort:
    """Matured labels of predictions of one age, of one arm."""

    age_days: int
    n: int
    wrong: int


@dataclass(frozen=True)
class ArmCounts:
    """Events of one arm within one interval."""

    requests: int
    errors: int
    """The arm's own failures: 5xx, INTERNAL, DEADLINE_EXCEEDED, UNAVAILABLE."""
    slow: int
    """Answered later than the SLO's latency bound, which is a bucket edge."""
    scores: tuple[int, ...]
    """Count per score bucket, one more than the observation's edges; () if unknown."""
    decisions: tuple[tuple[str, int], ...]
    """(decision, count), sorted by name; () if unknown."""
    labels: tuple[LabelCohort, ...] = ()

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "requests": self.requests,
            "errors": self.errors,
            "slow": self.slow,
            "scores": list(self.scores),
            "decisions": dict(self.decisions),
        }
        if self.labels:
            found["labels"] = [[c.age_days, c.n, c.wrong] for c in self.labels]
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> ArmCounts:
        return cls(
            requests=found["requests"],
            errors=found["errors"],
            slow=found["slow"],
            scores=tuple(found["scores"]),
            decisions=tuple(sorted(found["decisions"].items())),
            labels=tuple(LabelCohort(*cohort) for cohort in found.get("labels", ())),
        )


@dataclass(frozen=True)
class Observation:
    """One look at both arms."""

    start: float
    """Unix seconds of the interval's first scrape."""
    end: float
    """Unix seconds of its last scrape."""
    stable: ArmCounts | None
    """None: no data of that arm (a missing scrape, or nothing known of its traffic)."""
    canary: ArmCounts | None
    score_edges: tuple[float, ...]
    """Inner edges of the score buckets, rising."""
    canary_ready: bool
    canary_restarts: int
    """Container restarts of the canary's pods since the run began."""
    weight: int | None
    """Percent that the data plane gives the canary, if known."""
    stable_ready: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "end": self.end,
            "stable": None if self.stable is None else self.stable.to_json(),
            "canary": None if self.canary is None else self.canary.to_json(),
            "score_edges": list(self.score_edges),
            "canary_ready": self.canary_ready,
            "canary_restarts": self.canary_restarts,
            "weight": self.weight,
            "stable_ready": self.stable_ready,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Observation:
        stable, canary = found["stable"], found["canary"]
        return cls(
            start=found["start"],
            end=found["end"],
            stable=None if stable is None else ArmCounts.from_json(stable),
            canary=None if canary is None else ArmCounts.from_json(canary),
            score_edges=tuple(found["score_edges"]),
            canary_ready=found["canary_ready"],
            canary_restarts=found["canary_restarts"],
            weight=found["weight"],
            stable_ready=found["stable_ready"],
        )
