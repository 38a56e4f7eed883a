"""What /metrics shows, all in one registry per process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.events = Counter(
            "seatrial_retrain_events",
            "Events by type and what was done on receipt: accepted, duplicate",
            ["type", "receipt"],
            registry=registry,
        )
        self.refused = Counter(
            "seatrial_retrain_refused_requests",
            "Requests answered 4xx or 5xx",
            ["status"],
            registry=registry,
        )
        self.skipped = Counter(
            "seatrial_retrain_skipped_events",
            "Events that start no run; /status says why",
            ["type"],
            registry=registry,
        )
        self.runs = Counter(
            "seatrial_retrain_runs",
            "Runs by state reached: started, succeeded, failed, not_started",
            ["model", "state"],
            registry=registry,
        )
        self.failures = Counter(
            "seatrial_retrain_launcher_errors",
            "Failed attempts to start a run or to read its state",
            registry=registry,
        )
        self.active = Gauge("seatrial_retrain_active_runs", "Runs not ended", registry=registry)
        self.held = Gauge(
            "seatrial_retrain_held_events", "Events waiting for their run", registry=registry
        )
