"""Alibi Detect's tests, one column at a time, with what Alibi leaves silent made explicit.

A NaN makes Alibi's p-value NaN, which it reads as "no drift". So each column is split: TabularDrift
compares the values that are present (Kolmogorov–Smirnov for numbers, chi-squared for categories),
and FETDrift (Fisher's exact test) compares the share of missing values and the share of rare ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.drift.detector import Aspect, TestResult
from serving.drift.encoding import Column, Matrix
from serving.errors import DataError

FEWEST = 20
"""Values a side needs before their distribution is compared; below, only shares are."""
EXPECTED = 5.0
"""Cochran's rule: chi-squared wants this count expected in each cell of the window."""


def import_alibi() -> tuple[Any, Any]:
    """(TabularDrift, FETDrift). Takes seconds. Raises ImportError where it is not installed."""
    # transformers, which Alibi imports for text, would advise to install a framework.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from alibi_detect.cd import FETDrift, TabularDrift  # noqa: PLC0415

    return TabularDrift, FETDrift


class AlibiTabular:
    """DriftDetector on a reference [n, columns] for windows of about `window_rows` rows."""

    name = "alibi-tabular/1"

    def __init__(self, columns: Sequence[Column], reference: Matrix, window_rows: int) -> None:
        """Raises DataError when the reference is smaller than a window: its own sampling error
        would then look like permanent drift."""
        if len(reference) < window_rows:
            raise DataError(
                f"the drift reference has {len(reference)} rows, fewer than a window of"
                f" {window_rows}; give a larger reference or a smaller window"
            )
        imported = import_alibi()
        self._parts = [
            _ColumnTests(column, reference[:, i], window_rows, *imported)
            for i, column in enumerate(columns)
        ]

    def test(self, window: Matrix) -> tuple[TestResult, ...]:
        return tuple(r for i, part in enumerate(self._parts) for r in part.test(window[:, i]))


class _ColumnTests:
    def __init__(
        self, column: Column, reference: Matrix, window_rows: int, tabular: Any, fisher: Any
    ) -> None:
        self.column = column
        self._fisher = fisher
        self._missing = np.isnan(reference)
        present = reference[~self._missing]
        self._common: NDArray[Any] | None = None
        if column.kind == "category":
            codes, counts = np.unique(present, return_counts=True)
            enough = counts * window_rows >= EXPECTED * max(len(reference), 1)
            self._common = codes[enough & (codes >= 0)]
            self._rare = ~np.isin(reference, self._common) & ~self._missing
            present = present[np.isin(present, self._common)]
        self._values = present
        self._shares = self._frequencies(present)
        # An empty dict says "no column is categorical" without Alibi's warning for None.
        categories = {0: None} if column.kind == "category" else {}
        self._detector = (
            tabular(present.reshape(-1, 1), p_val=0.05, categories_per_feature=categories)
            if len(present) >= FEWEST
            else None
        )

    def test(self, column: Matrix) -> list[TestResult]:
        missing = np.isnan(column)
        results = [self._test_share("missing", self._missing, missing)]
        present = column[~missing]
        if self._common is not None:
            rare = ~np.isin(column, self._common) & ~missing
            results.append(self._test_share("rare", self._rare, rare))
            present = present[np.isin(present, self._common)]
        return [self._test_values(present), *results]

    def _test_values(self, present: Matrix) -> TestResult:
        method = "ks" if self._common is None else "chi2"
        if self._detector is None or len(present) < FEWEST:
            return self._result("values", method, 1.0, 0.0)
        p_value, statistic = self._detector.score(present.reshape(-1, 1))
        if self._common is None:
            return self._result("values", method, float(p_value[0]), float(statistic[0]))
        distance = 0.5 * np.abs(self._frequencies(present) - self._shares).sum()
        return self._result("values", method, float(p_value[0]), float(distance))

    def _test_share(
        self, aspect: Aspect, reference: NDArray[np.bool_], window: NDArray[np.bool_]
    ) -> TestResult:
        if not reference.any() and not window.any():
            return self._result(aspect, "fisher", 1.0, 0.0)
        exact = self._fisher(
            reference.astype(np.int64).reshape(-1, 1), p_val=0.05, alternative="two-sided"
        )
        p_value, _ = exact.score(window.astype(np.int64).reshape(-1, 1))
        effect = abs(float(window.mean()) - float(reference.mean()))
        return self._result(aspect, "fisher", float(p_value[0]), effect)

    def _frequencies(self, present: Matrix) -> Matrix:
        if self._common is None or not len(present):
            return np.zeros(0 if self._common is None else len(self._common))
        return np.array([(present == code).mean() for code in self._common])

    def _result(self, aspect: Aspect, method: str, p_value: float, effect: float) -> TestResult:
        column = self.column
        return TestResult(column.name, column.role, aspect, method, p_value, effect)
