"""KServe's gRPC service on a server with threads: asyncio's costs nearly twice as much a call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent import futures
from time import perf_counter
from typing import Any

import grpc
from kserve.errors import (
    InferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotLive,
    ServerNotReady,
)
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from kserve.protocol.grpc.servicer import InferenceServicer

from serving.errors import DataError, InferenceFailed, SeatrialError
from serving.predictor.grpc_wire import GrpcWire
from serving.predictor.model import BundleModel
from serving.predictor.session import ClientGoneError

# Calls that may be in the server at once; threads are started as they are needed.
MAX_THREADS = 64
_OTHER_CALLS = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "ModelMetadata",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
_OTHER_SECONDS = 10.0
_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (ModelNotFound, grpc.StatusCode.NOT_FOUND),
    (ModelNotReady, grpc.StatusCode.UNAVAILABLE),
    (ServerNotReady, grpc.StatusCode.UNAVAILABLE),
    (ServerNotLive, grpc.StatusCode.UNAVAILABLE),
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (InferenceError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotImplementedError, grpc.StatusCode.UNIMPLEMENTED),
)

logger = logging.getLogger("seatrial.predictor")


class GrpcServer:
    """ModelInfer in the thread that took the call; the rest by KServe on the event loop."""

    def __init__(
        self,
        address: str,
        model: BundleModel,
        rest: InferenceServicer,
        *,
        max_message_bytes: int,
        max_waiting: int = 256,
        shared_port: bool = False,
    ) -> None:
        """`shared_port`: other processes of ours listen on the same one."""
        self._address = address
        self._model = model
        self._rest = rest
        self._wire = GrpcWire(model.contract)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="grpc"),
            maximum_concurrent_rpcs=MAX_THREADS + max_waiting,
            options=[
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
                # With port reuse a second predictor would silently share the first one's port.
                ("grpc.so_reuseport", int(shared_port)),
            ],
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serves from now on. Raises SeatrialError when the address is taken."""
        service.add_GRPCInferenceServiceServicer_to_server(self._servicer(loop), self._server)
        try:
            self._server.add_insecure_port(self._address)
        except RuntimeError:
            raise SeatrialError(
                f"cannot bind gRPC to {self._address}: it is taken; stop its owner or give"
                " another --grpc_port"
            ) from None
        self._server.start()

    def stop_within(self, seconds: float) -> None:
        """Blocks until calls in progress are answered, or broken off after `seconds`."""
        self._server.stop(seconds).wait()

    def _servicer(self, loop: asyncio.AbstractEventLoop) -> Any:
        servicer = service.GRPCInferenceServiceServicer()
        servicer.ModelInfer = self._infer
        for name in _OTHER_CALLS:
            setattr(servicer, name, _on_loop(getattr(self._rest, name), loop))
        return servicer

    def _infer(self, message: Any, context: Any) -> Any:
        model = self._model
        if message.model_name != model.name:
            _end(context, grpc.StatusCode.NOT_FOUND, f"no model '{message.model_name}' is here")
            return _NO_ANSWER
        start = perf_counter()
        model.metrics.arrived()
        code = "OK"
        answer = _NO_ANSWER
        try:
            # It may have waited for its thread: nobody is computed for who has gone meanwhile.
            if not context.is_active():
                model.metrics.add("seatrial_dropped_requests", "gone")
                raise ClientGoneError("the client left before its call began")
            request = self._wire.decode(message)
            scored = model.score_direct(request)
            if scored is None:
                request.seconds = context.time_remaining()
                request.gone = lambda: not context.is_active()
                scored = model.score_blocking(request)
            answer = self._wire.encode(model.name, request, scored)
        except SeatrialError as error:
            code = error.grpc_status
            if isinstance(error, DataError):
                model.refused(error)
            elif isinstance(error, InferenceFailed):
                logger.warning("grpc request answered %s: %s", code, error)
            _end(context, grpc.StatusCode[code], str(error))
        except Exception as error:
            logger.exception("grpc request failed in the predictor itself")
            code = "INTERNAL"
            _end(context, grpc.StatusCode[code], f"internal error: {type(error).__name__}")
        model.metrics.left()
        model.metrics.answered("grpc", code, perf_counter() - start)
        return answer


_NO_ANSWER = pb.ModelInferResponse()


def _end(context: Any, code: grpc.StatusCode, details: str) -> None:
    """Sets the status without raising, which `abort` would."""
    context.set_code(code)
    context.set_details(details)


def _on_loop(
    method: Callable[[Any, Any], Coroutine[Any, Any, Any]], loop: asyncio.AbstractEventLoop
) -> Callable[[Any, Any], Any]:
    def call(message: Any, context: Any) -> Any:
        answer = asyncio.run_coroutine_threadsafe(method(message, context), loop)
        try:
            return answer.result(_OTHER_SECONDS)
        except Exception as error:
            for kind, code in _CODES:
                if isinstance(error, kind):
                    context.abort(code, getattr(error, "reason", None) or str(error))
            context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}")

    return call
