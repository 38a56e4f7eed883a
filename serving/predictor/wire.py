"""HTTP payloads: V1 and V2 requests to checked columns, scores to answers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.bundle import Contract
from serving.errors import DataError
from serving.predictor.columns import ColumnReader, Columns, Raw
from serving.predictor.tensors import TensorRules, json_values, pack_texts, packed_values

OUTPUTS = {"score": "FP32", "decision": "BYTES"}


@dataclass(frozen=True, slots=True)
class Request:
    """What one request asks for, the same from every wire."""

    columns: Columns
    rows: int
    id: str
    """The client's, or a new one: KServe's SDK and V2 clients expect one in the answer."""
    outputs: Mapping[str, bool]
    """Requested outputs; True for the packed binary form."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores float32 [n] and decisions (object array of str) [n]."""

    scores: NDArray[np.float32]
    decisions: NDArray[np.object_]


_BOTH = dict.fromkeys(OUTPUTS, False)
_BOTH_PACKED = dict.fromkeys(OUTPUTS, True)


class HttpWire:
    """Decodes and encodes V1 and V2 bodies for one model. Raises DataError for bad ones."""

    def __init__(self, model_name: str, contract: Contract) -> None:
        self._model_name = model_name
        self._names = contract.feature_names
        self._reader = ColumnReader(contract)
        self._rules = TensorRules(contract)

    def decode_v1(self, body: bytes) -> Request:
        return self.read_v1(_json(body))

    def read_v1(self, payload: Any) -> Request:
        """The columns of a parsed `{"instances": [{feature: value}]}`."""
        instances = _object(payload, "the body").get("instances")
        if not isinstance(instances, list) or not instances:
            raise DataError("'instances' must be a list of at least one {feature: value} object")
        columns = self._transpose(instances)
        return Request(self._reader.read(columns), len(instances), new_id(), _BOTH)

    def _transpose(self, instances: list[Any]) -> dict[str, Raw]:
        width = len(self._names)
        try:
            columns: dict[str, Raw] = {
                name: [instance[name] for instance in instances] for name in self._names
            }
            if all(len(instance) == width for instance in instances):
                return columns
        except (KeyError, TypeError, IndexError):
            pass
        for row, instance in enumerate(instances):
            if not isinstance(instance, dict):
                raise DataError(f"instance {row} is no object; give {{feature: value}}")
            for name in self._names:
                if name not in instance:
                    raise DataError(f"column '{name}' is missing in instance {row}")
            for name in instance:
                if name not in self._names:
                    raise DataError(
                        f"column '{name}' in instance {row} is not in the contract; leave it out"
                    )
        raise AssertionError("unreachable: every instance has exactly the contract's columns")

    def encode_v1(self, scored: Scored) -> bytes:
        return orjson.dumps({"predictions": predictions(scored)})

    def decode_v2(self, body: bytes, json_size: int | None) -> Request:
        """`json_size`: the Inference-Header-Content-Length, where packed tensors begin."""
        packed = memoryview(b"")
        if json_size is not None:
            if not 0 < json_size <= len(body):
                raise DataError(
                    f"Inference-Header-Content-Length is {json_size},"
                    f" the body has {len(body)} bytes"
                )
            packed = memoryview(body)[json_size:]
            body = body[:json_size]
        payload = _object(_json(body), "the body")
        columns = self._reader.read(self._tensors(payload.get("inputs"), packed))
        request_id = payload.get("id")
        if request_id is None or request_id == "":
            request_id = new_id()
        elif not isinstance(request_id, str):
            raise DataError("'id' must be text")
        rows = len(next(iter(columns.values())))
        return Request(columns, rows, request_id, _requested(payload))

    def _tensors(self, inputs: object, packed: memoryview) -> dict[str, Raw]:
        if not isinstance(inputs, list) or not inputs:
            raise DataError("'inputs' must be a list of tensors, one a feature")
        columns: dict[str, Raw] = {}
        at = 0
        for tensor in inputs:
            fields = _object(tensor, "a tensor")
            name, datatype, shape = (fields.get(key) for key in ("name", "datatype", "shape"))
            if not isinstance(name, str) or not isinstance(datatype, str):
                raise DataError("a tensor lacks its 'name' or 'datatype', which must be text")
            if not isinstance(shape, list):
                raise DataError(f"column '{name}' lacks its 'shape', a list of sizes")
            if name in columns:
                raise DataError(f"column '{name}' is given twice")
            rows = self._rules.rows(name, datatype, shape)
            size = _packed_size(name, fields)
            if size is None:
                columns[name] = json_values(name, datatype, rows, fields.get("data"))
                continue
            if at + size > len(packed):
                raise DataError(
                    f"column '{name}': binary_data_size {size} is more than the body holds"
                )
            columns[name] = packed_values(name, datatype, rows, packed[at : at + size])
            at += size
        if at != len(packed):
            raise DataError(f"{len(packed) - at} bytes of the body belong to no tensor")
        return columns

    def encode_v2(self, request: Request, scored: Scored) -> tuple[bytes, int | None]:
        """The body and, when some output is packed, the size of its JSON part."""
        outputs: list[dict[str, Any]] = []
        tail: list[bytes] = []
        for name, packed in request.outputs.items():
            values: Any = scored.scores if name == "score" else scored.decisions.tolist()
            tensor: dict[str, Any] = {
                "name": name,
                "shape": [request.rows],
                "datatype": OUTPUTS[name],
            }
            if packed:
                data = scored.scores.tobytes() if name == "score" else pack_texts(values)
                tensor["parameters"] = {"binary_data_size": len(data)}
                tail.append(data)
            else:
                tensor["data"] = values
            outputs.append(tensor)
        answer = {"model_name": self._model_name, "id": request.id, "outputs": outputs}
        head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        return (head + b"".join(tail), len(head)) if tail else (head, None)


def predictions(scored: Scored) -> list[dict[str, Any]]:
    """V1's answer, one object a row."""
    pairs = zip(scored.scores.tolist(), scored.decisions.tolist(), strict=True)
    return [{"score": score, "decision": decision} for score, decision in pairs]


def requested_outputs(names: Sequence[object]) -> Sequence[str]:
    """All outputs when none is named. Raises DataError for one the model lacks."""
    for name in names:
        if name not in OUTPUTS:
            raise DataError(f"output {name!r:.60} does not exist; there are {', '.join(OUTPUTS)}")
    return [str(name) for name in names] or list(OUTPUTS)


def new_id() -> str:
    return uuid.uuid4().hex


def _requested(payload: dict[str, Any]) -> Mapping[str, bool]:
    parameters = payload.get("parameters")
    binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    outputs = payload.get("outputs")
    if not outputs:
        return _BOTH_PACKED if binary else _BOTH
    if not isinstance(outputs, list):
        raise DataError("'outputs' must be a list of {name} objects")
    requested: dict[str, bool] = {}
    for output in outputs:
        fields = _object(output, "an output")
        (name,) = requested_outputs([fields.get("name")])
        own = fields.get("parameters")
        packed = own.get("binary_data") if isinstance(own, dict) else None
        requested[name] = binary if packed is None else packed is True
    return requested


def _packed_size(name: str, fields: dict[str, Any]) -> int | None:
    parameters = fields.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise DataError(f"column '{name}': binary_data_size {size!r:.40} is no count of bytes")
    return size


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the body is not JSON: {error}") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{what} must be a JSON object")
    return value
