"""Logistic regression on standardised columns: the plain model that a better one must beat."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows
from components.train.inputs import FIRST_CATEGORY, Codes, Values, code_counts, matrices
from serving.bundle import Contract

FAR = 1e6
"""Standardised values are clipped here, so that no finite input overflows."""


@dataclass(frozen=True)
class Logistic:
    """Log-odds = intercept + weights of z-scores + weights of missing flags + one of each text.

    A missing number takes the training median; "missing" and "unseen" texts weigh nothing.
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    median: NDArray[np.float64]
    """In units of the standardised column."""
    weight: NDArray[np.float64]
    absent: NDArray[np.float64]
    """Weight of a missing value, [numbers]."""
    text: NDArray[np.float64]
    """Weight of every code of every text feature, one after the other."""
    intercept: float

    kind = "logistic"

    def margins(self, contract: Contract, values: Values, codes: Codes) -> NDArray[np.float64]:
        absent = np.isnan(values)
        z = np.clip((values - self.center) / self.scale, -FAR, FAR)
        total = np.where(absent, self.median, z) @ self.weight + absent @ self.absent
        picked = self.text[codes + text_starts(contract)]
        return np.asarray(total + picked.sum(axis=1) + self.intercept, dtype=np.float64)

    def size(self) -> int:
        return self.weight.size + self.absent.size + self.text.size + 1


def text_starts(contract: Contract) -> NDArray[np.int64]:
    """Where each text feature's codes begin in `Logistic.text` and `Tree.text`."""
    return np.cumsum([0, *code_counts(contract)], dtype=np.int64)[:-1]


def fit_logistic(contract: Contract, rows: Rows) -> Logistic:
    """The weighted fit with scikit-learn's ordinary penalty (C = 1)."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    values, codes = matrices(contract, rows.columns)
    absent = np.isnan(values)
    median = np.zeros(values.shape[1])
    for index in range(values.shape[1]):
        known = values[~absent[:, index], index]
        median[index] = np.median(known) if len(known) else 0.0
    filled = np.where(absent, median, values)
    center, scale = filled.mean(axis=0), filled.std(axis=0)
    scale[scale == 0] = 1.0
    ever = np.flatnonzero(absent.any(axis=0))
    parts = [(filled - center) / scale, absent[:, ever].astype(np.float64)]
    starts, counts = text_starts(contract), code_counts(contract)
    for feature, count in enumerate(counts):
        known_codes = np.arange(FIRST_CATEGORY, count)
        parts.append((codes[:, feature, None] == known_codes).astype(np.float64))
    design = np.hstack(parts)
    mean, spread = design.mean(axis=0), design.std(axis=0)
    spread[spread == 0] = 1.0
    model: Any = LogisticRegression(max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((design - mean) / spread, rows.label, sample_weight=rows.weight)
    slopes = model.coef_[0] / spread
    numbers = values.shape[1]
    flags = np.zeros(numbers)
    flags[ever] = slopes[numbers : numbers + len(ever)]
    text = np.zeros(sum(counts))
    position = numbers + len(ever)
    for start, count in zip(starts, counts, strict=True):
        categories = count - FIRST_CATEGORY
        text[start + FIRST_CATEGORY : start + count] = slopes[position : position + categories]
        position += categories
    return Logistic(
        center=center,
        scale=scale,
        median=(median - center) / scale,
        weight=slopes[:numbers],
        absent=flags,
        text=text,
        intercept=float(model.intercept_[0] - slopes @ mean),
    )
