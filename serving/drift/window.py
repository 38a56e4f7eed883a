"""Rows on their way: a bounded ring, tumbling windows, and what has been seen already."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from serving.drift.encoding import Matrix
from serving.drift.rows import Block

FEWEST = 50
"""Rows that a window by time needs; it goes on until it has them."""
MOST = 20_000
"""Rows at which a window by time ends early: it must fit into memory."""


@dataclass(frozen=True)
class Batch:
    """Encoded rows [n, columns] and the time of their event, in seconds since 1970."""

    rows: Matrix
    time: float


@dataclass(frozen=True)
class Window:
    """Consecutive rows [n, columns]; `start` and `end` are the earliest and the latest time."""

    rows: Matrix
    start: float
    end: float


class Recent:
    """Remembers the last `capacity` keys."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._order: deque[int] = deque()
        self._known: set[int] = set()

    def __contains__(self, key: int) -> bool:
        return key in self._known

    def __iter__(self) -> Iterator[int]:
        """Oldest first."""
        return iter(tuple(self._order))

    def add(self, key: int) -> None:
        if key in self._known:
            return
        if len(self._order) == self._capacity:
            self._known.discard(self._order.popleft())
        self._order.append(key)
        self._known.add(key)


class Ring:
    """Blocks between the receiver and the worker; the oldest rows make room for new ones."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: deque[Block] = deque()
        self._rows = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._rows

    @property
    def oldest(self) -> float | None:
        """Time of the block that is next."""
        try:
            return self._blocks[0].time
        except IndexError:
            return None

    def put(self, block: Block) -> int:
        """Adds a block; returns how many rows were dropped for it."""
        dropped = 0
        with self._changed:
            if block.rows > self._capacity:
                dropped = block.rows - self._capacity
                block = block.last(self._capacity)
            self._blocks.append(block)
            self._rows += block.rows
            while self._rows > self._capacity:
                lost = self._blocks.popleft().rows
                self._rows -= lost
                dropped += lost
            self._changed.notify()
        return dropped

    def take(self, most: int, patience: float | None = None) -> list[Block] | None:
        """The oldest blocks of about `most` rows, as soon as there are any; none after `patience`
        seconds; None once the ring is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._closed, patience)
            if self._closed:
                return None
            return self._taken(most)

    def drain(self, most: int) -> list[Block]:
        """What is left, about `most` rows at a time, of a ring that is closed."""
        with self._changed:
            return self._taken(most)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _taken(self, most: int) -> list[Block]:
        taken: list[Block] = []
        rows = 0
        while self._blocks and (not taken or rows + self._blocks[0].rows <= most):
            taken.append(self._blocks.popleft())
            rows += taken[-1].rows
        self._rows -= rows
        return taken


class Tumbler:
    """Cuts batches into windows of exactly `size` rows, or of the rows of `seconds` seconds."""

    def __init__(
        self,
        size: int | None,
        seconds: float | None = None,
        now: float = 0.0,
        *,
        keep_rows: bool = True,
    ) -> None:
        """Without `keep_rows` windows are counted and timed, and have no rows."""
        self._kept = slice(None) if keep_rows else slice(0)
        self.size = size
        self.seconds = seconds
        self._parts: list[Batch] = []
        self._begun = now
        self.pending = 0

    def cut(self, batch: Batch, now: float) -> Iterator[tuple[Batch, Window | None]]:
        """The batch in parts, each with the window that it completes.

        `now` is of a clock that never goes back; the times of events may.
        """
        rows = batch.rows
        while len(rows):
            limit = MOST if self.size is None else self.size
            part = Batch(rows[: limit - self.pending], batch.time)
            rows = rows[len(part.rows) :]
            self._parts.append(Batch(part.rows[self._kept], batch.time))
            self.pending += len(part.rows)
            due = self.seconds is not None and now - self._begun >= self.seconds
            if self.pending >= limit or (due and self.pending >= FEWEST):
                yield part, self._end(now)
            else:
                yield part, None

    def recent(self) -> Window | None:
        """The window as far as it is."""
        return _window(self._parts) if self._parts else None

    def load(self, window: Window | None, pending: int, now: float) -> None:
        """Takes up what `recent` and `pending` gave."""
        self._parts = [] if window is None else [Batch(window.rows, window.start)]
        if window is not None and window.end > window.start:
            self._parts.append(Batch(window.rows[:0], window.end))
        self.pending = pending
        self._begun = now

    def _end(self, now: float) -> Window:
        window = _window(self._parts)
        self._parts, self.pending, self._begun = [], 0, now
        return window


def _window(parts: list[Batch]) -> Window:
    return Window(
        rows=np.concatenate([part.rows for part in parts]),
        start=min(part.time for part in parts),
        end=max(part.time for part in parts),
    )
