"""Files that appear whole or not at all, and stay: temporary name, fsync, rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to. It takes the file's place, and its mode, when the block
    ends well, and is removed when it does not. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        # mkstemp makes the file private.
        partial.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(file.parent)


def write_bytes(file: Path, data: bytes) -> None:
    """A reader sees the old bytes or the new ones, never a part. Raises OSError."""
    with replacing(file) as partial:
        partial.write_bytes(data)


def write_text(file: Path, text: str) -> None:
    """The same in UTF-8."""
    write_bytes(file, text.encode())


def sync_folder(folder: Path) -> None:
    """A new or renamed entry survives a power cut only with its folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
