"""What the predictor counts, labelled by model, bundle and arm.

Every series is a slot of a Board, so that counting costs an addition and workers add up.
"""

from __future__ import annotations

import itertools
import math
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.policy import DECISIONS
from serving.predictor.board import Board

_MAX_PENDING = 512
LABELS = ("model", "bundle", "arm")
Kind = Literal["counter", "gauge", "histogram"]
Join = Callable[[Iterable[float]], float]

# Seconds; 0.1 is the objective for one row through the gateway.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
QUEUE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
BATCH_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 16384.0)
# Even steps in log-odds, the same for every predictor: two arms' histograms can be compared.
SCORE_EDGES = tuple(float(f"{1 / (1 + math.exp(-step / 10)):.6g}") for step in range(-118, 119, 4))
HTTP_CODES = ("200", "400", "404", "413", "499", "500", "503", "504")
GRPC_CODES = (
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "UNAVAILABLE",
    "CANCELLED",
)
WIRES: Mapping[str, tuple[str, ...]] = {"v1": HTTP_CODES, "v2": HTTP_CODES, "grpc": GRPC_CODES}
REFUSALS = (
    "malformed",
    "column",
    "shape",
    "datatype",
    "type",
    "missing",
    "infinite",
    "below",
    "above",
    "category",
)
TEE_LOSSES = ("full", "unreachable", "refused")
FALLBACKS = ("failed", "timeout", "breaker")
DROPPED = ("gone", "late")


@dataclass(frozen=True)
class Family:
    """One metric: its name, its own label and that label's values, and where its slots begin."""

    name: str
    kind: Kind
    help: str
    label: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ((),)
    edges: tuple[float, ...] = ()
    join: Join = sum
    """How the workers' numbers become one."""
    sparse: bool = False
    """A series is shown from its first count on."""

    @property
    def width(self) -> int:
        """Slots of one series: a histogram's buckets, the one above all edges, and the sum."""
        return len(self.edges) + 2 if self.kind == "histogram" else 1


