"""The HTTP side: PUT /bundle, POST /events, POST /labels, GET /healthz, /status and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.drift.cloudevents import Envelope, Headers, read_events
from serving.drift.engine import Engine
from serving.drift.foreign import logged_outputs
from serving.drift.intake import OtherInput, UnknownBundle
from serving.drift.introduction import read_introduction
from serving.drift.labels import LABELS, Labels, read_labels
from serving.drift.labels.reading import labels_of
from serving.drift.metrics import Metrics
from serving.errors import DataError

LARGEST_BUNDLE = 256 * 2**20
LARGEST_EVENT = 16 * 2**20
"""Bytes of a request's body; a larger one is answered 413."""

Handler = Callable[[Request], Awaitable[Response]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ACCEPTED = (
    {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]},
    {"type": "http.response.body", "body": b""},
)
_STATUS: tuple[tuple[type[Exception], int], ...]


class TooLargeError(Exception):
    pass


class Gone(Exception):
    """The client left in the middle of its request."""


_STATUS = ((DataError, 400), (UnknownBundle, 409), (TooLargeError, 413), (OtherInput, 422))


def build_app(engine: Engine, metrics: Metrics) -> App:
    """The ASGI application. POST /events goes past the framework: it is thousands a second."""
    others = _others(engine, metrics)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in ("/events", "/"):
            await others(scope, receive, send)
            return
        if scope["method"] != "POST":
            answer = Response(status_code=405, headers={"allow": "POST"})
            await answer(scope, receive, send)
            return
        try:
            _take(engine, scope["headers"], await _body(receive, LARGEST_EVENT))
        except Gone:
            return
        except tuple(kind for kind, _ in _STATUS) as error:
            await _refusal(error, metrics)(scope, receive, send)
            return
        for message in _ACCEPTED:
            await send(message)

    return app


def _others(engine: Engine, metrics: Metrics) -> Starlette:
    """Everything but POST /events."""

    async def bundle(request: Request) -> Response:
        body = await _body(request.receive, LARGEST_BUNDLE)
        if engine.settings.bundle:
            raise OtherInput("this sidecar has its bundle from --bundle; none is taken over HTTP")
        if engine.receiving.kind == "kserve":
            outputs = logged_outputs(engine.settings)
            known = await run_in_threadpool(read_introduction, body, outputs)
        else:
            known = await run_in_threadpool(read_introduction, body)
        await run_in_threadpool(engine.introduce, known)
        return Response(status_code=204)

    async def labels(request: Request) -> Response:
        body = await _body(request.receive, LARGEST_EVENT)
        _label(engine, await run_in_threadpool(read_labels, body))
        return Response(status_code=202)

    async def healthz(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def status(_: Request) -> Response:
        told = await run_in_threadpool(engine.status)
        return Response(orjson.dumps(told), media_type="application/json")

    async def show_metrics(_: Request) -> Response:
        text = await run_in_threadpool(generate_latest, metrics.registry)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/bundle", _refusing(bundle, metrics), methods=["PUT"]),
            Route("/labels", _refusing(labels, metrics), methods=["POST"]),
            Route("/healthz", healthz),
            Route("/status", status),
            Route("/metrics", show_metrics),
        ]
    )


def _take(engine: Engine, headers: Headers, body: bytes) -> None:
    """Takes each event that can be; raises what is wrong with the first when none could be."""
    try:
        events = read_events(headers, body)
    except DataError:
        engine.receiving.counts.refuse("malformed")
        raise
    wrong: Exception | None = None
    taken = 0
    for event in events:
        try:
            _accept(engine, event)
            taken += 1
        except (DataError, UnknownBundle, OtherInput) as error:
            wrong = wrong or error
    if wrong is not None and not taken:
        raise wrong


def _accept(engine: Engine, event: Envelope) -> None:
    if event.type == LABELS:
        _label(engine, labels_of(event.data))
    else:
        engine.receiving.accept(event)


def _label(engine: Engine, labels: Labels) -> None:
    if not engine.label(labels):
        raise UnknownBundle("no bundle is watched yet, or labels are off; send them again later")


def _refusing(handler: Handler, metrics: Metrics) -> Handler:
    """Turns what a handler raises into its status and {"error": sentence}."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Gone:
            return Response(status_code=400)
        except tuple(kind for kind, _ in _STATUS) as error:
            return _refusal(error, metrics)

    return answer


def _refusal(error: Exception, metrics: Metrics) -> Response:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    metrics.refused.labels(str(status)).inc()
    body = orjson.dumps({"error": str(error)})
    return Response(body, status_code=status, media_type="application/json")


async def _body(receive: Receive, largest: int) -> bytes:
    """The body. Raises TooLargeError as soon as it is longer than `largest` bytes."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        first: bytes = message.get("body", b"")
        if len(first) <= largest:
            return first
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size > largest:
            raise TooLargeError(f"the body is longer than {largest} bytes; send fewer rows")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
