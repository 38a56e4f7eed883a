from __future__ import annotations

import base64
import json

import pytest

from serving.errors import DataError
from serving.retrain.cloudevent import STRUCTURED, CloudEvent, read_event

ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "2026-01-01"}
READ = CloudEvent(id="1", source="/s", type="t", time="2026-01-01", data={"model": "m"})


def test_structured_and_binary_mode_give_the_same_event() -> None:
    structured = json.dumps({**ATTRIBUTES, "data": {"model": "m"}}).encode()
    binary = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
    assert read_event({"content-type": f"{STRUCTURED}; charset=utf-8"}, structured) == READ
    assert read_event({**binary, "content-type": "application/json"}, b'{"model": "m"}') == READ


def test_percent_encoded_headers_and_base64_data_are_decoded() -> None:
    headers = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
    assert read_event({**headers, "ce-source": "/caf%C3%A9"}, b"{}").source == "/café"
    packed = base64.b64encode(b'{"model": "m"}').decode()
    body = json.dumps({**ATTRIBUTES, "data_base64": packed}).encode()
    assert read_event({"content-type": STRUCTURED}, body) == READ


def test_what_it_writes_it_reads() -> None:
    body = json.dumps(READ.to_json()).encode()
    assert read_event({"content-type": STRUCTURED}, body) == READ


@pytest.mark.parametrize(
    ("headers", "body", "sentence"),
    [
        ({}, b"{}", "no CloudEvent"),
        ({"content-type": STRUCTURED}, b"{", "the event is not JSON"),
        ({"content-type": STRUCTURED}, b"[" * 100_000, "the event is not JSON"),
        ({"content-type": STRUCTURED}, b"[]", "not a JSON object"),
        ({"content-type": STRUCTURED}, b'{"specversion": "1.0"}', "needs 'id'"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", "one event a request"),
        ({"ce-specversion": "0.3", "ce-id": "1", "ce-source": "s", "ce-type": "t"}, b"", "0.3"),
        ({"ce-specversion": "1.0", "ce-id": "1" * 257, "ce-source": "s"}, b"", "'id'"),
        (
            {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"},
            b"1",
            "data is not a JSON object",
        ),
    ],
)
def test_what_is_no_event_is_refused_with_a_sentence(
    headers: dict[str, str], body: bytes, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_event(headers, body)
