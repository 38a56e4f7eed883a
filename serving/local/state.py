"""The state directory: what runs, who owns it, where the logs are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.errors import PlayerError
from serving.local.identity import Identity
from serving.whole import write_text

FORMAT = "seatrial.player/1"
STATE_FILE = "state.json"
SOCKET = "control.sock"
EVENTS_FILE = "events.jsonl"
LOGS = "logs"
LOCK = "lock"


@dataclass(frozen=True)
class State:
    """What is needed to find and end everything after a kill -9."""

    supervisor: Identity
    owner: Identity | None
    """Process on whose behalf this runs; when it is gone, the next command ends everything."""
    children: Mapping[str, Identity] = field(default_factory=dict)
    """By log name: "v1/kserve-container", "gateway"."""


def read_state(folder: Path) -> State | None:
    """None where nothing has been started. Raises PlayerError on a file that is not ours."""
    file = folder / STATE_FILE
    try:
        data: Any = json.loads(file.read_bytes())
        owner = data["owner"]
        return State(
            supervisor=Identity(**data["supervisor"]),
            owner=None if owner is None else Identity(**owner),
            children={name: Identity(**child) for name, child in data["children"].items()},
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlayerError(
            f"{file}: not the player's state ({error}); remove the file or give another directory"
        ) from None


def write_state(folder: Path, state: State) -> None:
    write_text(folder / STATE_FILE, json.dumps({"format": FORMAT, **asdict(state)}, indent=1))


def log_file(folder: Path, name: str) -> Path:
    """Of "arm/container", "gateway" or "player"."""
    return folder / LOGS / f"{name}.log"


def last_line(file: Path) -> str:
    """The last line with anything on it, at most 300 characters; empty if there is none."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - 8192))
            lines = handle.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "")
