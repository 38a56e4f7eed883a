"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from serving.errors import FileError


def write_bytes(path: Path, data: bytes) -> None:
    """Writes atomically; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def write_json(path: Path, value: Any) -> None:
    """Sorted keys and no NaN: equal values give equal bytes."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_bytes(path: Path, made_by: str) -> bytes:
    """A file that another step wrote. Raises FileError naming that step."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(
            f"{path}: cannot read it ({error.strerror}); give the folder that the {made_by} step"
            " wrote"
        ) from None


def read_json(path: Path, made_by: str) -> Any:
    """As `read_bytes`, for JSON."""
    try:
        return json.loads(read_bytes(path, made_by))
    except ValueError as error:
        raise FileError(f"{path}: it is not JSON ({error}); run the {made_by} step again") from None
