"""The HTTP side: PUT /bundle, POST /events, GET /healthz, /status and /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.drift.engine import Engine, UnknownBundle
from serving.drift.events import read_rows_event
from serving.drift.introduction import read_introduction
from serving.drift.metrics import Metrics
from serving.errors import DataError

LARGEST_BUNDLE = 256 * 2**20
LARGEST_EVENT = 16 * 2**20
"""Bytes of a request's body; a larger one is answered 413."""

Handler = Callable[[Request], Awaitable[Response]]


class TooLargeError(Exception):
    pass


def build_app(engine: Engine, metrics: Metrics, window_rows: int = 0) -> Starlette:
    async def bundle(request: Request) -> Response:
        body = await _body(request, LARGEST_BUNDLE)
        engine.introduce(await run_in_threadpool(read_introduction, body, window_rows))
        return Response(status_code=204)

    async def events(request: Request) -> Response:
        engine.accept(read_rows_event(await _body(request, LARGEST_EVENT)))
        return Response(status_code=202)

    async def healthz(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def status(_: Request) -> Response:
        return Response(orjson.dumps(engine.status()), media_type="application/json")

    async def show_metrics(_: Request) -> Response:
        engine.refresh_metrics()
        text = generate_latest(metrics.registry)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/bundle", _refusing(bundle, metrics), methods=["PUT"]),
            Route("/events", _refusing(events, metrics), methods=["POST"]),
            Route("/healthz", healthz),
            Route("/status", status),
            Route("/metrics", show_metrics),
        ]
    )


def _refusing(handler: Handler, metrics: Metrics) -> Handler:
    """Turns what a handler raises into its status and {"error": sentence}."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except DataError as error:
            status, sentence = error.http_status, str(error)
        except UnknownBundle as error:
            status, sentence = 409, str(error)
        except TooLargeError as error:
            status, sentence = 413, str(error)
        metrics.refused.labels(str(status)).inc()
        body = orjson.dumps({"error": sentence})
        return Response(body, status_code=status, media_type="application/json")

    return answer


async def _body(request: Request, largest: int) -> bytes:
    """The body. Raises TooLargeError as soon as it is longer than `largest` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > largest:
            raise TooLargeError(f"the body is longer than {largest} bytes; send fewer rows")
        parts.append(part)
    return b"".join(parts)
