"""From evidence to transitions: opened, escalated, resolved, each once per episode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Transition = Literal["opened", "escalated", "resolved"]
Severity = Literal["warning", "critical"]
Opener = Literal["watch", "windows"]

MAJOR = 0.25
"""Population stability index that is read as a major shift (Siddiqi, Credit Risk Scorecards)."""
QUIET = math.log(20)
"""Over n rows without drift the evidence exceeds ln(n) + QUIET with a probability of at most 5 %
(Markov: the mean of a Shiryaev-Roberts e-detector after n rows is n)."""


@dataclass
class Moved:
    """What moved, in the order in which it moved."""

    name: str
    aspect: str
    time: str


@dataclass
class Episode:
    """One episode of drift, from opened to resolved. Times are RFC 3339 texts, rows are counted
    over the life of the sidecar."""

    number: int
    opened_by: Opener
    severity: Severity
    confirmed: bool
    """Both the watch and the window tests saw it."""
    opened: str
    onset: str
    opened_row: int
    onset_row: int
    last_row: int
    """The last row at which drift was seen again."""
    resolved: str | None = None
    first: list[Moved] = field(default_factory=list)

    @property
    def state(self) -> Literal["open", "resolved"]:
        return "open" if self.resolved is None else "resolved"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Episode:
        values = {f.name: state[f.name] for f in fields(cls)}
        return cls(**{**values, "first": [Moved(**moved) for moved in state["first"]]})


class Episodes:
    """The life of one episode after another. Pure: rows and evidence in, transitions out.

    It opens when the watch crosses its threshold or a window test rejects. It is resolved when,
    over twice as many rows as the evidence took to open it (and two windows at least), neither
    the watch, begun anew, nor a window saw drift: a shift that is too weak for one window to see
    does not flap. It escalates once, when its effect becomes major.
    """

    def __init__(self, window_rows: int) -> None:
        self._window_rows = window_rows
        self.current: Episode | None = None
        self.number = 0
        self.onset_row = 0
        self.onset = ""
        """Where the evidence that stands now began to grow."""

    @property
    def open(self) -> bool:
        return self.current is not None and self.current.resolved is None

    def calm(self, row: int, time: str) -> None:
        """Evidence is as low as it is without drift: whatever comes begins after here."""
        self.onset_row, self.onset = row, time

    def quiet_rows(self, episode: Episode) -> int:
        """Rows without drift that resolve it."""
        return 2 * max(self._window_rows, episode.opened_row - episode.onset_row)

    def alarm(self, by: Opener, row: int, time: str, *, confirmed: bool) -> Transition | None:
        """A detector sees drift at this row."""
        if self.open and self.current is not None:
            self.current.last_row = row
            self.current.confirmed |= confirmed or by != self.current.opened_by
            return None
        self.number += 1
        self.current = Episode(
            number=self.number,
            opened_by=by,
            severity="warning",
            confirmed=confirmed,
            opened=time,
            onset=self.onset or time,
            opened_row=row,
            onset_row=min(self.onset_row, row),
            last_row=row,
        )
        return "opened"

    def weigh(self, effect: float) -> Transition | None:
        """The largest effect of an open episode, as a population stability index."""
        if not self.open or self.current is None or self.current.severity == "critical":
            return None
        if effect < MAJOR:
            return None
        self.current.severity = "critical"
        return "escalated"

    def still(self, row: int) -> float:
        """Log evidence that an open episode's watch must exceed at this row to count as drift."""
        if self.current is None:
            return math.inf
        return math.log(max(row - self.current.last_row, 1)) + QUIET

    def look(self, row: int, time: str) -> Transition | None:
        """Resolves an open episode that has been quiet for long enough."""
        episode = self.current
        if episode is None or not self.open or row - episode.last_row < self.quiet_rows(episode):
            return None
        episode.resolved = time
        self.calm(row, time)
        return "resolved"

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "onset_row": self.onset_row,
            "onset": self.onset,
            "current": self.current.to_json() if self.current else None,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.number = int(state["number"])
        self.onset_row, self.onset = int(state["onset_row"]), str(state["onset"])
        self.current = Episode.of(state["current"]) if state["current"] else None
