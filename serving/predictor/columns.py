"""Columns off the wire to canonical, checked columns: quick for valid rows, exact for the rest.

The quick way only ever accepts. What it is not sure of goes through serving.bundle's own check,
which is the one that refuses and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Contract, Feature, canonical_columns, check_columns
from serving.errors import DataError

Columns = dict[str, NDArray[Any]]
Raw = list[Any] | NDArray[Any]
_NONE = type(None)


class ColumnReader:
    """Reads rows of one contract. Lists must come from a JSON parser: they hold no NaN."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._names = frozenset(contract.feature_names)
        self._quick: list[_Numbers | _Texts] = [
            _Texts(f) if f.dtype == "string" else _Numbers(f) for f in contract.features
        ]

    def read(self, columns: Mapping[str, Raw]) -> Columns:
        """Canonical columns [n], n >= 1. Raises DataError naming the column and the value."""
        result: Columns = {}
        rows = -1
        if columns.keys() == self._names:
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
        return result

    def _exact(self, columns: Mapping[str, Raw]) -> Columns:
        result = canonical_columns(self._contract, columns)
        violations = check_columns(self._contract, result)
        if violations:
            raise DataError(violations[0].sentence())
        return result


class _Numbers:
    def __init__(self, feature: Feature) -> None:
        self.name = feature.name
        self._dtype = np.dtype(feature.dtype)
        whole = feature.dtype == "int64"
        limits = np.iinfo(np.int64) if whole else np.finfo(self._dtype)
        # As Python's own numbers: comparing with a float32 would round the value first.
        lowest = int(limits.min) if whole else float(limits.min)
        highest = int(limits.max) if whole else float(limits.max)
        self._low = lowest if feature.min is None else max(lowest, feature.min)
        self._high = highest if feature.max is None else min(highest, feature.max)
        self._types = frozenset({int} if whole else {int, float})
        self._nullable = feature.nullable
        self._kinds = "iu" if whole else "iuf"

    def read(self, data: Raw) -> NDArray[Any] | None:
        if isinstance(data, list):
            return self._from_list(data)
        if not len(data) or data.ndim != 1 or data.dtype.kind not in self._kinds:
            return None
        # NaN fails both comparisons, and so goes the exact way.
        if not (self._low <= data.min().item() and data.max().item() <= self._high):
            return None
        return data.astype(self._dtype, copy=False)

    def _from_list(self, data: list[Any]) -> NDArray[Any] | None:
        present = data
        types = set(map(type, data))
        if _NONE in types and self._nullable:
            types.discard(_NONE)
            present = [value for value in data if value is not None]
        if not types <= self._types:
            return None
        if present and not (self._low <= min(present) and max(present) <= self._high):
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
