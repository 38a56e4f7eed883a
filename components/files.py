"""Files that appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serving.errors import FileError
from serving.whole import replacing


def write_bytes(path: Path, data: bytes) -> None:
    """Writes atomically; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(data)


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
