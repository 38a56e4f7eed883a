"""What KServe's own tests of its model server ask of a predictor over HTTP, asked of ours.

After python/kserve/test/test_server.py and test_infer_type.py of KServe 0.20, which use models that
repeat their input; here the tiny bundle's columns stand for those tensors. Differences and their
reasons are listed in serving/predictor/README.md and tested at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput
from kserve.protocol.rest.v2_datamodels import ModelMetadataResponse

from tests.serving.predictor.servers import DATATYPES, MODEL, ROW, Served, v2_inputs

PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"
JSON = {"content-type": "application/json"}
SIZE = "inference-header-content-length"
COLUMNS = {name: [value, value] for name, value in ROW.items()}
PASSED = {"test-str": "dummy", "test-bool": True, "test-int": 100, "test-float": 1.3}


def answered(served: Served, path: str, method: str = "GET", body: bytes | None = None) -> Any:
    status, headers, content = served.exchange(method, path, body, JSON)
    assert headers["content-type"] == "application/json"
    return status, orjson.loads(content)


def kserve_request(
    packed: bool = False,
    outputs: dict[str, bool | None] | None = None,
    parameters: dict[str, Any] | None = None,
) -> InferRequest:
    """As KServe's own client makes it; `outputs` are asked for with their `binary_data`."""
    inputs = []
    for name, values in COLUMNS.items():
        tensor = InferInput(name, [2], DATATYPES[name])
        kind: Any = (
            object
            if DATATYPES[name] == "BYTES"
            else {"FP64": "f8", "FP32": "f4"}.get(DATATYPES[name], "i8")
        )
        tensor.set_data_from_numpy(np.array(values, dtype=kind), binary_data=packed)
        inputs.append(tensor)
    asked = [
        RequestedOutput(name, None if binary is None else {"binary_data": binary})
        for name, binary in (outputs or {}).items()
    ]
    return InferRequest(
        MODEL, inputs, request_id="123", parameters=parameters, request_outputs=asked or None
    )


def infer(served: Served, request: InferRequest) -> tuple[dict[str, Any], InferResponse]:
    """The answer as KServe's client reads it, and its JSON part as it was sent."""
    body, size = request.to_rest()
    headers = dict(JSON)
    if size is None:
        body = orjson.dumps(body)
    else:
        headers = {"content-type": "application/octet-stream", SIZE: str(size)}
    status, found, content = served.exchange("POST", INFER, body, headers)
    assert status == 200, content
    if SIZE not in found:
        assert found["content-type"] == "application/json"
        return orjson.loads(content), InferResponse.from_rest(orjson.loads(content))
    assert found["content-type"] == "application/octet-stream"
    length = int(found[SIZE])
    return orjson.loads(content[:length]), InferResponse.from_bytes(content, length)


def sizes(head: dict[str, Any]) -> dict[str, int | None]:
    """How many bytes of each output are packed; None for one that is not."""
    return {
        output["name"]: output.get("parameters", {}).get("binary_data_size")
        for output in head["outputs"]
    }


def by_name(response: InferResponse) -> dict[str, Any]:
    return {output.name: output for output in response.outputs}


def test_it_lives_and_lists_its_model(served: Served) -> None:
    assert answered(served, "/") == (200, {"status": "alive"})
    assert answered(served, "/v2/health/live") == (200, {"live": True})
    assert answered(served, "/v2/health/ready") == (200, {"ready": True})
    for path in ("/v1/models", "/v2/models"):
        assert answered(served, path) == (200, {"models": [MODEL]})
    assert served.exchange("GET", "/metrics")[0] == 200


def test_server_metadata_names_the_repository_extension(served: Served) -> None:
    status, found = answered(served, "/v2")
    assert status == 200
    assert set(found) == {"name", "version", "extensions"}
    assert found["extensions"] == ["model_repository_extension"]


def test_its_model_is_ready_and_described(served: Served) -> None:
    ready = {"name": MODEL, "ready": True}
    assert answered(served, f"/v1/models/{MODEL}") == (200, ready)
    assert answered(served, f"/v2/models/{MODEL}/ready") == (200, ready)
    status, found = answered(served, f"/v2/models/{MODEL}")
    assert status == 200
    described = ModelMetadataResponse.model_validate(found)
    assert {tensor.name for tensor in described.inputs} == set(ROW)


@pytest.mark.parametrize("path", ["/v1/models/no", "/v2/models/no", "/v2/models/no/ready"])
def test_another_model_does_not_exist(served: Served, path: str) -> None:
    assert answered(served, path) == (404, {"error": "Model with name no does not exist."})


def test_an_unknown_path_is_not_found(served: Served) -> None:
    assert answered(served, "/unknown_path") == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("path", ["", "/ready"])
def test_versions_of_a_model_are_not_supported(served: Served, path: str) -> None:
    assert answered(served, f"/v2/models/{MODEL}/versions/1{path}")[0] == 501


