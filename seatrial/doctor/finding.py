"""One thing the doctor found, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    FINE = "fine"
    LIMITED = "limited"
    """Apply succeeds, and something that the overlay promises will not work."""
    BROKEN = "broken"
    """Apply fails, or what it makes never becomes ready."""
    UNKNOWN = "unknown"
    """The account may not read what would tell."""


@dataclass(frozen=True)
class Finding:
    level: Level
    topic: str
    says: str
    mend: str = ""
    """A command, or where to read on; empty where there is nothing to mend."""


def fine(topic: str, says: str) -> Finding:
    return Finding(Level.FINE, topic, says)


def limited(topic: str, says: str, mend: str) -> Finding:
    return Finding(Level.LIMITED, topic, says, mend)


def broken(topic: str, says: str, mend: str) -> Finding:
    return Finding(Level.BROKEN, topic, says, mend)
