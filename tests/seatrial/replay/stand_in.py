"""A stand-in for gateway and predictor: answers each row as the test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from aiohttp import web
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

ARM = "x-seatrial-arm"
METHOD = "ModelInfer"
SERVICE = "inference.GRPCInferenceService"


@dataclass
class StandIn:
    """Rows not named in `http` or `grpc` get the score row / 1000 from arm v1."""

    http: Mapping[int, tuple[int, str | None, str]] = field(default_factory=dict)
    """Row to (status, arm, body); status 0 breaks the connection, -1 never answers."""
    grpc: Mapping[int, tuple[grpc.StatusCode, str | None, str]] = field(default_factory=dict)
    """Row to (code, arm, details)."""
    delay: float = 0.0
    http_address: str = ""
    grpc_address: str = ""
    bodies: list[Any] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def _wait(self) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.delay)
        self.in_flight -= 1

    async def answer_http(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        row = int(body["id"].removeprefix("row-"))
        await self._wait()
        status, arm, text = self.http.get(row, (200, "v1", ""))
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if status == -1:
            await asyncio.sleep(60)
        if status == 200 and not text:
            score = {"name": "score", "shape": [1], "datatype": "FP32", "data": [row / 1000]}
            return web.json_response({"outputs": [score]}, headers={ARM: "v1"})
        return web.Response(status=status, text=text, headers={ARM: arm} if arm else {})

    async def answer_grpc(self, request: Any, context: Any) -> Any:
        self.messages.append(request)
        row = int(request.id.removeprefix("row-"))
        await self._wait()
        code, arm, details = self.grpc.get(row, (grpc.StatusCode.OK, "v1", ""))
        if code is not grpc.StatusCode.OK:
            context.set_trailing_metadata(((ARM, arm),) if arm else ())
            await context.abort(code, details)
        await context.send_initial_metadata(((ARM, arm or "v1"),))
        score = pb.ModelInferResponse.InferOutputTensor(name="score", datatype="FP32", shape=[1])
        score.contents.fp32_contents.append(row / 1000)
        return pb.ModelInferResponse(outputs=[score])


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """Runs it on two free loopback ports in a thread of its own."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v2/models/{model}/infer", stand_in.answer_http)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        stand_in.http_address = f"{host}:{port}"
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            stand_in.answer_grpc,
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=pb.ModelInferResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )
        stand_in.grpc_address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        ready.set()
        await over.wait()
        await server.stop(0)
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield stand_in
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
