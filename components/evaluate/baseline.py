"""What a plain model would reach on the same split: logistic regression on standardised columns."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows
from serving.bundle import Contract


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
