"""Which rows a run may see, and which of them it trains on, stops by and is judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.checked import Part
from serving.errors import UsageError


@dataclass(frozen=True)
class Split:
    """Where to cut rows in time order."""

    test_from: float | None = None
    """Time at which the test slice begins; without one, the last `test_fraction` of the rows."""
    validation_fraction: float = 0.15
    """Share of the rows before the test slice, the latest of them, that training stops by."""
    test_fraction: float = 0.2

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise UsageError(f"{name} {value:g} is not a share of rows; give one in (0, 1)")


def select(
    time: NDArray[np.float64], window_from: float | None, window_to: float | None
) -> NDArray[np.intp]:
    """Positions of the rows with window_from <= time < window_to, in time order (ties as given)."""
    inside = np.ones(len(time), dtype=bool)
    if window_from is not None:
        inside &= time >= window_from
    if window_to is not None:
        inside &= time < window_to
    kept = np.flatnonzero(inside)
    return kept[np.argsort(time[kept], kind="stable")]


def cut(
    time: NDArray[np.float64], known: NDArray[np.bool_], split: Split
) -> tuple[NDArray[np.intp], dict[Part, int]]:
    """Positions to keep and the rows of each slice, for rows in time order.

    Rows before the test slice whose label is not `known` are left out; test rows are judged later,
    so theirs may come later.
    """
    total = len(time)
    if split.test_from is None:
        first_test = total - round(total * split.test_fraction)
    else:
        first_test = int(np.searchsorted(time, split.test_from, side="left"))
    fitting = np.flatnonzero(known[:first_test])
    validation = round(len(fitting) * split.validation_fraction)
    counts: dict[Part, int] = {
        "train": len(fitting) - validation,
        "validation": validation,
        "test": total - first_test,
    }
    return np.concatenate([fitting, np.arange(first_test, total)]), counts
