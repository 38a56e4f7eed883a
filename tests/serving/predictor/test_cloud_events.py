"""A request that is a CloudEvent is answered as one, counted, bounded and refused like any other.

The expectations are those of KServe's own tests (TestTFHttpServerCloudEvent in test_server.py).
"""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from serving.errors import DataError
from serving.predictor.cloud_events import Event, unwrap, wrap
from serving.predictor.http import MAX_BODY_BYTES
from tests.serving.predictor.servers import MODEL, ROW, Served, v2_inputs

PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"
ID = "36077800-0c23-4f38-a0b4-01f4369f670a"
TIME = "2021-01-28T21:04:43.144141+00:00"
ATTRIBUTES = {
    "specversion": "1.0",
    "id": ID,
    "source": "https://example.com/event-producer",
    "type": "com.example.sampletype1",
    "time": TIME,
}
BINARY = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
STRUCTURED = {"content-type": "application/cloudevents+json"}
V1 = orjson.dumps({"instances": [ROW]})
V2 = orjson.dumps({"inputs": v2_inputs({name: [value] for name, value in ROW.items()})})


def structured(body: bytes, **more: Any) -> bytes:
    return orjson.dumps({**ATTRIBUTES, "data": orjson.Fragment(body), **more})


@pytest.mark.parametrize(("path", "body"), [(PREDICT, V1), (INFER, V2)], ids=["v1", "v2"])
def test_a_binary_event_is_answered_with_attributes_of_its_own(
    served: Served, path: str, body: bytes
) -> None:
    headers = {**BINARY, "content-type": "application/json"}
    status, found, content = served.exchange("POST", path, body, headers)
    assert (status, found["content-type"]) == (200, "application/json")
    assert found["ce-specversion"] == "1.0"
    assert found["ce-id"] != ID
    assert found["ce-source"] == f"io.kserve.inference.{MODEL}"
    assert found["ce-type"] == "io.kserve.inference.response"
    assert found["ce-time"] > TIME
    plain = orjson.loads(served.exchange("POST", path, body)[2])
    answer = orjson.loads(content)
    assert answer.pop("id", None) != plain.pop("id", "")
    assert answer == plain


@pytest.mark.parametrize(("path", "body"), [(PREDICT, V1), (INFER, V2)], ids=["v1", "v2"])
def test_a_structured_event_is_answered_as_one_document(
    served: Served, path: str, body: bytes
) -> None:
    status, found, content = served.exchange("POST", path, structured(body), STRUCTURED)
    assert (status, found["content-type"]) == (200, "application/cloudevents+json")
    event = orjson.loads(content)
    assert event["specversion"] == "1.0"
    assert event["id"] != ID
    assert event["time"] > TIME
    assert set(event["data"]) & {"predictions", "outputs"}


def test_events_count_like_other_requests(served: Served) -> None:
    def count(code: str) -> float:
        return served.metric("seatrial_requests_total", wire="v1", code=code)

    before = count("200"), count("400")
    assert served.exchange("POST", PREDICT, V1, BINARY)[0] == 200
    bad = orjson.dumps({"instances": [{**ROW, "amount": -1}]})
    status, _, content = served.exchange("POST", PREDICT, bad, BINARY)
    assert status == 400
    assert "amount" in orjson.loads(content)["error"]
    assert (count("200"), count("400")) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (BINARY, b""),
        (BINARY, b"{"),
        (BINARY, b"0\x80\x80\x06World!\x00\x00"),
        ({**BINARY, "ce-specversion": "9"}, V1),
        (STRUCTURED, b""),
        (STRUCTURED, b"[]"),
        (STRUCTURED, structured(b"3")),
        (STRUCTURED, structured(b"null")),
        (STRUCTURED, orjson.dumps(ATTRIBUTES)),
        (STRUCTURED, orjson.dumps({**ATTRIBUTES, "data_base64": "no base64!"})),
        (STRUCTURED, structured(V1, specversion=[1])),
        ({**STRUCTURED, "inference-header-content-length": "x"}, structured(V2)),
    ],
)
def test_a_bad_event_is_a_bad_request_on_both_protocols(
    served: Served, headers: dict[str, str], body: bytes
) -> None:
    for path in (PREDICT, INFER):
        status, _, content = served.exchange("POST", path, body, headers)
        if not (path == PREDICT and "inference-header-content-length" in headers):
            assert (status, set(orjson.loads(content))) == (400, {"error"})


@pytest.mark.parametrize("path", [PREDICT, f"/v1/models/{MODEL}:explain"])
def test_the_limit_of_bodies_holds_for_events_and_kserves_own_endpoints(
    served: Served, path: str
) -> None:
    assert served.exchange("POST", path, b" " * (MAX_BODY_BYTES + 1), BINARY)[0] == 413


def test_data_may_be_base64() -> None:
    body = orjson.dumps({**ATTRIBUTES, "data_base64": base64.b64encode(V1).decode()})
    assert unwrap([(b"content-type", b"application/cloudevents+json")], body)[0] == V1


def test_what_lacks_an_attribute_is_a_plain_body() -> None:
    assert unwrap([(b"ce-specversion", b"1.0")], V1) == (V1, None)
    assert unwrap([(b"content-type", b"application/cloudevents+json")], V1) == (V1, None)


def test_refuses_a_version_it_does_not_know() -> None:
    headers = [(name.encode(), value.encode()) for name, value in BINARY.items()]
    with pytest.raises(DataError, match=r"2\.0"):
        unwrap([*headers, (b"ce-specversion", b"2.0")], V1)


@pytest.mark.parametrize("in_one", [True, False], ids=["structured", "binary"])
def test_variables_name_the_answer_and_merge_the_requests_attributes(
    monkeypatch: pytest.MonkeyPatch, in_one: bool
) -> None:
    event = Event(in_one, {"custom-extension": "custom-value"})

    def attributes() -> dict[str, Any]:
        headers, body = wrap(event, "m", ((b"content-type", b"application/json"),), b"{}")
        if in_one:
            return dict(orjson.loads(body))
        return {k.decode().removeprefix("ce-"): v.decode() for k, v in headers}

    assert "custom-extension" not in attributes()
    monkeypatch.setenv("CE_MERGE", "true")
    monkeypatch.setenv("CE_SOURCE", "io.kserve.inference.CustomSource")
    monkeypatch.setenv("CE_TYPE", "io.kserve.custom_type")
    found = attributes()
    assert found["custom-extension"] == "custom-value"
    assert found["source"] == "io.kserve.inference.CustomSource"
    assert found["type"] == "io.kserve.custom_type"
