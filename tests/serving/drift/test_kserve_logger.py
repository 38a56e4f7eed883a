"""What KServe's payload logger sends: both modes, both protocols, JSON and packed tensors."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest

from serving.drift.cloudevents import Envelope, read_events
from serving.drift.pairs import REQUEST, RESPONSE, Mode, Pairs
from serving.drift.rows import Block
from serving.errors import DataError
from tests.support import tiny

V1 = {"instances": [{"amount": 1.5, "age": 30, "visits": 2, "channel": "web"}]}
V1_LISTS = {"instances": [[1.5, 30, 2, "web"]]}
V2 = {
    "inputs": [
        {"name": "amount", "datatype": "FP64", "shape": [1], "data": [1.5]},
        {"name": "age", "datatype": "FP32", "shape": [1, 1], "data": [[30]]},
        {"name": "visits", "datatype": "INT64", "shape": [1], "data": [2]},
        {"name": "channel", "datatype": "BYTES", "shape": [1], "data": ["web"]},
    ]
}


def packed(tensors: list[tuple[str, str, list[int], bytes]]) -> tuple[bytes, int]:
    """A V2 body with packed tensors, and its JSON's size."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": kind,
                    "shape": shape,
                    "parameters": {"binary_data_size": len(data)},
                }
                for name, kind, shape, data in tensors
            ]
        }
    ).encode()
    return head + b"".join(data for *_, data in tensors), len(head)


V2_PACKED, V2_JSON_SIZE = packed(
    [
        ("amount", "FP64", [1], struct.pack("<d", 1.5)),
        ("age", "FP32", [1, 1], struct.pack("<f", 30)),
        ("visits", "INT64", [1], struct.pack("<q", 2)),
        ("channel", "BYTES", [1], struct.pack("<I", 3) + b"web"),
    ]
)


def binary(kind: str, event_id: str, body: bytes, **more: str) -> Envelope:
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-type": kind,
        "ce-source": "http://fraud.default",
        "ce-id": event_id,
        "ce-time": "2026-03-01T12:00:00Z",
        "ce-inferenceservicename": "fraud",
        **more,
    }
    (event,) = read_events([(k.encode(), v.encode()) for k, v in headers.items()], body)
    return event


def structured(kind: str, event_id: str, body: bytes) -> Envelope:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "type": kind,
        "source": "http://fraud.default",
        "id": event_id,
    }
    try:
        event["data"] = json.loads(body)
    except ValueError:
        event["data_base64"] = base64.b64encode(body).decode()
    headers = [(b"content-type", b"application/cloudevents+json; charset=utf-8")]
    (found,) = read_events(headers, json.dumps(event).encode())
    return found


def pairs(mode: Mode = "all", **limits: Any) -> Pairs:
    return Pairs(tiny.contract(), mode, **{"patience": 30.0, "capacity": 1000, **limits})


def plain(block: Block | None) -> dict[str, Any]:
    assert block is not None
    return {name: list(values) for name, values in block.columns.items()}


@pytest.mark.parametrize("event", [binary, structured])
@pytest.mark.parametrize(
    "body",
    [json.dumps(V1).encode(), json.dumps(V1_LISTS).encode(), json.dumps(V2).encode(), V2_PACKED],
    ids=["v1", "v1 lists", "v2", "v2 packed"],
)
def test_a_request_and_its_answer_become_a_row_with_its_score(event: Any, body: bytes) -> None:
    joined = pairs()
    assert joined.take(event(REQUEST, "a", body)) == (None, 0)
    answer = json.dumps(
        {"outputs": [{"name": "score", "datatype": "FP32", "shape": [1], "data": [0.25]}]}
    )
    block, dropped = joined.take(event(RESPONSE, "a", answer.encode()))
    assert plain(block) == {"amount": [1.5], "age": [30], "visits": [2], "channel": ["web"]}
    assert block is not None
    assert (block.scores, block.ids, dropped, joined.rows) == ([0.25], ["a"], 0, 0)


