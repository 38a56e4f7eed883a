"""KServe's model server, bound to one address, on uvloop, with an ordered end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from typing import Any

import kserve
import uvicorn
import uvloop
from fastapi.responses import JSONResponse
from kserve.model_server import app as kserve_app
from kserve.model_server import args as kserve_args
from kserve.protocol.rest.server import RESTServer

from serving.errors import SeatrialError
from serving.predictor.grpc_server import GrpcServer
from serving.predictor.http import InferenceApp
from serving.predictor.model import BundleModel
from serving.predictor.settings import Settings
from serving.predictor.tee import Tee

# Together under the 5 s from SIGTERM to exit.
LAME_DUCK_SECONDS = 0.5
DRAIN_SECONDS = 2.0
CLOSE_SECONDS = 0.5
FLUSH_SECONDS = 1.0

logger = logging.getLogger("seatrial.predictor")


class PredictorServer(kserve.ModelServer):  # type: ignore[misc]
    """`start` serves until SIGTERM or SIGINT, drains, flushes the tee and returns."""

    def __init__(self, settings: Settings, model: BundleModel, tee: Tee | None) -> None:
        super().__init__(
            http_port=settings.http_port,
            grpc_port=settings.grpc_port,
            workers=1,
            registered_models=_OneModel(),
            enable_latency_logging=False,
        )
        self._settings = settings
        self._model = model
        self._tee = tee
        self._stopping: asyncio.Event | None = None

    def start(self, models: list[BundleModel] | None = None) -> None:
        """Raises SeatrialError when an address is taken."""
        host = _bracketed(self._settings.host)
        listener = _listen(self._settings.host, self.http_port)
        kserve_app.add_exception_handler(SeatrialError, _answer_error)
        front = InferenceApp(kserve_app, self._model)
        http = _HttpServer(
            front,
            self.dataplane,
            self.model_repository_extension,
            self.http_port,
            timeout_keep_alive=self.timeout_keep_alive,
            grace_period=DRAIN_SECONDS + CLOSE_SECONDS,
        )
        grpc = GrpcServer(
            f"{host}:{self.grpc_port}",
            self._model,
            self.grpc_port,
            self.dataplane,
            self.model_repository_extension,
            kwargs=vars(kserve_args),
        )
        self._register_and_check_atleast_one_model_is_ready(models or [self._model])
        logger.info(
            "model '%s' is bundle %s, golden rows reproduced; HTTP on %s:%d, gRPC on port %d",
            self._model.name,
            self._model.session.bundle.digest[:12],
            host,
            self.http_port,
            self.grpc_port,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve_until_stopped(http, grpc, front, listener))

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """Begins the end; `start` returns when it is done."""
        if self._stopping is not None:
            self._stopping.set()

    async def _serve_until_stopped(
        self, http: _HttpServer, grpc: GrpcServer, front: InferenceApp, listener: socket.socket
    ) -> None:
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(sig, self.stop, sig)
        servers = [asyncio.create_task(http.serve(listener))]
        if self.enable_grpc:
            servers.append(asyncio.create_task(grpc.start(self.max_threads)))
        if self._tee is not None:
            self._tee.start()
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([*servers, stopping], return_when=asyncio.FIRST_COMPLETED)
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
        ended = await asyncio.gather(
            *servers, grpc.stop_within(DRAIN_SECONDS + CLOSE_SECONDS), return_exceptions=True
        )
        limit.cancel()
        if self._tee is not None:
            await asyncio.to_thread(self._tee.close, FLUSH_SECONDS)
        for result in ended:
            if isinstance(result, BaseException):
                raise result


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
        self.config.access_log = False
        self.config.proxy_headers = False
        self._server = _Uvicorn(self.config)

    async def serve(self, listener: socket.socket) -> None:
        self.create_application()
        await self._server.serve(sockets=[listener])

    def stop(self) -> None:
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SeatrialError(
            f"cannot bind HTTP to {_bracketed(host)}:{port}: {error.strerror}; stop its owner or"
            " give another --http_port"
        ) from None
    return listener


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
