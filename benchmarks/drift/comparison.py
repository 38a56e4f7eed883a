"""What every compared detector does, and how they are made comparable: equal false alarms.

A detector plays streams at several settings of its threshold. Its setting is then the most
sensitive one that raises at most one false alarm per RUN_LENGTH clean rows, measured on the same
clean streams for all; its delays are read at that setting. Only numpy: peers import it too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np

from benchmarks.drift.streams import (
    INDEPENDENT,
    REFERENCE_ROWS,
    SCENARIOS,
    Rows,
    Scenario,
    reference_rng,
    stream_rng,
)

RUN_LENGTH = 10_000
CLEAN_STREAMS, CLEAN_ROWS = 20, 10_000
REPEATS = 20
BEFORE, AFTER = 2_000, 5_000
"""Rows before and after the onset in a stream with drift."""
COMPARED = SCENARIOS[:5]


class Detector(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Sequence[float]:
        """Thresholds to choose from, most sensitive first."""

    def fit(self, reference: Rows) -> None: ...

    def alarms(self, stream: Rows) -> list[list[int]]:
        """Per setting, after how many rows of the stream it alarms; it goes on after an alarm as
        if nothing had been."""


@dataclass
class Played:
    """One detector's alarms, per setting."""

    name: str
    settings: list[float]
    false_alarms: list[int]
    """On CLEAN_STREAMS x CLEAN_ROWS clean rows."""
    delays: dict[str, list[list[int | None]]] = field(default_factory=dict)
    """By scenario, per setting and repeat: rows from the onset to the first alarm after it."""
    default: int | None = None
    """Index of the setting that its project recommends."""
    note: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def chosen(self) -> int | None:
        """Index of the setting at equal false alarms; None where every setting raises more."""
        most = CLEAN_STREAMS * CLEAN_ROWS // RUN_LENGTH
        quiet = [i for i, count in enumerate(self.false_alarms) if count <= most]
        return quiet[0] if quiet else None


def play(
    detector: Detector, seed: int, *, repeats: int = REPEATS, clean: int = CLEAN_STREAMS
) -> Played:
    """All streams through one detector; a new reference for every five."""
    false_alarms = [0] * len(detector.settings)
    for number in range(clean):
        _fit(detector, seed, number)
        stream = INDEPENDENT.rows(CLEAN_ROWS, stream_rng(seed, number))
        for i, rows in enumerate(detector.alarms(stream)):
            false_alarms[i] += len(rows)
    scaled = [round(count * CLEAN_STREAMS / clean) for count in false_alarms]
    played = Played(detector.name, list(detector.settings), scaled)
    for kind, scenario in enumerate(COMPARED):
        per_setting: list[list[int | None]] = [[] for _ in detector.settings]
        for repeat in range(repeats):
            number = 1000 * (kind + 1) + repeat
            _fit(detector, seed, number)
            stream = drifting(scenario, stream_rng(seed, number))
            for i, rows in enumerate(detector.alarms(stream)):
                after = [row - BEFORE for row in rows if row > BEFORE]
                per_setting[i].append(after[0] if after else None)
        played.delays[scenario.name] = per_setting
    return played


def drifting(scenario: Scenario, rng: np.random.Generator) -> Rows:
    stream = INDEPENDENT.rows(BEFORE + AFTER, rng)
    scenario.change(stream[BEFORE:], rng)
    return stream


def _fit(detector: Detector, seed: int, number: int) -> None:
    if number % 5 == 0:
        detector.fit(INDEPENDENT.rows(REFERENCE_ROWS, reference_rng(seed, number)))


class Never:
    """Never alarms."""

    name, settings = "never alarms", (0.0,)

    def fit(self, reference: Rows) -> None: ...

    def alarms(self, stream: Rows) -> list[list[int]]:
        return [[]]


class Always:
    """Alarms every RUN_LENGTH rows, whatever they are; starts anywhere in between."""

    name, settings = f"alarms every {RUN_LENGTH:,} rows", (0.0,)

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def fit(self, reference: Rows) -> None: ...

    def alarms(self, stream: Rows) -> list[list[int]]:
        first = int(self._rng.integers(RUN_LENGTH))
        return [list(range(first, len(stream), RUN_LENGTH))]
