"""The sidecar's heart: a thread that watches the rows that were taken in, and tells what it saw."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.drift.cloudevents import timestamp
from serving.drift.detector import DriftDetector, build_detector
from serving.drift.events import CloudEvent
from serving.drift.intake import Intake, Receiving
from serving.drift.introduction import Introduction
from serving.drift.labels import Labels
from serving.drift.metrics import Metrics
from serving.drift.portrait import portrait
from serving.drift.rows import Block
from serving.drift.settings import Settings
from serving.drift.sink import EventSink
from serving.drift.snapshot import SnapshotFile
from serving.drift.state import capture, restore
from serving.drift.status import STATUS_FORMAT
from serving.drift.watching import WINDOW, Watching, window_length
from serving.errors import DataError

logger = logging.getLogger("seatrial.drift")

AT_ONCE = 4096
"""Rows that the worker takes from the ring at a time."""
TICK = 0.5
"""Seconds between looks at the clock while no rows come."""
LINGER = 0.1
"""Seconds in which rows gather: a step costs far more than another row in it."""
TESTING = 0.5
"""Seconds of window tests between two looks at the ring."""
LABEL_BATCHES = 1000

Build = Callable[[Introduction, int], DriftDetector]


def build_windows(known: Introduction, rows: int) -> DriftDetector:
    """The window detector that the bundle's config names. Raises ImportError or DataError."""
    windows = known.config.windows
    if windows is None:
        raise DataError("the bundle's drift config has no windows")
    return build_detector(windows.detector, known.encoder.columns, known.reference, rows)


@dataclass
class _Watched:
    """One introduced bundle: what takes its rows in and what watches them."""

    intake: Intake
    watching: Watching
    labels: deque[Labels] = field(default_factory=lambda: deque(maxlen=LABEL_BATCHES))


