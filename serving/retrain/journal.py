"""What was received and what became of it: one file an event, replaced atomically."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from serving.errors import SeatrialError, UsageError
from serving.retrain.cloudevent import CloudEvent, parse_event
from serving.whole import write_text

logger = logging.getLogger("seatrial.retrain")

KEPT = 1000
"""Records of events that need nothing more; older ones are forgotten."""


class State(StrEnum):
    RECEIVED = "received"
    HELD = "held"
    """A run for it is wanted, but not yet."""
    STARTING = "starting"
    """The launcher is being asked, or was when the process died."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


WAITING = frozenset({State.RECEIVED, State.HELD})
ACTIVE = frozenset({State.STARTING, State.RUNNING})


@dataclass(frozen=True)
class Record:
    event: CloudEvent
    received: float
    """Unix seconds, as all times here."""
    state: State = State.RECEIVED
    why: str = ""
    """What decided the state, in a sentence."""
    run: str = ""
    """The run's id, as its launcher names it."""
    started: float | None = None
    finished: float | None = None

    @property
    def file_name(self) -> str:
        return hashlib.sha256("\0".join(self.event.key).encode()).hexdigest()[:32] + ".json"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "event": self.event.to_json()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Record:
        """Raises KeyError, TypeError, ValueError or DataError for what is no record."""
        event = parse_event(found["event"])
        return cls(**{**found, "event": event, "state": State(found["state"])})


class Journal:
    """One process at a time owns the folder. Its methods may be called from several threads."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for a folder that cannot be used, SeatrialError for one in use."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._owner = os.open(folder / "owner", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(
                f"journal {folder}: {os.strerror(error.errno or 0)}; give a folder that can be"
                " written"
            ) from None
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._owner)
            raise SeatrialError(
                f"journal {folder}: another receiver uses it; give each its own --journal"
            ) from None
        self._folder = folder
        self._lock = threading.Lock()
        self._records = dict(self._load())

    def close(self) -> None:
        os.close(self._owner)

    def records(self) -> list[Record]:
        """All records, the oldest first."""
        with self._lock:
            return sorted(self._records.values(), key=lambda record: record.received)

    def add(self, event: CloudEvent, now: float) -> Record | None:
        """Keeps a new event durably; None when it is known. Raises OSError when it cannot."""
        with self._lock:
            if event.key in self._records:
                return None
            record = Record(event, now)
            self._write(record)
            self._prune()
            return record

    def change(self, record: Record, **changes: Any) -> Record:
        """Replaces what is known of an event. Raises OSError; nothing has changed then."""
        with self._lock:
            changed = replace(record, **changes)
            if changed != self._records.get(record.event.key):
                self._write(changed)
            return changed

    def _write(self, record: Record) -> None:
        write_text(self._folder / record.file_name, json.dumps(record.to_json()) + "\n")
        self._records[record.event.key] = record

    def _prune(self) -> None:
        done = [r for r in self._records.values() if r.state not in WAITING | ACTIVE]
        for record in sorted(done, key=lambda r: r.received)[: max(0, len(done) - KEPT)]:
            (self._folder / record.file_name).unlink(missing_ok=True)
            del self._records[record.event.key]

    def _load(self) -> list[tuple[tuple[str, str], Record]]:
        found = []
        for file in sorted(self._folder.glob("*.json")):
            try:
                record = Record.from_json(json.loads(file.read_text("utf-8")))
            except (OSError, ValueError, KeyError, TypeError, SeatrialError) as error:
                aside = file.with_suffix(".unreadable")
                file.rename(aside)
                logger.error("%s is no record (%s); set aside as %s", file, error, aside.name)
                continue
            found.append((record.event.key, record))
        return found
