"""Delivery of events in the background: a sink that is down costs detection nothing."""

from __future__ import annotations

import http.client
import logging
import threading
from collections import deque
from typing import Protocol
from urllib.parse import urlsplit

from serving.drift.events import CloudEvent

logger = logging.getLogger("seatrial.drift")

ATTEMPTS = 12
FIRST_PAUSE = 0.2
"""Seconds; doubles with each attempt, as Knative's brokers do, up to LONGEST_PAUSE."""
LONGEST_PAUSE = 30.0
TIMEOUT = 5.0
CAPACITY = 1000
AGAIN = frozenset((404, 408, 409, 429))
"""Answers besides 5xx after which sending again may help."""


class EventSink(Protocol):
    def send(self, event: CloudEvent) -> None:
        """Takes an event and returns at once."""

    def counts(self) -> dict[str, int]:
        """Events by fate: delivered, pending, lost."""

    def close(self) -> None: ...


class MemorySink:
    """The shipped fake, and what runs without a URL: keeps the last events it is sent."""

    def __init__(self) -> None:
        self.events: deque[CloudEvent] = deque(maxlen=CAPACITY)

    def send(self, event: CloudEvent) -> None:
        self.events.append(event)

    def counts(self) -> dict[str, int]:
        return {"delivered": 0, "pending": 0, "lost": 0}

    def close(self) -> None:
        pass


class HttpSink:
    """POSTs events in order, each up to ATTEMPTS times; keeps CAPACITY of them meanwhile."""

    def __init__(self, url: str, *, first_pause: float = FIRST_PAUSE) -> None:
        parts = urlsplit(url)
        self._url = url
        self._host = parts.hostname or ""
        self._port = parts.port
        self._secure = parts.scheme == "https"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._first_pause = first_pause
        self._outbox: deque[CloudEvent] = deque()
        self._counts = {"delivered": 0, "lost": 0}
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift-sink", daemon=True)
        self._thread.start()

    def send(self, event: CloudEvent) -> None:
        with self._changed:
            if len(self._outbox) == CAPACITY:
                self._counts["lost"] += 1
                logger.error("%d events wait for %s: %s is lost", CAPACITY, self._url, event.id)
                return
            self._outbox.append(event)
            self._changed.notify()

    def counts(self) -> dict[str, int]:
        with self._changed:
            return {**self._counts, "pending": len(self._outbox)}

    def close(self, patience: float = 1.0) -> None:
        """Ends delivery after at most `patience` seconds; what is left is logged as lost."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        self._thread.join(patience)
        for event in self._outbox:
            logger.error("event %s was not delivered to %s before the end", event.id, self._url)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._outbox or self._closed.is_set())
                if not self._outbox:
                    return
                event = self._outbox[0]
            delivered = self._deliver(event)
            with self._changed:
                self._counts["delivered" if delivered else "lost"] += 1
                self._outbox.popleft()

    def _deliver(self, event: CloudEvent) -> bool:
        pause = self._first_pause
        for attempt in range(1, ATTEMPTS + 1):
            problem, again = self._post(event)
            if not problem:
                return True
            if not again or attempt == ATTEMPTS:
                break
            logger.warning("event %s: %s; again in %.1f s", event.id, problem, pause)
            if self._closed.wait(pause):
                break
            pause = min(2 * pause, LONGEST_PAUSE)
        logger.error("event %s is lost after %d attempts: %s", event.id, attempt, problem)
        return False

    def _post(self, event: CloudEvent) -> tuple[str, bool]:
        """("", False) when the sink took it, else what went wrong and whether to try again."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT)
        try:
            connection.request("POST", self._path, event.body(), event.headers())
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"{self._url} cannot be reached ({error or type(error).__name__})", True
        finally:
            connection.close()
        if 200 <= status < 300:
            return "", False
        return f"{self._url} answered {status}", status >= 500 or status in AGAIN
