"""V2 over gRPC: protobuf messages to checked columns, scores to messages."""

from __future__ import annotations

from typing import Any

import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from serving.bundle import Contract
from serving.errors import DataError
from serving.predictor.columns import ColumnReader, Raw
from serving.predictor.tensors import PACKED, TensorRules, check_count, pack_texts, packed_values
from serving.predictor.wire import OUTPUTS, Request, Scored, new_id, requested_outputs

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
        self._reader = ColumnReader(contract)
        self._rules = TensorRules(contract)

    def decode(self, message: Any) -> Request:
        raw = message.raw_input_contents
        if raw and len(raw) != len(message.inputs):
            raise DataError(f"{len(message.inputs)} inputs but {len(raw)} raw_input_contents")
        if not message.inputs:
            raise DataError("the request has no inputs; send one tensor a feature")
        columns: dict[str, Raw] = {}
        for at, tensor in enumerate(message.inputs):
            name, datatype = tensor.name, tensor.datatype
            if name in columns:
                raise DataError(f"column '{name}' is given twice")
            rows = self._rules.rows(name, datatype, list(tensor.shape))
            if not raw:
                columns[name] = _typed(name, datatype, rows, tensor.contents)
            elif tensor.HasField("contents"):
                raise DataError(f"column '{name}' has contents beside raw_input_contents")
            else:
                columns[name] = packed_values(name, datatype, rows, memoryview(raw[at]))
        read = self._reader.read(columns)
        names = requested_outputs([output.name for output in message.outputs])
        rows = len(next(iter(read.values())))
        return Request(read, rows, message.id or new_id(), dict.fromkeys(names, bool(raw)))

    def encode(self, model_name: str, request: Request, scored: Scored) -> Any:
        """Raw contents for a request with raw contents, typed otherwise."""
        answer = pb.ModelInferResponse(model_name=model_name, id=request.id)
        for name, packed in request.outputs.items():
            output = answer.outputs.add(name=name, datatype=OUTPUTS[name], shape=[request.rows])
            if name == "score" and packed:
                answer.raw_output_contents.append(scored.scores.tobytes())
            elif name == "score":
                output.contents.fp32_contents.extend(scored.scores.tolist())
            elif packed:
                answer.raw_output_contents.append(pack_texts(scored.decisions))
            else:
                output.contents.bytes_contents.extend(d.encode() for d in scored.decisions)
        return answer


def _typed(name: str, datatype: str, rows: int, contents: Any) -> Raw:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise DataError(f"column '{name}': {datatype} has no typed contents; send raw contents")
    values = list(getattr(contents, field))
    if len(values) != rows and not values:
        raise DataError(f"column '{name}' has no values in {field}, where {datatype} belongs")
    check_count(name, len(values), rows)
    if datatype == "BYTES":
        return np.array(values, dtype=object)
    try:
        return np.array(values, dtype=PACKED[datatype])
    except OverflowError:
        raise DataError(f"column '{name}' holds a number that {datatype} cannot") from None
