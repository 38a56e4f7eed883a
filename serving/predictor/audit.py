"""The audit log: one JSON line per prediction, from a queue off the request path.

Every access takes the lock beside the file, so that workers can share it and a subject's lines can
be erased while it is written: `python -m serving.predictor.audit find|erase LOG ID`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from serving.bundle import Bundle
from serving.errors import FileError, SeatrialError, UsageError
from serving.predictor.metrics import Metrics
from serving.predictor.settings import Settings
from serving.predictor.wire import Request, Scored

MAX_PENDING_ROWS = 16384
LINGER_SECONDS = 0.1


class AuditLog:
    """Use `start`, `offer` from any thread, `close`."""

    def __init__(
        self,
        file: Path,
        fields: Sequence[str],
        digest: str,
        arm: str,
        metrics: Metrics,
        *,
        max_bytes: int,
        files: int,
    ) -> None:
        """`fields`: features to write down; without any, the sha256 of each row's values."""
        self._file = file
        self._fields = fields
        self._base = {"bundle": digest, "arm": arm}
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._files = files
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
        file = Path(settings.audit_log)
        with _locked(file), _refusing(file), file.open("ab"):
            pass
        return cls(
            file,
            fields,
            bundle.digest,
            settings.arm,
            metrics,
            max_bytes=settings.audit_max_bytes,
            files=settings.audit_files,
        )

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
        while not (self._closing.is_set() and not self._pending):
            self._arrived.wait()
            self._closing.wait(LINGER_SECONDS)
            with self._lock:
                batch, self._pending = self._pending, deque()
                rows, self._rows = self._rows, 0
                self._arrived.clear()
            if not batch:
                continue
            try:
                self._write(b"".join(self._lines(batch)))
                self._metrics.add("seatrial_audit_rows", count=rows)
            except (OSError, SeatrialError):
                self._metrics.add("seatrial_audit_dropped_rows", count=rows)

    def _lines(self, batch: deque[tuple[str, Request, Scored]]) -> Iterator[bytes]:
        for time, request, scored in batch:
            lists = {name: column.tolist() for name, column in request.rows.columns.items()}
            for row, values in enumerate(zip(*lists.values(), strict=True)):
                line: dict[str, Any] = {"time": time, "id": request.id, "row": row, **self._base}
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

    def _write(self, data: bytes) -> None:
        with _locked(self._file):
            with self._file.open("ab") as handle:
                handle.write(data)
                size = handle.tell()
            if size >= self._max_bytes:
                self._rotate()

    def _rotate(self) -> None:
        for age in range(self._files, 0, -1):
            older = rotated(self._file, age)
            if age == self._files:
                older.unlink(missing_ok=True)
            younger = rotated(self._file, age - 1)
            if younger.exists():
                younger.replace(older)


def rotated(file: Path, age: int) -> Path:
    """The log itself at age 0, older ones with their age at the end."""
    return file if age == 0 else file.with_name(f"{file.name}.{age}")


def find(file: Path, request_id: str) -> list[dict[str, Any]]:
    """The lines of one request id, oldest first. Raises FileError."""
    with _locked(file):
        return [
            json.loads(line)
            for log in _logs(file)
            for line in log.read_bytes().splitlines()
            if _is_of(line, request_id)
        ]


def erase(file: Path, request_id: str) -> int:
    """Forgets one request id in all logs; how many lines that were. Raises FileError."""
    erased = 0
    with _locked(file):
        for log in _logs(file):
            lines = log.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if not _is_of(line, request_id)]
            if len(kept) == len(lines):
                continue
            erased += len(lines) - len(kept)
            new = log.with_name(f".{log.name}.new")
            with new.open("wb") as handle:
                handle.write(b"".join(kept))
                handle.flush()
                os.fsync(handle.fileno())
            new.replace(log)
    return erased


def _logs(file: Path) -> list[Path]:
    """Oldest first. Raises FileError when there is none."""
    found = [
        log
        for log in file.parent.glob(f"{file.name}*")
        if log == file or log.name.removeprefix(f"{file.name}.").isdigit()
    ]
    if not found:
        raise FileError(f"{file}: there is no audit log; give the predictor's --audit_log")
    return sorted(found, key=lambda log: -int(log.suffix[1:] if log != file else 0))


def _is_of(line: bytes, request_id: str) -> bool:
    if json.dumps(request_id, ensure_ascii=False)[1:-1].encode() not in line:
        return False
    try:
        return bool(json.loads(line).get("id") == request_id)
    except (ValueError, AttributeError):
        return False


@contextlib.contextmanager
def _refusing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(f"{file}: cannot use the audit log: {error.strerror}") from None


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with _refusing(file):
        handle = file.with_name(f".{file.name}.lock").open("ab")
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.predictor.audit")
    parser.add_argument("action", choices=("find", "erase"))
    parser.add_argument("log", type=Path)
    parser.add_argument("id", help="the id of a request")
    args = parser.parse_args(argv)
    actions: dict[str, Callable[[], str]] = {
        "find": lambda: "".join(json.dumps(line) + "\n" for line in find(args.log, args.id)),
        "erase": lambda: f"erased {erase(args.log, args.id)} lines\n",
    }
    try:
        sys.stdout.write(actions[args.action]())
    except SeatrialError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
