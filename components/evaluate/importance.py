"""What each feature contributes: how much ROC AUC is lost when its values are shuffled.

Permutation importance (Breiman 2001; Fisher, Rudin & Dominici 2019) of the ONNX graph itself, so
the preprocessing is included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from components.checked import Rows
from components.evaluate.judge import Scores
from components.evaluate.measures import Ranking, roc_auc
from serving.bundle.rows import Columns

ROWS = 2000
REPEATS = 3


def permutation_importance(
    score_of: Callable[[Columns], Scores], rows: Rows, seed: int
) -> list[dict[str, Any]]:
    """By feature, the largest first: mean loss of ROC AUC and its spread over the repeats."""
    rng = np.random.default_rng(seed)
    sample = _sample(rows, rng)

    def quality(columns: Columns) -> float:
        ranking = Ranking.of(sample.label, score_of(columns))
        return roc_auc(ranking.hits(sample.weight))

    whole = quality(sample.columns)
    found = []
    for name, column in sample.columns.items():
        losses = [
            whole - quality({**sample.columns, name: rng.permutation(column)})
            for _ in range(REPEATS)
        ]
        found.append(
            {"feature": name, "loss": float(np.mean(losses)), "spread": float(np.std(losses))}
        )
    return sorted(found, key=lambda one: -one["loss"])


def _sample(rows: Rows, rng: np.random.Generator) -> Rows:
    """At most ROWS rows, up to half of them of the rarer class. ROC AUC does not mind the mix of
    classes, so no weight is changed."""
    weighty = rows.weight > 0
    classes = [np.flatnonzero(weighty & (rows.label == label)) for label in (0, 1)]
    few = min(ROWS // 2, *(len(positions) for positions in classes))
    picked = [
        rng.choice(positions, min(len(positions), max(ROWS // 2, ROWS - few)), replace=False)
        for positions in classes
    ]
    return rows.take(np.sort(np.concatenate(picked)))
