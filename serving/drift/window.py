"""Rows on their way: a bounded ring, tumbling windows, and what has been seen already."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from serving.drift.encoding import Matrix


@dataclass(frozen=True)
class Batch:
    rows: Matrix
    time: datetime


@dataclass(frozen=True)
class Window:
    """Consecutive rows [n, columns]; `start` and `end` are the times of their first and last
    event."""

    rows: Matrix
    start: datetime
    end: datetime


class Recent:
    """Remembers the last `capacity` keys."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._order: deque[Hashable] = deque()
        self._known: set[Hashable] = set()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._known

    def add(self, key: Hashable) -> None:
        if key in self._known:
            return
        if len(self._order) == self._capacity:
            self._known.discard(self._order.popleft())
        self._order.append(key)
        self._known.add(key)


class Ring:
    """Batches between the receiver and the worker; the oldest rows make room for new ones."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._batches: deque[Batch] = deque()
        self._rows = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._rows

    def put(self, batch: Batch) -> int:
        """Adds a batch; returns how many rows were dropped for it."""
        dropped = 0
        with self._changed:
            if len(batch.rows) > self._capacity:
                dropped = len(batch.rows) - self._capacity
                batch = Batch(batch.rows[dropped:], batch.time)
            self._batches.append(batch)
            self._rows += len(batch.rows)
            while self._rows > self._capacity:
                lost = len(self._batches.popleft().rows)
                self._rows -= lost
                dropped += lost
            self._changed.notify()
        return dropped

    def take(self) -> Batch | None:
        """The oldest batch, as soon as there is one; None once the ring is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._closed)
            if self._closed:
                return None
            batch = self._batches.popleft()
            self._rows -= len(batch.rows)
            return batch

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Tumbler:
    """Cuts batches into windows of exactly `size` rows."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: list[Batch] = []
        self.pending = 0

    def add(self, batch: Batch) -> Iterator[Window]:
        """Yields each window that the batch completes."""
        rows = batch.rows
        while len(rows):
            taken = min(len(rows), self.size - self.pending)
            self._parts.append(Batch(rows[:taken], batch.time))
            self.pending += taken
            rows = rows[taken:]
            if self.pending == self.size:
                parts, self._parts, self.pending = self._parts, [], 0
                yield Window(
                    rows=np.concatenate([part.rows for part in parts]),
                    start=min(part.time for part in parts),
                    end=max(part.time for part in parts),
                )
