"""Weighted measures of a score, with ties counted once.

Arrays are [rows]; weights may be zero. Average precision and ROC AUC are as in scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
POINTS = 200
"""Most points of a curve that is kept."""


class Hits(NamedTuple):
    """Weight of true and of false positives at each distinct threshold, falling."""

    true: Floats
    false: Floats

    @property
    def both_classes(self) -> bool:
        return bool(self.true[-1] > 0 and self.false[-1] > 0)


@dataclass(frozen=True)
class Ranking:
    """Rows by falling score, made once and weighted many times."""

    order: NDArray[np.intp]
    label: NDArray[np.bool_]
    last: NDArray[np.intp]
    """Position of the last row of each distinct score."""
    threshold: Floats

    @classmethod
    def of(cls, label: NDArray[np.int8], score: NDArray[np.floating[Any]]) -> Ranking:
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        return cls(order, label[order] == 1, last, ranked[last].astype(np.float64))

    def hits(self, weight: Floats) -> Hits:
        ranked = weight[self.order]
        positive = np.where(self.label, ranked, 0.0)
        true = np.cumsum(positive)
        return Hits(true[self.last], np.cumsum(ranked - positive)[self.last])


def roc_auc(hits: Hits) -> float:
    """Probability that a positive scores above a negative, ties half; NaN without both classes."""
    if not hits.both_classes:
        return float("nan")
    true, false = hits
    steps = np.diff(false, prepend=0.0)
    height = (true + np.append(0.0, true[:-1])) / 2
    return float((steps * height).sum() / (true[-1] * false[-1]))


def average_precision(hits: Hits) -> float:
    """Sum of precision times the rise in recall; NaN without a positive."""
    true, false = hits
    if not true[-1] > 0:
        return float("nan")
    total = true + false
    precision = np.divide(true, total, out=np.zeros_like(true), where=total > 0)
    return float((np.diff(true, prepend=0.0) * precision).sum() / true[-1])


def recall_at_fpr(hits: Hits, rate: float) -> float:
    """Share of positives above the threshold that flags `rate` of the negatives.

    Between two thresholds the curve is straight, as when tied rows are flagged by lot. NaN without
    both classes.
    """
    if not hits.both_classes:
        return float("nan")
    true, false = (np.append(0.0, part) for part in hits)
    return float(np.interp(rate * false[-1], false, true) / true[-1])


def precision_at_capacity(hits: Hits, share: float) -> float:
    """Share of positives among the `share` of all rows with the highest scores; ties by lot."""
    true, false = (np.append(0.0, part) for part in hits)
    capacity = share * (true[-1] + false[-1])
    if not capacity > 0:
        return float("nan")
    return float(np.interp(capacity, true + false, true) / capacity)


def roc_curve(ranking: Ranking, weight: Floats) -> tuple[list[list[float]], list[float]]:
    """[[false positive rate, true positive rate]] and the threshold of each point."""
    true, false = ranking.hits(weight)
    picked = _thin(true / true[-1] + false / false[-1])
    points = np.column_stack([false[picked] / false[-1], true[picked] / true[-1]])
    return [[0.0, 0.0], *points.tolist()], [1.0, *ranking.threshold[picked].tolist()]


def pr_curve(ranking: Ranking, weight: Floats) -> list[list[float]]:
    """[[recall, precision]] by rising recall."""
    true, false = ranking.hits(weight)
    first = int(np.argmax(true + false > 0))
    recall, precision = true / true[-1], true / np.maximum(true + false, 1e-300)
    picked = first + _thin(recall[first:])
    points: list[list[float]] = np.column_stack([recall[picked], precision[picked]]).tolist()
    return points


def _thin(progress: Floats) -> NDArray[np.intp]:
    """Positions of at most POINTS - 1 values, evenly spread over the range, the last included."""
    marks = np.linspace(progress[0], progress[-1], POINTS - 1)
    return np.unique(np.searchsorted(progress, marks).clip(0, len(progress) - 1))
