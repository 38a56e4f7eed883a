"""How a run is started: the protocol, and the fake that ships with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from serving.errors import SeatrialError, UsageError
from serving.retrain.cloudevent import CloudEvent


class RunState(StrEnum):
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class LaunchError(SeatrialError):
    """A run could not be started, or its state not be read."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final
        """True: asking again will not help."""


class Launcher(Protocol):
    def start(self, event: CloudEvent) -> str:
        """Starts the event's run, unless there is one already; returns the run's id.

        Called again after a crash, or after an error whose outcome is unknown, it must find the
        run that was started then. Raises LaunchError.
        """

    def state(self, run: str) -> RunState:
        """Raises LaunchError when nobody can say."""


class MemoryLauncher:
    """The shipped fake: runs are entries in a dict, by event id; a test moves their states."""

    def __init__(self) -> None:
        self.runs: dict[str, RunState] = {}
        self.errors: list[LaunchError] = []
        """Raised by the next calls of start, the first one first."""

    def start(self, event: CloudEvent) -> str:
        if self.errors:
            raise self.errors.pop(0)
        self.runs.setdefault(event.id, RunState.ACTIVE)
        return event.id

    def state(self, run: str) -> RunState:
        return self.runs[run]


PLACES = ("event_id", "event_type", "model", "arm", "bundle", "window_from", "window_to", "event")
"""What {…} in a launcher's settings may name; {event} is the file of the whole event."""


@dataclass(frozen=True)
class Template:
    """Texts with {places} that each event fills anew."""

    setting: str
    """Its name, for error messages."""
    text: str

    def __post_init__(self) -> None:
        """Raises UsageError for a place that no event fills."""
        try:
            self.text.format_map(dict.fromkeys(PLACES, ""))
        except (KeyError, ValueError, IndexError) as error:
            raise UsageError(
                f"{self.setting}: {self.text!r}: {error} is no place;"
                f" write one of {', '.join('{' + place + '}' for place in PLACES)}"
            ) from None

    def fill(self, event: CloudEvent, file: str = "") -> str:
        """The text for an event whose whole document lies in `file`."""
        return self.text.format_map({**_values(event), "event": file})


def _values(event: CloudEvent) -> Mapping[str, str]:
    window: Any = event.data.get("window")
    bounds = window if isinstance(window, dict) else {}
    return {
        "event_id": event.id,
        "event_type": event.type,
        "model": event.model,
        "arm": event.text("arm"),
        "bundle": event.text("bundle"),
        "window_from": str(bounds.get("from", "")),
        "window_to": str(bounds.get("to", "")),
    }
