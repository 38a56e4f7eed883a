"""What happened so far, in a bounded list that keeps the whole stretch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from serving.drift.status import TIMELINE

Entry = Mapping[str, Any]


class Timeline:
    """At most TIMELINE entries; when it is full, every second quiet one is left out."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._stride = 1
        self._skipped = 0

    def add(self, entry: Entry, *, keep: bool = False) -> None:
        """`keep` for transitions: they are thinned out last. Without it only every n-th stays."""
        self._skipped += 1
        if not keep and self._skipped < self._stride:
            return
        self._skipped = 0
        self._entries.append({**entry, "keep": True} if keep else entry)
        if len(self._entries) > TIMELINE:
            self._stride *= 2
            self._entries = _thinned(self._entries)

    def to_json(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in entry.items() if k != "keep"} for entry in self._entries]

    def state(self) -> dict[str, Any]:
        return {"entries": self._entries, "stride": self._stride}

    def load(self, state: Mapping[str, Any]) -> None:
        self._entries = list(state["entries"])[-TIMELINE:]
        self._stride = int(state["stride"])


def _thinned(entries: Iterable[Entry]) -> list[Entry]:
    kept: list[Entry] = []
    drop = False
    for entry in entries:
        if not entry.get("keep"):
            drop = not drop
            if drop:
                continue
        kept.append(entry)
    # Nothing but transitions: the oldest go.
    return kept[-TIMELINE * 3 // 4 :]
