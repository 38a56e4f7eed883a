"""Rows as one float64 matrix: a column per watched feature, then the score and the decision.

Missing is NaN. A category is its position in the contract's list; one outside the list is -1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Contract
from serving.bundle.contract import Decision, Feature
from serving.errors import DataError

Matrix = NDArray[np.float64]
Role = Literal["feature", "score", "decision"]
UNSEEN = -1.0
SCORE = "score"
DECISION = "decision"
_NUMBERS = frozenset((int, float, type(None)))
_TEXTS = frozenset((str, type(None)))


@dataclass(frozen=True)
class Column:
    name: str
    kind: Literal["number", "category"]
    role: Role = "feature"
    categories: tuple[str, ...] = ()
    """What the codes of a category column stand for."""


class Encoder:
    """Encodes rows of one contract; `watched` are the features to compare, in that order."""

    def __init__(
        self, contract: Contract, watched: Sequence[str], *, score: bool, decision: bool = False
    ) -> None:
        """Raises DataError for a name that the contract lacks."""
        features = {feature.name: feature for feature in contract.features}
        for name in watched:
            if name not in features:
                raise DataError(f"drift config: '{name}' is not a feature of '{contract.name}'")
        self.names = frozenset(features)
        self._watched = tuple(features[name] for name in watched)
        self._codes = {f.name: _codes(f) for f in self._watched if f.dtype == "string"}
        self._single = {SCORE} | {f.name for f in self._watched if f.dtype == "float32"}
        self._outputs = (*([SCORE] if score else []), *([DECISION] if decision else []))
        columns = [
            Column(f.name, "category", categories=f.categories or ())
            if f.name in self._codes
            else Column(f.name, "number")
            for f in self._watched
        ]
        if score:
            columns.append(Column(SCORE, "number", "score"))
        if decision:
            columns.append(Column(DECISION, "category", "decision", get_args(Decision)))
            codes: dict[str | None, float] = {text: i for i, text in enumerate(get_args(Decision))}
            # A feature may be named so too, and has codes of its own.
            self._decisions = {None: math.nan, "": math.nan, **codes}
        self.columns = tuple(columns)

    def encode(self, columns: Mapping[str, Any], score: Any, decision: Any = None) -> Matrix:
        """Matrix [n, len(self.columns)] from JSON lists (None for missing) or arrays.

        Without decisions, where they are watched, all are missing. Raises DataError for a missing,
        unknown, ragged or wrongly typed column.
        """
        for name in columns:
            if name not in self.names:
                raise DataError(f"column '{name}' is not in the contract")
        encoded: list[tuple[str, Matrix]] = []
        for feature in self._watched:
            if feature.name not in columns:
                raise DataError(f"column '{feature.name}' is missing")
            codes = self._codes.get(feature.name)
            encoded.append((feature.name, self._column(feature.name, columns[feature.name], codes)))
        if SCORE in self._outputs:
            encoded.append((SCORE, self._column(SCORE, score, None)))
        if DECISION in self._outputs:
            if decision is None:
                decision = [None] * (len(encoded[0][1]) if encoded else 0)
            encoded.append((DECISION, self._column(DECISION, decision, self._decisions)))
        if not encoded:
            return np.empty((0, 0))
        # Column by column in memory, as everything after this reads them.
        matrix = np.empty((len(encoded[0][1]), len(encoded)), order="F")
        for i, (name, column) in enumerate(encoded):
            if len(column) != len(matrix):
                raise DataError(f"column '{name}' has {len(column)} rows, not {len(matrix)}")
            matrix[:, i] = column
        return matrix

    def _column(self, name: str, values: Any, codes: dict[str | None, float] | None) -> Matrix:
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
