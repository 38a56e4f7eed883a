"""Where the gate's counts come from: a source turns counters of pods into counts of intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from serving.rollout.gate.observation import ArmCounts
from serving.rollout.sources.counters import PodCounters
from serving.rollout.state import service_of


@dataclass(frozen=True)
class Arms:
    """The two predictors of a run, by predictor.name; they keep their roles to its end."""

    service: str
    namespace: str
    stable: str
    canary: str

    @property
    def labels(self) -> dict[str, str]:
        """Role by the `app` label of KServe's pods, which is the `arm` of every counter."""
        return {self.label(self.stable): "stable", self.label(self.canary): "canary"}

    def label(self, name: str) -> str:
        return f"isvc.{service_of(self.service, name)}"


@dataclass(frozen=True)
class Snapshot:
    """The counters up to which everything has been counted: kept in the record of the run."""

    time: float
    """Unix seconds at which the next interval begins."""
    pods: Mapping[str, PodCounters]
    fresh: frozenset[str] = frozenset()
    """Pods that came after the run began and have not answered yet: all they count is new."""
    lost: frozenset[str] = frozenset()
    """Pods that do not answer and whose counters hold what is not to be counted."""
    missed: int = 0
    """Looks in a row that could not close the interval, because a pod did not answer."""

    def to_json(self) -> dict[str, Any]:
        return {
            "time": self.time,
            "pods": {name: pod.to_json() for name, pod in sorted(self.pods.items())},
            "fresh": sorted(self.fresh),
            "lost": sorted(self.lost),
            "missed": self.missed,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Snapshot:
        return cls(
            time=found["time"],
            pods={name: PodCounters.from_json(pod) for name, pod in found["pods"].items()},
            fresh=frozenset(found["fresh"]),
            lost=frozenset(found["lost"]),
            missed=found["missed"],
        )


@dataclass(frozen=True)
class Counts:
    """What both arms did in one interval."""

    start: float
    end: float
    stable: ArmCounts | None
    """None: nothing is known of this arm."""
    canary: ArmCounts | None
    score_edges: tuple[float, ...] = ()

    def unknown(self) -> Counts:
        """The same interval, not read."""
        return replace(self, stable=None, canary=None, score_edges=())


@dataclass(frozen=True)
class Look:
    """One answer of a source; nothing counts as read until `snapshot` is in the record."""

    counts: Counts
    snapshot: Snapshot
    more: bool = False
    """A later interval can be read at once: the gate is behind."""


class MetricsSource(Protocol):
    """Asked again with the same snapshot it counts again from there: it keeps nothing itself."""

    def look(self, arms: Arms, since: Snapshot | None, now: float) -> Look:
        """The interval from `since` on; `since` None begins: nothing is counted.

        Raises GateError when nobody can be asked at all. `now` is unix seconds.
        """
        ...
