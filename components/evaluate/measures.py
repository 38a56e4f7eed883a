"""Weighted measures of a score, with ties counted once and bootstrap intervals.

Arrays are [rows]; weights may be zero. Average precision and ROC AUC are as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
POINTS = 200
"""Most points of a curve that is kept."""


@dataclass(frozen=True)
class Ranking:
    """Rows by falling score, made once and weighted many times."""

    order: NDArray[np.intp]
    label: NDArray[np.bool_]
    last: NDArray[np.intp]
    """Position of the last row of each distinct score."""
    threshold: Floats

    @classmethod
    def of(cls, label: NDArray[np.int8], score: NDArray[np.floating]) -> Ranking:
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        return cls(order, label[order] == 1, last, ranked[last].astype(np.float64))

    def hits(self, weight: Floats) -> tuple[Floats, Floats]:
        """Weight of true and of false positives at each distinct threshold, falling."""
        ranked = weight[self.order]
        positive = np.where(self.label, ranked, 0.0)
        true = np.cumsum(positive)[self.last]
        return true, np.cumsum(ranked - positive)[self.last]


def roc_auc(ranking: Ranking, weight: Floats) -> float:
    """Probability that a positive scores above a negative, ties half."""
    true, false = ranking.hits(weight)
    if not (true[-1] > 0 and false[-1] > 0):
        return float("nan")
    steps = np.diff(false, prepend=0.0)
    height = (true + np.append(0.0, true[:-1])) / 2
    return float((steps * height).sum() / (true[-1] * false[-1]))


def average_precision(ranking: Ranking, weight: Floats) -> float:
    """Sum of precision times the rise in recall."""
    true, false = ranking.hits(weight)
    if not true[-1] > 0:
        return float("nan")
    total = true + false
    precision = np.divide(true, total, out=np.zeros_like(true), where=total > 0)
    return float((np.diff(true, prepend=0.0) * precision).sum() / true[-1])


def bootstrap(
    measures: dict[str, Callable[[Floats], float]], weight: Floats, draws: int, seed: int
) -> dict[str, list[float]]:
    """95 % intervals of weighted measures under Poisson resampling of the rows, the same draws
    for all of them, so that a difference of two measures is a measure too."""
    rng = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(draws):
        drawn = weight * rng.poisson(1.0, len(weight))
        for name, measure in measures.items():
            samples[name].append(measure(drawn))
    return {
        name: [float(bound) for bound in np.nanquantile(values, [0.025, 0.975])]
        for name, values in samples.items()
    }


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


def calibration_curve(
    label: NDArray[np.int8], score: NDArray[np.floating], weight: Floats, bins: int = 10
) -> list[list[float]]:
    """[[mean score, rate of positives, rows]] in groups of equal weight by rising score."""
    order = np.argsort(score, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    group = np.minimum((share * bins * (1 - 1e-12)).astype(int), bins - 1)
    points = []
    for index in range(bins):
        rows = order[group == index]
        total = weight[rows].sum()
        if total > 0:
            mean = float((weight[rows] * score[rows]).sum() / total)
            rate = float((weight[rows] * label[rows]).sum() / total)
            points.append([mean, rate, float(len(rows))])
    return points


def calibration_error(points: list[list[float]]) -> float:
    """Mean distance of score and rate over groups of equal weight (ECE)."""
    return float(np.mean([abs(mean - rate) for mean, rate, _ in points]))


def _thin(progress: Floats) -> NDArray[np.intp]:
    """Positions of at most POINTS - 1 values, evenly spread over the range, the last included."""
    marks = np.linspace(progress[0], progress[-1], POINTS - 1)
    return np.unique(np.searchsorted(progress, marks).clip(0, len(progress) - 1))
