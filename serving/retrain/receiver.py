"""The HTTP side: POST / or /events takes a CloudEvent; GET /healthz, /status and /metrics."""

from __future__ import annotations

import logging
import time

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import DataError
from serving.retrain.cloudevent import read_event
from serving.retrain.dispatcher import Dispatcher
from serving.retrain.journal import Journal
from serving.retrain.metrics import Metrics

logger = logging.getLogger("seatrial.retrain")

LARGEST_EVENT = 2**20
"""Bytes; brokers forward 64 KB."""
KNOWN_TYPE = "io.seatrial."
"""Types of ours are label values; foreign ones count as "other", whatever a sender makes up."""


def build_app(journal: Journal, dispatcher: Dispatcher, metrics: Metrics) -> Starlette:
    async def events(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_EVENT:
                return _refused(413, f"the event is longer than {LARGEST_EVENT} bytes")
        try:
            event = read_event(dict(request.headers), bytes(body))
        except DataError as error:
            return _refused(error.http_status, str(error))
        try:
            record = await run_in_threadpool(journal.add, event, time.time())
        except OSError as error:
            # 503 makes the sender keep the event and try again.
            logger.error("event %s cannot be kept: %s", event.id, error)
            return _refused(503, f"the event cannot be kept: {error.strerror}; send it again")
        kind = event.type if event.type.startswith(KNOWN_TYPE) else "other"
        receipt = "duplicate" if record is None else "accepted"
        metrics.events.labels(kind, receipt).inc()
        logger.info("event %s of type %s from %s: %s", event.id, event.type, event.source, receipt)
        dispatcher.wake()
        return Response(status_code=202)

    def _refused(status: int, sentence: str) -> Response:
        metrics.refused.labels(str(status)).inc()
        body = orjson.dumps({"error": sentence})
        return Response(body, status_code=status, media_type="application/json")

    async def healthz(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def status(_: Request) -> Response:
        body = orjson.dumps(await run_in_threadpool(dispatcher.status))
        return Response(body, media_type="application/json")

    async def show_metrics(_: Request) -> Response:
        dispatcher.refresh_metrics()
        text = generate_latest(metrics.registry)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/", events, methods=["POST"]),
            Route("/events", events, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/status", status),
            Route("/metrics", show_metrics),
        ]
    )
