"""Reads the predictors' own /metrics: for one machine, and for clusters without Prometheus.

Labels that come later are counted by the sidecar beside each predictor, on its own /metrics.
"""

from __future__ import annotations

import email.utils
import http.client
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from prometheus_client.parser import text_string_to_metric_families

from serving.errors import GateError
from serving.rollout.sources.counters import (
    COUNTED,
    LABELS,
    START,
    PodCounters,
    Sample,
    read_counters,
)
from serving.rollout.sources.increments import Reading, close_interval
from serving.rollout.sources.source import Arms, Look, Snapshot

TIMEOUT_S = 2.0
MAX_BYTES = 16 << 20
IN_STEP_S = 2.0
"""Clocks nearer than this are taken as equal: the Date header has whole seconds."""


@dataclass(frozen=True)
class Target:
    """One predictor process to read."""

    name: str
    """Unique among pods, and the same for as long as the pod lives."""
    role: str
    """"stable" or "canary"."""
    address: str
    """host:port of its HTTP server."""
    sidecar: str | None = None
    """host:port of the drift sidecar's; None where the pod has none."""


Targets = Callable[[Arms], Sequence[Target]]
"""The pods there are now. Raises GateError when nobody can say."""


class PredictorSource:
    """A MetricsSource."""

    def __init__(
        self,
        targets: Targets,
        *,
        slow_seconds: float | None = None,
        labels: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """With `labels` every pod's sidecar is asked for those that came."""
        self._targets, self._slow, self._clock = targets, slow_seconds, clock
        self._labels = labels

    def look(self, arms: Arms, since: Snapshot | None, now: float) -> Look:
        """Scrapes every pod at once. Raises GateError when the pods cannot be listed, or, as a run
        begins, when one has nobody who counts its labels."""
        targets = self._targets(arms)
        if self._labels and since is None:
            _check_sidecars(targets)
        with ThreadPoolExecutor(max_workers=max(1, min(32, len(targets)))) as pool:
            scrapes = list(pool.map(self._scrape, targets))
        pods: dict[str, PodCounters] = {}
        skews: dict[str, float] = {}
        for target, scrape in zip(targets, scrapes, strict=True):
            if scrape is not None:
                pods[target.name], skews[target.name] = scrape
        if any(pod.labels is None for pod in pods.values()):
            # Of both arms over the same span, or of none.
            pods = {name: replace(pod, labels=None) for name, pod in pods.items()}
        silent = [target.name for target in targets if target.name not in pods]
        return close_interval(since, Reading(max(now, self._clock()), pods, silent, skews))

    def _scrape(self, target: Target) -> tuple[PodCounters, float] | None:
        """Counters and clock skew; None when it does not answer as a predictor does."""
        try:
            text, date = _get(target.address)
            counters = read_counters(samples(text), target.role, self._slow)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        if self._labels:
            counters = replace(counters, labels=_labels(target))
        ahead = 0.0 if date is None else date - self._clock()
        return counters, 0.0 if abs(ahead) < IN_STEP_S else ahead


def _labels(target: Target) -> Mapping[int, tuple[int, int]] | None:
    """Totals of the labels that came for the pod's predictions; None if its sidecar is silent."""
    if target.sidecar is None:
        return None
    try:
        text, _ = _get(target.sidecar)
        found = [sample for sample in samples(text) if sample[0] == LABELS]
        return read_counters(found, target.role, None).labels
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _check_sidecars(targets: Sequence[Target]) -> None:
    for target in targets:
        if target.sidecar is None:
            raise GateError(
                f"metric 'labels': pod '{target.name}' has no drift sidecar to count them; add the"
                " container 'drift-detector' to the predictor, or remove the metric"
            )


def samples(text: str) -> Iterator[Sample]:
    """What the gate counts, out of Prometheus' text format. Raises ValueError when it is none."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in COUNTED or sample.name == START:
                yield sample.name, sample.labels, sample.value


def _get(address: str) -> tuple[str, float | None]:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics", headers={"connection": "close"})
        answer = connection.getresponse()
        body = answer.read(MAX_BYTES + 1)
        if answer.status != http.client.OK or len(body) > MAX_BYTES:
            raise ValueError(f"{address}: status {answer.status}, {len(body)} bytes")
        date = answer.headers.get("date")
    finally:
        connection.close()
    return body.decode(), None if date is None else _seconds(date)


def _seconds(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def checked_targets(targets: Sequence[Target]) -> Sequence[Target]:
    """The targets. Raises GateError when two have one name: their counters would be mixed."""
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise GateError(f"two pods are named '{name}'; every pod needs a name of its own")
    return targets
