"""Bad input is refused on every wire with the field named, and never harms the process."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing
from typing import Any

import numpy as np
import orjson
import pytest

from serving.predictor.http import MAX_BODY_BYTES
from tests.serving.predictor.servers import (
    MODEL,
    ROW,
    Answer,
    Served,
    grpc_request,
    v2_inputs,
)

WIRES = ("v1", "v2", "grpc-typed", "grpc-raw")
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "missing feature": ({k: v for k, v in ROW.items() if k != "amount"}, "amount"),
    "unknown feature": ({**ROW, "colour": 1.0}, "colour"),
    "text for a number": ({**ROW, "amount": "12"}, "amount"),
    "number for text": ({**ROW, "channel": 1.5}, "channel"),
    "fraction for an integer": ({**ROW, "visits": 1.5}, "visits"),
    "unknown category": ({**ROW, "channel": "fax"}, "channel"),
    "null where forbidden": ({**ROW, "amount": None}, "amount"),
    "below the range": ({**ROW, "amount": -1.0}, "amount"),
    "above the range": ({**ROW, "amount": 10000.5}, "amount"),
}


def send(served: Served, wire: str, row: dict[str, Any]) -> Answer:
    columns = {name: [value] for name, value in row.items()}
    if wire == "v1":
        return served.v1(row)
    if wire == "v2":
        return served.v2(columns)
    return served.grpc(grpc_request(columns, raw=wire == "grpc-raw"))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", BAD)
def test_refuses_a_bad_row_and_names_the_field(served: Served, wire: str, case: str) -> None:
    row, field = BAD[case]
    answer = send(served, wire, row)
    assert answer.code == ("INVALID_ARGUMENT" if wire.startswith("grpc") else 400)
    assert field in answer.error


@pytest.mark.parametrize("wire", ["grpc-typed", "grpc-raw"])
@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_refuses_infinity(served: Served, wire: str, value: float) -> None:
    answer = send(served, wire, {**ROW, "age": value})
    assert (answer.code, "age" in answer.error) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[1]", "object"),
        (b"{}", "instances"),
        (b'{"instances": []}', "instances"),
        (b'{"instances": 3}', "instances"),
        (b'{"instances": [[1, 2, 3, 4]]}', "channel"),
        (b'{"instances": [[1, 2, 3]]}', "instance 0"),
        (b'{"instances": ["abcd"]}', "instance 0"),
        (b'{"instances": [null]}', "instance 0"),
        (b'{"instances": [{"amount": 1e999}]}', ""),
        (b"[" * 5000, "JSON"),
        (b"\xff\xfe", "JSON"),
    ],
)
def test_refuses_a_malformed_v1_body(served: Served, body: bytes, said: str) -> None:
    answer = served.http(f"/v1/models/{MODEL}:predict", body)
    assert answer.code == 400
    assert said in answer.error


def edited(column: str, **fields: Any) -> dict[str, Any]:
    inputs = v2_inputs({k: [v] for k, v in ROW.items()})
    for tensor in inputs:
        if tensor["name"] == column:
            tensor.update(fields)
    return {"inputs": inputs}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [7]}, "tensor"),
        ({"inputs": [{"name": "amount"}]}, "datatype"),
        (edited("amount", name="age"), "age"),
        (edited("amount", shape=[2]), "amount"),
        (edited("amount", shape=[1, 2]), "amount"),
        (edited("amount", shape=[-1]), "amount"),
        (edited("amount", shape="1"), "amount"),
        (edited("amount", datatype="BOOL"), "amount"),
        (edited("amount", datatype="nonsense"), "amount"),
        (edited("visits", datatype="FP64"), "visits"),
        (edited("amount", data=None), "amount"),
        (edited("amount", data=[True]), "amount"),
        (edited("amount", data=[[1.0, 2.0]]), "amount"),
        (edited("amount", data=[{"a": 1}]), "amount"),
        (edited("amount", datatype="INT64", data=[1.5]), "amount"),
        (edited("visits", data=[2**63]), "visits"),
        (edited("amount", parameters={"binary_data_size": 8}), "amount"),
        (edited("amount", parameters={"binary_data_size": -8}), "amount"),
        ({**edited("amount"), "outputs": [{"name": "colour"}]}, "colour"),
        ({**edited("amount"), "id": 7}, "id"),
    ],
)
def test_refuses_a_malformed_v2_body(served: Served, body: Any, said: str) -> None:
    answer = served.http(f"/v2/models/{MODEL}/infer", body)
    assert answer.code == 400
    assert said in answer.error


@pytest.mark.parametrize(
    ("header", "tail"), [("999999", b""), ("0", b""), ("-1", b""), ("x", b""), (None, b"rest")]
)
def test_refuses_a_binary_body_that_lies_about_its_sizes(
    served: Served, header: str | None, tail: bytes
) -> None:
    head = orjson.dumps(edited("amount"))
    headers = {"Inference-Header-Content-Length": header or str(len(head))}
    answer = served.http(f"/v2/models/{MODEL}/infer", head + tail, headers)
    assert answer.code == 400
    assert answer.error


def test_refuses_packed_texts_that_are_longer_than_their_bytes(served: Served) -> None:
    packed = (1000).to_bytes(4, "little") + b"web"
    body = edited("channel", parameters={"binary_data_size": len(packed)})
    body["inputs"][-1].pop("data")
    head = orjson.dumps(body)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = served.http(f"/v2/models/{MODEL}/infer", head + packed, headers)
    assert (answer.code, "channel" in answer.error) == (400, True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_refuses_packed_values_that_are_no_numbers(
    served: Served, value: float, datatype: str
) -> None:
    packed = np.array([value], {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}[datatype]).tobytes()
    size = {"binary_data_size": len(packed)}
    body = edited("amount", datatype=datatype, parameters=size)
    body["inputs"][0].pop("data")
    head = orjson.dumps(body)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = served.http(f"/v2/models/{MODEL}/infer", head + packed, headers)
    assert (answer.code, "amount" in answer.error) == (400, True)


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400, "-1e400", "9" * 5000 + ".5"])
@pytest.mark.parametrize("column", ["amount", "age", "visits"])
def test_refuses_numbers_that_nothing_can_hold(served: Served, column: str, number: str) -> None:
    for path, body in (
        (f"/v1/models/{MODEL}:predict", {"instances": [{**ROW, column: 123456789}]}),
        (f"/v2/models/{MODEL}/infer", edited(column, data=[123456789])),
    ):
        sent = orjson.dumps(body).replace(b"123456789", number.encode())
        assert served.http(path, sent).code == 400


@pytest.mark.parametrize("parameters", [3, ["x"], "x", {"x": [1]}, {"x": {}}, {"x": None}])
def test_refuses_parameters_that_the_protocol_does_not_know(
    served: Served, parameters: Any
) -> None:
    answer = served.http(f"/v2/models/{MODEL}/infer", {**edited("age"), "parameters": parameters})
    assert (answer.code, "parameter" in answer.error) == (400, True)


def test_a_grpc_message_over_the_limit_is_refused(served: Served) -> None:
    message = grpc_request({k: [v] for k, v in ROW.items()})
    message.id = "x" * (9 * 2**20)
    assert served.grpc(message).code == "RESOURCE_EXHAUSTED"


def test_an_unknown_model_is_not_found_on_every_wire(served: Served) -> None:
    assert served.http("/v1/models/other:predict", {"instances": [ROW]}).code == 404
    assert served.http("/v2/models/other/infer", {}).code == 404
    assert served.http("/v2/models/other/ready").code == 404
    message = grpc_request({k: [v] for k, v in ROW.items()})
    message.model_name = "other"
    assert served.grpc(message).code == "NOT_FOUND"


def test_refuses_grpc_messages_that_contradict_themselves(served: Served) -> None:
    columns = {k: [v] for k, v in ROW.items()}
    both = grpc_request(columns, raw=True)
    both.inputs[0].contents.fp64_contents.append(1.0)
    fewer = grpc_request(columns, raw=True)
    fewer.raw_input_contents.pop()
    short = grpc_request(columns, raw=True)
    short.raw_input_contents[0] = b"1"
    empty = grpc_request(columns)
    empty.inputs[0].contents.Clear()
    for message in (both, fewer, short, empty, grpc_request({})):
        answer = served.grpc(message)
        assert answer.code == "INVALID_ARGUMENT", answer.body


def test_the_only_model_cannot_be_unloaded_by_a_caller(served: Served) -> None:
    assert served.http("/v2/repository/models/tiny/unload", b"").code == 501
    assert served.ready()


def test_refuses_a_body_over_the_limit(served: Served) -> None:
    address = http.client.HTTPConnection("127.0.0.1", served.http_port, timeout=20)
    with closing(address) as connection:
        connection.request("POST", f"/v1/models/{MODEL}:predict", b" " * (MAX_BODY_BYTES + 1))
        response = connection.getresponse()
        assert response.status == 413
        assert "error" in orjson.loads(response.read())


def test_survives_a_client_that_leaves_mid_body(served: Served) -> None:
    counted = served.metric("seatrial_requests_total")
    with socket.create_connection(("127.0.0.1", served.http_port)) as client:
        head = f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100"
        client.sendall(head.encode() + b"\r\n\r\n{")
    assert served.v1(ROW).code == 200
    assert served.metric("seatrial_requests_total") == counted + 1


def test_a_client_library_shows_the_refusal(served: Served, triton_http: Any) -> None:
    client = triton_http.InferenceServerClient(f"127.0.0.1:{served.http_port}")
    tensor = triton_http.InferInput("amount", [1], "FP64")
    tensor.set_data_from_numpy(np.array([1.0]))
    with pytest.raises(triton_http.InferenceServerException, match="age"):
        client.infer(MODEL, [tensor])
    client.close()


def test_still_answers_after_all_of_it(served: Served) -> None:
    assert served.v1(ROW).code == 200
    assert served.process.poll() is None
