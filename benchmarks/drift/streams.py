"""Seeded references and streams: 30 numbers and 3 categories. Only numpy: peers import it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUMBERS, CATEGORIES, CODES = 30, 3, 8
REFERENCE_ROWS = 10_000
MOVED = 3
"""Columns that a shift moves."""
DAY = 5_000
"""Rows of a day, where days matter."""
RAMP = 20_000
NAMES = (*(f"x{i}" for i in range(NUMBERS)), *(f"kind{i}" for i in range(CATEGORIES)))

Rows = NDArray[np.float64]
Change = Callable[[Rows, np.random.Generator], None]


@dataclass(frozen=True)
class World:
    """How clean rows come about."""

    name: str
    correlation: float = 0.0
    daily: float = 0.0
    """Standard deviations by which the first ten numbers move through the day."""

    def rows(self, count: int, rng: np.random.Generator, first: int = 0) -> Rows:
        """[count, 33], the `first` of them at that time of the stream."""
        common = rng.normal(size=(count, 1))
        own = rng.normal(size=(count, NUMBERS))
        numbers = np.sqrt(1 - self.correlation) * own + np.sqrt(self.correlation) * common
        if self.daily:
            day = np.sin(2 * np.pi * (first + np.arange(count)) / DAY)
            numbers[:, :10] += self.daily * day[:, None]
        codes = rng.integers(0, CODES, size=(count, CATEGORIES))
        return np.asfortranarray(np.column_stack([numbers, codes.astype(np.float64)]))


@dataclass(frozen=True)
class Scenario:
    """What happens from the onset on, and which columns should be named first."""

    name: str
    change: Change
    moved: tuple[str, ...]


def _shift(size: float) -> Change:
    def change(rows: Rows, _: np.random.Generator) -> None:
        rows[:, :MOVED] += size

    return change


def _scale(rows: Rows, _: np.random.Generator) -> None:
    rows[:, :MOVED] *= 1.5


def _category(rows: Rows, rng: np.random.Generator) -> None:
    rows[rng.random(len(rows)) < 0.02, NUMBERS] = -1.0


def _missing(rows: Rows, rng: np.random.Generator) -> None:
    rows[rng.random(len(rows)) < 0.05, 0] = np.nan


def _ramp(rows: Rows, _: np.random.Generator) -> None:
    rows[:, :MOVED] += np.minimum(np.arange(len(rows)) / RAMP, 1.0)[:, None]


SCENARIOS = (
    Scenario("0.25 sigma in 3 of 30", _shift(0.25), NAMES[:MOVED]),
    Scenario("0.5 sigma in 3 of 30", _shift(0.5), NAMES[:MOVED]),
    Scenario("scale x 1.5 in 3 of 30", _scale, NAMES[:MOVED]),
    Scenario("new category at 2 %", _category, NAMES[NUMBERS : NUMBERS + 1]),
    Scenario("missing 0 to 5 % in one", _missing, NAMES[:1]),
    Scenario("1 sigma in 3, spread over 20,000 rows", _ramp, NAMES[:MOVED]),
)
INDEPENDENT = World("independent")
CORRELATED = World("correlated 0.7", correlation=0.7)
DAILY = World("daily, 0.5 sigma in 10", daily=0.5)
WORLDS = (INDEPENDENT, CORRELATED, DAILY)


def reference_rng(seed: int, number: int) -> np.random.Generator:
    """References and streams draw from disjoint families of seeds."""
    return np.random.default_rng([seed, 1, number])


def stream_rng(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, 2, number])
