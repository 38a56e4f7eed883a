"""How good the model was on the newest labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import DataError

GROUPS = 10
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Labelled rows, [rows] each."""

    score: Floats
    flagged: NDArray[np.bool_]
    positive: NDArray[np.bool_]
    time: Floats
    """Of the predictions, unix seconds."""

    @classmethod
    def none(cls) -> Rows:
        return cls(np.zeros(0), np.zeros(0, bool), np.zeros(0, bool), np.zeros(0))

    def followed_by(self, other: Rows, most: int) -> Rows:
        """Both, without the oldest beyond `most`."""
        return Rows(
            *(np.concatenate([getattr(self, n), getattr(other, n)])[-most:] for n in _NAMES)
        )


_NAMES = tuple(field.name for field in fields(Rows))


class Recent:
    """The last `size` labelled rows, in the order in which their labels came."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows = Rows.none()
        """Replaced as a whole: another thread may measure what it finds here."""

    def __len__(self) -> int:
        return len(self.rows.score)

    def add(self, rows: Rows) -> None:
        self.rows = self.rows.followed_by(rows, self.size)

    def measures(self) -> dict[str, Any]:
        """None where a rate has no rows."""
        rows = self.rows
        positive, flagged = rows.positive, rows.flagged
        return {
            "rows": len(positive),
            "positives": int(positive.sum()),
            "accuracy": _mean(flagged == positive),
            "miss_rate": _mean(~flagged[positive]),
            "false_alarm_rate": _mean(flagged[~positive]),
            "precision": _mean(positive[flagged]),
            "average_precision": average_precision(rows.score, positive),
            "positive_rate": _mean(positive),
            "mean_score": _mean(rows.score),
            "calibration_error": calibration_error(rows.score, positive),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return asdict(self.rows)

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises DataError for what are no such arrays."""
        found = [arrays.get(name) for name in _NAMES]
        score, flagged, positive, time = found
        if score is None or flagged is None or positive is None or time is None:
            raise DataError("the recent labels are damaged: columns are missing")
        if len({(a.ndim, len(a)) for a in (score, flagged, positive, time)}) != 1:
            raise DataError("the recent labels are damaged: columns of unequal length")
        rows = Rows(
            score.astype(np.float64),
            flagged.astype(bool),
            positive.astype(bool),
            time.astype(np.float64),
        )
        self.rows = Rows.none().followed_by(rows, self.size)


def average_precision(score: Floats, positive: NDArray[np.bool_]) -> float | None:
    """Sum of precision times the rise in recall, ties together; None without a positive."""
    total = int(positive.sum())
    if not total:
        return None
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    precision = hits[last] / (last + 1)
    return float((np.diff(hits[last], prepend=0) * precision).sum() / total)


def calibration_error(score: Floats, positive: NDArray[np.bool_]) -> float | None:
    """Distance of mean score and rate of positives, over GROUPS groups of equal size."""
    if len(score) < GROUPS:
        return None
    order = np.argsort(score, kind="stable")
    apart = [
        abs(float((score[rows] - positive[rows]).sum())) for rows in np.array_split(order, GROUPS)
    ]
    return sum(apart) / len(score)


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None
