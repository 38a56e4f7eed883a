"""CloudEvents 1.0 over HTTP, binary and structured mode, as brokers and sidecars send them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import unquote

from serving.errors import DataError

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch"
LONGEST = 256
"""Characters of an id, a type or a source."""


@dataclass(frozen=True)
class CloudEvent:
    id: str
    source: str
    type: str
    time: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """(source, id): what makes an event unique."""
        return self.source, self.id

    @property
    def model(self) -> str:
        """The model it speaks of; events that name none count as of one model."""
        return self.text("model")

    def text(self, name: str) -> str:
        """A plain field of its data as text, "" where it has none."""
        value = self.data.get(name)
        return "" if value is None or isinstance(value, dict | list) else str(value)

    def to_json(self) -> dict[str, Any]:
        """Itself in structured mode."""
        return {"specversion": "1.0", **asdict(self), "datacontenttype": "application/json"}


def read_event(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """Reads one event; `headers` have lower-case names. Raises DataError naming what is wrong."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith(BATCHED):
        raise DataError(f"content-type {kind}: batches are not read; send one event a request")
    if kind == STRUCTURED:
        return parse_event(_json(body, "the event"))
    found = {
        name.removeprefix("ce-"): unquote(value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    if not found:
        raise DataError(
            f"the request is no CloudEvent: give ce-* headers, or content-type {STRUCTURED}"
        )
    return parse_event({**found, "data": _json(body, "the event's data") if body else {}})


def parse_event(document: Any) -> CloudEvent:
    """The event of a structured document. Raises DataError."""
    if not isinstance(document, dict):
        raise DataError("the event is not a JSON object")
    for name in ("specversion", "id", "source", "type"):
        value = document.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
            raise DataError(f"the event needs '{name}' with 1 to {LONGEST} characters")
    if document["specversion"] != "1.0":
        raise DataError(f"specversion '{document['specversion'][:20]}' is not 1.0")
    data = document.get("data")
    if data is None and "data_base64" in document:
        try:
            data = _json(base64.b64decode(document["data_base64"], validate=True), "data_base64")
        except (ValueError, TypeError):
            raise DataError("data_base64 is not base64") from None
    if data is not None and not isinstance(data, dict):
        raise DataError("the event's data is not a JSON object")
    time = document.get("time")
    return CloudEvent(
        id=document["id"],
        source=document["source"],
        type=document["type"],
        time=time[:LONGEST] if isinstance(time, str) else "",
        data=data or {},
    )


def _json(body: bytes, what: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise DataError(f"{what} is not JSON") from None