def test_takes_the_length_of_the_json_from_the_loggers_metadata() -> None:
    # Found by itself, the JSON would end before the closing brace that is data here.
    body, size = packed([("amount", "FP64", [1], b"}{ 12345")])
    metadata = json.dumps({"Inference-Header-Content-Length": [str(size)]})
    event = binary(REQUEST, "a", body, **{"ce-metadata": metadata})
    block, _ = pairs("request").take(event)
    assert plain(block)["amount"] == [struct.unpack("<d", b"}{ 12345")[0]]


def test_a_matrix_of_all_features_is_read_by_the_contracts_order() -> None:
    matrix = np.arange(8, dtype="<f4").reshape(2, 4)
    body, _ = packed([("input", "FP32", [2, 4], matrix.tobytes())])
    block, _ = pairs("request").take(binary(REQUEST, "a", body))
    assert plain(block)["visits"] == [2, 6]
    assert block is not None
    assert block.ids == ["a/0", "a/1"]


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ({"predictions": [0.25]}, 0.25),
        ({"predictions": [[0.75, 0.25]]}, 0.25),
        ({"predictions": [{"score": 0.25, "decision": "approve"}]}, 0.25),
        (
            {"outputs": [{"name": "p", "datatype": "FP64", "shape": [1, 2], "data": [0.75, 0.25]}]},
            0.25,
        ),
    ],
)
def test_finds_the_score_in_an_answer(answer: dict[str, Any], score: float) -> None:
    joined = pairs()
    joined.take(binary(REQUEST, "a", json.dumps(V1).encode()))
    block, _ = joined.take(binary(RESPONSE, "a", json.dumps(answer).encode()))
    assert block is not None
    assert list(block.scores) == [score]


def test_the_answer_may_come_first() -> None:
    joined = pairs()
    joined.take(binary(RESPONSE, "a", b'{"predictions": [0.5]}'))
    block, _ = joined.take(binary(REQUEST, "a", json.dumps(V1).encode()))
    assert block is not None
    assert block.scores == [0.5]


def test_a_request_without_an_answer_is_dropped_and_counted() -> None:
    now = [0.0]
    joined = pairs(patience=10.0, clock=lambda: now[0])
    joined.take(binary(REQUEST, "a", json.dumps(V1).encode()))
    now[0] = 11.0
    _, dropped = joined.take(binary(REQUEST, "b", json.dumps(V1).encode()))
    assert (dropped, joined.rows) == (1, 1)


def test_halves_that_wait_are_bounded() -> None:
    joined = pairs(capacity=5)
    dropped = sum(
        joined.take(binary(REQUEST, str(n), json.dumps(V1).encode()))[1] for n in range(20)
    )
    assert (dropped, joined.rows) == (15, 5)


def test_without_responses_rows_come_at_once() -> None:
    block, _ = pairs("request").take(binary(REQUEST, "a", json.dumps(V1).encode()))
    assert block is not None
    assert block.scores is None


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"\x00\x01", "JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "neither 'instances' nor 'inputs'"),
        (b'{"instances": [[1, 2]]}', "4 features"),
        (b'{"instances": [{"other": 1}]}', "this model's"),
        (
            b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [2], "data": [1]}]}',
            "shape",
        ),
        (V2_PACKED[:-3], "binary_data_size"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 9], "data": []}]}', "shape"),
        (b"{" * 50_000, "JSON"),
    ],
)
def test_names_what_is_wrong_with_a_payload(body: bytes, named: str) -> None:
    with pytest.raises(DataError, match=named):
        pairs().take(binary(REQUEST, "a", body))


def test_an_answer_of_another_length_is_refused() -> None:
    joined = pairs()
    joined.take(binary(REQUEST, "a", json.dumps(V1).encode()))
    with pytest.raises(DataError, match="1 rows were asked and 2 answered"):
        joined.take(binary(RESPONSE, "a", b'{"predictions": [0.5, 0.5]}'))
