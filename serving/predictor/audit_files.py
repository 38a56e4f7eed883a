"""The files of an audit log: rotation, retention, finding and forgetting.

Every access takes the lock beside the file, so that workers can share it and a subject's lines can
be erased while it is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from serving.errors import FileError
from serving.whole import replacing


class AuditFiles:
    """The log `file` and the older ones beside it, `file.1` being the youngest of these."""

    def __init__(self, file: Path, *, max_bytes: int, files: int, keep_seconds: float = 0.0):
        """`keep_seconds`: age at which a line may go, and is gone at most 1/`files` of it later.

        0: as long as there is room.
        """
        self.file = file
        self._max_bytes = max_bytes
        self._files = files
        self._keep = keep_seconds

    @property
    def sweep_seconds(self) -> float | None:
        """How often `sweep` is due; None for never."""
        return min(60.0, self._keep / self._files / 10) if self._keep else None

    def check(self) -> None:
        """Raises FileError when the log cannot be written."""
        with _locked(self.file), _refusing(self.file), self.file.open("ab"):
            pass

    def append(self, data: bytes) -> None:
        with _locked(self.file):
            with self.file.open("ab") as handle:
                handle.write(data)
                size = handle.tell()
            if size >= self._max_bytes:
                self._rotate()

    def sweep(self, now: float) -> None:
        """Drops what was kept long enough by `now`, in seconds of Unix time."""
        with _locked(self.file):
            started = _first_time(self.file)
            if started is not None and now - started >= self._keep / self._files:
                self._rotate()
            for log in _logs(self.file):
                # A rotated log ends with its youngest line.
                if log != self.file and now - log.stat().st_mtime >= self._keep:
                    log.unlink()

    def _rotate(self) -> None:
        for age in range(self._files, 0, -1):
            older = rotated(self.file, age)
            if age == self._files:
                older.unlink(missing_ok=True)
            younger = rotated(self.file, age - 1)
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
            for log in _existing(file)
            for line in log.read_bytes().splitlines()
            if _is_of(line, request_id)
        ]


def erase(file: Path, request_id: str) -> int:
    """Forgets one request id in all logs; how many lines that were. Raises FileError."""
    erased = 0
    with _locked(file):
        for log in _existing(file):
            lines = log.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if not _is_of(line, request_id)]
            if len(kept) == len(lines):
                continue
            erased += len(lines) - len(kept)
            _replace(log, b"".join(kept))
    return erased


def _replace(log: Path, data: bytes) -> None:
    """Atomically; the log keeps its age."""
    age = log.stat()
    with _refusing(log), replacing(log) as new:
        new.write_bytes(data)
        os.utime(new, ns=(age.st_atime_ns, age.st_mtime_ns))


def _existing(file: Path) -> list[Path]:
    """Oldest first. Raises FileError when there is none."""
    found = _logs(file)
    if not found:
        raise FileError(f"{file}: there is no audit log; give the predictor's --audit_log")
    return found


def _logs(file: Path) -> list[Path]:
    """Oldest first."""
    found = [
        log
        for log in file.parent.glob(f"{file.name}*")
        if log == file or log.name.removeprefix(f"{file.name}.").isdigit()
    ]
    return sorted(found, key=lambda log: -int(log.suffix[1:] if log != file else 0))


def _first_time(log: Path) -> float | None:
    """Unix time of its first line; None when there is none to read."""
    try:
        with log.open("rb") as handle:
            return datetime.fromisoformat(json.loads(handle.readline())["time"]).timestamp()
    except (OSError, ValueError, LookupError, TypeError):
        return None


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
