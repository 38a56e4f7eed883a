"""Events on their way out, on disk: one journal file, appended and synced before anyone is told.

Each line is a JSON object: {"put": event}, {"done": sequence}, or {"last": sequence} as the first
line of a journal that was made smaller. A line that a crash cut off was never acknowledged: it is
cut away when the journal is opened.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import OrderedDict
from pathlib import Path

import orjson

from serving.drift.events import CloudEvent
from serving.errors import DataError, FileError
from serving.whole import write_bytes

logger = logging.getLogger("seatrial.drift")

SMALL = 1 << 20
"""Bytes of a journal that is worth making smaller."""


class Outbox:
    """Keeps events until they are done. Thread-safe; without a folder in memory only."""

    def __init__(self, folder: Path | None, capacity: int) -> None:
        """Raises FileError for a journal that cannot be read or written."""
        self._capacity = capacity
        self._events: OrderedDict[int, CloudEvent] = OrderedDict()
        self._lock = threading.Lock()
        self._file = folder / "outbox.jsonl" if folder else None
        self._aside = folder / "refused.jsonl" if folder else None
        self._size = 0
        self.last = 0
        """The highest sequence that was ever put."""
        self.problem = ""
        """Why the disk does not have all events; they are still kept in memory."""
        if self._file is not None:
            try:
                self._read(self._file)
            except OSError as error:
                raise FileError(
                    f"{self._file}: cannot use the outbox: {error.strerror}; give another state_dir"
                ) from None

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: CloudEvent) -> bool:
        """Whether it is kept; a full outbox takes none. Its sequence is higher than all before."""
        with self._lock:
            if len(self._events) >= self._capacity:
                logger.error("%d events wait: %s is refused: %s", self._capacity, event.id, event)
                return False
            self._events[event.sequence] = event
            self.last = max(self.last, event.sequence)
            self._append({"put": event.to_json()})
            return True

    def first(self) -> CloudEvent | None:
        """The oldest event that is not done."""
        with self._lock:
            return next(iter(self._events.values()), None)

    def done(self, event: CloudEvent) -> None:
        with self._lock:
            if self._events.pop(event.sequence, None) is None:
                return
            self._append({"done": event.sequence})
            if self._size > SMALL and not self._events:
                with contextlib.suppress(OSError):  # the long journal is as good
                    self._shrink()

    def set_aside(self, event: CloudEvent, why: str) -> None:
        """For an event that the sink will never take: kept in a file of its own, out of the way."""
        logger.error("event %s is set aside: %s: %s", event.id, why, event.body().decode())
        if self._aside is not None:
            with contextlib.suppress(OSError), self._aside.open("ab") as handle:
                handle.write(orjson.dumps({"why": why, "event": event.to_json()}) + b"\n")
                handle.flush()
                os.fsync(handle.fileno())
        self.done(event)

    def _append(self, line: dict[str, object]) -> None:
        if self._file is None:
            return
        data = orjson.dumps(line) + b"\n"
        try:
            # "r+": what an earlier attempt left behind the good part is written over.
            with self._file.open("r+b" if self._file.exists() else "w+b") as handle:
                handle.seek(self._size)
                handle.write(data)
                handle.flush()
                handle.truncate()
                os.fsync(handle.fileno())
            self._size += len(data)
            if self.problem:
                self._shrink()
        except OSError as error:
            if not self.problem:
                logger.error("%s: the disk does not take events: %s", self._file, error.strerror)
            self.problem = f"outbox: {error.strerror}; events are in memory only"

    def _shrink(self) -> None:
        """Writes the journal anew, with what is still to do."""
        assert self._file is not None  # noqa: S101
        lines: list[dict[str, object]] = [{"last": self.last}]
        lines += [{"put": event.to_json()} for event in self._events.values()]
        data = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        write_bytes(self._file, data)
        self._size = len(data)
        self.problem = ""

    def _read(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_bytes(file, b"")
        with file.open("r+b") as handle:
            for line in handle:
                try:
                    if not line.endswith(b"\n"):
                        break
                    self._replay(orjson.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, DataError):
                    break
                self._size += len(line)
            rest = handle.seek(0, os.SEEK_END) - self._size
            if rest:
                logger.warning("%s: the last %d bytes were cut off and are left out", file, rest)
                handle.truncate(self._size)
                os.fsync(handle.fileno())

    def _replay(self, line: dict[str, object]) -> None:
        if "put" in line:
            event = CloudEvent.of(line["put"])  # type: ignore[arg-type]
            self._events[event.sequence] = event
            self.last = max(self.last, event.sequence)
        elif "done" in line:
            self._events.pop(line["done"], None)  # type: ignore[call-overload]
        else:
            self.last = max(self.last, int(line["last"]))  # type: ignore[call-overload]
