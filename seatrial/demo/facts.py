"""What a run did, as it happens: runs/<id>/facts.json, which the report is made from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.whole import write_text

FORMAT = "seatrial.run/1"


class Facts:
    """A dict that is written, whole and atomically, at each change of stage."""

    def __init__(self, folder: Path, command: str) -> None:
        self.file = folder / "facts.json"
        self.data: dict[str, Any] = {
            "format": FORMAT,
            "run": folder.name,
            "started": now(),
            "finished": None,
            "ok": False,
            "command": command,
            "stages": [],
            "bundles": [],
            "timeline": [],
            "drift_events": [],
        }

    def save(self) -> None:
        write_text(self.file, json.dumps(self.data, indent=1, sort_keys=True, default=str))

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Records one stage: running, then ok or not, its seconds and its one-line detail."""
        started = time.monotonic()
        entry: dict[str, Any] = {"name": name, "ok": None, "seconds": 0.0, "detail": "running"}
        self.data["stages"].append(entry)
        self.save()
        try:
            yield entry
        except BaseException as error:
            entry["ok"] = False
            entry["detail"] = str(error) or type(error).__name__
            raise
        else:
            entry["ok"] = True
        finally:
            entry["seconds"] = round(time.monotonic() - started, 1)
            self.save()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
