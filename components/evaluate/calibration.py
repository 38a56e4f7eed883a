"""Whether a score is the probability it says it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluate.measures import Floats

BINS = 10


@dataclass(frozen=True)
class Groups:
    """Rows in groups of equal weight by rising score, made once and weighted many times."""

    label: NDArray[np.int8]
    score: Floats
    group: NDArray[np.intp]

    @classmethod
    def of(
        cls, label: NDArray[np.int8], score: NDArray[np.floating[Any]], weight: Floats
    ) -> Groups:
        order = np.argsort(score, kind="stable")
        share = np.cumsum(weight[order]) / weight.sum()
        group = np.empty(len(label), dtype=np.intp)
        group[order] = np.minimum((share * BINS * (1 - 1e-12)).astype(np.intp), BINS - 1)
        return cls(label, score.astype(np.float64), group)

    def error(self, weight: Floats) -> float:
        """Expected calibration error: the groups' distance of mean score and rate of positives,
        averaged by the groups' weight (Guo et al. 2017, on groups of equal weight)."""
        distance = np.bincount(self.group, weight * (self.score - self.label), BINS)
        return float(np.abs(distance).sum() / weight.sum())

    def curve(self, weight: Floats) -> list[list[float]]:
        """[[mean score, rate of positives, rows]] of each group that has weight."""
        total = np.bincount(self.group, weight, BINS)
        rows = np.bincount(self.group, minlength=BINS)
        score = np.bincount(self.group, weight * self.score, BINS)
        positive = np.bincount(self.group, weight * self.label, BINS)
        return [
            [float(score[i] / total[i]), float(positive[i] / total[i]), float(rows[i])]
            for i in np.flatnonzero(total > 0)
        ]
