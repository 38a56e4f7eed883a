"""CloudEvents 1.0 over HTTP: a request that comes as an event is answered as one.

As KServe does it, and with its variables: CE_SOURCE and CE_TYPE name the answer's, CE_MERGE=true
gives it the request's other attributes too.
"""

from __future__ import annotations

import base64
import binascii
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from serving.errors import DataError

JSON = b"application/json"
STRUCTURED = b"application/cloudevents+json"
_REQUIRED = ("specversion", "id", "source", "type")
_VERSIONS = ("1.0", "0.3")
_OWN = frozenset({*_REQUIRED, "time", "datacontenttype", "data", "data_base64"})

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Event:
    structured: bool
    """In one JSON document with its data; else its attributes are headers."""
    extensions: dict[str, Any]
    """Attributes beside those that every answer has anew."""


def is_cloud_event(headers: Headers) -> bool:
    """Whether a request may be one: quick, and on every request's way."""
    for name, value in headers:
        if name == b"ce-specversion":
            return True
        if name == b"content-type" and value.startswith(STRUCTURED):
            return True
    return False


def unwrap(headers: Headers, body: bytes) -> tuple[bytes, Event | None]:
    """The event's data and the event; what lacks a required attribute is a plain body.

    Raises DataError.
    """
    given = {name: value.decode("latin-1") for name, value in headers}
    found = {
        name.decode("latin-1").removeprefix("ce-"): value
        for name, value in given.items()
        if name.startswith(b"ce-")
    }
    if all(name in found for name in _REQUIRED):
        _check_version(found["specversion"])
        return body, Event(False, _extensions(found))
    if not given.get(b"content-type", "").startswith(STRUCTURED.decode()):
        return body, None
    document = _document(body)
    if not isinstance(document, dict) or not all(name in document for name in _REQUIRED):
        return body, None
    _check_version(document["specversion"])
    return _data(document), Event(True, _extensions(document))


def wrap(
    event: Event, model: str, headers: tuple[tuple[bytes, bytes], ...], body: bytes
) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    """The answer's headers and body as an event of its own."""
    merged = event.extensions if os.environ.get("CE_MERGE", "").lower() == "true" else {}
    attributes = {
        **merged,
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": os.environ.get("CE_SOURCE", f"io.kserve.inference.{model}"),
        "type": os.environ.get("CE_TYPE", "io.kserve.inference.response"),
        "time": datetime.now(UTC).isoformat(),
    }
    if not event.structured:
        named = [(f"ce-{k}".encode(), str(v).encode("latin-1")) for k, v in attributes.items()]
        return (*headers, *named), body
    content: dict[str, Any] = {"data_base64": base64.b64encode(body).decode()}
    if dict(headers).get(b"content-type") == JSON:
        content = {"datacontenttype": JSON.decode(), "data": orjson.Fragment(body)}
    kept = tuple(header for header in headers if header[0] != b"content-type")
    return ((b"content-type", STRUCTURED), *kept), orjson.dumps({**attributes, **content})


def _document(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the event is not JSON: {error}") from None


def _data(document: dict[str, Any]) -> bytes:
    if "data" in document:
        return orjson.dumps(document["data"])
    packed = document.get("data_base64")
    try:
        return base64.b64decode(packed if isinstance(packed, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise DataError("the event has neither 'data' nor a 'data_base64' that is base64") from None


def _check_version(version: object) -> None:
    if version not in _VERSIONS:
        raise DataError(f"the event's specversion is {version!r:.40}; give 1.0")


def _extensions(attributes: dict[str, Any]) -> dict[str, Any]:
    """The values that an answer may carry: text, numbers, true and false."""
    return {
        name: value
        for name, value in attributes.items()
        if name not in _OWN and isinstance(value, str | int | float)
    }
