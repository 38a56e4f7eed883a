"""Maximum mean discrepancy with all permutations in one matrix product; numpy alone.

Alibi Detect's MMDDrift, with its kernel and its bandwidth, permutes the kernel matrix once per
permutation; here each permutation is a column of zeros and ones and K @ columns gives all sums at
once. For the same permutations the p-values are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.drift.encoding import Column, Matrix

PERMUTATIONS = 500
FEWEST_HITS = 10
"""Permutations beyond the statistic below which their share says too little about the tail."""


def squared_distances(a: Matrix, b: Matrix) -> Matrix:
    """[n, m] between rows of a [n, d] and b [m, d]."""
    gram = -2.0 * (a @ b.T)
    gram += (a * a).sum(axis=1)[:, None]
    gram += (b * b).sum(axis=1)
    return np.maximum(gram, 1e-30, out=gram)


def median_bandwidth(reference: Matrix) -> float:
    """The median heuristic (Gretton et al., 2012) as Alibi Detect has it: over pairs of different
    rows."""
    n = len(reference)
    distances = squared_distances(reference, reference).ravel()
    place = n + (n * n - n) // 2 - 1
    return math.sqrt(0.5 * float(np.partition(distances, place)[place]))


def kernel_matrix(rows: Matrix, bandwidth: float) -> Matrix:
    """Gaussian kernel [n, n] with a zero diagonal."""
    kernel = np.exp(squared_distances(rows, rows) / (-2.0 * bandwidth**2))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def permuted_mmd2(kernel: Matrix, chosen: NDArray[np.float64]) -> Matrix:
    """MMD^2 [p], unbiased, where column j of `chosen` [n, p] has ones at what counts as window."""
    total, rows = float(kernel.sum()), len(kernel)
    m = chosen.sum(axis=0)
    n = rows - m
    products = kernel @ chosen
    window = (chosen * products).sum(axis=0)
    both = products.sum(axis=0) - window
    reference = total - 2 * both - window
    found: Matrix = reference / (n * (n - 1)) + window / (m * (m - 1)) - 2 * both / (n * m)
    return found


def tail_probability(statistic: float, permuted: Matrix) -> float:
    """The share of permutations at or above the statistic, as Alibi Detect's p-value; where few
    are, the tail of a Pearson type III with their mean, variance and skewness (Mielke & Berry),
    because a share of 0 would be called certain."""
    hits = int((permuted >= statistic).sum())
    if hits >= FEWEST_HITS:
        return hits / len(permuted)
    from scipy.stats import pearson3  # noqa: PLC0415

    deviation = permuted.std()
    if deviation == 0:
        return 1.0
    skew = float((((permuted - permuted.mean()) / deviation) ** 3).mean())
    found = float(pearson3.sf((statistic - permuted.mean()) / deviation, skew))
    return min(max(found, 0.0), max(hits, 1) / len(permuted) * 2)


class Embedding:
    """Rows as points: numbers standardised, categories one-hot, a coordinate for missing."""

    def __init__(self, columns: Sequence[Column], reference: Matrix) -> None:
        self._columns = columns
        with np.errstate(invalid="ignore"):
            finite = np.where(np.isfinite(reference), reference, np.nan)
        self._low, self._high, self._mean, self._scale = (np.zeros(len(columns)) for _ in range(4))
        self._codes: list[Matrix] = []
        for i, column in enumerate(columns):
            present = finite[:, i][~np.isnan(finite[:, i])]
            self._codes.append(np.unique(present) if column.kind == "category" else np.empty(0))
            if len(present):
                self._low[i], self._high[i] = present.min(), present.max()
                self._mean[i], self._scale[i] = present.mean(), present.std()

    def points(self, rows: Matrix) -> Matrix:
        """[n, coordinates]; one number far out counts at most as its range and as much again."""
        parts: list[Matrix] = []
        for i, column in enumerate(self._columns):
            values = rows[:, i]
            missing = np.isnan(values)
            parts.append(missing.astype(np.float64))
            if column.kind == "category":
                hits = values[:, None] == self._codes[i]
                parts += [hits.astype(np.float64), (~hits.any(axis=1) & ~missing).astype(float)]
                continue
            reach = self._high[i] - self._low[i]
            held = np.clip(values, self._low[i] - reach, self._high[i] + reach)
            centred = np.where(missing, 0.0, held - self._mean[i])
            parts.append(centred / (self._scale[i] or 1.0))
        return np.column_stack(parts)
