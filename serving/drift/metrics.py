"""What /metrics shows, all in one registry per process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.drift.labels.exposition import label_metrics
from serving.drift.quality import KINDS

P = "seatrial_drift_"


class Metrics:
    """`features` bounds how many columns are named; violations beyond it are summed up."""

    def __init__(self, features: int = 200) -> None:
        self.features = features
        self.registry = registry = CollectorRegistry()
        self.rows = Counter(P + "rows", "Rows taken in", registry=registry)
        self.dropped = Counter(
            P + "rows_dropped", "Rows that were not watched", ["reason"], registry=registry
        )
        self.duplicates = Counter(P + "duplicate_events", "Events seen before", registry=registry)
        self.refused = Counter(
            P + "refused_requests", "Requests answered 4xx", ["status"], registry=registry
        )
        self.refused_events = Counter(
            P + "refused_events", "Events that were not taken", ["reason"], registry=registry
        )
        self.windows = Counter(P + "windows", "Windows tested", registry=registry)
        self.failures = Counter(
            P + "detector_failures", "Windows whose test failed", registry=registry
        )
        self.worker_failures = Counter(
            P + "worker_failures", "Batches of rows that raised an error", registry=registry
        )
        self.seconds = Histogram(
            P + "test_seconds",
            "Time to test a window",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=registry,
        )
        self.p_value = Gauge(
            P + "p_value",
            "p-value of the last window, before any correction",
            ["column", "aspect"],
            registry=registry,
        )
        self.effect = Gauge(
            P + "effect",
            "Effect size in the last window, 0 to 1",
            ["column", "aspect"],
            registry=registry,
        )
        self._named: set[str] = set()

    def set_test(self, labels: tuple[str, str], p_value: float, effect: float) -> None:
        if self._name(labels[0]):
            self.p_value.labels(*labels).set(p_value)
            self.effect.labels(*labels).set(effect)

    def forget_tests(self) -> None:
        """Another bundle is watched now."""
        self.p_value.clear()
        self.effect.clear()
        self._named.clear()

    def show(self, status: Callable[[], Mapping[str, Any]]) -> None:
        """Adds the gauges that are read from a status when /metrics is asked for."""
        self.registry.register(_StatusCollector(status, self.features))

    def _name(self, column: str) -> bool:
        if column in self._named:
            return True
        if len(self._named) >= self.features:
            return False
        self._named.add(column)
        return True


class _StatusCollector(Collector):
    """/status in numbers: asking for it is the only cost, and nothing is told twice."""

    def __init__(self, status: Callable[[], Mapping[str, Any]], features: int) -> None:
        self._status = status
        self._features = features

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        taken, state = status["input"], status["state"]
        yield _gauge("waiting_rows", "Rows waiting to be watched", taken["waiting"])
        yield _gauge("lag_seconds", "Age of the oldest waiting row", taken["lag_seconds"])
        yield _gauge("open", "1 while an episode is open", status["open"])
        yield _gauge("problems", "Things someone should look at", len(status["problems"]))
        events = GaugeMetricFamily(P + "events", "Events by fate", labels=["fate"])
        for fate, count in status["events"].items():
            events.add_metric([fate], count)
        yield events
        yield _gauge("outbox_depth", "Events not delivered yet", status["events"]["pending"])
        if state["snapshot_age_seconds"] is not None:
            age = state["snapshot_age_seconds"]
            yield _gauge("snapshot_age_seconds", "Age of the last snapshot", age)
        if status["bundle"] is None:
            yield _gauge("detector_ready", "1 once a detector tests windows", 0)
            return
        yield _gauge(
            "detector_ready", "1 once a detector tests windows", status["detector"]["ready"]
        )
        window = status["window"]
        yield _gauge("window_rows", "Rows in the window being filled", window["pending"])
        if window["age_seconds"] is not None:
            age = window["age_seconds"]
            yield _gauge("window_age_seconds", "Age of the window being filled", age)
        if status["watch"] is not None:
            watch = status["watch"]
            yield _gauge("evidence_total", "Log evidence of the watch, in nats", watch["evidence"])
            yield _gauge("threshold", "Log evidence at which it opens", watch["threshold"])
            length = watch["average_run_length"]
            yield _gauge("average_run_length", "Rows between two false alarms", length)
        if status["labels"] is not None:
            yield from label_metrics(status["labels"], status["bundle"]["arm"])
        yield from self._of_features(status["features"][: self._features])

    def _of_features(self, features: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
        named = ["column"]
        psi = GaugeMetricFamily(P + "psi", "Population stability index, recent rows", labels=named)
        js = GaugeMetricFamily(P + "js_distance", "Jensen-Shannon distance, 0 to 1", labels=named)
        missing = GaugeMetricFamily(P + "missing_ratio", "Share of missing values", labels=named)
        aspect = GaugeMetricFamily(
            P + "evidence", "Log evidence by column and aspect", labels=["column", "aspect"]
        )
        broken = GaugeMetricFamily(
            P + "violations", "Rows that broke the contract so far", labels=["column", "kind"]
        )
        for feature in features:
            name = feature["name"]
            psi.add_metric([name], feature["psi"])
            js.add_metric([name], feature["js"])
            missing.add_metric([name], feature["missing_ratio"])
            for which, evidence in feature["evidence"].items():
                aspect.add_metric([name, which], evidence)
            for kind in KINDS:
                if kind in feature["violations"]:
                    broken.add_metric([name, kind], feature["violations"][kind]["total"])
        yield from (psi, js, missing, aspect, broken)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(P + name, text, value=float(value))
