"""From requests to the ring: which rows are taken, and why the others are not."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from typing import Any

from serving.drift.cloudevents import Envelope
from serving.drift.introduction import Introduction
from serving.drift.metrics import Metrics
from serving.drift.pairs import TYPES, Pairs
from serving.drift.rows import ROWS, Block, read_tee
from serving.drift.settings import Settings
from serving.drift.window import Recent, Ring
from serving.errors import DataError

REMEMBERED = 65_536
"""Events whose repetition is noticed."""


class UnknownBundle(Exception):
    """No bundle was introduced, or another one than the rows come from."""


class OtherInput(Exception):
    """Rows come from the tee and from KServe's logger: one of them is refused."""


class Intake:
    """Takes the rows of one introduced bundle; used from one thread, the ring's other end aside."""

    def __init__(self, known: Introduction, settings: Settings) -> None:
        self.known = known
        self.ring = Ring(settings.ring_rows)
        self.recent = Recent(REMEMBERED)
        self.lock = threading.Lock()
        """Held to read `recent` from another thread."""
        self.pairs = Pairs(
            known.contract,
            "all" if settings.logger_mode == "all" else "request",
            patience=settings.pair_seconds,
            capacity=settings.ring_rows,
        )


class Counts:
    """What /status tells about the input, and /metrics with it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.rows = self.events = self.duplicates = 0
        self.dropped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def took(self, rows: int) -> None:
        self.events += 1
        self.rows += rows
        self._metrics.rows.inc(rows)

    def duplicate(self) -> None:
        self.duplicates += 1
        self._metrics.duplicates.inc()

    def drop(self, reason: str, rows: int) -> None:
        if rows:
            self.dropped[reason] += rows
            self._metrics.dropped.labels(reason).inc(rows)

    def refuse(self, reason: str) -> None:
        self.refused[reason] += 1
        self._metrics.refused_events.labels(reason).inc()


class Receiving:
    """Accepts events for whichever bundle is introduced."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self.counts = Counts(metrics)
        self.intake: Intake | None = None
        self.kind = settings.input
        """Where rows come from: the tee of a predictor that introduces itself, else the logger."""
        if settings.input == "auto":
            self.kind = "kserve" if settings.bundle else "tee"

    def accept(self, event: Envelope) -> None:
        """Queues an event's rows. Raises DataError for rows it cannot read, UnknownBundle for
        those of another bundle, OtherInput for those of the other kind of input."""
        kind = event.type
        if kind == ROWS:
            self._accept_tee(event)
        elif kind in TYPES:
            self._accept_logged(event)
        else:
            self.counts.refuse("type")
            raise DataError(f"type '{kind[:80]}' is not {ROWS} or one of {', '.join(TYPES)}")

    def _accept_tee(self, event: Envelope) -> None:
        self._of_kind("tee")
        try:
            rows = read_tee(event)
        except DataError:
            self.counts.refuse("malformed")
            raise
        intake = self.intake
        if intake is None:
            self.counts.drop("no_bundle", rows.block.rows)
            raise UnknownBundle("no bundle was introduced yet; PUT /bundle first")
        known = intake.known
        if (rows.digest, rows.arm) != (known.digest, known.arm):
            self.counts.drop("other_bundle", rows.block.rows)
            raise UnknownBundle(
                f"rows of bundle {rows.digest[:12]}, arm {rows.arm[:128]}: the one introduced is"
                f" {known.digest[:12]}, arm {known.arm}; PUT /bundle first"
            )
        if self._is_new(intake, event):
            self._queue(intake, rows.block)

    def _accept_logged(self, event: Envelope) -> None:
        self._of_kind("kserve")
        intake, wanted = self.intake, self._settings.inference_service
        if intake is None:
            self.counts.refuse("no_bundle")
            raise UnknownBundle(
                "no bundle to compare with; start the sidecar with --bundle, or have our predictor"
                " introduce itself"
            )
        given = event.extensions.get("inferenceservicename", "")
        if wanted and given != wanted:
            self.counts.refuse("other_model")
            raise DataError(f"a payload of InferenceService '{given[:80]}'; '{wanted}' is watched")
        if not self._is_new(intake, event):
            return
        try:
            block, dropped = intake.pairs.take(event)
        except DataError:
            self.counts.refuse("malformed")
            raise
        self.counts.drop("unpaired", dropped)
        if block is not None:
            self._queue(intake, block)

    def _queue(self, intake: Intake, block: Block) -> None:
        if block.rows:
            self.counts.took(block.rows)
            self.counts.drop("ring_full", intake.ring.put(block))

    def _is_new(self, intake: Intake, event: Envelope) -> bool:
        key = fingerprint(event.key)
        with intake.lock:
            if key in intake.recent:
                self.counts.duplicate()
                return False
            intake.recent.add(key)
        return True

    def _of_kind(self, kind: str) -> None:
        """Raises OtherInput for rows of the kind that is not taken."""
        if kind == self.kind:
            return
        self.counts.refuse("other_input")
        other = {"tee": "the predictor's tee", "kserve": "KServe's payload logger"}
        raise OtherInput(
            f"rows of {other[kind]} are refused: this sidecar takes those of"
            f" {other[self.kind]}, and the same rows twice would look like drift; switch one"
            " of them off, or choose with --input"
        )


def fingerprint(key: tuple[Any, ...]) -> int:
    """64 bits of an event's (source, type, id), the same in every process."""
    digest = hashlib.blake2b("\0".join(key).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
