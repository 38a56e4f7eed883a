"""Where a status comes from: a sidecar's URL, a saved file, or the pods of the local player."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving.drift.status import STATUS_FORMAT
from serving.errors import DataError, FileError, PlayerError
from serving.local import LocalPlayer

Status = Mapping[str, Any]
SIDECAR = "drift-detector"
TIMEOUT = 10.0


def read_status(source: str) -> Status:
    """From http(s)://HOST[:PORT][/status], or a file with what it answered.

    Raises FileError when it cannot be read, DataError when it is no status of the sidecar.
    """
    if urlsplit(source).scheme in ("http", "https"):
        url = source if urlsplit(source).path.strip("/") else source.rstrip("/") + "/status"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - http only
                text = answer.read()
        except (OSError, ValueError) as error:
            raise FileError(f"{url}: no answer: {error}; give a drift sidecar's URL") from None
    else:
        try:
            text = Path(source).read_bytes()
        except OSError as error:
            raise FileError(f"{source}: {error.strerror}; give a URL or a saved status") from None
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("format") != STATUS_FORMAT:
        raise DataError(f"{source}: not a status of format '{STATUS_FORMAT}' of a drift sidecar")
    return status


def of_player(state_dir: Path) -> list[Status]:
    """The status of each pod's sidecar that answers, arms in their order.

    Raises PlayerError when nothing plays there, or no sidecar answers.
    """
    found = []
    for arm in LocalPlayer(state_dir).status().arms:
        for port in arm.ports.get(SIDECAR, {}).values():
            try:
                found.append(read_status(f"http://127.0.0.1:{port}"))
            except FileError:
                break
    if not found:
        raise PlayerError(f"no '{SIDECAR}' of the player in {state_dir} answers; is it in the pod?")
    return found
