"""Columns and matrices off the wire to checked rows: quick for valid ones, exact for the rest.

The quick way only ever accepts. What it is not sure of goes through serving.bundle's own check,
which is the one that refuses and says why.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Contract, Feature, canonical_columns, check_columns
from serving.errors import DataError
from serving.predictor.refusal import Refusal
from serving.predictor.rows import Columns, Raw, Rows

_NONE = type(None)
_CODES = {"float32": "f", "float64": "d"}


class RowReader:
    """Reads rows of one contract. Lists must come from a JSON parser: they hold no NaN."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._names = contract.feature_names
        self._known = frozenset(self._names)
        self._quick: list[_Numbers | _Texts] = [
            _Texts(f) if f.dtype == "string" else _Numbers(f) for f in contract.features
        ]
        kinds = {feature.dtype for feature in contract.features}
        floats = len(kinds) == 1 and kinds <= _CODES.keys()
        self.matrix_dtype = np.dtype(kinds.pop()) if floats else None
        """The type that all features share, where that is a float: a matrix then stays one."""
        if self.matrix_dtype is not None:
            self._code = _CODES[self.matrix_dtype.name]
            numbers = [quick for quick in self._quick if isinstance(quick, _Numbers)]
            self._low = np.array([n.low for n in numbers], dtype=self.matrix_dtype)
            self._high = np.array([n.high for n in numbers], dtype=self.matrix_dtype)
            self._nullable = np.array([n.nullable for n in numbers])

    def read(self, columns: Mapping[str, Raw]) -> Rows:
        """At least one row. Raises DataError naming the column and the value."""
        result: Columns = {}
        rows = -1
        if columns.keys() == self._known:
            for feature in self._quick:
                column = feature.read(columns[feature.name])
                if column is None or (rows >= 0 and len(column) != rows):
                    break
                rows = len(column)
                result[feature.name] = column
        if len(result) < len(self._quick):
            result = self._exact(columns)
            rows = len(next(iter(result.values())))
        if rows == 0:
            raise DataError("the request has no rows; send at least one")
        return Rows(self._names, rows, result)

    def read_flat(self, data: list[Any], rows: int) -> Rows | None:
        """Rows of a JSON list [rows * features], row after row and without true or false in it.

        None when it takes the exact way to tell; for contracts with a `matrix_dtype`.
        """
        if len(data) != rows * len(self._names):
            return None
        try:
            # Unlike numpy this takes no text for a number.
            numbers = array(self._code, data)
        except (TypeError, OverflowError):
            return None
        return self.read_matrix(
            np.frombuffer(numbers, dtype=self.matrix_dtype).reshape(rows, len(self._names))
        )

    def read_matrix(self, matrix: NDArray[Any]) -> Rows | None:
        """The rows of a matrix [rows, features] in the contract's order; None as `read_flat`."""
        if matrix.dtype != self.matrix_dtype:
            return None
        # NaN fails both comparisons. Bytes are searched faster than numpy reduces a small array.
        within = (matrix >= self._low) & (matrix <= self._high)
        if b"\0" in within.tobytes():
            within |= np.isnan(matrix) & self._nullable
            if b"\0" in within.tobytes():
                return None
        return Rows(self._names, len(matrix), matrix=matrix)

    def _exact(self, columns: Mapping[str, Raw]) -> Columns:
        if columns.keys() != self._known:
            self._refuse_names(columns)
        try:
            result = canonical_columns(self._contract, columns)
        except DataError as error:
            raise Refusal(str(error), "type") from None
        violations = check_columns(self._contract, result)
        if violations:
            first = violations[0]
            raise Refusal(first.sentence(), first.kind, len(first.rows))
        return result

    def _refuse_names(self, columns: Mapping[str, Raw]) -> None:
        try:
            canonical_columns(self._contract, columns)
        except DataError as error:
            raise Refusal(str(error), "column") from None


class _Numbers:
    def __init__(self, feature: Feature) -> None:
        self.name = feature.name
        self._dtype = np.dtype(feature.dtype)
        whole = feature.dtype == "int64"
        limits = np.iinfo(np.int64) if whole else np.finfo(self._dtype)
        # As Python's own numbers: comparing with a float32 would round the value first.
        lowest = int(limits.min) if whole else float(limits.min)
        highest = int(limits.max) if whole else float(limits.max)
        self.low = lowest if feature.min is None else max(lowest, feature.min)
        self.high = highest if feature.max is None else min(highest, feature.max)
        self.nullable = feature.nullable
        self._types = frozenset({int} if whole else {int, float})
        self._kinds = "iu" if whole else "iuf"

    def read(self, data: Raw) -> NDArray[Any] | None:
        if isinstance(data, list):
            return self._from_list(data)
        if not len(data) or data.ndim != 1 or data.dtype.kind not in self._kinds:
            return None
        # NaN fails both comparisons, and so goes the exact way.
        if not (self.low <= data.min().item() and data.max().item() <= self.high):
            return None
        return data.astype(self._dtype, copy=False)

    def _from_list(self, data: list[Any]) -> NDArray[Any] | None:
        if len(data) == 1:
            value = data[0]
            if type(value) in self._types and self.low <= value <= self.high:
                return np.array(data, dtype=self._dtype)
        present = data
        types = set(map(type, data))
        if _NONE in types and self.nullable:
            types.discard(_NONE)
            present = [value for value in data if value is not None]
        if not types <= self._types:
            return None
        if present and not (self.low <= min(present) and max(present) <= self.high):
            return None
        return np.array(data, dtype=self._dtype)


class _Texts:
    def __init__(self, feature: Feature) -> None:
        self.name = feature.name
        self._nullable = feature.nullable
        self._any = feature.unseen == "map"
        self._known = frozenset(feature.categories or ()) | frozenset(feature.missing)
        if feature.nullable:
            self._known |= {""}

    def read(self, data: Raw) -> NDArray[Any] | None:
        values = data if isinstance(data, list) else data.tolist()
        types = set(map(type, values))
        if bytes in types and types == {bytes}:
            try:
                values = [value.decode() for value in values]
            except UnicodeDecodeError:
                return None
        elif _NONE in types and self._nullable and types <= {str, _NONE}:
            values = [value or "" for value in values]
        elif not types <= {str}:
            return None
        distinct = set(values)
        accepted = (self._nullable or "" not in distinct) if self._any else distinct <= self._known
        return np.array(values, dtype=object) if accepted else None
