"""KServe's model server, bound to one address, on uvloop, with an ordered end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import kserve
import uvicorn
import uvloop
from fastapi.responses import JSONResponse
from kserve.model_server import app as kserve_app
from kserve.model_server import args as kserve_args
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer

from serving.errors import SeatrialError
from serving.predictor.acceptor import Acceptor
from serving.predictor.audit import AuditLog
from serving.predictor.front_protocol import FrontProtocol
from serving.predictor.gather import Gatherer
from serving.predictor.grpc_server import GrpcServer
from serving.predictor.http import InferenceApp
from serving.predictor.model import BundleModel
from serving.predictor.settings import Settings
from serving.predictor.tee import Tee
from serving.predictor.workers import listen

# Together under the 5 s from SIGTERM to exit.
LAME_DUCK_SECONDS = 0.5
DRAIN_SECONDS = 2.0
CLOSE_SECONDS = 0.5
FLUSH_SECONDS = 1.0

logger = logging.getLogger("seatrial.predictor")


class PredictorServer(kserve.ModelServer):  # type: ignore[misc]
    """`start` serves until SIGTERM or SIGINT, drains, flushes the tee and returns."""

    def __init__(
        self,
        settings: Settings,
        model: BundleModel,
        copies: Sequence[Tee | AuditLog],
        *,
        shared_ports: bool = False,
    ) -> None:
        """`shared_ports`: other workers listen on them too."""
        super().__init__(
            http_port=settings.http_port,
            grpc_port=settings.grpc_port,
            workers=1,
            registered_models=_OneModel(),
            enable_latency_logging=False,
        )
        self._settings = settings
        self._model = model
        self._copies = copies
        self._shared = shared_ports
        self.dataplane = _NamedPlatform(model, model_registry=self.registered_models)
        self.model_repository_extension = _Answering(model_registry=self.registered_models)
        self._stopping: asyncio.Event | None = None

    def start(self, models: list[BundleModel] | None = None) -> None:
        """Raises SeatrialError when an address is taken."""
        host = _bracketed(self._settings.host)
        listener = listen(
            self._settings.host, self.http_port, flag="http_port", shared=self._shared
        )
        kserve_app.add_exception_handler(SeatrialError, _answer_error)
        front = InferenceApp(kserve_app, self._model)
        if self._model.session.gathering_pays:
            front.gatherer = Gatherer(front, self._settings.max_queue)
        http = _HttpServer(
            front,
            self.dataplane,
            self.model_repository_extension,
            self.http_port,
            timeout_keep_alive=self.timeout_keep_alive,
            grace_period=DRAIN_SECONDS + CLOSE_SECONDS,
        )
        grpc = None
        if self.enable_grpc:
            grpc = GrpcServer(
                f"{host}:{self.grpc_port}",
                self._model,
                InferenceServicer(self.dataplane, self.model_repository_extension),
                max_message_bytes=kserve_args.grpc_max_receive_message_length,
                max_waiting=self._settings.max_queue,
                shared_port=self._shared,
            )
        self._register_and_check_atleast_one_model_is_ready(models or [self._model])
        logger.info(
            "model '%s' is bundle %s on %s, golden rows reproduced; HTTP on %s:%d, gRPC on port %d",
            self._model.name,
            self._model.session.bundle.digest[:12],
            self._model.metrics.provider,
            host,
            self.http_port,
            self.grpc_port,
        )
        # What was imported stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve_until_stopped(http, grpc, front, listener))

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """Begins the end; `start` returns when it is done."""
        if self._stopping is not None:
            self._stopping.set()

    async def _serve_until_stopped(
        self,
        http: _HttpServer,
        grpc: GrpcServer | None,
        front: InferenceApp,
        listener: socket.socket,
    ) -> None:
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(sig, self.stop, sig)
        if grpc is not None:
            grpc.start(loop)
        server = asyncio.create_task(http.serve(listener))
        for copy in self._copies:
            copy.start()
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([server, stopping], return_when=asyncio.FIRST_COMPLETED)
        asked = self._stopping.is_set()
        stopping.cancel()
        self._model.stop()
        front.draining = True
        if asked:
            logger.info("stopping: not ready any more, draining")
            # Still serving while load balancers read the readiness.
            await asyncio.sleep(LAME_DUCK_SECONDS)
        limit = loop.call_later(DRAIN_SECONDS, self._model.session.terminate_all)
        http.stop()
        endings: list[Any] = [server]
        if grpc is not None:
            endings.append(asyncio.to_thread(grpc.stop_within, DRAIN_SECONDS + CLOSE_SECONDS))
        ended = await asyncio.gather(*endings, return_exceptions=True)
        limit.cancel()
        closing = [asyncio.to_thread(copy.close, FLUSH_SECONDS) for copy in self._copies]
        await asyncio.gather(*closing)
        for result in ended:
            if isinstance(result, BaseException):
                raise result


class _NamedPlatform(DataPlane):  # type: ignore[misc]
    def __init__(self, model: BundleModel, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._platform = f"onnxruntime_onnx on {model.metrics.provider}"

    async def model_metadata(self, model_name: str) -> Any:
        """With what really runs the model."""
        return {**await super().model_metadata(model_name), "platform": self._platform}


class _Answering(ModelRepositoryExtension):  # type: ignore[misc]
    async def load(self, model_name: str) -> dict[str, Any]:
        """With the answer that KServe's gRPC servicer expects and its own extension lacks."""
        await super().load(model_name)
        return {"name": model_name, "load": True}


class _OneModel(kserve.ModelRepository):  # type: ignore[misc]
    def unload(self, name: str) -> None:
        """Any caller could otherwise take the pod's only model away. Answers 501."""
        raise _NotHere(f"'{name}' is the one model of this process; stop the process instead")


class _NotHere(NotImplementedError):
    @property
    def reason(self) -> str:
        """What KServe's gRPC interceptor reads."""
        return str(self)


async def _answer_error(_: Any, error: SeatrialError) -> Any:
    """For requests that went through KServe's own routes."""
    return JSONResponse({"error": str(error)}, error.http_status)


class _HttpServer(RESTServer):  # type: ignore[misc]
    """KServe's REST server behind our front, without its signal handlers."""

    def __init__(self, front: InferenceApp, *args: Any, **kwargs: Any) -> None:
        super().__init__(front, *args, **kwargs)
        self.config.http = FrontProtocol
        self.config.access_log = False
        self.config.proxy_headers = False
        self._server = _Uvicorn(self.config)

    async def serve(self, listener: socket.socket) -> None:
        self.create_application()
        self._server.listener = listener
        await self._server.serve(sockets=[])

    def stop(self) -> None:
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """With our way of taking connections."""

    listener: socket.socket

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._acceptor = Acceptor(
            self.listener,
            lambda: FrontProtocol(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            ),
        )
        self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._acceptor.stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
