"""Bodies of KServe's V1 and V2 protocols, read as they lie: what breaks a contract is found later.

The payload logger forwards bodies without HTTP headers. So where a V2 body's JSON ends and its
packed tensors begin is found from the JSON itself when no Inference-Header-Content-Length came.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from serving.errors import DataError
from serving.predictor.tensors import PACKED, packed_values

Columns = dict[str, Any]
_SCORES = ("score", "scores", "probability", "probabilities", "predictions", "output")
_DECODER = json.JSONDecoder()
_LENGTH = struct.Struct("<I").unpack_from


def read_request(payload: Any, names: Sequence[str], json_size: int | None) -> tuple[Columns, int]:
    """(columns, rows) of a request; `names` are the features in the contract's order.

    Raises DataError for a body that is no V1 or V2 request.
    """
    document, packed = _open(payload, json_size)
    if "instances" in document:
        return _instances(document["instances"], names)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise DataError("the payload has neither 'instances' nor 'inputs'; it is no V1 or V2 body")
    columns: Columns = {}
    rows = -1
    for name, shape, values, fields in _tensors(inputs, packed):
        rows = shape[0] if rows < 0 else rows
        if shape[0] != rows:
            raise DataError(f"tensor '{name}' has {shape[0]} rows, others {rows}")
        width = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        if name in names or (width == 1 and len(names) != 1):
            columns[name] = values
            continue
        parameters = fields.get("parameters")
        given = parameters.get("columns") if isinstance(parameters, dict) else None
        order = [n.strip() for n in given.split(",")] if isinstance(given, str) else names
        if width != len(order):
            raise DataError(
                f"tensor '{name}' has {width} columns, the contract {len(order)} features; name"
                " them in its parameter 'columns'"
            )
        for at, column in enumerate(order):
            columns[column] = values[at::width]
    return columns, rows


def read_scores(payload: Any, json_size: int | None) -> Any:
    """A response's scores [rows]: of a class probability per column, the last one's.

    Raises DataError for a body without numbers.
    """
    document, packed = _open(payload, json_size)
    if "predictions" in document:
        return _predictions(document["predictions"])
    outputs = document.get("outputs")
    if not isinstance(outputs, list) or not outputs:
        raise DataError("the payload has neither 'predictions' nor 'outputs'; it is no answer")
    found = {
        name: values[max(int(np.prod(shape[1:])), 1) - 1 :: max(int(np.prod(shape[1:])), 1)]
        for name, shape, values, fields in _tensors(outputs, packed)
        if str(fields["datatype"]) in PACKED and shape[0]
    }
    if not found:
        raise DataError("no output of the answer is a tensor of numbers")
    named = next((name for name in _SCORES if name in found), next(iter(found)))
    return found[named]


def _open(payload: Any, json_size: int | None) -> tuple[dict[str, Any], memoryview]:
    """A body's JSON object and what is packed after it."""
    packed = memoryview(b"")
    if isinstance(payload, bytes):
        size = _json_size(payload) if json_size is None else json_size
        if not 0 < size <= len(payload):
            raise DataError(f"the JSON's length {size} is not within {len(payload)} bytes")
        packed = memoryview(payload)[size:]
        try:
            payload = orjson.loads(payload[:size])
        except orjson.JSONDecodeError as error:
            raise DataError(f"the payload is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise DataError("the payload is not a JSON object")
    return payload, packed


def _json_size(body: bytes) -> int:
    """Bytes up to the end of the JSON object that the body begins with."""
    taken = 1 << 14
    while True:
        try:
            # latin-1: one character a byte, whatever is packed behind the JSON.
            return _DECODER.raw_decode(body[:taken].decode("latin-1"))[1]
        except (ValueError, RecursionError):
            if taken >= len(body):
                raise DataError("the payload does not begin with a JSON object") from None
            taken *= 8


def _instances(instances: Any, names: Sequence[str]) -> tuple[Columns, int]:
    if not isinstance(instances, list) or not instances:
        raise DataError("'instances' is not a list of at least one row")
    rows = len(instances)
    if all(type(row) is dict for row in instances):
        keys = dict.fromkeys(key for row in instances for key in row)
        return {key: [row.get(key) for row in instances] for key in keys}, rows
    width = len(names)
    for row in instances:
        if type(row) is not list or len(row) != width:
            raise DataError(
                f"an instance is neither an object nor a list of the contract's {width} features"
            )
    return {name: [row[at] for row in instances] for at, name in enumerate(names)}, rows


def _predictions(predictions: Any) -> list[Any]:
    if not isinstance(predictions, list) or not predictions:
        raise DataError("'predictions' is not a list of at least one answer")
    scores: list[Any] = []
    for answer in predictions:
        if isinstance(answer, dict):
            named = next((answer[name] for name in _SCORES if name in answer), None)
            scores.append(named)
        elif isinstance(answer, list):
            scores.append(answer[-1] if answer else None)
        else:
            scores.append(answer)
    return scores


def _tensors(
    tensors: Sequence[Any], packed: memoryview
) -> list[tuple[str, list[int], Any, Mapping[str, Any]]]:
    """(name, shape, flat values, the tensor) of each; packed ones as arrays, texts as str."""
    found: list[tuple[str, list[int], Any, Mapping[str, Any]]] = []
    at = 0
    for tensor in tensors:
        if not isinstance(tensor, dict):
            raise DataError("a tensor is not a JSON object")
        name, datatype, shape = (tensor.get(key) for key in ("name", "datatype", "shape"))
        if not isinstance(name, str) or not isinstance(datatype, str):
            raise DataError("a tensor lacks its 'name' or 'datatype'")
        if not isinstance(shape, list) or not shape or any(type(s) is not int for s in shape):
            raise DataError(f"tensor '{name}' lacks its 'shape', a list of sizes")
        count = int(np.prod([max(size, 0) for size in shape], dtype=object))
        parameters = tensor.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            values: Any = _flat(tensor.get("data"))
            if len(values) != count:
                raise DataError(f"tensor '{name}' has {len(values)} values, its shape says {count}")
        else:
            if type(size) is not int or not 0 <= size <= len(packed) - at:
                raise DataError(f"tensor '{name}': binary_data_size {size!r:.40} is not there")
            if datatype not in PACKED and datatype not in ("BYTES", "BOOL"):
                raise DataError(f"tensor '{name}': datatype {datatype!r:.40} cannot be packed")
            part = packed[at : at + size]
            if datatype == "BYTES":
                values = _texts(name, count, bytes(part))
            else:
                values = packed_values(
                    name, "UINT8" if datatype == "BOOL" else datatype, count, part
                )
            at += size
        found.append((name, shape, values, tensor))
    return found


def _flat(given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise DataError("a tensor's 'data' is not a list")
    data: list[Any] = given
    while data and isinstance(data[0], list):
        if any(type(part) is not list for part in data):
            raise DataError("a tensor's 'data' is nested unevenly")
        data = [value for part in data for value in part]
    return data


def _texts(name: str, count: int, data: bytes) -> list[Any]:
    """Packed texts: each a 4-byte length and that many bytes. What is no UTF-8 stays bytes, which
    are no text of any contract. Categories repeat, so that each is decoded once."""
    known: dict[bytes, Any] = {}
    texts: list[Any] = []
    at, end = 0, len(data)
    while at < end:
        start = at + 4
        at = start + (_LENGTH(data, at)[0] if start <= end else end)
        if at > end:
            raise DataError(f"tensor '{name}': text {len(texts)} is longer than the tensor's bytes")
        raw = data[start:at]
        text = known.get(raw)
        if text is None:
            text = known[raw] = _text(raw)
        texts.append(text)
    if len(texts) != count:
        raise DataError(f"tensor '{name}' has {len(texts)} texts, its shape says {count}")
    return texts


def _text(raw: bytes) -> Any:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
