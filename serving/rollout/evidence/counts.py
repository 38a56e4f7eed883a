"""Checks that every e-process makes of its counts."""

from __future__ import annotations

from serving.errors import DataError, UsageError


def check_counts(events: int, requests: int, of: str) -> None:
    """Raises DataError unless 0 <= events <= requests."""
    if not 0 <= events <= requests:
        raise DataError(
            f"{of} counted {events} events among {requests} requests in one interval; "
            "an event is one of the requests and a count is an increment, never negative"
        )


def check_dispersion(phi: float) -> None:
    """Raises UsageError unless phi >= 1."""
    if not phi >= 1:
        raise UsageError(
            f"dispersion phi = {phi} would make evidence out of nothing; give 1 for independent "
            "events or the mean burst size E[k^2]/E[k] above it"
        )
