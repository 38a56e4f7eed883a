"""Delivery of events in the background: a sink that is down costs detection nothing."""

from __future__ import annotations

import http.client
import logging
import random
import threading
import time
from collections import deque
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urlsplit

from serving.drift.events import CloudEvent
from serving.drift.outbox import Outbox

logger = logging.getLogger("seatrial.drift")

FIRST_PAUSE = 0.2
"""Seconds; doubles with each attempt, as Knative's brokers do, up to LONGEST_PAUSE."""
LONGEST_PAUSE = 60.0
LONGEST_WAIT = 3600.0
"""Seconds that a sink's Retry-After is followed at most."""
TIMEOUT = 5.0
AGAIN = frozenset((404, 408, 409, 425, 429))
"""Answers besides 5xx that Knative's brokers take for a reason to send again."""
STUBBORN = 5
"""Attempts after which an event that gets any other answer is set aside."""
KEPT = 1000


class EventSink(Protocol):
    def send(self, event: CloudEvent) -> None:
        """Takes an event, durably where there is a disk, and returns."""

    def beat(self, event: CloudEvent) -> None:
        """Takes a heartbeat: sent now or never."""

    def counts(self) -> dict[str, int]:
        """Events by fate: delivered, pending, lost, set_aside, heartbeats."""

    @property
    def problem(self) -> str:
        """Why events are not safe; empty when they are."""

    def close(self) -> None: ...


class MemorySink:
    """The shipped fake, and what runs without a URL: keeps the last events it is sent."""

    def __init__(self) -> None:
        self.events: deque[CloudEvent] = deque(maxlen=KEPT)
        self.heartbeats: deque[CloudEvent] = deque(maxlen=KEPT)

    def send(self, event: CloudEvent) -> None:
        self.events.append(event)

    def beat(self, event: CloudEvent) -> None:
        self.heartbeats.append(event)

    def counts(self) -> dict[str, int]:
        return {"delivered": 0, "pending": 0, "lost": 0, "set_aside": 0, "heartbeats": 0}

    @property
    def problem(self) -> str:
        return ""

    def close(self) -> None:
        pass


class HttpSink:
    """POSTs the outbox's events in order, each until the sink takes it.

    One that the sink refuses for good (a 4xx that is no reason to send again) is set aside after
    STUBBORN attempts: it must not hold up those behind it. `rate` bounds events per second.
    """

    def __init__(
        self, url: str, outbox: Outbox, *, rate: float = 10.0, first_pause: float = FIRST_PAUSE
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._host = parts.hostname or ""
        self._port = parts.port
        self._secure = parts.scheme == "https"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._between = 1 / rate
        self._first_pause = first_pause
        self._outbox = outbox
        self._heartbeat: CloudEvent | None = None
        self._counts = {"delivered": 0, "lost": 0, "set_aside": 0, "heartbeats": 0}
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift-sink", daemon=True)
        self._thread.start()

    def send(self, event: CloudEvent) -> None:
        kept = self._outbox.put(event)
        with self._changed:
            self._counts["lost"] += not kept
            self._changed.notify()

    def beat(self, event: CloudEvent) -> None:
        with self._changed:
            self._heartbeat = event
            self._changed.notify()

    def counts(self) -> dict[str, int]:
        with self._changed:
            return {**self._counts, "pending": len(self._outbox)}

    @property
    def problem(self) -> str:
        return self._outbox.problem

    def close(self, patience: float = 1.0) -> None:
        """Ends delivery after at most `patience` seconds; what is left stays in the outbox."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        self._thread.join(patience)
        if len(self._outbox):
            logger.warning("%d events were not delivered to %s", len(self._outbox), self._url)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: len(self._outbox) or self._heartbeat or self._closed.is_set()
                )
                heartbeat, self._heartbeat = self._heartbeat, None
            event = self._outbox.first()
            if event is not None:
                if not self._deliver(event):
                    return
            elif heartbeat is not None and not self._post(heartbeat)[0]:
                self._count("heartbeats")
            elif self._closed.is_set():
                return
            self._closed.wait(self._between)

    def _deliver(self, event: CloudEvent) -> bool:
        """Whether the event is done; not before, unless the sidecar ends."""
        pause = self._first_pause
        stubborn = 0
        while True:
            problem, again, wait = self._post(event)
            if not problem:
                self._outbox.done(event)
                self._count("delivered")
                return True
            stubborn += not again
            if stubborn == STUBBORN:
                self._outbox.set_aside(event, problem)
                self._count("set_aside")
                return True
            # Jitter: the sidecars of all pods must not come back in step.
            wait = min(max(wait, pause * random.uniform(0.5, 1.5)), LONGEST_WAIT)  # noqa: S311
            logger.warning("event %s: %s; again in %.1f s", event.id, problem, wait)
            if self._closed.wait(wait):
                return False
            pause = min(2 * pause, LONGEST_PAUSE)

    def _count(self, fate: str) -> None:
        with self._changed:
            self._counts[fate] += 1

    def _post(self, event: CloudEvent) -> tuple[str, bool, float]:
        """("", …) when the sink took it, else what went wrong, whether to try again for as long
        as it takes, and the seconds that the sink asks to wait."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT)
        try:
            connection.request("POST", self._path, event.body(), event.headers())
            answer = connection.getresponse()
            status, after = answer.status, answer.getheader("retry-after")
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"{self._url} gave no answer ({error or type(error).__name__})", True, 0.0
        finally:
            connection.close()
        if 200 <= status < 300:
            return "", False, 0.0
        problem = f"{self._url} answered {status}"
        return problem, status >= 500 or status in AGAIN, retry_after(after)


def retry_after(text: str | None) -> float:
    """Seconds of a Retry-After header: a number of them, or a date. 0 for what is neither."""
    if not text:
        return 0.0
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(moment.timestamp() - time.time(), 0.0)
