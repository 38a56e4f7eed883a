"""Inference over HTTP, answered before any framework layer; KServe's app gets the rest."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, Literal

import orjson

from serving.errors import DataError, InferenceFailed, SeatrialError
from serving.predictor.model import BundleModel

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 64 * 2**20
_INFERENCE = re.compile(r"/v1/models/([^/]+):predict|/v2/models/([^/]+)/infer")
_JSON_SIZE = b"inference-header-content-length"
_JSON = (b"content-type", b"application/json")
_PACKED = (b"content-type", b"application/octet-stream")
_CLOSE = (b"connection", b"close")

logger = logging.getLogger("seatrial.predictor")


class InferenceApp:
    """ASGI: V1 `:predict` and V2 `/infer` of the one model here, everything else to `rest`."""

    def __init__(self, rest: App, model: BundleModel) -> None:
        self._rest = rest
        self._model = model
        self._routes: dict[str, Literal["v1", "v2"]] = {
            f"/v1/models/{model.name}:predict": "v1",
            f"/v2/models/{model.name}/infer": "v2",
        }
        self.draining = False
        """Answers ask the client to close, so that no request meets a closed connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            wire = self._routes.get(scope["path"])
            if wire is not None and not _is_cloud_event(scope):
                await self._infer(wire, scope, receive, send)
                return
            unknown = None if wire else _INFERENCE.fullmatch(scope["path"])
            if unknown:
                name = unknown[1] or unknown[2]
                await self._send(send, 404, _error(f"there is no model '{name}' here"), [_JSON])
                return
        await self._rest(scope, receive, send)

    async def _infer(
        self, wire: Literal["v1", "v2"], scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            body = await _read(receive)
        except _ClientGoneError:
            return
        start = perf_counter()
        headers = [_JSON]
        try:
            if body is None:
                status, answer = 413, _error(f"the body is over {MAX_BODY_BYTES} bytes; send less")
            elif wire == "v1":
                request = self._model.http_wire.decode_v1(body)
                status, answer = (
                    200,
                    self._model.http_wire.encode_v1(await self._model.score(request)),
                )
            else:
                request = self._model.http_wire.decode_v2(body, _json_size(scope))
                scored = await self._model.score(request)
                answer, json_size = self._model.http_wire.encode_v2(request, scored)
                status = 200
                if json_size is not None:
                    headers = [_PACKED, (_JSON_SIZE, str(json_size).encode())]
        except SeatrialError as error:
            status, answer = error.http_status, _error(str(error))
            if isinstance(error, InferenceFailed):
                logger.warning("%s request answered %d: %s", wire, status, error)
        except Exception as error:
            logger.exception("%s request failed in the predictor itself", wire)
            status, answer = 500, _error(f"internal error: {type(error).__name__}")
        self._model.metrics.answered(wire, str(status), perf_counter() - start)
        await self._send(send, status, answer, headers)

    async def _send(
        self, send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
    ) -> None:
        length = (b"content-length", str(len(body)).encode())
        headers = [*headers, length, _CLOSE] if self.draining else [*headers, length]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _ClientGoneError(Exception):
    pass


async def _read(receive: Receive) -> bytes | None:
    """The body; None when it is over the limit."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            return None
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _json_size(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == _JSON_SIZE:
            if not value.isdigit():
                raise DataError(
                    f"Inference-Header-Content-Length is {value[:40].decode('latin-1')!r},"
                    " it must be a count of bytes"
                )
            return int(value)
    return None


def _is_cloud_event(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"ce-specversion":
            return True
        if name == b"content-type":
            return bool(value.startswith(b"application/cloudevents+json"))
    return False


def _error(message: str) -> bytes:
    return orjson.dumps({"error": message})
