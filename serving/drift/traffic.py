"""How many rows come in: what turns "one false alarm in 30 days" into a number of rows."""

from __future__ import annotations

import math

DAY = 86_400.0
TAU = 3600.0
"""Seconds over which the rate is averaged: a busy hour counts, a busy second does not."""
LEAST = 1_000_000.0
MOST = 1e13


class Traffic:
    """Rows per second, as an exponentially weighted mean and as the mean of all time.

    The watch's false alarms come at most once per average_run_length rows, so its rate in time is
    rows per second / average_run_length. Following the larger of both means keeps that below one
    in `days` when traffic swings; the mean itself is unbiased from the first row on.
    """

    def __init__(self, days: float, fixed: float, now: float) -> None:
        self._days = days
        self._fixed = fixed
        self._begun = self._last = now
        self._weighted = 0.0
        self._weight = 0.0
        self._rows = 0.0
        self._before = 0.0
        """Rows per second that an earlier process saw."""

    def add(self, rows: int, now: float) -> None:
        """`now`: seconds of a clock that never goes back."""
        passed = max(now - self._last, 0.0)
        fading = math.exp(-passed / TAU)
        self._weighted = self._weighted * fading + rows
        self._weight = self._weight * fading + TAU * (1 - fading)
        self._last = now
        self._rows += rows

    @property
    def rate(self) -> float:
        """Rows per second."""
        # The first rows come at once: over less than a minute no rate is worth its name.
        lately = self._weighted / max(self._weight, 60.0)
        ever = self._rows / max(self._last - self._begun, 60.0)
        return max(lately, ever, self._before)

    @property
    def average_run_length(self) -> float:
        """Rows between two false alarms, at least."""
        if self._fixed:
            return self._fixed
        return min(max(self.rate * self._days * DAY, LEAST), MOST)

    def load(self, rate: float) -> None:
        """Takes up the rate of an earlier process; it counts for as long as this one runs."""
        self._before = rate
