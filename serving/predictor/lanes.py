"""Runs of the graph that somebody watches: none outlasts its limit.

A lane is a thread's own place to run in. One guard thread looks at all lanes while any is in use.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from time import perf_counter
from typing import Any

import onnxruntime

_QUIET = 4
_TICK_SECONDS = 0.01
_IDLE_TICKS = 50


def run_options() -> Any:
    options = onnxruntime.RunOptions()
    options.log_severity_level = _QUIET
    return options


class Lane:
    """One run at a time, between `enter` and `leave`."""

    __slots__ = ("bindings", "entered", "limit", "options", "used")

    def __init__(self) -> None:
        self.options = run_options()
        self.bindings: dict[int, Any] = {}
        """What a Graph keeps for this lane, by number of rows."""
        self.entered = 0.0
        """Start of the run in progress on the clock of perf_counter; 0 for none."""
        self.limit = 0.0
        self.used = False

    def leave(self) -> bool:
        """Ends a run; whether it was stopped at its limit."""
        self.entered = 0.0
        stopped = bool(self.options.terminate)
        if stopped:
            self.options = run_options()
        return stopped


class Guard:
    """Stops what outlasts its limit, and calls `tick` while lanes are in use."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._lanes: list[Lane] = []
        self._wake = threading.Event()
        self._awake = False
        threading.Thread(target=self._watch, name="guard", daemon=True).start()

    def lane(self) -> Lane:
        lane = Lane()
        self._lanes.append(lane)
        return lane

    def enter(self, lane: Lane, limit: float) -> None:
        """Begins a run that is stopped some 10 ms after `limit`, a time of perf_counter."""
        lane.limit = limit
        lane.entered = perf_counter()
        lane.used = True
        # Read after the entry is written: the guard looks once more after it says it sleeps.
        if not self._awake:
            self._wake.set()

    def stop_all(self) -> None:
        """Stops what runs now."""
        for lane in list(self._lanes):
            if lane.entered:
                lane.options.terminate = True

    def stuck(self, lane: Lane, seconds: float) -> bool:
        """Whether its run has taken that long already."""
        return lane.entered > 0 and perf_counter() - lane.entered > seconds

    def _watch(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self._awake = True
            idle = 0
            while idle < _IDLE_TICKS:
                time.sleep(_TICK_SECONDS)
                idle = 0 if self._look() else idle + 1
                self._tick()
            self._awake = False
            if self._look():
                self._wake.set()

    def _look(self) -> bool:
        """Whether any lane was in use since the last look."""
        busy = False
        now = perf_counter()
        for lane in list(self._lanes):
            if lane.entered and now > lane.limit:
                lane.options.terminate = True
            busy |= lane.used or lane.entered > 0
            lane.used = False
        return busy
