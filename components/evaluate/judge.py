"""One model's answers to the test rows, measured under any weights; and intervals by bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows
from components.evaluate.calibration import Groups
from components.evaluate.costs import cost_of
from components.evaluate.measures import (
    Floats,
    Ranking,
    average_precision,
    precision_at_capacity,
    recall_at_fpr,
    roc_auc,
)
from serving.bundle import Contract
from serving.bundle.contract import Evaluation
from serving.policy import decide

LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error", "cost_per_row"})
Scores = NDArray[np.floating[Any]]
Measured = dict[str, float]
Draws = dict[str, dict[str, Floats]]
"""By model, by measure: one value a resample."""


@dataclass(frozen=True)
class Judge:
    """All measures of one model's scores as functions of the rows' weights alone."""

    evaluation: Evaluation
    ranking: Ranking
    groups: Groups
    loss: Floats
    """Log loss of each row."""
    cost: Floats | None
    """Money that the decision on each row costs."""

    @classmethod
    def of(cls, judged_by: Contract, rows: Rows, score: Scores, policy: Contract) -> Judge:
        """`judged_by` says how, `policy` has the thresholds and rules that the model is used with:
        a champion decides by its own."""
        evaluation = judged_by.evaluation
        cost = None
        if evaluation.costs is not None:
            taken = decide(policy, rows.columns, score).decisions
            cost = cost_of(evaluation.costs, taken, rows)
        p = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)
        return cls(
            evaluation=evaluation,
            ranking=Ranking.of(rows.label, score),
            groups=Groups.of(rows.label, score, rows.weight),
            loss=-np.where(rows.label == 1, np.log(p), np.log1p(-p)),
            cost=cost,
        )

    def measures(self, weight: Floats) -> Measured:
        """NaN for what rows of one class alone cannot tell."""
        hits, total = self.ranking.hits(weight), weight.sum()
        if not total > 0:
            total = np.nan
        found = {
            "roc_auc": roc_auc(hits),
            "average_precision": average_precision(hits),
            "recall_at_fpr": recall_at_fpr(hits, self.evaluation.false_positive_rate),
            "precision_at_capacity": precision_at_capacity(hits, self.evaluation.review_capacity),
            "log_loss": float((weight * self.loss).sum() / total),
            "calibration_error": self.groups.error(weight) if total > 0 else float("nan"),
        }
        if self.cost is not None:
            found["cost_per_row"] = float((weight * self.cost).sum() / total)
        return found


def resample(judges: Mapping[str, Judge], weight: Floats, draws: int, seed: int) -> Draws:
    """Measures under Poisson resampling of the rows, the same draws for every model."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Measured]] = {name: [] for name in judges}
    for _ in range(draws):
        drawn = weight * rng.poisson(1.0, len(weight))
        for name, judge in judges.items():
            found[name].append(judge.measures(drawn))
    return {
        name: {measure: np.array([one[measure] for one in values]) for measure in values[0]}
        for name, values in found.items()
        if values
    }


def interval(values: Floats) -> list[float] | None:
    """95 % of the values lie between; None where no resample could be measured."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    return [float(bound) for bound in np.quantile(known, [0.025, 0.975])]


def gains(model: Measured, other: Measured, drawn: Draws, rival: str) -> dict[str, Any]:
    """By measure: by how much `model` is better than the rival, and the paired interval."""
    found = {}
    for name, value in model.items():
        sign = -1.0 if name in LOWER_IS_BETTER else 1.0
        paired = sign * (drawn["model"][name] - drawn[rival][name])
        found[name] = {"gain": number(sign * (value - other[name])), "interval": interval(paired)}
    return found


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)
