"""The sidecar's heart: rows in, windows tested in a thread of their own, events out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serving.drift.detector import DriftDetector
from serving.drift.episode import Episode, Verdict
from serving.drift.events import RowsEvent, opened_event
from serving.drift.introduction import Introduction
from serving.drift.metrics import Metrics
from serving.drift.sink import EventSink
from serving.drift.window import Batch, Recent, Ring, Tumbler, Window

logger = logging.getLogger("seatrial.drift")

REMEMBERED_EVENTS = 65_536

Build = Callable[[Introduction], DriftDetector]


class UnknownBundle(Exception):
    """No bundle was introduced, or another one than the rows come from."""


@dataclass
class _Watch:
    """Everything that belongs to one introduced bundle."""

    known: Introduction
    ring: Ring
    tumbler: Tumbler
    episode: Episode
    recent: Recent = field(default_factory=lambda: Recent(REMEMBERED_EVENTS))
    detector: DriftDetector | None = None
    problem: str = ""
    last: Verdict | None = None


class Engine:
    """`introduce` and `accept` return at once; a worker thread builds detectors and tests."""

    def __init__(self, build: Build, sink: EventSink, metrics: Metrics, ring_rows: int) -> None:
        self._build = build
        self._sink = sink
        self._metrics = metrics
        self._ring_rows = ring_rows
        self._watch: _Watch | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="drift-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def introduce(self, known: Introduction) -> None:
        """Starts watching a bundle; the one already watched goes on undisturbed."""
        with self._changed:
            if self._watch is not None:
                if self._watch.known.same_as(known):
                    return
                self._watch.ring.close()
            self._watch = _Watch(
                known,
                Ring(self._ring_rows),
                Tumbler(known.config.window),
                Episode(known.config.p_value, known.config.usual),
            )
            for gauge in (self._metrics.p_value, self._metrics.effect):
                gauge.clear()
            self._metrics.ready.set(0)
            self._metrics.open.set(0)
            self._changed.notify_all()
        logger.info(
            "watching bundle %s of arm %s: %d columns against %d reference rows, windows of %d",
            known.digest[:12],
            known.arm,
            len(known.encoder.columns),
            len(known.reference),
            known.config.window,
        )

    def accept(self, event: RowsEvent) -> None:
        """Queues an event's rows. Raises UnknownBundle, or DataError for rows it cannot read."""
        watch = self._watch
        if watch is None:
            raise UnknownBundle("no bundle was introduced yet; PUT /bundle first")
        if (event.digest, event.arm) != (watch.known.digest, watch.known.arm):
            raise UnknownBundle(
                f"rows of bundle {event.digest[:12]}, arm {event.arm}: the one introduced is"
                f" {watch.known.digest[:12]}, arm {watch.known.arm}; PUT /bundle first"
            )
        rows = watch.known.encoder.encode(event.columns, event.score)
        event.check_length(len(rows))
        if event.key in watch.recent:
            self._metrics.duplicates.inc()
            return
        watch.recent.add(event.key)
        if not len(rows):
            return
        self._metrics.rows.inc(len(rows))
        dropped = watch.ring.put(Batch(rows, event.time))
        if dropped:
            self._metrics.dropped.inc(dropped)

    def status(self) -> dict[str, Any]:
        """What GET /status answers."""
        watch = self._watch
        state: dict[str, Any] = {"bundle": None, "events": self._sink.counts()}
        if watch is None:
            return state
        known = watch.known
        state["bundle"] = {"digest": known.digest, "arm": known.arm, "model": known.model}
        state["detector"] = {
            "ready": watch.detector is not None,
            "name": watch.detector.name if watch.detector else None,
            "problem": watch.problem or None,
        }
        state["reference"] = {"digest": known.reference_digest, "rows": len(known.reference)}
        state["columns"] = [column.name for column in known.encoder.columns]
        state["window"] = {
            "size": watch.tumbler.size,
            "pending": watch.tumbler.pending,
            "tested": watch.episode.windows,
            "waiting": len(watch.ring),
        }
        state["open"] = watch.episode.open
        state["last"] = _summary(watch.last) if watch.last else None
        return state

    def refresh_metrics(self) -> None:
        """Sets the gauges that are read and not counted."""
        watch = self._watch
        self._metrics.waiting.set(len(watch.ring) + watch.tumbler.pending if watch else 0)
        for fate, count in self._sink.counts().items():
            self._metrics.deliveries.labels(fate).set(count)

    def _run(self) -> None:
        done: _Watch | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watch is not done)  # noqa: B023
                watch = self._watch
            if watch is not None:
                self._work(watch)
            done = watch

    def _work(self, watch: _Watch) -> None:
        """Tests windows until the watch is replaced."""
        try:
            watch.detector = self._build(watch.known)
        except Exception as error:
            watch.problem = f"{type(error).__name__}: {error}"
            logger.exception(
                "no detector for bundle %s; drift goes unseen", watch.known.digest[:12]
            )
        else:
            self._metrics.ready.set(1)
            logger.info("detector %s is ready", watch.detector.name)
        while (batch := watch.ring.take()) is not None:
            for window in watch.tumbler.add(batch):
                if watch.detector is not None:
                    self._test(watch, watch.detector, window)

    def _test(self, watch: _Watch, detector: DriftDetector, window: Window) -> None:
        began = time.perf_counter()
        try:
            verdict = watch.episode.step(detector.test(window.rows))
        except Exception:
            # One window that cannot be tested must not end the watch over all that follow.
            self._metrics.failures.inc()
            logger.exception("a window of %d rows could not be tested", len(window.rows))
            return
        self._metrics.seconds.observe(time.perf_counter() - began)
        self._metrics.open.set(watch.episode.open)
        for result in verdict.results:
            labels = (result.column, result.aspect)
            self._metrics.p_value.labels(*labels).set(result.p_value)
            self._metrics.effect.labels(*labels).set(result.effect)
        watch.last = verdict
        if verdict.transition == "opened":
            event = opened_event(watch.known, detector.name, window, verdict, watch.episode)
            logger.warning("drift opened: %s %s", event.id, event.body().decode())
            self._sink.send(event)
        elif verdict.transition == "closed":
            logger.info("drift closed with window %d", verdict.window)
        self._metrics.windows.inc()


def _summary(verdict: Verdict) -> dict[str, Any]:
    return {
        "window": verdict.window,
        "threshold": verdict.threshold,
        "drifted": [
            f"{r.column}/{r.aspect}"
            for r in verdict.results
            if (r.column, r.aspect) in verdict.drifted
        ],
        "smallest_p_value": min(r.p_value for r in verdict.results),
    }
