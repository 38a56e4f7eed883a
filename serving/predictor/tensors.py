"""Tensors of the Open Inference Protocol: datatypes, shapes and packed bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Contract, Feature
from serving.errors import DataError

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


class TensorRules:
    """Which tensors a contract's model takes."""

    def __init__(self, contract: Contract) -> None:
        self._features = {f.name: (f, _ACCEPTED[f.dtype]) for f in contract.features}

    def rows(self, name: str, datatype: object, shape: Sequence[object]) -> int:
        """Rows of the tensor. Raises DataError for a wrong name, datatype or shape."""
        known = self._features.get(name)
        if known is None:
            raise DataError(f"column '{name}' is not in the contract; leave it out")
        feature, accepted = known
        if datatype not in accepted:
            raise DataError(_wrong_datatype(feature, datatype))
        sizes = [size for size in shape if type(size) is int and size >= 0]
        if len(sizes) != len(shape) or not (len(sizes) == 1 or (len(sizes) == 2 and sizes[1] == 1)):
            raise DataError(f"column '{name}' has shape {list(shape)!r:.60}; give [rows]")
        return sizes[0]


def json_values(name: str, datatype: str, rows: int, data: object) -> list[Any]:
    """A JSON tensor's values, flat. Raises DataError when they are not `rows` of the datatype."""
    if not isinstance(data, list):
        raise DataError(f"column '{name}': 'data' is not a list; give one value a row")
    values = data
    if data and isinstance(data[0], list):
        if any(not isinstance(value, list) or len(value) != 1 for value in data):
            raise DataError(f"column '{name}': 'data' is nested unevenly; give one value a row")
        values = [value[0] for value in data]
    check_count(name, len(values), rows)
    if datatype in _WHOLE and float in set(map(type, values)):
        first = next(value for value in values if isinstance(value, float))
        raise DataError(f"column '{name}': {first!r} is not of its datatype {datatype}")
    return values


def packed_values(name: str, datatype: str, rows: int, data: memoryview) -> NDArray[Any]:
    """A packed tensor's values [rows]. Raises DataError when the bytes do not hold them."""
    if datatype == "BYTES":
        texts = np.empty(rows, dtype=object)
        texts[:] = unpack_texts(name, rows, data)
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
    parts: list[bytes] = []
    for text in texts:
        data = text.encode()
        parts.append(struct.pack("<I", len(data)) + data)
    return b"".join(parts)


def check_count(name: str, found: int, rows: int) -> None:
    if found != rows:
        raise DataError(f"column '{name}' has {found} values, its shape says {rows}")


def _wrong_datatype(feature: Feature, datatype: object) -> str:
    wanted = DATATYPE[feature.dtype]
    return f"column '{feature.name}': datatype {datatype!r:.40} is wrong; the model takes {wanted}"
