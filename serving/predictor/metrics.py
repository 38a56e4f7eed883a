"""What the predictor counts, labelled by model, bundle and arm; KServe's /metrics shows it."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from serving.policy import DECISIONS
from serving.predictor.wire import Scored

# A series of its own per counter for the time of its birth would double what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]

LABELS = ("model", "bundle", "arm")
# Seconds; 0.1 is the objective for one row through the gateway.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_REQUESTS = Counter(
    "seatrial_requests_total",
    "Answered requests; code is the HTTP status or the gRPC code's name",
    (*LABELS, "wire", "code"),
)
_SECONDS = Histogram(
    "seatrial_request_seconds",
    "Time from the request's last byte to its answer",
    (*LABELS, "wire"),
    buckets=BUCKETS,
)
_ROWS = Counter("seatrial_rows_total", "Rows scored", LABELS)
_DECISIONS = Counter("seatrial_decisions_total", "Decisions given", (*LABELS, "decision"))
_TEE_ROWS = Counter("seatrial_tee_rows_total", "Rows the drift sidecar accepted", LABELS)
_TEE_DROPPED = Counter(
    "seatrial_tee_dropped_rows_total",
    "Rows the drift sidecar never got: full queue, unreachable, refused",
    (*LABELS, "reason"),
)
_READY = Gauge("seatrial_ready", "1 while the model takes requests", LABELS)
_BUNDLE = Gauge("seatrial_bundle_info", "The bundle that is served", (*LABELS, "digest"))


class Metrics:
    """The counters of one served bundle. `bundle` is the first 12 digits of its digest."""

    def __init__(self, model: str, digest: str, arm: str) -> None:
        self._base = (model, digest[:12], arm)
        _BUNDLE.labels(*self._base, digest).set(1)
        self._ready = _READY.labels(*self._base)
        self._ready.set(0)
        self._rows = _ROWS.labels(*self._base)
        self._decisions = {name: _DECISIONS.labels(*self._base, name) for name in DECISIONS}
        self._requests: dict[tuple[str, str], Counter] = {}
        self._seconds = {w: _SECONDS.labels(*self._base, w) for w in ("v1", "v2", "grpc")}
        self._tee_rows = _TEE_ROWS.labels(*self._base)
        self._tee_dropped = {
            reason: _TEE_DROPPED.labels(*self._base, reason)
            for reason in ("full", "unreachable", "refused")
        }

    def ready(self, value: bool) -> None:
        self._ready.set(int(value))

    def answered(self, wire: str, code: str, seconds: float) -> None:
        counter = self._requests.get((wire, code))
        if counter is None:
            counter = _REQUESTS.labels(*self._base, wire, code)
            self._requests[wire, code] = counter
        counter.inc()
        self._seconds[wire].observe(seconds)

    def scored(self, scored: Scored) -> None:
        decisions = scored.decisions.tolist()
        self._rows.inc(len(decisions))
        for name, counter in self._decisions.items():
            count = decisions.count(name)
            if count:
                counter.inc(count)

    def teed(self, rows: int) -> None:
        self._tee_rows.inc(rows)

    def tee_dropped(self, reason: str, rows: int) -> None:
        self._tee_dropped[reason].inc(rows)
