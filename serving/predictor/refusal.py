"""Why rows were refused, as a word that metrics can count."""

from __future__ import annotations

from serving.errors import DataError


class Refusal(DataError):
    """A DataError with its reason, one of metrics.REFUSALS, and how many rows it concerns."""

    def __init__(self, message: str, reason: str, rows: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.rows = rows
