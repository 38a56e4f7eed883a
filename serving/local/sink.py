"""Where the sidecars' CloudEvents go on one machine: a loopback port and a file of JSON lines."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from aiohttp import web

MAX_EVENT_BYTES = 1 << 20


class Sink:
    """Appends each CloudEvent, structured or binary, as one JSON line of a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.count = 0
        """Events in the file, those of earlier runs included."""
        with contextlib.suppress(FileNotFoundError), file.open("rb") as handle:
            self.count = sum(1 for _ in handle)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_EVENT_BYTES)
        app.router.add_post("/", self._on_event)
        return app

    async def _on_event(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            event = read_event(request.content_type, dict(request.headers), body)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        with self._file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(event) + "\n")
        self.count += 1
        return web.Response(status=202)


def read_event(content_type: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """The event in structured form. Raises ValueError when a required attribute is missing."""
    try:
        data: Any = json.loads(body) if body else None
    except ValueError:
        raise ValueError("the event's body is not JSON; send application/json") from None
    if content_type == "application/cloudevents+json":
        event = data if isinstance(data, dict) else {}
    else:
        given = {k.lower(): v for k, v in headers.items()}
        event = {k.removeprefix("ce-"): v for k, v in given.items() if k.startswith("ce-")}
        event["data"] = data
    for name in ("specversion", "id", "source", "type"):
        if not event.get(name):
            raise ValueError(f"the event has no '{name}'; CloudEvents 1.0 requires it")
    return event
