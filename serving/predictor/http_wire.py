"""HTTP payloads: V1 and V2 requests to checked rows, scores to answers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import orjson

from serving.bundle import Contract
from serving.errors import DataError
from serving.predictor.columns import RowReader
from serving.predictor.refusal import Refusal
from serving.predictor.rows import Raw, Rows
from serving.predictor.tensors import TensorRules, json_values, pack_texts, packed_values
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


class HttpWire:
    """Decodes and encodes V1 and V2 bodies for one model. Raises DataError for bad ones."""

    def __init__(self, model_name: str, contract: Contract) -> None:
        self._model_name = model_name
        self._names = contract.feature_names
        self._width = len(self._names)
        self._reader = RowReader(contract)
        self._rules = TensorRules(contract)
        self._quick = self._reader.matrix_dtype is not None
        pick = itemgetter(*self._names)
        self._pick = pick if self._width > 1 else lambda instance: (pick(instance),)

    def decode_v1(self, body: bytes) -> Request:
        return self.read_v1(_json(body), plain=_plain(body))

    def read_v1(self, payload: Any, *, plain: bool = False) -> Request:
        """The rows of a parsed `{"instances": [{feature: value}]}`, or of lists in their order.

        `plain` vouches that no true or false is in it, which Python takes for numbers.
        """
        instances = _object(payload, "the body").get("instances")
        if not isinstance(instances, list) or not instances:
            raise DataError("'instances' must be a list of at least one {feature: value} object")
        rows = self._quick_instances(instances) if plain and self._quick else None
        if rows is None:
            rows = self._reader.read(self._transpose(instances))
        return Request(rows, new_id(), BOTH)

    def _quick_instances(self, instances: list[Any]) -> Rows | None:
        width = self._width
        picked = []
        for instance in instances:
            if type(instance) not in (dict, list) or len(instance) != width:
                return None
            if type(instance) is dict:
                try:
                    instance = self._pick(instance)  # noqa: PLW2901
                except KeyError:
                    return None
            picked.append(instance)
        flat = picked[0] if len(picked) == 1 else list(itertools.chain.from_iterable(picked))
        return self._reader.read_flat(flat, len(picked))

    def _transpose(self, instances: list[Any]) -> dict[str, Raw]:
        columns: dict[str, Raw]
        try:
            columns = {name: [instance[name] for instance in instances] for name in self._names}
            if all(len(instance) == self._width for instance in instances):
                return columns
        except (KeyError, TypeError, IndexError):
            pass
        named = []
        for row, instance in enumerate(instances):
            if isinstance(instance, list):
                if len(instance) != self._width:
                    raise Refusal(
                        f"instance {row} has {len(instance)} values, the contract"
                        f" {self._width} features",
                        "shape",
                    )
                named.append(dict(zip(self._names, instance, strict=True)))
                continue
            if not isinstance(instance, dict):
                raise DataError(f"instance {row} is no object; give {{feature: value}}")
            for name in self._names:
                if name not in instance:
                    raise Refusal(f"column '{name}' is missing in instance {row}", "column")
            for name in instance:
                if name not in self._names:
                    raise Refusal(
                        f"column '{name}' in instance {row} is not in the contract; leave it out",
                        "column",
                    )
            named.append(instance)
        return {name: [instance[name] for instance in named] for name in self._names}

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
        inputs = payload.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            raise DataError("'inputs' must be a list of tensors, one a feature or one of all")
        rows = None
        if self._quick and len(inputs) == 1:
            rows = self._quick_matrix(inputs[0], body, packed)
        if rows is None:
            rows = self._reader.read(self._tensors(inputs, packed))
        request_id = payload.get("id")
        if request_id is None or request_id == "":
            request_id = new_id()
        elif not isinstance(request_id, str):
            raise DataError("'id' must be text")
        parameters = payload.get("parameters")
        binary = False
        if parameters is not None:
            binary, parameters = _parameters(parameters)
        return Request(rows, request_id, _requested(payload, binary), parameters)

    def _quick_matrix(self, tensor: Any, body: bytes, packed: memoryview) -> Rows | None:
        """The rows of a well-formed tensor [rows, features]; None leaves it to the exact way."""
        try:
            shape, name, kind = tensor["shape"], tensor["name"], tensor["datatype"]
            rows, width = shape
            known = self._rules.is_matrix(name, kind)
        except (KeyError, TypeError, ValueError):
            return None
        if not known or width != self._width or type(rows) is not int or rows < 1:
            return None
        data = tensor.get("data")
        parameters = tensor.get("parameters")
        if parameters is None:
            if type(data) is not list or not _plain(body):
                return None
            return self._reader.read_flat(data, rows)
        if (
            data is not None
            or parameters != {"binary_data_size": len(packed)}
            or kind != self._rules.matrix_kind
        ):
            return None
        matrix = packed_values(name, kind, rows * width, packed).reshape(rows, width)
        return self._reader.read_matrix(matrix)

    def _tensors(self, inputs: list[Any], packed: memoryview) -> dict[str, Raw]:
        columns: dict[str, Raw] = {}
        at = 0
        for tensor in inputs:
            fields = _object(tensor, "a tensor")
            name, datatype, shape = (fields.get(key) for key in ("name", "datatype", "shape"))
            if not isinstance(name, str) or not isinstance(datatype, str):
                raise DataError("a tensor lacks its 'name' or 'datatype', which must be text")
            if not isinstance(shape, list):
                raise Refusal(f"column '{name}' lacks its 'shape', a list of sizes", "shape")
            parameters = fields.get("parameters")
            if not isinstance(parameters, dict):
                parameters = {}
            layout = self._rules.layout(name, datatype, shape, parameters.get("columns"))
            size = _packed_size(name, parameters)
            values: Raw
            if size is None:
                values = json_values(name, datatype, layout.size, fields.get("data"))
            else:
                if at + size > len(packed):
                    raise DataError(
                        f"column '{name}': binary_data_size {size} is more than the body holds"
                    )
                values = packed_values(name, datatype, layout.size, packed[at : at + size])
                at += size
            layout.into(columns, values)
        if at != len(packed):
            raise DataError(f"{len(packed) - at} bytes of the body belong to no tensor")
        return columns

    def encode_v2(self, request: Request, scored: Scored) -> tuple[bytes, int | None]:
        """The body and, when some output is packed, the size of its JSON part."""
        outputs: list[dict[str, Any]] = []
        tail: list[bytes] = []
        shape = [request.rows.count]
        for name, packed in request.outputs.items():
            tensor: dict[str, Any] = {"name": name, "shape": shape, "datatype": OUTPUTS[name]}
            if packed:
                data = (
                    scored.scores.tobytes() if name == "score" else pack_texts(scored.texts(name))
                )
                tensor["parameters"] = {"binary_data_size": len(data)}
                tail.append(data)
            else:
                tensor["data"] = scored.scores if name == "score" else scored.texts(name)
            outputs.append(tensor)
        answer: dict[str, Any] = {
            "model_name": self._model_name,
            "id": request.id,
            "outputs": outputs,
        }
        if request.parameters:
            answer["parameters"] = request.parameters
        if scored.fallback:
            said = {"fallback": True, "fallback_reason": scored.fallback}
            answer["parameters"] = {**(request.parameters or {}), **said}
        head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        return (head + b"".join(tail), len(head)) if tail else (head, None)


def predictions(scored: Scored) -> list[dict[str, Any]]:
    """V1's answer, one object a row; null for the score of a row the model was not asked about."""
    # JSON has no NaN.
    scores = [score if score == score else None for score in scored.scores.tolist()]  # noqa: PLR0124
    answer: list[dict[str, Any]] = [
        {"score": score, "decision": decision, "reason": reason}
        for score, decision, reason in zip(scores, scored.decisions, scored.reasons, strict=True)
    ]
    if scored.fallback:
        for row in answer:
            row["fallback"] = True
    return answer


def _parameters(given: Any) -> tuple[bool, dict[str, Any]]:
    """Whether all outputs shall be packed, and what is left for the answer."""
    for name, value in _object(given, "'parameters'").items():
        if not isinstance(value, str | int | float):
            raise DataError(f"parameter '{name:.40}' must be text, a number, true or false")
    left = {name: value for name, value in given.items() if name != BINARY_OUTPUT}
    return given.get(BINARY_OUTPUT) is True, left


def _requested(payload: dict[str, Any], binary: bool) -> Mapping[str, bool]:
    outputs = payload.get("outputs")
    if not outputs:
        return BOTH_PACKED if binary else BOTH
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


def _packed_size(name: str, parameters: dict[str, Any]) -> int | None:
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise DataError(f"column '{name}': binary_data_size {size!r:.40} is no count of bytes")
    return size


def _plain(body: bytes) -> bool:
    return b"true" not in body and b"false" not in body


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the body is not JSON: {error}") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{what} must be a JSON object")
    return value
