"""Inference over HTTP, answered before any framework layer; KServe's app gets the rest."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from serving.errors import DataError, InferenceFailed, Overloaded, SeatrialError
from serving.predictor.cloud_events import Headers, is_cloud_event, unwrap, wrap
from serving.predictor.model import BundleModel
from serving.predictor.wire import Request, Scored

if TYPE_CHECKING:
    from serving.predictor.gather import Gatherer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Wire = Literal["v1", "v2"]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 64 * 2**20
_TOO_LARGE = f"the body is over {MAX_BODY_BYTES} bytes; send less"
_INFERENCE = re.compile(r"/v1/models/([^/]+):predict|/v2/models/([^/]+)/infer")
_JSON_SIZE = b"inference-header-content-length"
_JSON = (b"content-type", b"application/json")
_PACKED = (b"content-type", b"application/octet-stream")
_JSON_ONLY = (_JSON,)
_CLOSE = (b"connection", b"close")
_RETRY = (b"retry-after", b"1")
# Envoy tells how many milliseconds its own caller still waits.
_PATIENCE = b"x-envoy-expected-rq-timeout-ms"

logger = logging.getLogger("seatrial.predictor")


class Reply(NamedTuple):
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class InferenceApp:
    """ASGI: V1 `:predict` and V2 `/infer` of the one model here, everything else to `rest`."""

    def __init__(self, rest: App, model: BundleModel) -> None:
        self._rest = rest
        self._model = model
        self.routes: dict[str, Wire] = {
            f"/v1/models/{model.name}:predict": "v1",
            f"/v2/models/{model.name}/infer": "v2",
        }
        self.gatherer: Gatherer | None = None
        """For models whose rows are cheaper together."""
        self.draining = False
        """Answers ask the client to close, so that no request meets a closed connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            wire = self.routes.get(scope["path"])
            if wire is not None:
                await self._infer(wire, scope, receive, send)
                return
            unknown = _INFERENCE.fullmatch(scope["path"])
            if unknown:
                name = unknown[1] or unknown[2]
                await self._send(
                    send, Reply(404, (_JSON,), _error(f"there is no model '{name}' here"))
                )
                return
            await self._bounded(scope, receive, send)
            return
        await self._rest(scope, receive, send)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """KServe's own POST endpoints read bodies of any size."""
        try:
            body = await _read(receive)
        except _ClientLeftError:
            return
        if body is None:
            await self._send(send, Reply(413, _JSON_ONLY, _error(_TOO_LARGE)))
            return
        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> MutableMapping[str, Any]:
            return next(parts, None) or await receive()

        await self._rest(scope, again, send)

    def reply_at_once(self, wire: Wire, headers: Headers, body: bytes) -> Reply | None:
        """The answer, where it takes no waiting; else None, and nothing has happened."""
        start = perf_counter()
        try:
            request = self._decode(wire, headers, body)
            scored = self._model.score_direct(request)
            if scored is None:
                return None
            reply = self._encode(wire, request, scored)
        except Exception as error:
            reply = self._failure(wire, error)
        self._model.metrics.answered(wire, str(reply.status), perf_counter() - start)
        return reply

    def reply_together(self, asked: Sequence[tuple[Wire, Headers, bytes]]) -> list[Reply | None]:
        """As `reply_at_once` for each; the model is run once for as many as that pays."""
        if len(asked) == 1:
            return [self.reply_at_once(*asked[0])]
        start = perf_counter()
        replies: list[Reply | None] = [None] * len(asked)
        requests: dict[int, Request] = {}
        for at, (wire, headers, body) in enumerate(asked):
            try:
                requests[at] = self._decode(wire, headers, body)
            except Exception as error:
                replies[at] = self._failure(wire, error)
        scored = self._model.score_together(list(requests.values()))
        for at, result in zip(requests, scored, strict=True):
            if result is not None:
                replies[at] = self._encode(asked[at][0], requests[at], result)
        seconds = perf_counter() - start
        for at, reply in enumerate(replies):
            if reply is not None:
                self._model.metrics.answered(asked[at][0], str(reply.status), seconds)
            else:
                replies[at] = self.reply_at_once(*asked[at])
        return replies

    def refusal(self, wire: Wire, error: SeatrialError) -> Reply:
        """The answer to a request that is not even read."""
        self._model.metrics.answered(wire, str(error.http_status), 0.0)
        return self._failure(wire, error)

    def dropped(self, requests: int) -> None:
        """Counts requests whose clients had gone before they were even read."""
        self._model.metrics.add("seatrial_dropped_requests", "gone", count=requests)

    async def _infer(self, wire: Wire, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _read(receive)
        except _ClientLeftError:
            return
        model = self._model
        headers = scope["headers"]
        start = perf_counter()
        model.metrics.arrived()
        try:
            if body is None:
                raise _TooLargeError(_TOO_LARGE)
            event = None
            if is_cloud_event(headers):
                body, event = unwrap(headers, body)
            request = self._decode(wire, headers, body)
            scored = model.score_direct(request)
            if scored is None:
                request.seconds = _patience(headers)
                request.gone = _watch(receive)
                scored = await model.score(request)
            reply = self._encode(wire, request, scored)
            if event is not None:
                reply = Reply(200, *wrap(event, model.name, reply.headers, reply.body))
        except Exception as error:
            reply = self._failure(wire, error)
        model.metrics.left()
        model.metrics.answered(wire, str(reply.status), perf_counter() - start)
        await self._send(send, reply)

    def _decode(self, wire: Wire, headers: Headers, body: bytes) -> Request:
        if wire == "v1":
            request = self._model.http_wire.decode_v1(body)
            if self._model.audited:
                request.id = _header_id(headers) or request.id
            return request
        return self._model.http_wire.decode_v2(body, _json_size(headers))

    def _encode(self, wire: Wire, request: Request, scored: Scored) -> Reply:
        if wire == "v1":
            return Reply(200, _JSON_ONLY, self._model.http_wire.encode_v1(scored))
        body, json_size = self._model.http_wire.encode_v2(request, scored)
        if json_size is None:
            return Reply(200, _JSON_ONLY, body)
        return Reply(200, (_PACKED, (_JSON_SIZE, str(json_size).encode())), body)

    def _failure(self, wire: Wire, error: Exception) -> Reply:
        if not isinstance(error, SeatrialError):
            logger.error("%s request failed in the predictor itself", wire, exc_info=error)
            return Reply(500, _JSON_ONLY, _error(f"internal error: {type(error).__name__}"))
        if isinstance(error, DataError):
            self._model.refused(error)
        elif isinstance(error, InferenceFailed):
            logger.warning("%s request answered %d: %s", wire, error.http_status, error)
        headers = (_JSON, _RETRY) if isinstance(error, Overloaded) else _JSON_ONLY
        return Reply(error.http_status, headers, _error(str(error)))

    async def _send(self, send: Send, reply: Reply) -> None:
        headers = [*reply.headers, (b"content-length", str(len(reply.body)).encode())]
        if self.draining:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


class _ClientLeftError(Exception):
    pass


class _TooLargeError(DataError):
    http_status = 413


async def _read(receive: Receive) -> bytes | None:
    """The body; None when it is over the limit."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeftError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            return None
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _json_size(headers: Headers) -> int | None:
    for name, value in headers:
        if name == _JSON_SIZE:
            if not value.isdigit():
                raise DataError(
                    f"Inference-Header-Content-Length is {value[:40].decode('latin-1')!r},"
                    " it must be a count of bytes"
                )
            return int(value)
    return None


def _header_id(headers: Headers) -> str:
    """V1 has no ids of its own; Envoy gives every request one."""
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode("latin-1")
    return ""


def _patience(headers: Headers) -> float | None:
    """Seconds that the caller still waits, if it says so."""
    for name, value in headers:
        if name == _PATIENCE and value.isdigit():
            return int(value) / 1000
    return None


def _watch(receive: Receive) -> Callable[[], bool]:
    """Whether the client has closed its connection, which uvicorn knows without being awaited."""
    cycle = getattr(receive, "__self__", None)
    return lambda: getattr(cycle, "disconnected", False) is True


def _error(message: str) -> bytes:
    return orjson.dumps({"error": message})