def _each(values: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


_CODES = tuple((wire, code) for wire, codes in WIRES.items() for code in codes)
FAMILIES: tuple[Family, ...] = (
    Family(
        "seatrial_requests",
        "counter",
        "Answered requests; code is the HTTP status (499: the client left) or the gRPC code's name",
        ("wire", "code"),
        _CODES,
        sparse=True,
    ),
    Family(
        "seatrial_request_seconds",
        "histogram",
        "Time from the request's last byte to its answer",
        ("wire",),
        _each(tuple(WIRES)),
        SECONDS,
    ),
    Family("seatrial_scores", "histogram", "Scores given by the model", edges=SCORE_EDGES),
    Family("seatrial_decisions", "counter", "Decisions", ("decision",), _each(DECISIONS)),
    Family("seatrial_rows", "counter", "Rows answered"),
    Family(
        "seatrial_rejected_rows",
        "counter",
        "Rows that broke the contract, or requests that could not be read",
        ("reason",),
        _each(REFUSALS),
    ),
    Family("seatrial_in_flight", "gauge", "Requests read and not answered yet"),
    Family(
        "seatrial_queue_seconds",
        "histogram",
        "Time a request waited for the model",
        edges=QUEUE_SECONDS,
    ),
    Family(
        "seatrial_dropped_requests",
        "counter",
        "Requests never run: the client had gone, or its deadline or the budget had passed (late)",
        ("reason",),
        _each(DROPPED),
    ),
    Family("seatrial_batch_rows", "histogram", "Rows per run of the model", edges=BATCH_ROWS),
    Family(
        "seatrial_fallbacks",
        "counter",
        "Rows decided without the model because it failed",
        ("reason",),
        _each(FALLBACKS),
    ),
    Family("seatrial_rule_rows", "counter", "Rows that a rule decided without the model"),
    Family(
        "seatrial_breaker_open", "gauge", "1 while the model is spared after failures", join=max
    ),
    Family("seatrial_tee_rows", "counter", "Rows the drift sidecar accepted"),
    Family(
        "seatrial_tee_dropped_rows",
        "counter",
        "Rows the drift sidecar never got: full queue, unreachable, refused",
        ("reason",),
        _each(TEE_LOSSES),
    ),
    Family("seatrial_audit_rows", "counter", "Rows written to the audit log"),
    Family("seatrial_audit_dropped_rows", "counter", "Rows the audit log lost to a full queue"),
    Family(
        "seatrial_cache",
        "counter",
        "Requests the response cache answered (hit) or not (miss)",
        ("result",),
        _each(("hit", "miss")),
    ),
    Family(
        "seatrial_gpu_missing", "gauge", "1 for a bundle that prefers a GPU and has none", join=max
    ),
    Family("seatrial_ready", "gauge", "1 while the model takes requests", join=max),
)


def _slots() -> tuple[dict[tuple[str, ...], int], int]:
    found: dict[tuple[str, ...], int] = {}
    at = 0
    for family in FAMILIES:
        for values in family.values:
            found[(family.name, *values)] = at
            at += family.width
    return found, at


SLOT_OF, SLOTS = _slots()


class Metrics:
    """The counters of one served bundle. `bundle` is the first 12 digits of its digest."""

    def __init__(
        self,
        model: str,
        digest: str,
        arm: str,
        *,
        worker: int = 0,
        workers: int = 1,
        file: Path | None = None,
    ) -> None:
        self.base = (model, digest[:12], arm)
        self.digest = digest
        self.provider = ""
        """The ONNX Runtime provider that runs the model; empty until it is loaded."""
        self.board = Board(SLOTS, worker=worker, workers=workers, file=file)
        self._cells = self.board.mine
        self._lock = threading.Lock()
        self._requests = {pair: SLOT_OF["seatrial_requests", *pair] for pair in _CODES}
        self._seconds = {wire: SLOT_OF["seatrial_request_seconds", wire] for wire in WIRES}
        self._scores = SLOT_OF["seatrial_scores",]
        self._rows = SLOT_OF["seatrial_rows",]
        self._decisions = {name: SLOT_OF["seatrial_decisions", name] for name in DECISIONS}
        self._pending: list[tuple[NDArray[np.float32], Sequence[str]]] = []
        self._in_flight = SLOT_OF["seatrial_in_flight",]
        for gauge in ("seatrial_in_flight", "seatrial_ready", "seatrial_breaker_open"):
            self._cells[SLOT_OF[gauge,]] = 0.0  # a predecessor in this row may have left its own

    def ready(self, value: bool) -> None:
        self.set("seatrial_ready", float(value))

    def set(self, name: str, value: float) -> None:
        self._cells[SLOT_OF[name,]] = value

    def add(self, *series: str, count: float = 1.0) -> None:
        """Adds to the counter or gauge of that name and label value."""
        slot = SLOT_OF[series]
        with self._lock:
            self._cells[slot] += count

    def observe(self, name: str, edges: Sequence[float], value: float) -> None:
        slot = SLOT_OF[name,]
        with self._lock:
            self._cells[slot + bisect_left(edges, value)] += 1
            self._cells[slot + len(edges) + 1] += value

    def arrived(self) -> None:
        with self._lock:
            self._cells[self._in_flight] += 1

    def left(self) -> None:
        """Ends what `arrived` began."""
        with self._lock:
            self._cells[self._in_flight] -= 1

    def answered(self, wire: str, code: str, seconds: float) -> None:
        cells = self._cells
        slot = self._seconds[wire]
        bucket = slot + bisect_left(SECONDS, seconds)
        with self._lock:
            cells[self._requests[wire, code]] += 1
            cells[bucket] += 1
            cells[slot + len(SECONDS) + 1] += seconds

    def scored(self, scores: NDArray[np.float32], decisions: Sequence[str]) -> None:
        """NaN scores, which the model did not give, count as decisions only."""
        with self._lock:
            self._pending.append((scores, decisions))
            full = len(self._pending) >= _MAX_PENDING
        if full:
            self.flush()

    def flush(self) -> None:
        """Counts what `scored` took: many answers at once cost little more than one."""
        with self._lock:
            pending, self._pending = self._pending, []
        if not pending:
            return
        scores = np.concatenate([scores for scores, _ in pending])
        given = scores[scores == scores]  # noqa: PLR0124 - not NaN
        counts = np.bincount(np.searchsorted(_EDGES, given), minlength=len(SCORE_EDGES) + 1)
        decisions = Counter(itertools.chain.from_iterable(texts for _, texts in pending))
        cells = self._cells
        with self._lock:
            for bucket in np.flatnonzero(counts).tolist():
                cells[self._scores + bucket] += int(counts[bucket])
            cells[self._scores + len(SCORE_EDGES) + 1] += float(given.sum(dtype=np.float64))
            cells[self._rows] += len(scores)
            for name, count in decisions.items():
                cells[self._decisions[name]] += count

    def teed(self, rows: int) -> None:
        self.add("seatrial_tee_rows", count=rows)

    def tee_dropped(self, reason: str, rows: int) -> None:
        self.add("seatrial_tee_dropped_rows", reason, count=rows)


_EDGES = np.array(SCORE_EDGES, dtype=np.float32)
