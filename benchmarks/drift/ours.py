"""Seatrial's watch on synthetic streams: false alarms and delays at its default setting, and among
the compared detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.drift.streams import (
    CODES,
    NAMES,
    NUMBERS,
    REFERENCE_ROWS,
    Rows,
    Scenario,
    World,
    reference_rng,
    stream_rng,
)
from serving.drift.encoding import Column
from serving.drift.watch import Watch, WatchSettings, learn_tolerance

COLUMNS = tuple(
    Column(name, "number")
    if i < NUMBERS
    else Column(name, "category", categories=tuple(map(str, range(CODES))))
    for i, name in enumerate(NAMES)
)
DEFAULT = WatchSettings().average_run_length
TRAINING_ROWS = 40_000
CLEAN_ROWS = 100_000
BEFORE, AFTER = 2_000, 6_000
LOOK = 320
LONGEST = 24_000
"""Rows after the onset that a shift spread over many gets."""


@dataclass(frozen=True)
class CleanRun:
    alarms: int
    highest: float
    """Evidence, in nats."""


@dataclass(frozen=True)
class DriftRun:
    delay: int | None
    """Rows from the onset to the alarm; None: missed."""
    early: bool
    named: bool
    """Whether the columns that moved came before all others when it alarmed."""


def fitted(world: World, seed: int, number: int) -> Watch:
    """As fit_drift does: a reference of 10,000 rows out of a training period, in whose order the
    tolerance is learned."""
    rng = reference_rng(seed, number)
    training = world.rows(TRAINING_ROWS, rng)
    chosen = np.sort(rng.permutation(TRAINING_ROWS)[:REFERENCE_ROWS])
    reference = training[chosen]
    learned = learn_tolerance(COLUMNS, reference, training)
    return Watch(COLUMNS, reference, WatchSettings(tolerance=learned))


def clean_run(watch: Watch, world: World, rng: np.random.Generator, rows: int) -> CleanRun:
    watch.restart()
    alarms, highest, piece = 0, -np.inf, 4_000
    for first in range(0, rows, piece):
        step = watch.observe(world.rows(piece, rng, first))
        highest = max(highest, step.evidence)
        if step.crossed:
            alarms += 1
            watch.restart()
    return CleanRun(alarms, float(highest))


def drift_run(
    watch: Watch, world: World, scenario: Scenario, rng: np.random.Generator, after: int
) -> DriftRun:
    watch.restart()
    stream = world.rows(BEFORE + after, rng)
    scenario.change(stream[BEFORE:], rng)
    early = watch.observe(stream[:BEFORE]).crossed
    if early:
        watch.restart()
    for start in range(BEFORE, len(stream), LOOK):
        step = watch.observe(stream[start : start + LOOK])
        if step.crossing is not None:
            delay = start + step.crossing + 1 - BEFORE
            return DriftRun(delay, early, _named_first(watch, scenario.moved))
    return DriftRun(None, early, named=False)


def _named_first(watch: Watch, moved: Sequence[str]) -> bool:
    names = list(dict.fromkeys(finding.column for finding in watch.findings()))
    return set(names[: len(moved)]) == set(moved)


class OurWatch:
    """Among the compared detectors: without a training period, as they have none."""

    name = "Seatrial's watch"
    settings = tuple(np.geomspace(100, 20_000, 10))

    def fit(self, reference: Rows) -> None:
        self._watch = Watch(COLUMNS, reference, WatchSettings())

    def alarms(self, stream: Rows) -> list[list[int]]:
        return [self._play(stream, setting) for setting in self.settings]

    def _play(self, stream: Rows, run_length: float) -> list[int]:
        self._watch.average_run_length = run_length
        self._watch.restart()
        alarms: list[int] = []
        start = 0
        while start < len(stream):
            part = stream[start : start + LOOK]
            step = self._watch.observe(part)
            if step.crossing is None:
                start += len(part)
                continue
            start += step.crossing + 1
            alarms.append(start)
            self._watch.restart()
        return alarms


def clean_runs(world: World, seed: int, streams: int, rows: int = CLEAN_ROWS) -> list[CleanRun]:
    """A new reference for every ten streams."""
    found: list[CleanRun] = []
    for number in range(streams):
        if number % 10 == 0:
            watch = fitted(world, seed, number)
        found.append(clean_run(watch, world, stream_rng(seed, number), rows))
    return found


def drift_runs(world: World, scenario: Scenario, seed: int, repeats: int) -> list[DriftRun]:
    """A new reference for every ten streams."""
    found: list[DriftRun] = []
    after = LONGEST if "spread" in scenario.name else AFTER
    for number in range(repeats):
        if number % 10 == 0:
            watch = fitted(world, seed, number)
        found.append(drift_run(watch, world, scenario, stream_rng(seed, 5000 + number), after))
    return found
