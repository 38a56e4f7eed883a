"""A circuit breaker: a model that keeps failing is spared, and tried again after a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Closed lets every call through, open none, half open one at a time.

    It opens after `failures` in a row and stays open for `seconds`; a probe that fails opens it
    again for twice as long, at most `longest` seconds. One success closes it.
    """

    def __init__(
        self,
        failures: int,
        seconds: float,
        longest: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = failures
        self._seconds = seconds
        self._longest = longest
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._wait = seconds
        self._open_until: float | None = None

    @property
    def is_open(self) -> bool:
        """Also while half open."""
        return self._open_until is not None

    def allows(self) -> bool:
        """Whether to call the model now; who was allowed must report `succeeded` or `failed`."""
        with self._lock:
            if self._open_until is None:
                return True
            if self._clock() < self._open_until:
                return False
            self._open_until = self._clock() + self._wait  # the next probe, should this one vanish
            return True

    def succeeded(self) -> None:
        if not self._in_a_row:
            return
        with self._lock:
            self._in_a_row = 0
            self._wait = self._seconds
            self._open_until = None

    def failed(self) -> None:
        with self._lock:
            self._in_a_row += 1
            if self._open_until is not None:
                self._wait = min(2 * self._wait, self._longest)
            if self._in_a_row >= self._failures:
                self._open_until = self._clock() + self._wait
