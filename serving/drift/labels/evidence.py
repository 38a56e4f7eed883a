"""Concept drift in labelled rows: Shiryaev-Roberts e-detectors (Shin, Ramdas & Rinaldo, 2022).

Each bet multiplies its stake by a likelihood ratio whose mean is at most 1 while the bundle is as
good as it measured itself to be. A unit is staked anew on every row, so the stakes' weighted mean
less the number of rows is a supermartingale: until it reaches A, at least A labelled rows pass on
average. Rates within a class stay valid when one class is labelled sooner or more often than the
other; precision and calibration do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serving.drift.labels.baseline import Baseline, Calibrated, upper_bound
from serving.errors import DataError

Aspect = Literal["misses", "false_alarms", "precision", "calibration"]
ASPECTS: tuple[Aspect, ...] = ("misses", "false_alarms", "precision", "calibration")
DIRECTIONS: dict[Aspect, tuple[str, ...]] = {
    "misses": ("more",),
    "false_alarms": ("more",),
    "precision": ("lower",),
    "calibration": ("more positives than scores say", "fewer positives than scores say"),
}
ODDS = (1.5, 2.0, 4.0)
"""Odds ratios that the bets expect, beyond what is tolerated."""
RICHEST = 1e280
"""Stakes end here, far above any threshold and below overflow."""
_BETS: tuple[tuple[Aspect, int], ...] = tuple(
    (aspect, direction)
    for aspect in ASPECTS
    for direction in range(len(DIRECTIONS[aspect]))
    for _ in ODDS
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    aspect: Aspect
    direction: str
    evidence: float
    """Natural log of the aspect's own e-detector."""


class Evidence:
    """State of the bets against one baseline."""

    def __init__(self, baseline: Baseline, *, complete: bool = True) -> None:
        """`complete`: rows are labelled whatever their outcome, so that precision and calibration
        count."""
        self._missed = _ratios(upper_bound(baseline.missed))
        self._alarms = _ratios(upper_bound(baseline.false_alarms))
        self._wrong = _ratios(upper_bound(baseline.wrongly_flagged)) if complete else None
        self._calibrated = Calibrated.of(baseline.calibration) if complete else None
        on = {
            "misses": self._missed is not None,
            "false_alarms": self._alarms is not None,
            "precision": self._wrong is not None,
            "calibration": self._calibrated is not None,
        }
        counts = {aspect: sum(a == aspect for a, _ in _BETS) for aspect in ASPECTS}
        shares = [on[aspect] / counts[aspect] for aspect, _ in _BETS]
        self.stakes: Floats = np.array(shares) / max(sum(shares), 1e-300)
        self.restart()

    def restart(self) -> None:
        self.rows = 0
        self._won: Floats = np.zeros(len(_BETS))

    @property
    def total(self) -> float:
        """In nats; it is compared with ln(average run length in labelled rows)."""
        won = float(self.stakes @ self._won)
        return math.log(won) if won > 0 else -math.inf

    def observe(
        self, score: Floats, flagged: NDArray[np.bool_], positive: NDArray[np.bool_], stop: float
    ) -> int | None:
        """Takes labelled rows [rows] in order; returns the row at which the evidence reached
        `stop`, in nats, first. Rows after it are taken, too."""
        factors = self._factors(score, flagged, positive)
        bar, crossed = math.exp(min(stop, 600.0)), None
        for row, factor in enumerate(factors):
            self._won += 1.0
            self._won *= factor
            np.minimum(self._won, RICHEST, out=self._won)
            if crossed is None and self.stakes @ self._won >= bar:
                crossed = row
        self.rows += len(factors)
        return crossed

    def findings(self) -> tuple[Finding, ...]:
        """By aspect, the strongest evidence first."""
        found = []
        for aspect in ASPECTS:
            mine = np.array([a == aspect for a, _ in _BETS])
            if not self.stakes[mine].any():
                continue
            mean = float(self._won[mine].mean())
            best = int(np.flatnonzero(mine)[np.argmax(self._won[mine])])
            direction = DIRECTIONS[aspect][_BETS[best][1]]
            found.append(Finding(aspect, direction, math.log(mean) if mean > 0 else -math.inf))
        return tuple(sorted(found, key=lambda f: -f.evidence))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"won": self._won.copy(), "stakes": self.stakes.copy(), "rows": np.array(self.rows)}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises DataError for a state of other bets."""
        won, stakes, rows = (arrays.get(name) for name in ("won", "stakes", "rows"))
        if won is None or stakes is None or rows is None or won.shape != self._won.shape:
            raise DataError("the evidence of labels is damaged or of another version")
        if not np.array_equal(stakes, self.stakes) or not np.isfinite(won).all():
            raise DataError("the evidence of labels was made with another baseline")
        self._won, self.rows = won.astype(np.float64), int(rows)

    def _factors(
        self, score: Floats, flagged: NDArray[np.bool_], positive: NDArray[np.bool_]
    ) -> Floats:
        """[rows, bets]; 1 where a row says nothing to a bet."""
        found = np.ones((len(score), len(_BETS)))
        # A unit is staked on each row, also where a bet has nothing to say: a factor of 1 pays it
        # back, which keeps the promise in labelled rows of any kind.
        at = 0
        for ratios, hit, of in (
            (self._missed, ~flagged, positive),
            (self._alarms, flagged, ~positive),
            (self._wrong, ~positive, flagged),
        ):
            if ratios is not None:
                for bet, (yes, no) in enumerate(ratios):
                    found[:, at + bet] = np.where(of, np.where(hit, yes, no), 1.0)
            at += len(ODDS)
        if self._calibrated is not None:
            low, high = self._calibrated.bounds(score)
            for edge, sign in ((high, 1.0), (low, -1.0)):
                for odds in ODDS:
                    found[:, at] = _likelihood_ratio(edge, edge + sign * math.log(odds), positive)
                    at += 1
        return found


def _ratios(most: float) -> list[tuple[float, float]] | None:
    """(paid for a hit, paid for none) of each bet that the rate exceeds `most`."""
    if not 0 < most < 0.98:
        return None
    found = []
    for odds in ODDS:
        expected = most * odds / (1 - most + most * odds)
        found.append((expected / most, (1 - expected) / (1 - most)))
    return found


def _likelihood_ratio(null: Floats, other: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Of a row's label under two log-odds of a positive."""
    sign = np.where(positive, -1.0, 1.0)
    return np.asarray(np.exp(np.logaddexp(0, sign * null) - np.logaddexp(0, sign * other)))
