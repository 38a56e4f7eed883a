"""Alibi Detect's window tests behind the protocol, with what Alibi leaves silent made explicit.

A NaN makes Alibi's p-value NaN, which it reads as "no drift". So every column is split: the values
that are present are compared, and Fisher's exact test (FETDrift) compares the share of missing ones
and of rare ones. By name:

- tabular: Kolmogorov-Smirnov for numbers, chi-squared for categories (TabularDrift)
- ks: Kolmogorov-Smirnov for all, categories in the order of the contract (KSDrift)
- chi2: chi-squared for all, numbers in the reference's tenths (ChiSquareDrift)
- mmd: one test of all columns together (MMDDrift), and the shares of each
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.drift.detector import Aspect, DriftDetector, TestResult
from serving.drift.encoding import Column, Matrix
from serving.drift.ks import SortedReference
from serving.drift.mmd import (
    PERMUTATIONS,
    Embedding,
    kernel_matrix,
    median_bandwidth,
    permuted_mmd2,
    tail_probability,
)
from serving.errors import DataError

FEWEST = 20
"""Values a side needs before their distribution is compared; below, only shares are."""
EXPECTED = 5.0
"""Cochran's rule: chi-squared wants this count expected in each cell of the window."""
TENTHS = 10
MOST_POINTS = 1000
"""Rows of the reference, and of a window, that MMD compares: its cost is their square."""
ALL = "*"
"""Stands for a column's name in a test of all columns together."""


def build(
    name: str, columns: Sequence[Column], reference: Matrix, window_rows: int
) -> DriftDetector:
    """The detector of that name for windows of about `window_rows` rows.

    Raises DataError for an unknown name or a reference too small, ImportError without Alibi Detect.
    """
    if name == "mmd":
        return MmdTests(columns, reference, window_rows)
    if name not in ("tabular", "ks", "chi2"):
        raise DataError(f"detector '{name}' is unknown; give tabular, ks, chi2 or mmd")
    return ColumnwiseTests(name, columns, reference, window_rows)


def import_alibi() -> tuple[Any, Any, Any]:
    """(TabularDrift, ChiSquareDrift, FETDrift). Takes seconds. Raises ImportError."""
    # transformers, which Alibi imports for text, would advise to install a framework.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from alibi_detect.cd import ChiSquareDrift, FETDrift, TabularDrift  # noqa: PLC0415

    return TabularDrift, ChiSquareDrift, FETDrift


def thinned(rows: Matrix, most: int) -> Matrix:
    """At most that many rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    kept: Matrix = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return kept


def check_size(reference: Matrix, window_rows: int) -> None:
    """Raises DataError when the reference is smaller than a window."""
    if len(reference) < max(window_rows, 2 * FEWEST):
        raise DataError(
            f"the drift reference has {len(reference)} rows, too few for windows of {window_rows};"
            " give a larger reference or a smaller window"
        )


def _most_rows(reference: Matrix) -> int:
    """Rows of a window that are compared: every window meets the same reference, and were that the
    smaller sample, its own sampling error would decide: drift in every window or in none."""
    return len(reference) // 2


class ColumnwiseTests:
    """DriftDetector on a reference [n, columns], a column at a time."""

    def __init__(
        self, name: str, columns: Sequence[Column], reference: Matrix, window_rows: int
    ) -> None:
        check_size(reference, window_rows)
        self.name = f"alibi-{name}/2"
        self._most = _most_rows(reference)
        tabular, chi2, fisher = import_alibi()
        self._parts = [
            _ColumnTests(
                _Shares(column, reference[:, i], window_rows, fisher),
                reference[:, i],
                by_rank=name == "ks" or (name == "tabular" and column.kind == "number"),
                frequency=chi2 if name == "chi2" else tabular,
            )
            for i, column in enumerate(columns)
        ]

    def test(self, window: Matrix) -> tuple[TestResult, ...]:
        window = thinned(window, self._most)
        return tuple(r for i, part in enumerate(self._parts) for r in part.test(window[:, i]))


class MmdTests:
    """DriftDetector: all columns at once, and each column's shares."""

    name = "alibi-mmd/2"

    def __init__(self, columns: Sequence[Column], reference: Matrix, window_rows: int) -> None:
        check_size(reference, window_rows)
        _, _, fisher = import_alibi()
        self._most = _most_rows(reference)
        self._embedding = Embedding(columns, reference)
        self._points = thinned(self._embedding.points(reference), MOST_POINTS)
        self._bandwidth = median_bandwidth(self._points)
        self._shares = [
            _Shares(column, reference[:, i], window_rows, fisher)
            for i, column in enumerate(columns)
        ]

    def test(self, window: Matrix) -> tuple[TestResult, ...]:
        window = thinned(window, self._most)
        shares = [r for i, part in enumerate(self._shares) for r in part.test(window[:, i])]
        return (self._together(thinned(window, MOST_POINTS)), *shares)

    def _together(self, window: Matrix) -> TestResult:
        if len(window) < FEWEST:
            return TestResult(ALL, "feature", "values", "mmd", 1.0, 0.0)
        points = np.concatenate([self._points, self._embedding.points(window)])
        kernel = kernel_matrix(points, self._bandwidth)
        own = np.zeros((len(points), 1))
        own[len(self._points) :] = 1.0
        # Equal windows give equal p-values.
        order = np.random.default_rng(0).random((len(points), PERMUTATIONS)).argsort(axis=0)
        chosen = (order < len(window)).astype(np.float64)
        mmd2 = float(permuted_mmd2(kernel, own)[0])
        p_value = tail_probability(mmd2, permuted_mmd2(kernel, chosen))
        # 2 is the largest MMD^2 of a kernel within 0..1.
        effect = min(max(mmd2 / 2, 0.0) ** 0.5, 1.0)
        return TestResult(ALL, "feature", "values", "mmd", p_value, effect)


