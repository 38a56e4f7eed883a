"""Tensors of the Open Inference Protocol: datatypes, shapes and packed bytes."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Contract, Feature
from serving.errors import DataError
from serving.predictor.refusal import Refusal
from serving.predictor.rows import Raw

# Little-endian, as the protocol packs them.
PACKED = {
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_WHOLE = frozenset(name for name in PACKED if "INT" in name)
_ACCEPTED = {
    "float32": frozenset(PACKED),
    "float64": frozenset(PACKED),
    "int64": _WHOLE,
    "string": frozenset({"BYTES"}),
}
DATATYPE = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "string": "BYTES"}


_NUMBERS = frozenset(PACKED)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which features a tensor carries, and for how many rows."""

    name: str
    rows: int
    features: tuple[str, ...]

    @property
    def size(self) -> int:
        return self.rows * len(self.features)

    def into(self, columns: dict[str, Raw], values: Raw) -> None:
        """Adds the columns in `values` [size]. Raises Refusal for one that is there already."""
        width = len(self.features)
        for at, feature in enumerate(self.features):
            if feature in columns:
                raise Refusal(f"column '{feature}' is given twice", "column")
            columns[feature] = values if width == 1 else values[at::width]


class TensorRules:
    """Which tensors a contract's model takes.

    A tensor named as a feature is that feature's column, of shape [rows] or [rows, 1]. Any other
    name is a matrix [rows, columns]: of the features that its parameter `columns` names, separated
    by commas, or of all of them in the contract's order.
    """

    def __init__(self, contract: Contract) -> None:
        self._features = {f.name: (f, _ACCEPTED[f.dtype]) for f in contract.features}
        self._names = contract.feature_names
        kinds = {DATATYPE[f.dtype] for f in contract.features}
        self.matrix_kind = kinds.pop() if len(kinds) == 1 else None

    def is_matrix(self, name: str, datatype: str) -> bool:
        """Whether this can be a matrix of numbers, of all features if nothing else is said."""
        return name not in self._features and datatype in ("FP32", "FP64")

    def layout(
        self, name: str, datatype: object, shape: Sequence[object], columns: object = None
    ) -> Layout:
        """Raises DataError for a wrong name, datatype or shape."""
        sizes = [size for size in shape if type(size) is int and 0 <= size < 2**31]
        known = self._features.get(name)
        if known is not None and columns is None:
            feature, accepted = known
            if datatype not in accepted:
                raise Refusal(_wrong_datatype(feature, datatype), "datatype")
            if len(sizes) != len(shape) or not (
                len(sizes) == 1 or (len(sizes) == 2 and sizes[1] == 1)
            ):
                raise Refusal(
                    f"column '{name}' has shape {list(shape)!r:.60}; give [rows]", "shape"
                )
            return Layout(name, sizes[0], (name,))
        if len(shape) != 2:
            # One dimension is what a column has: the name must be what is wrong.
            raise Refusal(f"column '{name}' is not in the contract; leave it out", "column")
        features = self._named(name, columns)
        if len(sizes) != 2 or sizes[1] != len(features):
            raise Refusal(
                f"matrix '{name}' has shape {list(shape)!r:.60}; give [rows, {len(features)}],"
                " or name its features in the parameter 'columns'",
                "shape",
            )
        for given in features:
            feature, accepted = self._features[given]
            # Whole numbers may share a matrix of floats with others; their values are checked.
            if datatype not in (_NUMBERS if feature.dtype != "string" else accepted):
                raise Refusal(_wrong_datatype(feature, datatype), "datatype")
        return Layout(name, sizes[0], features)

    def _named(self, name: str, columns: object) -> tuple[str, ...]:
        if columns is None:
            return self._names
        if not isinstance(columns, str):
            raise DataError(f"matrix '{name}': 'columns' must be text, names between commas")
        features = tuple(feature.strip() for feature in columns.split(","))
        for feature in features:
            if feature not in self._features:
                raise Refusal(f"column '{feature}' is not in the contract; leave it out", "column")
        return features


def json_values(name: str, datatype: str, size: int, data: object) -> list[Any]:
    """A JSON tensor's values, flat. Raises DataError when they are not `size` of the datatype."""
    if not isinstance(data, list):
        raise DataError(f"column '{name}': 'data' is not a list; give one value a row")
    if datatype == "FP16":
        raise Refusal(f"column '{name}': the protocol knows FP16 packed only", "datatype")
    values = data
    if data and isinstance(data[0], list):
        width = len(data[0])
        if any(not isinstance(value, list) or len(value) != width for value in data):
            raise Refusal(
                f"column '{name}': 'data' is nested unevenly; give one list a row", "shape"
            )
        values = [value for row in data for value in row]
    check_count(name, len(values), size)
    if datatype in _WHOLE and float in set(map(type, values)):
        first = next(value for value in values if isinstance(value, float))
        raise Refusal(f"column '{name}': {first!r} is not of its datatype {datatype}", "type")
    return values


def packed_values(name: str, datatype: str, rows: int, data: memoryview) -> NDArray[Any]:
    """A packed tensor's values [size]. Raises DataError when the bytes do not hold them."""
    if datatype == "BYTES":
        found = unpack_texts(name, rows, data)  # before room is made for as many as it says
        texts = np.empty(rows, dtype=object)
        texts[:] = found
        return texts
    kind = np.dtype(PACKED[datatype])
    if len(data) != rows * kind.itemsize:
        raise DataError(
            f"column '{name}': {len(data)} bytes for {rows} values of {datatype},"
            f" which take {rows * kind.itemsize}"
        )
    return np.frombuffer(data, dtype=kind)


def unpack_texts(name: str, rows: int, data: memoryview) -> list[bytes]:
    """Each value is a 4-byte length and that many bytes."""
    if rows * 4 > len(data):
        raise DataError(f"column '{name}': {len(data)} bytes cannot hold {rows} texts")
    texts: list[bytes] = []
    at = 0
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        if at + 4 + size > len(data):
            raise DataError(f"column '{name}': text {len(texts)} is longer than the tensor's bytes")
        texts.append(bytes(data[at + 4 : at + 4 + size]))
        at += 4 + size
    if at != len(data):
        raise DataError(f"column '{name}': the last text's length is cut off")
    check_count(name, len(texts), rows)
    return texts


def pack_texts(texts: Iterable[str]) -> bytes:
    return b"".join(map(_pack_text, texts))


@functools.cache
def _pack_text(text: str) -> bytes:
    """Of the decisions and reasons of one contract, which are few."""
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def check_count(name: str, found: int, rows: int) -> None:
    if found != rows:
        raise Refusal(f"column '{name}' has {found} values, its shape says {rows}", "shape")


def _wrong_datatype(feature: Feature, datatype: object) -> str:
    wanted = DATATYPE[feature.dtype]
    return f"column '{feature.name}': datatype {datatype!r:.40} is wrong; the model takes {wanted}"
