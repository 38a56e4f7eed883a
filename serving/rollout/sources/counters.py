"""The counters of one predictor process, read from Prometheus samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.errors import GateError

REQUESTS = "seatrial_requests_total"
SECONDS = "seatrial_request_seconds_bucket"
SCORES = "seatrial_scores_bucket"
DECISIONS = "seatrial_decisions_total"
LABELS = "seatrial_labels_total"
START = "process_start_time_seconds"
COUNTED = (REQUESTS, SECONDS, SCORES, DECISIONS, LABELS)

# gRPC codes that are the server's fault; the others speak of the request.
GRPC_ERRORS = frozenset(
    {
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
)

Sample = tuple[str, Mapping[str, str], float]
"""Name, labels, value."""


@dataclass(frozen=True)
class PodCounters:
    """Totals since the process began."""

    role: str
    """"stable" or "canary"."""
    started: float | None
    """process_start_time_seconds, by the pod's own clock."""
    requests: int = 0
    errors: int = 0
    slow: int = 0
    edges: tuple[float, ...] = ()
    scores: tuple[int, ...] = ()
    """Count per bucket, the last one above the last edge."""
    decisions: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[int, tuple[int, int]] | None = field(default_factory=dict)
    """Age in days -> (labelled, wrong); None where those who count them were not heard."""

    def to_json(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "started": self.started,
            "requests": self.requests,
            "errors": self.errors,
            "slow": self.slow,
            "edges": list(self.edges),
            "scores": list(self.scores),
            "decisions": dict(sorted(self.decisions.items())),
            "labels": None
            if self.labels is None
            else {str(age): list(pair) for age, pair in sorted(self.labels.items())},
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> PodCounters:
        labels = found["labels"]
        return cls(
            role=found["role"],
            started=found["started"],
            requests=found["requests"],
            errors=found["errors"],
            slow=found["slow"],
            edges=tuple(found["edges"]),
            scores=tuple(found["scores"]),
            decisions=dict(found["decisions"]),
            labels=None
            if labels is None
            else {int(age): (n, wrong) for age, (n, wrong) in labels.items()},
        )


def read_counters(samples: Iterable[Sample], role: str, slow_seconds: float | None) -> PodCounters:
    """The totals in the samples of one process.

    `slow_seconds` is the SLO's bound; None counts nothing as slow. Raises GateError when the
    bound is no edge of the latency histogram.
    """
    started: float | None = None
    requests = errors = 0
    decisions: dict[str, int] = {}
    labels: dict[int, tuple[int, int]] = {}
    seconds: dict[float, int] = {}
    scores: dict[float, int] = {}
    for name, found, value in samples:
        if name == START:
            started = value
        elif name == REQUESTS:
            requests += int(value)
            errors += int(value) if is_error(found.get("code", "")) else 0
        elif name in (SECONDS, SCORES):
            buckets = seconds if name == SECONDS else scores
            edge = float(found["le"])
            buckets[edge] = buckets.get(edge, 0) + int(value)
        elif name == DECISIONS:
            decision = found.get("decision", "")
            decisions[decision] = decisions.get(decision, 0) + int(value)
        elif name == LABELS:
            age = int(found.get("age_days", "0"))
            n, wrong = labels.get(age, (0, 0))
            missed = int(value) if found.get("outcome") == "wrong" else 0
            labels[age] = (n + int(value), wrong + missed)
    edges, counts = _per_bucket(scores)
    return PodCounters(
        role=role,
        started=started,
        requests=requests,
        errors=errors,
        slow=_slower(seconds, slow_seconds),
        edges=edges,
        scores=counts,
        decisions=decisions,
        labels=labels,
    )


def is_error(code: str) -> bool:
    """True for a failure of the predictor itself; 4xx and their like are the client's."""
    return int(code) >= 500 if code.isdigit() else code in GRPC_ERRORS


def _slower(buckets: Mapping[float, int], bound: float | None) -> int:
    if bound is None or not buckets:
        return 0
    if bound not in buckets:
        edges = ", ".join(f"{edge:g}" for edge in sorted(buckets) if edge != float("inf"))
        raise GateError(
            f"{SECONDS} has no edge at {bound:g} s, the plan's slo_seconds; choose one of {edges}"
        )
    return max(0, max(buckets.values()) - buckets[bound])


def _per_bucket(buckets: Mapping[float, int]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    edges = sorted(buckets)
    totals = [buckets[edge] for edge in edges]
    counts = (max(0, b - a) for a, b in zip([0, *totals], totals, strict=False))
    return tuple(edge for edge in edges if edge != float("inf")), tuple(counts)