class Engine:
    """`introduce`, `receiving.accept` and `label` return at once; a worker thread does the rest."""

    def __init__(
        self,
        settings: Settings,
        sink: EventSink,
        metrics: Metrics,
        *,
        first_sequence: int = 0,
        build: Build = build_windows,
    ) -> None:
        """`first_sequence`: the highest that the outbox has ever seen."""
        self.settings = settings
        self.receiving = Receiving(settings, metrics)
        self._build = build
        self._sink = sink
        self._metrics = metrics
        self._snapshots = SnapshotFile(Path(settings.state_dir) if settings.state_dir else None)
        self._replica = os.environ.get("HOSTNAME") or socket.gethostname()
        self._sequence = self._outbox_sequence = first_sequence
        self._restored = False
        self._watched: _Watched | None = None
        self._busy = threading.RLock()
        """Held while a watching is changed or read."""
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, patience: float = 2.0) -> None:
        """Watches what is in the ring, for `patience` seconds at most, and takes a snapshot."""
        self._ending.set()
        with self._changed:
            watched = self._watched
            self._changed.notify_all()
        if watched is not None:
            watched.intake.ring.close()
        self._thread.join(patience)
        if watched is not None and not self.settings.state_dir:
            # Nobody goes on from here: an open episode ends with the only memory of it.
            self._send(watched.watching.retire("its sidecar has ended and keeps no state"))

    def introduce(self, known: Introduction) -> None:
        """Starts watching a bundle; the one already watched goes on undisturbed.

        Raises DataError for a drift config that cannot be used.
        """
        with self._changed:
            before = self._watched
            if before is not None and before.watching.known.same_as(known):
                return
            with self._busy:
                watching = self._watching(known)
                intake = Intake(known, self.settings)
                if before is not None:
                    before.intake.ring.close()
                    self._send(before.watching.retire())
                self._metrics.forget_tests()
                self._watched = _Watched(intake, self._restore(watching, intake))
                self.receiving.intake = intake
            self._changed.notify_all()
        size, seconds = window_length(known, self.settings)
        logger.info(
            "watching bundle %s of arm %s: %d columns against %d reference rows, windows of %s",
            known.digest[:12],
            known.arm,
            len(known.encoder.columns),
            len(known.reference),
            f"{size} rows" if size else f"{seconds:g} s",
        )

    def label(self, labels: Labels) -> bool:
        """Queues labels; False where no bundle is known or labels are off."""
        watched = self._watched
        if watched is None or watched.watching.labels is None:
            return False
        watched.labels.append(labels)
        return True

    def status(self) -> dict[str, Any]:
        """What GET /status answers; see serving.drift.status."""
        counts, watched = self.receiving.counts, self._watched
        oldest = watched.intake.ring.oldest if watched else None
        saved = self._snapshots.saved_at
        state: dict[str, Any] = {
            "format": STATUS_FORMAT,
            "time": timestamp(time.time()),
            "replica": self._replica,
            "bundle": None,
            "input": {
                "kind": self.receiving.kind,
                "rows": counts.rows,
                "events": counts.events,
                "duplicates": counts.duplicates,
                "waiting": len(watched.intake.ring) if watched else 0,
                "lag_seconds": max(time.time() - oldest, 0.0) if oldest is not None else 0.0,
                "dropped": dict(counts.dropped),
                "refused": dict(counts.refused),
            },
            "open": False,
            "events": self._sink.counts(),
            "labels": None,
            "state": {
                "folder": self.settings.state_dir or None,
                "snapshot_age_seconds": time.monotonic() - saved if saved is not None else None,
                "restored": self._restored,
                "set_aside": self._snapshots.set_aside,
                "problem": self._snapshots.problem or None,
            },
        }
        if watched is not None:
            with self._busy:
                state |= portrait(watched.watching, len(watched.intake.ring))
        state["problems"] = self._problems(state, watched)
        return state

    def _problems(self, state: dict[str, Any], watched: _Watched | None) -> list[str]:
        found = [self._snapshots.problem, self._sink.problem]
        if watched is None:
            found.append("no bundle was introduced: nothing is watched")
        else:
            watching = watched.watching
            found.append(watching.problem)
            if watching.watch is None and (watching.problem or not watching.wants_windows):
                found.append("watch and window tests are both off: drift goes unseen")
        for reason, rows in state["input"]["dropped"].items():
            if reason != "no_bundle":
                found.append(f"{rows} rows were dropped: {reason}")
        return [problem for problem in found if problem]

    def _watching(self, known: Introduction) -> Watching:
        return Watching(
            known,
            self.settings,
            self._metrics,
            next_sequence=self._next_sequence,
            replica=self._replica,
        )

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def _restore(self, watching: Watching, intake: Intake) -> Watching:
        """The watching, going on from the snapshot of its bundle if there is one."""
        snapshot = self._snapshots.load(watching.known.identity)
        if snapshot is None:
            return watching
        try:
            restore(watching, snapshot, time.monotonic())
            pending = [CloudEvent.of(event) for event in snapshot.meta["pending"]]
            sequence = int(snapshot.meta["sequence"])
            recent = snapshot.arrays["recent"].tolist()
        except (DataError, KeyError, TypeError, ValueError) as error:
            self._snapshots.put_aside(f"its state cannot be taken up: {error}")
            return self._watching(watching.known)
        for key in recent:
            intake.recent.add(key)
        self._sequence = max(self._sequence, sequence)
        self._restored = True
        logger.info("going on from a snapshot: %d rows, %d windows", watching.row, watching.windows)
        # A crash between snapshot and outbox: the event is sent now, and only once.
        for event in pending:
            if event.sequence > self._outbox_sequence:
                self._deliver(event)
        return watching

    def _run(self) -> None:
        done: _Watched | None = None
        while not self._ending.is_set():
            with self._changed:
                self._changed.wait_for(
                    lambda: self._watched is not done or self._ending.is_set()  # noqa: B023
                )
                watched = self._watched
            if watched is not None and watched is not done:
                self._work(watched)
            done = watched

    def _work(self, watched: _Watched) -> None:
        """Watches rows until the bundle is replaced or the sidecar ends."""
        if watched.watching.wants_windows:
            threading.Thread(
                target=self._build_detector, args=(watched.watching,), daemon=True
            ).start()
        ring = watched.intake.ring
        now = time.monotonic()
        saved = beaten = now
        patience = TICK
        while (blocks := ring.take(AT_ONCE, patience)) is not None:
            self._step(watched, blocks)
            self._test(watched, TESTING)
            patience = 0.0 if watched.watching.has_tests else TICK
            if patience and len(ring) < AT_ONCE:
                self._ending.wait(LINGER)
            now = time.monotonic()
            if now - saved >= self.settings.snapshot_seconds:
                self._save(watched, ())
                saved = now
            if 0 < self.settings.heartbeat_seconds <= now - beaten:
                beaten = now
                self._beat(watched)
        if self._ending.is_set():
            while rest := ring.drain(AT_ONCE):
                self._step(watched, rest)
            self._test(watched, TESTING)
            self._save(watched, ())

    def _step(self, watched: _Watched, blocks: Sequence[Block]) -> None:
        watching = watched.watching
        try:
            with self._busy:
                events = watching.take(blocks)
                while watched.labels:
                    watching.label(watched.labels.popleft())
                events += watching.judge_labels(time.time())
        except Exception:
            # Whatever a row does, those that follow are watched.
            self._metrics.worker_failures.inc()
            self.receiving.counts.drop("failed", sum(block.rows for block in blocks))
            logger.exception("%d blocks of rows could not be watched", len(blocks))
            return
        self._tell(watched, events)

    def _test(self, watched: _Watched, seconds: float) -> None:
        """Tests windows that wait, for about so long."""
        watching = watched.watching
        until = time.monotonic() + seconds
        while watching.has_tests and time.monotonic() < until:
            with self._busy:
                events = watching.test_next()
            self._tell(watched, events)
            # A lock that is taken again at once would keep /status waiting for ever.
            time.sleep(0.001)

    def _tell(self, watched: _Watched, events: Sequence[CloudEvent]) -> None:
        if events:
            # First the state that made them, then the events: a crash in between sends them once,
            # by the snapshot; before it, they were never made.
            self._save(watched, events)
            self._send(events)

    def _build_detector(self, watching: Watching) -> None:
        size, _ = window_length(watching.known, self.settings)
        try:
            detector = self._build(watching.known, size or WINDOW)
        except ImportError as error:
            watching.problem = f"Alibi Detect is not installed ({error}): window tests are off"
            logger.warning("%s; the watch goes on without them", watching.problem)
        except Exception as error:
            watching.problem = f"window tests are off: {type(error).__name__}: {error}"
            logger.exception("no window tests for bundle %s", watching.known.digest[:12])
        else:
            watching.detector = detector
            logger.info("detector %s is ready", detector.name)

    def _save(self, watched: _Watched, events: Sequence[CloudEvent]) -> None:
        if not self.settings.state_dir or watched is not self._watched:
            return
        with watched.intake.lock:
            recent = list(watched.intake.recent)
        with self._busy:
            snapshot = capture(watched.watching, self._sequence, events, recent)
        self._snapshots.save(snapshot)

    def _send(self, events: Sequence[CloudEvent]) -> None:
        for event in events:
            self._deliver(event)

    def _deliver(self, event: CloudEvent) -> None:
        logger.warning("%s %s: %s", event.type, event.id, event.body().decode())
        self._sink.send(event)
        self._outbox_sequence = max(self._outbox_sequence, event.sequence)

    def _beat(self, watched: _Watched) -> None:
        watching = watched.watching
        with self._busy:
            data = {
                "rows": watching.row,
                "open": watching.episodes.open,
                "windows": watching.windows,
                "dropped": sum(self.receiving.counts.dropped.values()),
                "watch": watching.watch is not None,
                "tests": watching.detector is not None,
            }
            event = watching.events.heartbeat(time.time(), data, self._sequence)
        self._sink.beat(event)
