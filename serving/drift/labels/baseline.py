"""How good the bundle was on its own test rows: what labels are compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import DataError

CERTAIN = 0.999
"""Confidence of the bounds that the watch compares with: the test rows' own luck is no drift."""
TOLERATED = 0.15
"""Distance in log-odds from the measured calibration that is not worth an alarm, besides."""
SLOPE = 0.25
"""How much steeper or flatter than the score's own log-odds the curve may go on at its ends."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Baseline:
    """Rates on the bundle's test rows, with the rows they come from."""

    missed: tuple[float, float]
    """Positives that were not flagged, and all positives."""
    false_alarms: tuple[float, float]
    """Negatives that were flagged, and all negatives."""
    calibration: tuple[tuple[float, float, float], ...]
    """By rising score: (mean score, rate of positives, rows)."""
    average_precision: float | None = None

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Baseline:
        """From a bundle's metrics.json. Raises DataError when it lacks what is compared."""
        try:
            (kept, alarms), (missed, caught) = metrics["confusion"]["review"]
            curve = [(float(s), float(r), float(n)) for s, r, n in metrics["curves"]["calibration"]]
            # Weighted counts say how often, the rows how sure that is.
            scale = min(1.0, metrics["rows"]["test"] / (kept + alarms + missed + caught))
            precision = metrics["metrics"].get("average_precision")
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise DataError(
                f"the bundle's metrics have no usable {error}: performance has nothing to be"
                " compared with"
            ) from None
        return cls(
            missed=(scale * missed, scale * (missed + caught)),
            false_alarms=(scale * alarms, scale * (kept + alarms)),
            calibration=tuple(sorted(curve)),
            average_precision=None if precision is None else float(precision),
        )

    @property
    def wrongly_flagged(self) -> tuple[float, float]:
        """Negatives that were flagged, and all that were: what precision lacks of one."""
        alarms = self.false_alarms[0]
        return alarms, alarms + self.missed[1] - self.missed[0]

    def to_json(self) -> dict[str, float | None]:
        wrong = _rate(self.wrongly_flagged)
        return {
            "miss_rate": _rate(self.missed),
            "false_alarm_rate": _rate(self.false_alarms),
            "precision": None if wrong is None else 1 - wrong,
            "average_precision": self.average_precision,
        }


def _rate(counts: tuple[float, float]) -> float | None:
    return counts[0] / counts[1] if counts[1] else None


def upper_bound(counts: tuple[float, float]) -> float:
    """Of the rate behind (hits, rows), at CERTAIN (Agresti-Coull); 1 for no rows."""
    hits, rows = counts
    if rows <= 0:
        return 1.0
    z = NormalDist().inv_cdf(CERTAIN)
    wider = rows + z * z
    middle = (hits + z * z / 2) / wider
    return min(1.0, middle + z * math.sqrt(middle * (1 - middle) / wider))


@dataclass(frozen=True)
class Calibrated:
    """Log-odds of a positive by score, and how far the truth may lie from them.

    The bets tilt all scores alike, so what matters of the test rows' luck is that in all their
    positives together, and not in each group's.
    """

    score: Floats
    """[groups], rising log-odds of scores."""
    middle: Floats
    slack: float

    @classmethod
    def of(cls, calibration: tuple[tuple[float, float, float], ...]) -> Calibrated | None:
        """None without a group."""
        if not calibration:
            return None
        score, rate, rows = np.array(calibration, dtype=np.float64).T
        # Half a row of each class: a group without a positive still has a rate.
        smooth = (rate * rows + 0.5) / (rows + 1)
        error = 1 / math.sqrt(max(float((rows * smooth * (1 - smooth)).sum()), 1e-9))
        at = log_odds(score)
        keep = np.append(True, np.diff(at) > 0)
        slack = TOLERATED + NormalDist().inv_cdf(CERTAIN) * error
        return cls(at[keep], log_odds(smooth)[keep], slack)

    def bounds(self, score: Floats) -> tuple[Floats, Floats]:
        """Least and largest log-odds [rows] that are no drift.

        Between groups on a straight line; beyond the outer ones the score's own log-odds go on.
        """
        at = log_odds(score)
        inside = np.clip(at, self.score[0], self.score[-1])
        middle = np.interp(inside, self.score, self.middle) + (at - inside)
        slack = self.slack + SLOPE * np.abs(at - inside)
        return middle - slack, middle + slack


def log_odds(share: Floats) -> Floats:
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(share / (1 - share)))
