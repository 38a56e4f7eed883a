"""The thread that turns what the journal holds into runs, one active run per model."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

from serving.retrain.journal import ACTIVE, Journal, Record, State
from serving.retrain.launcher import Launcher, LaunchError, RunState
from serving.retrain.metrics import Metrics
from serving.retrain.rules import Rules, decide

logger = logging.getLogger("seatrial.retrain")

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between attempts to start a run; the pause doubles up to this."""
LATEST = 100
"""Events that /status tells of."""


class Dispatcher:
    """`step` does all that can be done now; the thread calls it whenever something may be new."""

    def __init__(
        self,
        journal: Journal,
        launcher: Launcher,
        rules: Rules,
        metrics: Metrics,
        *,
        poll: float,
        give_up: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`poll`: seconds between looks at active runs; `give_up`: seconds of failing starts."""
        self._journal, self._launcher, self._rules = journal, launcher, rules
        self._metrics, self._poll, self._give_up, self._clock = metrics, poll, give_up, clock
        self._pauses: dict[tuple[str, str], tuple[float, float]] = {}
        """By event: the time of the next attempt, and the pause before it."""
        self._woken = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="retrain", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def close(self, patience: float = 5.0) -> None:
        self._closed = True
        self._woken.set()
        self._thread.join(patience)

    def step(self) -> None:
        """Raises OSError when the journal cannot be written; nothing is started then."""
        for record in self._journal.records():
            if record.state is State.RUNNING:
                self._look(record)
        by_model = sorted(self._journal.records(), key=lambda r: (r.event.model, r.received))
        for _, records in groupby(by_model, key=lambda r: r.event.model):
            for decision in decide(records, self._rules, self._clock()):
                self._apply(decision.record, decision.state, decision.why)
        for record in self._journal.records():
            if record.state is State.STARTING:
                self._launch(record)

    def _apply(self, record: Record, state: State, why: str) -> None:
        known = record.state is state
        started = self._clock() if state is State.STARTING else record.started
        # What is left of a cool-down changes at each look; it is not worth a write each time.
        if not known:
            self._journal.change(record, state=state, why=why, started=started)
            logger.info("event %s: %s%s", record.event.id, state, f": {why}" if why else "")
            if state is State.SKIPPED:
                self._metrics.skipped.labels(record.event.type).inc()

    def _launch(self, record: Record) -> None:
        now = self._clock()
        due, pause = self._pauses.get(record.event.key, (now, FIRST_PAUSE))
        if 0 < due - now <= LONGEST_PAUSE:  # more: the clock was set back
            return
        try:
            run = self._launcher.start(record.event)
        except LaunchError as error:
            self._metrics.failures.inc()
            if error.final or now - (record.started or now) > self._give_up:
                self._journal.change(record, state=State.FAILED, why=str(error))
                logger.error("event %s: no run could be started: %s", record.event.id, error)
                self._metrics.runs.labels(record.event.model, "not_started").inc()
                return
            self._pauses[record.event.key] = (now + pause, min(2 * pause, LONGEST_PAUSE))
            if record.why != str(error):
                self._journal.change(record, why=str(error))
            logger.warning("event %s: %s; again in %.0f s", record.event.id, error, pause)
            return
        self._pauses.pop(record.event.key, None)
        self._journal.change(record, state=State.RUNNING, run=run, why="")
        self._metrics.runs.labels(record.event.model, "started").inc()
        logger.info("event %s: run %s is started", record.event.id, run)

    def _look(self, record: Record) -> None:
        try:
            state = self._launcher.state(record.run)
        except LaunchError as error:
            self._metrics.failures.inc()
            logger.warning("run %s: its state cannot be read: %s", record.run, error)
            return
        if state is not RunState.ACTIVE:
            ended = State.SUCCEEDED if state is RunState.SUCCEEDED else State.FAILED
            why = f"run {record.run} {ended}"
            self._journal.change(record, state=ended, why=why, finished=self._clock())
            self._metrics.runs.labels(record.event.model, str(ended)).inc()
            logger.info("event %s: %s", record.event.id, why)

    def status(self) -> dict[str, Any]:
        """What GET /status answers: the latest events with what became of each, and why."""
        records = self._journal.records()
        return {
            "active": {r.event.model: r.run or None for r in records if r.state in ACTIVE},
            "held": [r.event.id for r in records if r.state is State.HELD],
            "events": [_told(record) for record in records[-LATEST:]],
        }

    def refresh_metrics(self) -> None:
        """Sets the gauges that are read and not counted."""
        states = [record.state for record in self._journal.records()]
        self._metrics.active.set(sum(state in ACTIVE for state in states))
        self._metrics.held.set(states.count(State.HELD))

    def _run(self) -> None:
        while not self._closed:
            self._woken.clear()
            try:
                self.step()
            except OSError as error:
                logger.error("the journal cannot be written: %s; nothing is started", error)
            except Exception:
                # One launcher's fault must not end the watch over all events that follow.
                logger.exception("a step failed")
            self._woken.wait(self._wait())

    def _wait(self) -> float:
        now = self._clock()
        due = [due - now for due, _ in self._pauses.values()]
        return max(0.05, min([self._poll, *due]))


def _told(record: Record) -> dict[str, Any]:
    event = record.event
    return {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "model": event.model,
        "received": record.received,
        "state": str(record.state),
        "why": record.why or None,
        "run": record.run or None,
        "started": record.started,
        "finished": record.finished,
    }
