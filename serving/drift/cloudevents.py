"""CloudEvents 1.0 over HTTP as they come in: binary, structured and batched mode."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from serving.errors import DataError

BATCH = b"application/cloudevents-batch+json"
_REQUIRED = ("specversion", "type", "source", "id")
_KNOWN = frozenset((*_REQUIRED, "time", "datacontenttype", "data", "data_base64", "dataschema"))

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event, its data not yet read."""

    key: tuple[str, str, str]
    """(source, type, id): what makes an event unique."""
    time: float
    """Seconds since 1970; when it was received if it does not say."""
    data: Any
    """Parsed JSON, or the bytes of any other content."""
    extensions: Mapping[str, str]
    """Attributes beside CloudEvents' own; names in lower case, without ce-."""

    @property
    def type(self) -> str:
        return self.key[1]


def read_events(headers: Headers, body: bytes) -> list[Envelope]:
    """The events of one request. Raises DataError naming what is wrong with the first bad one."""
    content = b""
    binary = False
    for name, value in headers:
        if name == b"content-type":
            content = value
        elif name in {b"ce-specversion", b"ce-type"}:
            binary = True
    if binary:
        return [_binary(headers, content, body)]
    event = parse_json(body, "the event")
    if content.startswith(BATCH):
        if not isinstance(event, list):
            raise DataError("a batch of events is not a JSON array")
        return [_structured(one) for one in event]
    return [_structured(event)]


def parse_json(body: bytes, what: str) -> Any:
    """Raises DataError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{what} is not JSON: {error}") from None


def parse_time(text: object) -> float:
    """Seconds since 1970 of an RFC 3339 time; now for None. Raises DataError."""
    if text is None:
        return time.time()
    try:
        found = datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(f"time {str(text)[:40]!r} is not an RFC 3339 time") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _structured(event: Any) -> Envelope:
    if not isinstance(event, dict):
        raise DataError("the event is not a JSON object")
    key = _key(event)
    data = event.get("data")
    if data is None and "data_base64" in event:
        try:
            data = base64.b64decode(event["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise DataError("the event's data_base64 is not base64") from None
        if "json" in str(event.get("datacontenttype", "")):
            data = parse_json(data, "the event's data")
    extensions = {k: v for k, v in event.items() if k not in _KNOWN and isinstance(v, str)}
    return Envelope(key, parse_time(event.get("time")), data, extensions)


def _binary(headers: Headers, content: bytes, body: bytes) -> Envelope:
    try:
        given = {
            name[3:].decode(): value.decode() for name, value in headers if name.startswith(b"ce-")
        }
    except UnicodeDecodeError:
        raise DataError("a ce- header of the event is not UTF-8 text") from None
    key = _key(given)
    data: Any = body
    if content.startswith((b"application/json", b"text/json")) and body[:1] in (b"{", b"["):
        # A V2 body with packed tensors may say JSON, too: its JSON ends before the body does.
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            data = body
    extensions = {k: v for k, v in given.items() if k not in _KNOWN}
    for name, value in headers:
        if name == b"inference-header-content-length":
            extensions["inferenceheadercontentlength"] = value.decode("latin-1")
    return Envelope(key, parse_time(given.get("time")), data, extensions)


def _key(event: Mapping[str, Any]) -> tuple[str, str, str]:
    for name in _REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise DataError(f"the event has no text in '{name}'; CloudEvents need it")
    if event["specversion"] != "1.0":
        raise DataError(f"specversion '{event['specversion'][:20]}' is not 1.0")
    return event["source"], event["type"], event["id"]
