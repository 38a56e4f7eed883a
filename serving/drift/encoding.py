"""Rows as one float64 matrix: a column per watched feature, and one for the score.

Missing is NaN. A category is its position in the contract's list; one outside the list is -1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Contract
from serving.bundle.contract import Feature
from serving.errors import DataError

Matrix = NDArray[np.float64]
UNSEEN = -1.0
SCORE = "score"
_NUMBERS = frozenset((int, float, type(None)))
_TEXTS = frozenset((str, type(None)))


@dataclass(frozen=True)
class Column:
    name: str
    kind: Literal["number", "category"]
    role: Literal["feature", "score"] = "feature"


class Encoder:
    """Encodes rows of one contract; `watched` are the features to compare, in that order."""

    def __init__(self, contract: Contract, watched: Sequence[str], *, score: bool) -> None:
        features = {feature.name: feature for feature in contract.features}
        for name in watched:
            if name not in features:
                raise DataError(f"drift config: '{name}' is not a feature of '{contract.name}'")
        self.names = frozenset(features)
        self._watched = tuple(features[name] for name in watched)
        self._codes = {f.name: _codes(f) for f in self._watched if f.dtype == "string"}
        self._single = {SCORE} | {f.name for f in self._watched if f.dtype == "float32"}
        self._score = score
        columns = [
            Column(f.name, "category" if f.name in self._codes else "number") for f in self._watched
        ]
        self.columns = (*columns, *([Column(SCORE, "number", "score")] if score else []))

    def encode(self, columns: Mapping[str, Any], score: Any) -> Matrix:
        """Matrix [n, len(self.columns)] from JSON lists (None for missing) or arrays.

        Raises DataError for a missing, unknown, ragged or wrongly typed column.
        """
        for name in columns:
            if name not in self.names:
                raise DataError(f"column '{name}' is not in the contract")
        given: list[tuple[str, Any]] = []
        for feature in self._watched:
            if feature.name not in columns:
                raise DataError(f"column '{feature.name}' is missing")
            given.append((feature.name, columns[feature.name]))
        if self._score:
            given.append((SCORE, score))
        encoded = [self._column(name, values) for name, values in given]
        for (name, _), column in zip(given, encoded, strict=True):
            if len(column) != len(encoded[0]):
                raise DataError(f"column '{name}' has {len(column)} rows, not {len(encoded[0])}")
        return np.column_stack(encoded) if encoded else np.empty((0, 0))

    def _column(self, name: str, values: Any) -> Matrix:
        codes = self._codes.get(name)
        if isinstance(values, np.ndarray):
            if codes is not None:
                values = [str(value) for value in values]
            elif values.ndim != 1 or values.dtype.kind not in "iuf":
                raise DataError(f"column '{name}' is {values.dtype} {list(values.shape)}")
            else:
                return self._rounded(name, values)
        if not isinstance(values, list):
            raise DataError(f"column '{name}' is not a list of values")
        odd = set(map(type, values)) - (_NUMBERS if codes is None else _TEXTS)
        if odd:
            wanted = "numbers" if codes is None else "texts"
            raise DataError(f"column '{name}' has a {odd.pop().__name__}; give {wanted} or null")
        if codes is None:
            try:
                return self._rounded(name, np.array(values, dtype=np.float64))
            except OverflowError:
                raise DataError(f"column '{name}' has a number too large for float64") from None
        found = map(codes.get, values, itertools.repeat(UNSEEN))
        return np.fromiter(found, dtype=np.float64, count=len(values))

    def _rounded(self, name: str, values: NDArray[Any]) -> Matrix:
        # JSON has 0.1 where a float32 array has 0.100000001: without rounding, equal values would
        # not tie, and a rank test takes that for a shift.
        if name in self._single:
            with np.errstate(over="ignore"):
                values = values.astype(np.float32)
        return values.astype(np.float64)


def _codes(feature: Feature) -> dict[str | None, float]:
    codes: dict[str | None, float] = dict.fromkeys((None, "", *feature.missing), math.nan)
    codes.update({text: float(code) for code, text in enumerate(feature.categories or ())})
    return codes
