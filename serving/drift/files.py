"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from serving.errors import FileError


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
