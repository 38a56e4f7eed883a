"""Columns of raw rows, checked against a contract: the same check in training and in serving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serving.bundle.contract import Contract, Feature
from serving.errors import DataError

Kind = Literal["type", "missing", "infinite", "below", "above", "category"]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Violation:
    """Rows of one feature that break the contract in one way."""

    feature: str
    kind: Kind
    rows: NDArray[np.intp]
    """Positions of the offending rows, ascending."""
    value: str
    """The first offending value, as text."""
    expected: str

    def sentence(self) -> str:
        count = len(self.rows)
        first = f"row {int(self.rows[0])}"
        more = f" and {count - 1} more" if count > 1 else ""
        return f"feature '{self.feature}': {self.value} in {first}{more}; {self.expected}"


def canonical_columns(contract: Contract, columns: Mapping[str, Any]) -> Columns:
    """The contract's features in its order: float32, float64, int64 or object (str) arrays, [n].

    None becomes the missing value (NaN, ""). Raises DataError for missing, extra or ragged
    columns and for values that are not of the declared dtype.
    """
    names = contract.feature_names
    for name in names:
        if name not in columns:
            raise DataError(f"column '{name}' is missing; the contract needs it")
    for name in columns:
        if name not in names:
            raise DataError(f"column '{name}' is not in the contract; leave it out")
    result = {name: _typed(contract.feature(name), columns[name]) for name in names}
    lengths = {name: len(column) for name, column in result.items()}
    if len(set(lengths.values())) > 1:
        short = min(lengths, key=lambda name: lengths[name])
        raise DataError(
            f"column '{short}' has {lengths[short]} rows, others {max(lengths.values())}"
        )
    return result


def check_columns(contract: Contract, columns: Columns) -> list[Violation]:
    """Every way the rows break the contract; `columns` as `canonical_columns` returns them."""
    found: list[Violation] = []
    for feature in contract.features:
        column = columns[feature.name]
        if feature.dtype == "string":
            found.extend(_check_text(feature, column))
        else:
            found.extend(_check_numbers(feature, column))
    return found


def _typed(feature: Feature, values: Any) -> NDArray[Any]:
    array = values if isinstance(values, np.ndarray) else np.asarray(values, dtype=object)
    array = array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        raise DataError(
            f"column '{feature.name}' has shape {list(array.shape)}; give one value a row"
        )
    if feature.dtype == "string":
        text = np.empty(len(array), dtype=object)
        text[:] = [_text(feature, row, value) for row, value in enumerate(array)]
        return text
    if array.dtype == object:
        array = _numbers(feature, array)
    if array.dtype.kind not in "iuf":
        raise DataError(
            f"column '{feature.name}' has type {array.dtype}; the contract says {feature.dtype}"
        )
    if feature.dtype == "int64":
        return _as_integers(feature, array)
    with np.errstate(over="ignore"):
        return array.astype(feature.dtype, copy=False)


def _numbers(feature: Feature, array: NDArray[Any]) -> NDArray[Any]:
    """A numeric array from Python objects: None becomes NaN, all else must be a number."""
    for row, value in enumerate(array):
        if _is_absent(value):
            if feature.dtype == "int64":
                raise DataError(
                    f"column '{feature.name}': row {row} is missing; it is not nullable"
                )
        elif isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
            raise DataError(
                f"column '{feature.name}': {str(value)[:40]!r} in row {row} is not a number; "
                f"its dtype is {feature.dtype}"
            )
    if not len(array):
        return array.astype(np.float64)
    try:
        typed = np.array([np.nan if v is None else v for v in array])
    except OverflowError:
        typed = np.array([None])
    if typed.dtype == object:
        raise DataError(f"column '{feature.name}' holds a number too large for {feature.dtype}")
    return typed


def _as_integers(feature: Feature, array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind == "f":
        array = array.astype(np.float64, copy=False)
        whole = np.isfinite(array) & (array == np.floor(array)) & (abs(array) < 2**63)
        bad = np.flatnonzero(~whole)
        if len(bad):
            raise DataError(
                f"column '{feature.name}': {array[bad[0]]!s} in row {int(bad[0])} is not an int64"
            )
    elif array.dtype.kind == "u" and len(array) and int(array.max()) >= 2**63:
        raise DataError(f"column '{feature.name}' holds a number too large for int64")
    return array.astype(np.int64, copy=False)


def _text(feature: Feature, row: int, value: Any) -> str:
    if _is_absent(value):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(f"column '{feature.name}': row {row} is not UTF-8 text") from None
    if not isinstance(value, str):
        raise DataError(f"column '{feature.name}': {str(value)[:40]!r} in row {row} is not text")
    return str(value)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _check_numbers(feature: Feature, column: NDArray[Any]) -> list[Violation]:
    found: list[Violation] = []
    if feature.dtype != "int64":
        if not feature.nullable:
            found += _violation(feature, "missing", column, np.isnan(column), "it is not nullable")
        found += _violation(feature, "infinite", column, np.isinf(column), "it must be finite")
    if feature.min is not None:
        at_least = f"the contract's minimum is {feature.min:g}"
        found += _violation(feature, "below", column, column < feature.min, at_least)
    if feature.max is not None:
        at_most = f"the contract's maximum is {feature.max:g}"
        found += _violation(feature, "above", column, column > feature.max, at_most)
    return found


def _check_text(feature: Feature, column: NDArray[Any]) -> list[Violation]:
    found: list[Violation] = []
    empty = {"", *feature.missing}
    if not feature.nullable:
        absent = np.fromiter((v == "" for v in column), dtype=bool, count=len(column))
        found += _violation(feature, "missing", column, absent, "it is not nullable")
    if feature.unseen == "reject":
        known = empty | set(feature.categories or ())
        unknown = np.fromiter((v not in known for v in column), dtype=bool, count=len(column))
        listed = ", ".join((feature.categories or ())[:8])
        found += _violation(feature, "category", column, unknown, f"known categories: {listed}")
    return found


def _violation(
    feature: Feature, kind: Kind, column: NDArray[Any], bad: NDArray[np.bool_], expected: str
) -> list[Violation]:
    rows = np.flatnonzero(bad)
    if not len(rows):
        return []
    value = column[rows[0]]
    if kind == "missing":
        text = "a missing value"
    else:
        text = f"{value[:40]!r}" if isinstance(value, str) else f"{value:g}"
    return [Violation(feature.name, kind, rows, text, expected)]