def test_v1_predicts(served: Served) -> None:
    status, found = answered(served, PREDICT, "POST", orjson.dumps({"instances": [ROW, ROW]}))
    assert status == 200
    assert len(found["predictions"]) == 2


def test_v2_infers_and_keeps_the_requests_id(served: Served) -> None:
    _, response = infer(served, kserve_request())
    assert (response.id, response.model_name) == ("123", MODEL)
    assert [output.shape for output in response.outputs] == [[2], [2]]


@pytest.mark.parametrize("packed", [False, True], ids=["json", "packed"])
def test_a_requests_parameters_come_back_with_its_answer(served: Served, packed: bool) -> None:
    _, response = infer(served, kserve_request(packed, parameters=dict(PASSED)))
    assert response.parameters == PASSED


def test_packed_inputs_alone_are_answered_in_json(served: Served) -> None:
    head, packed = infer(served, kserve_request(packed=True))
    assert sizes(head) == {"score": None, "decision": None}
    _, plain = infer(served, kserve_request())
    assert packed.outputs[0].data == plain.outputs[0].data


def test_all_outputs_come_packed_when_the_request_says_so(served: Served) -> None:
    head, response = infer(served, kserve_request(parameters={"binary_data_output": True}))
    assert sizes(head) == {"score": 8, "decision": 20}
    assert "parameters" not in head
    found = by_name(response)
    assert found["score"].as_numpy().dtype == np.float32
    assert found["decision"].as_numpy().tolist() == ["review", "review"]


def test_an_outputs_own_wish_goes_before_the_requests(served: Served) -> None:
    wish = {"score": True, "decision": False}
    for parameters in (None, {"binary_data_output": True}):
        head, response = infer(served, kserve_request(outputs=dict(wish), parameters=parameters))
        assert sizes(head) == {"score": 8, "decision": None}
        assert by_name(response)["decision"].data == ["review", "review"]


def test_only_the_requested_outputs_are_given(served: Served) -> None:
    _, response = infer(served, kserve_request(outputs={"reason": None}))
    assert list(by_name(response)) == ["reason"]


def test_half_floats_are_taken_packed_and_refused_as_json(served: Served) -> None:
    others = v2_inputs({name: [value] for name, value in ROW.items() if name != "amount"})
    half = {"name": "amount", "shape": [1], "datatype": "FP16"}
    head = orjson.dumps({"inputs": [{**half, "parameters": {"binary_data_size": 2}}, *others]})
    body = head + np.array([6.8], np.float16).tobytes()
    status, _, content = served.exchange("POST", INFER, body, {SIZE: str(len(head))})
    assert status == 200, content
    refused = served.http(INFER, {"inputs": [{**half, "data": [6.8]}, *others]})
    assert (refused.code, "FP16" in refused.error) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "1", "inputs": [{"name": "amount", "shape": [1], "datatype": "FP64", "data": [1]}',
        b'{"id": "1", "inputs": [{"name": "amount", "shape": [1], "datatype": "FP64"}]}',
        b'{"id": "1", "inputs": [{"name": "amount", "shape": [1], "datatype": "FP64"}]}\1\0\0\0',
    ],
    ids=["cut off", "without data", "packed without its size"],
)
def test_input_that_is_not_whole_is_a_bad_request(served: Served, body: bytes) -> None:
    end = body.rindex(b"}") + 1
    for length in (None, str(end), "100"):
        headers = {} if length is None else {SIZE: length}
        assert served.exchange("POST", INFER, body, headers)[0] == 400


def test_the_model_can_be_loaded_and_another_cannot(served: Served) -> None:
    path = f"/v2/repository/models/{MODEL}/load"
    assert answered(served, path, "POST", b"") == (200, {"name": MODEL, "load": True})
    assert answered(served, "/v2/repository/models/no/load", "POST", b"")[0] == 503


# From here on: what the README lists as different.


def test_difference_no_explanations(served: Served) -> None:
    status, found = answered(served, f"/v1/models/{MODEL}:explain", "POST", b'{"instances": []}')
    assert (status, set(found)) == (501, {"error"})


def test_difference_unload_is_refused(served: Served) -> None:
    for name in (MODEL, "no"):
        assert answered(served, f"/v2/repository/models/{name}/unload", "POST", b"")[0] == 501


def test_difference_a_malformed_v2_body_is_400_and_one_sentence(served: Served) -> None:
    for body in (b"[]", b'{"inputs": [{"name": 1}]}'):
        status, found = answered(served, INFER, "POST", body)
        assert (status, set(found)) == (400, {"error"})


def test_difference_fields_without_a_value_are_left_out(served: Served) -> None:
    status, found = answered(served, INFER, "POST", orjson.dumps({"inputs": v2_inputs(COLUMNS)}))
    assert (status, set(found)) == (200, {"model_name", "id", "outputs"})


def test_difference_v1_reads_instances_and_not_inputs(served: Served) -> None:
    refused = served.http(PREDICT, {"inputs": [ROW]})
    assert (refused.code, "instances" in refused.error) == (400, True)