class _Shares:
    """Fisher's exact test of what a column's values cannot show: missing and rare ones."""

    def __init__(self, column: Column, reference: Matrix, window_rows: int, fisher: Any) -> None:
        self.column = column
        self._fisher = fisher
        self._missing = np.isnan(reference)
        self.common: NDArray[Any] | None = None
        """A category column's codes that are frequent enough to be compared one by one."""
        if column.kind == "category":
            codes, counts = np.unique(reference[~self._missing], return_counts=True)
            enough = counts * window_rows >= EXPECTED * max(len(reference), 1)
            self.common = codes[enough & (codes >= 0)]
            self._rare = ~np.isin(reference, self.common) & ~self._missing

    def compared(self, column: Matrix) -> Matrix:
        """The values that are left for a test of values."""
        present = column[~np.isnan(column)]
        return present if self.common is None else present[np.isin(present, self.common)]

    def test(self, column: Matrix) -> list[TestResult]:
        missing = np.isnan(column)
        results = [self._test("missing", self._missing, missing)]
        if self.common is not None:
            rare = ~np.isin(column, self.common) & ~missing
            results.append(self._test("rare", self._rare, rare))
        return results

    def _test(
        self, aspect: Aspect, reference: NDArray[np.bool_], window: NDArray[np.bool_]
    ) -> TestResult:
        name, role = self.column.name, self.column.role
        if not reference.any() and not window.any():
            return TestResult(name, role, aspect, "fisher", 1.0, 0.0)
        exact = self._fisher(
            reference.astype(np.int64).reshape(-1, 1), p_val=0.05, alternative="two-sided"
        )
        p_value, _ = exact.score(window.astype(np.int64).reshape(-1, 1))
        effect = abs(float(window.mean()) - float(reference.mean()))
        return TestResult(name, role, aspect, "fisher", float(p_value[0]), effect)


Test = Callable[[Matrix], tuple[float, float]]
"""Present values to (p-value, effect)."""


class _ColumnTests:
    """`frequency` is the class of Alibi's that compares frequencies."""

    def __init__(
        self, shares: _Shares, reference: Matrix, *, by_rank: bool, frequency: Any
    ) -> None:
        self._shares = shares
        self._method = "ks" if by_rank else "chi2"
        self._test: Test | None = None
        present = shares.compared(reference)
        if len(present) < FEWEST:
            return
        if by_rank:
            self._test = SortedReference(present).test
        elif shares.column.kind == "category":
            self._test = _frequency_test(present, frequency)
        else:
            edges = np.unique(np.quantile(present, np.arange(1, TENTHS) / TENTHS))
            tenths = _frequency_test(np.digitize(present, edges).astype(np.float64), frequency)
            self._test = lambda values: tenths(np.digitize(values, edges).astype(np.float64))

    def test(self, values: Matrix) -> list[TestResult]:
        present = self._shares.compared(values)
        p_value, effect = 1.0, 0.0
        if self._test is not None and len(present) >= FEWEST:
            p_value, effect = self._test(present)
        name, role = self._shares.column.name, self._shares.column.role
        compared = TestResult(name, role, "values", self._method, p_value, effect)
        return [compared, *self._shares.test(values)]


def _frequency_test(reference: Matrix, alibi: Any) -> Test:
    """Chi-squared by a class of Alibi's; the effect is the total variation."""
    codes = np.unique(reference)
    shares = np.array([(reference == code).mean() for code in codes])
    # TabularDrift takes only columns named as categorical for such; ChiSquareDrift takes all.
    given = {"categories_per_feature": {0: None}} if alibi.__name__ == "TabularDrift" else {}
    detector = alibi(reference.reshape(-1, 1), p_val=0.05, **given)

    def test(values: Matrix) -> tuple[float, float]:
        p_value, _ = detector.score(values.reshape(-1, 1))
        found = np.array([(values == code).mean() for code in codes])
        return float(p_value[0]), float(0.5 * np.abs(found - shares).sum())

    return test
