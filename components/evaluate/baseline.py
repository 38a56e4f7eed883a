"""What plain models would reach on the same split: logistic regression and boosted trees."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows
from serving.bundle import Contract

FEW_ROWS = 500_000
MOST_CATEGORIES = 255
"""scikit-learn's bound; a longer list is taken as numbers."""


def logistic_scores(contract: Contract, fitting: Rows, judged: Rows) -> NDArray[np.float64]:
    """Scores [rows] of `judged` from a weighted logistic regression fitted on `fitting`.

    Numbers are standardised, missing ones take the median and a flag; text is one column for each
    category, missing and unseen values none of them.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    train, test = _design(contract, fitting, judged)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread[spread == 0] = 1.0
    model = LogisticRegression(max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((train - mean) / spread, fitting.label, sample_weight=fitting.weight)
    result: NDArray[np.float64] = model.predict_proba((test - mean) / spread)[:, 1]
    return result


def boosting_scores(
    contract: Contract, fitting: Rows, judged: Rows, seed: int
) -> NDArray[np.float64]:
    """Scores [rows] of `judged` from weighted gradient boosting with scikit-learn's settings.

    Numbers as they are, text as categories; missing values go the way that fits best. The latest
    tenth of the rows says when to stop.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415
    from threadpoolctl import (  # type: ignore[import-untyped]  # noqa: PLC0415
        threadpool_limits,
    )

    few = [len(f.categories or ()) <= MOST_CATEGORIES for f in contract.features]
    text = [f.dtype == "string" for f in contract.features]
    latest = max(1, len(fitting) // 10)
    design, weight = _codes(contract, fitting), fitting.weight
    known = {0, 1} <= set(fitting.label[-latest:].tolist())
    model = HistGradientBoostingClassifier(
        early_stopping=known,
        categorical_features=[a and b for a, b in zip(few, text, strict=True)],
        random_state=seed,
    )
    fitted: dict[str, Any] = {"X": design, "y": fitting.label, "sample_weight": weight}
    if known:
        held, rest = slice(-latest, None), slice(None, -latest)
        fitted = {
            **{name: values[rest] for name, values in fitted.items()},
            "X_val": design[held],
            "y_val": fitting.label[held],
            "sample_weight_val": weight[held],
        }
    # On few rows threads wait for one another longer than they work.
    with threadpool_limits(1 if len(fitting) < FEW_ROWS else None):
        model.fit(**fitted)
    result: NDArray[np.float64] = model.predict_proba(_codes(contract, judged))[:, 1]
    return result


def _codes(contract: Contract, rows: Rows) -> NDArray[np.float64]:
    """Columns as numbers [rows, features]; missing and unseen are NaN."""
    found = []
    for feature in contract.features:
        column = rows.columns[feature.name]
        if feature.dtype == "string":
            codes = np.full(len(rows), np.nan)
            for code, category in enumerate(feature.categories or ()):
                codes[column == category] = code
            found.append(codes)
        else:
            found.append(column.astype(np.float64))
    return np.column_stack(found)


def _design(
    contract: Contract, fitting: Rows, judged: Rows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    parts: tuple[list[NDArray[np.float64]], ...] = ([], [])
    for feature in contract.features:
        columns = (fitting.columns[feature.name], judged.columns[feature.name])
        if feature.dtype == "string":
            for category in feature.categories or ():
                for part, column in zip(parts, columns, strict=True):
                    part.append((column == category).astype(np.float64))
            continue
        known = columns[0][~np.isnan(columns[0].astype(np.float64))]
        median = float(np.median(known)) if len(known) else 0.0
        for part, column in zip(parts, columns, strict=True):
            values = column.astype(np.float64)
            absent = np.isnan(values)
            part.append(np.where(absent, median, values))
            if feature.nullable:
                part.append(absent.astype(np.float64))
    return np.column_stack(parts[0]), np.column_stack(parts[1])
