"""What a detector is: something that compares one window of rows with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from serving.drift.encoding import Column, Matrix, Role

Aspect = Literal[
    "values",  # a window's values as a whole; the watch tells these four apart instead:
    "location",
    "scale",
    "shape",
    "category",  # the share of a category that the reference has
    "missing",
    "rare",  # categories that the reference has rarely
    "unseen",  # categories that it never has
    "range",  # numbers beyond all of the reference's
]


@dataclass(frozen=True)
class TestResult:
    """One test of one column. `effect` is a distance in 0..1, comparable between tests:

    Kolmogorov–Smirnov's D for numbers, total variation for categories, and the difference of the
    shares for "missing" and for "rare" (categories that the reference has rarely or never).
    """

    column: str
    role: Role
    aspect: Aspect
    method: str
    p_value: float
    effect: float

    __test__ = False  # not a pytest class, despite its name


class DriftDetector(Protocol):
    """Compares a window with the reference that it was built from."""

    @property
    def name(self) -> str:
        """Names method and version of the method; part of every event's id."""

    def test(self, window: Matrix) -> tuple[TestResult, ...]:
        """All tests of a window [n, columns], as many for every window; never a NaN."""


def build_detector(
    name: str, columns: Sequence[Column], reference: Matrix, window_rows: int
) -> DriftDetector:
    """The window detector of that name: tabular, ks, chi2 or mmd; they need Alibi Detect.

    Raises ImportError where it is not installed, DataError for a reference it cannot use.
    """
    # Seconds and hundreds of MB, so only where such a detector is configured.
    from serving.drift.alibi import build  # noqa: PLC0415

    return build(name, columns, reference, window_rows)


class ScriptedDetector:
    """The shipped fake: answers the given results in order, then the last one for ever."""

    name = "scripted"

    def __init__(self, *answers: tuple[TestResult, ...]) -> None:
        self._answers = list(answers)

    def test(self, window: Matrix) -> tuple[TestResult, ...]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
