"""V2 over gRPC: protobuf messages to checked rows, scores to messages."""

from __future__ import annotations

from typing import Any

import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from serving.bundle import Contract
from serving.errors import DataError
from serving.predictor.columns import RowReader
from serving.predictor.rows import Raw, Rows
from serving.predictor.tensors import PACKED, TensorRules, check_count, pack_texts, packed_values
from serving.predictor.wire import (
    BINARY_OUTPUT,
    BOTH,
    BOTH_PACKED,
    OUTPUTS,
    Request,
    Scored,
    new_id,
    requested_outputs,
)

_CONTENTS = {
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class GrpcWire:
    """Decodes and encodes ModelInfer messages for one model. Raises DataError for bad ones."""

    def __init__(self, contract: Contract) -> None:
        self._reader = RowReader(contract)
        self._rules = TensorRules(contract)
        self._width = len(contract.features)
        self._quick = self._reader.matrix_dtype is not None

    def decode(self, message: Any) -> Request:
        raw = message.raw_input_contents
        inputs = message.inputs
        if raw and len(raw) != len(inputs):
            raise DataError(f"{len(inputs)} inputs but {len(raw)} raw_input_contents")
        if not inputs:
            raise DataError("the request has no inputs; send one tensor a feature or one of all")
        rows = None
        if self._quick and len(inputs) == 1:
            rows = self._quick_matrix(inputs[0], raw)
        if rows is None:
            rows = self._reader.read(self._tensors(inputs, raw))
        if message.outputs:
            names = requested_outputs([output.name for output in message.outputs])
            outputs = dict.fromkeys(names, bool(raw))
        else:
            outputs = BOTH_PACKED if raw else BOTH
        request = Request(rows, message.id or new_id(), outputs)
        if message.parameters:
            request.parameters = message.parameters
        return request

    def _quick_matrix(self, tensor: Any, raw: Any) -> Rows | None:
        """The rows of a well-formed tensor [rows, features]; None leaves it to the exact way."""
        shape, kind = tensor.shape, tensor.datatype
        if (
            len(shape) != 2
            or shape[1] != self._width
            or shape[0] < 1
            or kind != self._rules.matrix_kind
            or tensor.parameters
            or not self._rules.is_matrix(tensor.name, kind)
        ):
            return None
        rows = shape[0]
        if raw:
            if tensor.HasField("contents"):
                return None
            values = packed_values(tensor.name, kind, rows * self._width, memoryview(raw[0]))
        else:
            found = getattr(tensor.contents, _CONTENTS[kind])
            values = np.array(found, dtype=self._reader.matrix_dtype)
            if len(values) != rows * self._width:
                return None
        return self._reader.read_matrix(values.reshape(rows, self._width))

    def _tensors(self, inputs: Any, raw: Any) -> dict[str, Raw]:
        columns: dict[str, Raw] = {}
        for at, tensor in enumerate(inputs):
            name, datatype = tensor.name, tensor.datatype
            named = tensor.parameters["columns"].string_param or None if tensor.parameters else None
            layout = self._rules.layout(name, datatype, list(tensor.shape), named)
            if not raw:
                values = _typed(name, datatype, layout.size, tensor.contents)
            elif tensor.HasField("contents"):
                raise DataError(f"column '{name}' has contents beside raw_input_contents")
            else:
                values = packed_values(name, datatype, layout.size, memoryview(raw[at]))
            layout.into(columns, values)
        return columns

    def encode(self, model_name: str, request: Request, scored: Scored) -> Any:
        """Raw contents for a request with raw contents, typed otherwise."""
        answer = pb.ModelInferResponse(model_name=model_name, id=request.id)
        shape = [request.rows.count]
        for name, packed in request.outputs.items():
            output = answer.outputs.add(name=name, datatype=OUTPUTS[name], shape=shape)
            if packed:
                data = (
                    scored.scores.tobytes() if name == "score" else pack_texts(scored.texts(name))
                )
                answer.raw_output_contents.append(data)
                output.parameters["binary_data_size"].int64_param = len(data)
            elif name == "score":
                output.contents.fp32_contents.extend(scored.scores.tolist())
            else:
                output.contents.bytes_contents.extend(t.encode() for t in scored.texts(name))
        for name, value in (request.parameters or {}).items():
            if name != BINARY_OUTPUT:
                answer.parameters[name].CopyFrom(value)
        if scored.fallback:
            answer.parameters["fallback"].bool_param = True
            answer.parameters["fallback_reason"].string_param = scored.fallback
        return answer


def _typed(name: str, datatype: str, size: int, contents: Any) -> Raw:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise DataError(f"column '{name}': {datatype} has no typed contents; send raw contents")
    values = list(getattr(contents, field))
    if len(values) != size and not values:
        raise DataError(f"column '{name}' has no values in {field}, where {datatype} belongs")
    check_count(name, len(values), size)
    if datatype == "BYTES":
        return np.array(values, dtype=object)
    try:
        return np.array(values, dtype=PACKED[datatype])
    except OverflowError:
        raise DataError(f"column '{name}' holds a number that {datatype} cannot") from None
