"""What decisions cost, and what they catch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows
from components.evaluate.measures import Floats
from serving.bundle.contract import Costs
from serving.policy import DECISIONS

Taken = NDArray[np.object_]


def cost_of(costs: Costs, taken: Taken, rows: Rows) -> Floats:
    """The cost of each row's decision [rows], in the contract's currency."""

    def amount(value: float | str) -> Floats | float:
        return rows.columns[value].astype(np.float64) if isinstance(value, str) else value

    found = np.zeros(len(rows))
    for decision in DECISIONS:
        cost = getattr(costs, decision)
        by_label = np.where(rows.label == 1, amount(cost.positive), amount(cost.negative))
        found = np.where(taken == decision, by_label, found)
    return found


def decision_counts(taken: Taken, rows: Rows) -> dict[str, Any]:
    """Each decision's share of rows and of positives, and precision and recall of what is declined,
    and of what is not approved."""
    weight, positive = rows.weight, rows.weight * rows.label
    found: dict[str, Any] = {
        name: {
            "share": float(weight[taken == name].sum() / weight.sum()),
            "positives": float(positive[taken == name].sum() / positive.sum()),
        }
        for name in DECISIONS
    }
    for name, chosen in (("declined", taken == "decline"), ("flagged", taken != "approve")):
        flagged = float(weight[chosen].sum())
        found[name] = {
            "precision": float(positive[chosen].sum()) / flagged if flagged else None,
            "recall": float(positive[chosen].sum() / positive.sum()),
        }
    return found


def confusion(taken: Taken, rows: Rows) -> dict[str, list[list[float]]]:
    """By threshold: weight of [[negatives not flagged, flagged], [positives not flagged, flagged]].

    At "review" all that is not approved is flagged, at "decline" what is declined. Rules included.
    """
    found = {}
    for name, chosen in (("review", taken != "approve"), ("decline", taken == "decline")):
        found[name] = [
            [
                float(rows.weight[(rows.label == label) & (chosen == flagged)].sum())
                for flagged in (False, True)
            ]
            for label in (0, 1)
        ]
    return found
