"""The audit log: one JSON line per prediction, from a queue off the request path."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from serving.bundle import Bundle
from serving.errors import SeatrialError, UsageError
from serving.predictor.audit_files import AuditFiles
from serving.predictor.metrics import Metrics
from serving.predictor.settings import Settings
from serving.predictor.wire import Request, Scored

MAX_PENDING_ROWS = 16384
LINGER_SECONDS = 0.1


class AuditLog:
    """Use `start`, `offer` from any thread, `close`."""

    def __init__(
        self,
        files: AuditFiles,
        fields: Sequence[str],
        digest: str,
        arm: str,
        metrics: Metrics,
    ) -> None:
        """`fields`: features to write down; without any, the sha256 of each row's values."""
        self._files = files
        self._fields = fields
        self._base = {"bundle": digest, "arm": arm}
        self._metrics = metrics
        self._pending: deque[tuple[str, Request, Scored]] = deque()
        self._rows = 0
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)

    @classmethod
    def for_bundle(cls, settings: Settings, bundle: Bundle, metrics: Metrics) -> AuditLog:
        """Raises SeatrialError for a field the contract lacks or a file that cannot be written."""
        fields = [name.strip() for name in settings.audit_fields.split(",") if name.strip()]
        for name in fields:
            if name not in bundle.contract.feature_names:
                raise UsageError(f"--audit_fields: '{name}' is not in the bundle's contract")
        files = AuditFiles(
            Path(settings.audit_log),
            max_bytes=settings.audit_max_bytes,
            files=settings.audit_files,
            keep_seconds=settings.audit_days * 86400,
        )
        files.check()
        return cls(files, fields, bundle.digest, settings.arm, metrics)

    def start(self) -> None:
        self._thread.start()

    def offer(self, request: Request, scored: Scored) -> None:
        """Takes the rows, or drops and counts them when the queue is full. Never waits."""
        rows = request.rows.count
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            fits = self._rows + rows <= MAX_PENDING_ROWS
            if fits:
                self._pending.append((now, request, scored))
                self._rows += rows
        if fits:
            self._arrived.set()
        else:
            self._metrics.add("seatrial_audit_dropped_rows", count=rows)

    def close(self, seconds: float) -> None:
        """Writes what is queued, for at most `seconds`."""
        self._closing.set()
        self._arrived.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        pause = self._files.sweep_seconds
        due = 0.0
        while not (self._closing.is_set() and not self._pending):
            if pause is not None and time.monotonic() >= due:
                due = time.monotonic() + pause
                with contextlib.suppress(OSError, SeatrialError):
                    self._files.sweep(time.time())
            if not self._arrived.wait(pause):
                continue
            self._closing.wait(LINGER_SECONDS)
            with self._lock:
                batch, self._pending = self._pending, deque()
                rows, self._rows = self._rows, 0
                self._arrived.clear()
            if not batch:
                continue
            try:
                self._files.append(b"".join(self._lines(batch)))
                self._metrics.add("seatrial_audit_rows", count=rows)
            except (OSError, SeatrialError):
                self._metrics.add("seatrial_audit_dropped_rows", count=rows)

    def _lines(self, batch: deque[tuple[str, Request, Scored]]) -> Iterator[bytes]:
        for taken, request, scored in batch:
            lists = {name: column.tolist() for name, column in request.rows.columns.items()}
            for row, values in enumerate(zip(*lists.values(), strict=True)):
                line: dict[str, Any] = {"time": taken, "id": request.id, "row": row, **self._base}
                if self._fields:
                    line["input"] = {name: lists[name][row] for name in self._fields}
                else:
                    line["input_sha256"] = hashlib.sha256(orjson.dumps(values)).hexdigest()
                score = float(scored.scores[row])
                line["score"] = score if score == score else None  # noqa: PLR0124 - NaN
                line["decision"] = scored.decisions[row]
                line["reason"] = scored.reasons[row]
                if scored.fallback:
                    line["fallback"] = True
                yield orjson.dumps(line) + b"\n"
