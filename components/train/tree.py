"""Gradient-boosted trees (scikit-learn), kept as plain arrays so that loading runs no pickle."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows
from components.train.inputs import Codes, Values, code_counts, matrices
from components.train.logistic import text_starts
from serving.bundle import Contract

SMOOTHING = 20.0
"""Rows that a category's rate is pulled to the mean by."""


@dataclass(frozen=True)
class TreeSettings:
    """Size of the ensemble. The same defaults serve every table."""

    rounds: int = 300
    patience: int = 20
    """Rounds without a smaller validation loss after which boosting stops."""
    learning_rate: float = 0.05
    leaves: int = 8
    least_rows: int = 20
    penalty: float = 1.0


@dataclass(frozen=True)
class Tree:
    """Log-odds = base + the sum of each tree's leaf, over float32 columns.

    Numbers are robust z-scores (a time in seconds would lose its digits as float32), texts the rate
    of positives among training rows of their code.
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    text: NDArray[np.float32]
    base: float
    starts: NDArray[np.int64]
    """Position of each tree's root; children count from there."""
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    """A row goes left where its value is not above."""
    missing_left: NDArray[np.uint8]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf: NDArray[np.uint8]
    value: NDArray[np.float64]

    kind = "tree"

    def margins(self, contract: Contract, values: Values, codes: Codes) -> NDArray[np.float64]:
        """As scikit-learn's own predictor walks the trees."""
        # Private to scikit-learn, as skl2onnx uses it too; environments are locked.
        from sklearn.ensemble._hist_gradient_boosting.predictor import (  # noqa: PLC0415
            PREDICTOR_RECORD_DTYPE,
            TreePredictor,
        )

        x = _design(contract, (values, codes), self.center, self.scale, self.text)
        total = np.full(len(x), self.base)
        no_sets = np.zeros((0, 8), dtype=np.uint32)
        no_map = np.zeros(x.shape[1], dtype=np.uint32)
        ends = [*self.starts[1:], len(self.feature)]
        for start, end in zip(self.starts, ends, strict=True):
            nodes = np.zeros(end - start, dtype=PREDICTOR_RECORD_DTYPE)
            part = slice(start, end)
            nodes["value"], nodes["feature_idx"] = self.value[part], self.feature[part]
            nodes["num_threshold"] = self.threshold[part]
            nodes["missing_go_to_left"] = self.missing_left[part]
            nodes["left"], nodes["right"] = self.left[part], self.right[part]
            nodes["is_leaf"] = self.leaf[part]
            total += TreePredictor(nodes, no_sets, no_sets).predict(x, no_sets, no_map, 1)
        return total

    def size(self) -> int:
        return int(self.leaf.sum())

    @property
    def rounds(self) -> int:
        return len(self.starts)


def fit_tree(
    contract: Contract,
    rows: Rows,
    settings: TreeSettings,
    seed: int,
    validation: Rows | None = None,
) -> Tree:
    """Boosts until the loss on `validation` no longer falls; without it, for `settings.rounds`."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

    values, codes = matrices(contract, rows.columns)
    center, scale = _spread(values)
    text = _rates(contract, codes, rows)
    model: Any = HistGradientBoostingClassifier(
        learning_rate=settings.learning_rate,
        max_iter=settings.rounds,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.least_rows,
        l2_regularization=settings.penalty,
        early_stopping=validation is not None,
        n_iter_no_change=settings.patience,
        random_state=seed,
    )
    weighted = len(np.unique(rows.weight)) > 1
    judged: dict[str, Any] = {}
    if validation is not None:
        given = matrices(contract, validation.columns)
        judged = {
            "X_val": _design(contract, given, center, scale, text),
            "y_val": validation.label,
        }
        if weighted:
            judged["sample_weight_val"] = validation.weight
    # Weights that average 1 keep the penalty's meaning whatever the unit of the contract's weights.
    # Equal ones are left out: scikit-learn takes as long for weighted quantiles as for the trees.
    weight = rows.weight / rows.weight.mean() if weighted else None
    design = _design(contract, (values, codes), center, scale, text)
    with _threads(len(rows)):
        model.fit(design, rows.label, sample_weight=weight, **judged)
    predictors = [of_class[0] for of_class in model._predictors]
    kept = len(predictors)
    if validation is not None:
        losses = -np.asarray(model.validation_score_)
        kept = max(int(np.argmin(losses)), 1)
    return _flatten(predictors[:kept], center, scale, text, float(model._baseline_prediction[0, 0]))


def rounds_of(tree: Tree, settings: TreeSettings) -> TreeSettings:
    """The settings that boost for as many rounds as `tree` did."""
    return TreeSettings(**{**asdict(settings), "rounds": tree.rounds})


def _flatten(
    predictors: list[Any],
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    text: NDArray[np.float32],
    base: float,
) -> Tree:
    nodes = np.concatenate([predictor.nodes for predictor in predictors])
    sizes = [len(predictor.nodes) for predictor in predictors]
    exact = nodes["num_threshold"]
    with np.errstate(over="ignore"):
        threshold = exact.astype(np.float32)
    # Rounded down: no float32 value then changes sides.
    threshold = np.where(threshold > exact, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    return Tree(
        center=center,
        scale=scale,
        text=text,
        base=base,
        starts=np.cumsum([0, *sizes], dtype=np.int64)[:-1],
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=threshold,
        missing_left=nodes["missing_go_to_left"].copy(),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        leaf=nodes["is_leaf"].copy(),
        value=nodes["value"].copy(),
    )


def _design(
    contract: Contract,
    given: tuple[Values, Codes],
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    text: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Columns rounded to float32, as the graph's trees read them, in scikit-learn's float64."""
    values, codes = given
    with np.errstate(over="ignore"):
        numbers = ((values - center) / scale).astype(np.float32)
    return np.hstack([numbers, text[codes + text_starts(contract)]]).astype(np.float64)


def _spread(values: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    center, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
    for index in range(values.shape[1]):
        column = values[~np.isnan(values[:, index]), index]
        if len(column):
            first, center[index], third = np.quantile(column, [0.25, 0.5, 0.75])
            scale[index] = float(third - first) or float(np.std(column)) or 1.0
    return center, scale


def _rates(contract: Contract, codes: Codes, rows: Rows) -> NDArray[np.float32]:
    """The smoothed rate of positives of every code: trees split best on texts in that order."""
    weight = rows.weight / rows.weight.mean()
    mean = float((weight * rows.label).sum() / weight.sum())
    parts = [np.zeros(0)]
    for feature, count in enumerate(code_counts(contract)):
        mass = np.bincount(codes[:, feature], weight, count)
        hits = np.bincount(codes[:, feature], weight * rows.label, count)
        parts.append((hits + SMOOTHING * mean) / (mass + SMOOTHING))
    return np.concatenate(parts).astype(np.float32)


def _threads(rows: int) -> Any:
    """scikit-learn's threads, bounded. They meet at a barrier after each histogram: on small tables
    and busy machines they would wait longer than they work."""
    from threadpoolctl import (  # type: ignore[import-untyped]  # noqa: PLC0415
        threadpool_limits,
    )

    return threadpool_limits(
        min(4, len(os.sched_getaffinity(0)), 1 + rows // 100_000), user_api="openmp"
    )
