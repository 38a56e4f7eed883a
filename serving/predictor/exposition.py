"""A board's numbers in Prometheus' own types, for KServe's /metrics."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    REGISTRY,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.predictor.metrics import FAMILIES, LABELS, SLOT_OF, Family, Metrics

# A series of its own per counter for the time of its birth would double what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]


class BoardCollector(Collector):
    """The group's sums, whichever of its workers is asked."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        self._metrics.flush()
        for family in FAMILIES:
            yield self._family(family)
        info = GaugeMetricFamily(
            "seatrial_bundle_info", "The bundle that is served", labels=(*LABELS, "digest")
        )
        info.add_metric((*self._metrics.base, self._metrics.digest), 1)
        yield info
        provider = GaugeMetricFamily(
            "seatrial_provider_info", "What runs the model", labels=(*LABELS, "provider")
        )
        provider.add_metric((*self._metrics.base, self._metrics.provider), 1)
        yield provider

    def _family(self, family: Family) -> Metric:
        labels = (*LABELS, *family.label)
        metric: Metric
        if family.kind == "histogram":
            metric = HistogramMetricFamily(family.name, family.help, labels=labels)
        elif family.kind == "counter":
            metric = CounterMetricFamily(family.name, family.help, labels=labels)
        else:
            metric = GaugeMetricFamily(family.name, family.help, labels=labels)
        for values in family.values:
            slot = SLOT_OF[(family.name, *values)]
            numbers = [
                family.join(self._metrics.board.column(slot + at)) for at in range(family.width)
            ]
            if family.sparse and not numbers[0]:
                continue
            names = (*self._metrics.base, *values)
            if isinstance(metric, HistogramMetricFamily):
                *counts, total = numbers
                edges = [*(str(edge) for edge in family.edges), "+Inf"]
                buckets = list(zip(edges, itertools.accumulate(counts), strict=True))
                metric.add_metric(names, buckets, total)
            elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily):
                metric.add_metric(names, numbers[0])
        return metric


class GroupCollector(Collector):
    """The process metrics of a group of workers as if they were one process."""

    def __init__(self, leader: int) -> None:
        """`leader`: pid of the process that started the workers, whose age is the group's."""
        self._leader = leader

    def collect(self) -> Iterator[Metric]:
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        boot = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)
        seconds = resident = started = 0.0
        for pid in (self._leader, *_children(self._leader)):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            # Of the leader also what its dead children used, so that the counter never falls.
            spent = fields[11:15] if pid == self._leader else fields[11:13]
            seconds += sum(map(int, spent)) / ticks
            resident += int(fields[21]) * page
            if pid == self._leader:
                started = boot + int(fields[19]) / ticks
        for name, text, value in (
            ("process_start_time_seconds", "Start of the group, unix time", round(started, 2)),
            ("process_resident_memory_bytes", "Resident memory of all its processes", resident),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily("process_cpu_seconds", "CPU time of its processes", value=seconds)


def expose(metrics: Metrics, leader: int | None = None) -> None:
    """Puts the numbers on this process's /metrics; `leader` as for GroupCollector."""
    REGISTRY.register(BoardCollector(metrics))
    if leader is not None:
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            REGISTRY.unregister(collector)
        REGISTRY.register(GroupCollector(leader))


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []
