"""Window tests judged together: corrected over their columns and over all windows to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.drift.detector import Aspect, TestResult

UNUSUAL = 1.5
"""A shift counts when it is this many times what the training period's own windows show."""

Usual = Mapping[str, Mapping[Aspect, float]]
Key = tuple[str, Aspect]


@dataclass(frozen=True)
class Verdict:
    """What one window's tests say together."""

    window: int
    """Number of the window, from 1; 0: rows that were tested only to explain an alarm."""
    results: tuple[TestResult, ...]
    """The largest effects beyond the usual first, those that count as drift before all others."""
    drifted: frozenset[Key]
    """What drifts at the p_value itself, corrected over this window's tests."""
    opens: bool
    """Something drifts beyond what chance does over all windows."""
    threshold: float
    """A single test's p-value must be below it for `opens`."""


class Spending:
    """Window k spends p_value / (k (k + 1)) of the false alarm probability, shared equally by its
    tests: alpha spending (Lan & DeMets 1983) with a budget that never runs out, and Bonferroni.

    The terms sum to p_value: the probability of any false opening, ever, against one reference.
    Valid under any dependence between tests and windows, and cheap: tails fall exponentially in
    the effect. LORD++ would control the share of false ones among the openings; with drift rare
    that is a promise about few events, and this one is about all windows.
    """

    def __init__(self, p_value: float, usual: Usual) -> None:
        self.p_value = p_value
        self.windows = 0
        self._usual = usual

    def judge(self, results: Sequence[TestResult]) -> Verdict:
        """Takes the results of the next window."""
        self.windows += 1
        threshold = self.p_value / (self.windows * (self.windows + 1)) / max(len(results), 1)
        return self._verdict(results, self.windows, threshold)

    def explain(self, results: Sequence[TestResult]) -> Verdict:
        """Judges rows that something else has raised an alarm for: spends nothing."""
        return self._verdict(results, 0, self.p_value / max(len(results), 1))

    def usual(self, result: TestResult) -> float:
        return self._usual.get(result.column, {}).get(result.aspect, 0.0)

    def _verdict(self, results: Sequence[TestResult], window: int, threshold: float) -> Verdict:
        drifted = self._drifted(results, self.p_value / max(len(results), 1))
        return Verdict(
            window=window,
            results=tuple(sorted(results, key=lambda r: self._rank(r, drifted))),
            drifted=drifted,
            opens=bool(self._drifted(results, threshold)),
            threshold=threshold,
        )

    def _drifted(self, results: Sequence[TestResult], threshold: float) -> frozenset[Key]:
        return frozenset(
            (result.column, result.aspect)
            for result in results
            if result.p_value < threshold and result.effect > _tolerated(self.usual(result))
        )

    def _rank(self, result: TestResult, drifted: frozenset[Key]) -> tuple[bool, float, float, str]:
        key = (result.column, result.aspect)
        beyond = self.usual(result) - result.effect
        return key not in drifted, beyond, result.p_value, result.column


def _tolerated(usual: float) -> float:
    """The effect above which a shift counts; effects end at 1, so at most half-way there."""
    return min(UNUSUAL * usual, (1 + usual) / 2)
