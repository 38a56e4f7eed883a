"""The sidecar's own CloudEvents: what each tells, and ids that depend on nothing else.

Their data is described by schema/*.json, whose $id every event names in `dataschema`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from serving.drift.cloudevents import timestamp
from serving.drift.episode import Episode, Transition
from serving.drift.introduction import Introduction
from serving.drift.spending import Spending, Verdict

PREFIX = "io.seatrial."
QUALITY = PREFIX + "quality.violated"
PERFORMANCE = PREFIX + "performance.degraded"
HEARTBEAT = PREFIX + "drift.heartbeat"
SCHEMAS = {QUALITY: "quality", PERFORMANCE: "performance", HEARTBEAT: "heartbeat"}
"""Names in schema/ by type; the others are `drift`."""
TOP = 10
"""Features an event names: with their p-values it stays far below the 64 KB all brokers forward."""
MOST_P_VALUES = 400


@dataclass(frozen=True)
class CloudEvent:
    """An event in binary mode: attributes in ce-* headers, JSON data as body."""

    id: str
    type: str
    source: str
    time: str
    data: Mapping[str, Any]
    sequence: int = 0
    """Counts one sidecar's events, heartbeats left out; the `sequence` extension of CloudEvents."""

    def headers(self) -> dict[str, str]:
        return {
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": self.source,
            "ce-time": self.time,
            "ce-dataschema": f"urn:seatrial:drift:{SCHEMAS.get(self.type, 'drift')}:v1",
            "ce-sequence": f"{self.sequence:012d}",
            "content-type": "application/json",
        }

    def body(self) -> bytes:
        return orjson.dumps(self.data)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> CloudEvent:
        """Raises TypeError or KeyError for what is no event."""
        return cls(**{name: state[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Span:
    """The rows that an event is about; times in seconds since 1970."""

    number: int
    rows: int
    start: float
    end: float

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "rows": self.rows,
            "from": timestamp(self.start),
            "to": timestamp(self.end),
        }


@dataclass(frozen=True)
class Evidence:
    """What the watch had at an event, in nats."""

    total: float
    threshold: float
    average_run_length: float

    def to_json(self) -> dict[str, float]:
        return {name: short(value) for name, value in asdict(self).items()}


class Events:
    """Makes the events of one introduced bundle."""

    def __init__(self, known: Introduction, replica: str) -> None:
        self._known = known
        self._replica = replica
        self._source = f"/seatrial/{known.model}/{known.arm}/drift"

    def drift(
        self,
        transition: Transition,
        episode: Episode,
        span: Span,
        *,
        detectors: Mapping[str, str | None],
        evidence: Evidence | None,
        features: Sequence[Mapping[str, Any]],
        verdict: Verdict | None,
        sequence: int,
        reason: str,
    ) -> CloudEvent:
        """`features`: what moved, roles told apart; the first TOP are named."""
        named = {
            role: [
                {k: v for k, v in f.items() if k != "role"} for f in features if f["role"] == role
            ]
            for role in ("feature", "score", "decision")
        }
        data = {
            "severity": episode.severity,
            "opened_by": episode.opened_by,
            "confirmed": episode.confirmed,
            "reason": reason,
            "episode": {
                "number": episode.number,
                "opened": episode.opened,
                "onset": episode.onset,
                "resolved": episode.resolved,
                "rows": max(span.rows, 0),
            },
            "detectors": dict(detectors),
            "window": span.to_json(),
            "evidence": evidence.to_json() if evidence else None,
            "tests": len(verdict.results) if verdict else 0,
            "threshold": verdict.threshold if verdict else None,
            "features": named["feature"][:TOP],
            "score": next(iter(named["score"]), None),
            "decision": next(iter(named["decision"]), None),
            "p_values": p_values(verdict) if verdict else {},
        }
        # Times, because numbers begin at 1 again where there is no state to go on from.
        identity = [episode.number, episode.opened, transition]
        return self._event(PREFIX + "drift." + transition, identity, data, sequence)

    def quality(
        self, findings: Sequence[Mapping[str, Any]], span: Span, sequence: int
    ) -> CloudEvent:
        data = {"window": span.to_json(), "violations": list(findings[:MOST_P_VALUES])}
        keys = [[f["feature"], f["kind"]] for f in findings]
        return self._event(QUALITY, [keys, timestamp(span.end), span.number], data, sequence)

    def performance(
        self, identity: Sequence[Any], data: Mapping[str, Any], sequence: int
    ) -> CloudEvent:
        """`data` is what the label book found; `identity` tells it from its other findings."""
        return self._event(PERFORMANCE, identity, data, sequence)

    def heartbeat(self, now: float, data: Mapping[str, Any], sequence: int) -> CloudEvent:
        return self._event(HEARTBEAT, [timestamp(now)], data, sequence)

    def _event(
        self, kind: str, identity: Sequence[Any], data: Mapping[str, Any], sequence: int
    ) -> CloudEvent:
        known = self._known
        whole = [kind, self._source, self._replica, known.digest, known.reference_digest, *identity]
        return CloudEvent(
            id=hashlib.sha256(orjson.dumps(whole)).hexdigest()[:32],
            type=kind,
            source=self._source,
            time=timestamp(time.time()),
            data={
                "model": known.model,
                "arm": known.arm,
                "replica": self._replica,
                "bundle": known.digest,
                "reference": known.reference_digest,
                "sequence": sequence,
                **data,
            },
            sequence=sequence,
        )


def tested(verdict: Verdict, spending: Spending) -> list[dict[str, Any]]:
    """The drifted columns, each by its strongest test."""
    found: dict[str, dict[str, Any]] = {}
    for result in verdict.results:
        if (result.column, result.aspect) in verdict.drifted:
            found.setdefault(
                result.column,
                {
                    "name": result.column,
                    "role": result.role,
                    "aspect": result.aspect,
                    "test": result.method,
                    "p_value": short(result.p_value),
                    "effect": short(result.effect),
                    "usual_effect": short(spending.usual(result)),
                },
            )
    return list(found.values())


def p_values(verdict: Verdict) -> dict[str, float]:
    """The smallest p-value of each column, before any correction."""
    smallest: dict[str, float] = {}
    for result in verdict.results:
        smallest[result.column] = min(result.p_value, smallest.get(result.column, 1.0))
    kept = sorted(smallest, key=lambda name: smallest[name])[:MOST_P_VALUES]
    return {name: short(smallest[name]) for name in sorted(kept)}


def short(value: float) -> float:
    return float(f"{value:.4g}")
