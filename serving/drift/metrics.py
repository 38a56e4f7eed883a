"""What /metrics shows, all in one registry per process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.rows = Counter("seatrial_drift_rows", "Rows taken from the tee", registry=registry)
        self.dropped = Counter(
            "seatrial_drift_rows_dropped",
            "Rows dropped because the ring was full",
            registry=registry,
        )
        self.duplicates = Counter(
            "seatrial_drift_duplicate_events", "Events seen before", registry=registry
        )
        self.refused = Counter(
            "seatrial_drift_refused_requests",
            "Requests answered 4xx",
            ["status"],
            registry=registry,
        )
        self.windows = Counter("seatrial_drift_windows", "Windows tested", registry=registry)
        self.failures = Counter(
            "seatrial_drift_detector_failures", "Windows whose test failed", registry=registry
        )
        self.seconds = Histogram(
            "seatrial_drift_test_seconds",
            "Time to test a window",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=registry,
        )
        self.open = Gauge("seatrial_drift_open", "1 while an episode is open", registry=registry)
        self.p_value = Gauge(
            "seatrial_drift_p_value",
            "p-value of the last window, before any correction",
            ["column", "aspect"],
            registry=registry,
        )
        self.effect = Gauge(
            "seatrial_drift_effect",
            "Effect size in the last window, 0 to 1",
            ["column", "aspect"],
            registry=registry,
        )
        self.waiting = Gauge(
            "seatrial_drift_waiting_rows", "Rows waiting to be tested", registry=registry
        )
        self.deliveries = Gauge(
            "seatrial_drift_events", "Events by fate", ["fate"], registry=registry
        )
        self.ready = Gauge(
            "seatrial_drift_detector_ready", "1 once a detector tests windows", registry=registry
        )
