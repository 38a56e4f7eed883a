"""The sidecar's files: whole or not at all, and one process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from serving.errors import FileError


def write_whole(path: Path, data: bytes) -> None:
    """Writes atomically and durably. Raises OSError and leaves what was there."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def claim(folder: Path) -> int:
    """Makes the folder and locks it for this process; the kernel unlocks it however that ends.

    Raises FileError when it cannot be made or is another process's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*-*"):
            left.unlink()
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise FileError(
            f"state_dir '{folder}': {error.strerror}; give a folder that can be written"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise FileError(
            f"state_dir '{folder}' is used by another process; give each sidecar its own"
        ) from None
    return descriptor
