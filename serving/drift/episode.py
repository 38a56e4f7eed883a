"""From test results to transitions: one opened event per episode, however often it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.drift.detector import Aspect, TestResult

UNUSUAL = 1.5
"""A shift counts when it is this many times what the training period's own windows show."""

Usual = Mapping[str, Mapping[Aspect, float]]


@dataclass(frozen=True)
class Verdict:
    """What one window's tests say together."""

    window: int
    """Number of the window, from 1."""
    results: tuple[TestResult, ...]
    """The largest effects beyond the usual first, those that count as drift before all others."""
    drifted: frozenset[tuple[str, Aspect]]
    threshold: float
    """A single test's p-value must be below it to open an episode with this window."""
    transition: Literal["opened", "closed"] | None


class Episode:
    """Opens on the first window that drifts beyond chance, closes on the first that looks clean.

    Window k spends p_value / (k (k + 1)) of the false alarm probability (the terms sum to p_value:
    alpha spending), shared equally by its tests (Bonferroni). Valid under any dependence, and
    cheap: tails fall exponentially in the effect. Which columns drift in a window that opens, and
    whether an open episode goes on, is judged by p_value itself over the window's tests.
    """

    def __init__(self, p_value: float, usual: Usual) -> None:
        self.p_value = p_value
        self.open = False
        self.windows = 0
        self._usual = usual

    def step(self, results: Sequence[TestResult]) -> Verdict:
        """Takes the results of the next window."""
        self.windows += 1
        opening = self.p_value / (self.windows * (self.windows + 1)) / len(results)
        closing = self.p_value / len(results)
        drifted = self._drifted(results, closing)
        if not self.open and not self._drifted(results, opening):
            drifted = frozenset()
        transition: Literal["opened", "closed"] | None = None
        if self.open != bool(drifted):
            transition = "closed" if self.open else "opened"
            self.open = not self.open
        return Verdict(
            window=self.windows,
            results=tuple(sorted(results, key=lambda r: self._rank(r, drifted))),
            drifted=drifted,
            threshold=opening,
            transition=transition,
        )

    def usual(self, result: TestResult) -> float:
        return self._usual.get(result.column, {}).get(result.aspect, 0.0)

    def _drifted(
        self, results: Sequence[TestResult], threshold: float
    ) -> frozenset[tuple[str, Aspect]]:
        return frozenset(
            (result.column, result.aspect)
            for result in results
            if result.p_value < threshold and result.effect > _tolerated(self.usual(result))
        )

    def _rank(
        self, result: TestResult, drifted: frozenset[tuple[str, Aspect]]
    ) -> tuple[bool, float, float, str]:
        key = (result.column, result.aspect)
        return (
            key not in drifted,
            self.usual(result) - result.effect,
            result.p_value,
            result.column,
        )


def _tolerated(usual: float) -> float:
    """The effect above which a shift counts; effects end at 1, so at most half-way there."""
    return min(UNUSUAL * usual, (1 + usual) / 2)
