"""KServe's gRPC service on the address we choose, with our ModelInfer."""

from __future__ import annotations

import logging
from concurrent import futures
from time import perf_counter
from typing import Any

import grpc
from grpc_interceptor.exceptions import GrpcException
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from serving.errors import InferenceFailed, SeatrialError
from serving.predictor.grpc_wire import GrpcWire
from serving.predictor.model import BundleModel

logger = logging.getLogger("seatrial.predictor")


class Servicer(InferenceServicer):  # type: ignore[misc]
    """Only ModelInfer differs: names are matched, and errors carry their own code."""

    def __init__(self, data_plane: Any, repository: Any, model: BundleModel) -> None:
        super().__init__(data_plane, repository)
        self._model = model
        self._wire = GrpcWire(model.contract)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.model_name != self._model.name:
            raise GrpcException(
                status_code=grpc.StatusCode.NOT_FOUND,
                details=f"there is no model '{request.model_name}' here",
            )
        start = perf_counter()
        code, failure = "OK", ""
        answer = None
        try:
            decoded = self._wire.decode(request)
            scored = await self._model.score(decoded)
            answer = self._wire.encode(self._model.name, decoded, scored)
        except SeatrialError as error:
            code, failure = error.grpc_status, str(error)
            if isinstance(error, InferenceFailed):
                logger.warning("grpc request answered %s: %s", code, error)
        except Exception as error:
            logger.exception("grpc request failed in the predictor itself")
            code, failure = "INTERNAL", f"internal error: {type(error).__name__}"
        self._model.metrics.answered("grpc", code, perf_counter() - start)
        if failure:
            raise GrpcException(status_code=grpc.StatusCode[code], details=failure)
        return answer


class GrpcServer(GRPCServer):  # type: ignore[misc]
    """Binds one address (KServe binds all) and stops within the grace it is given."""

    def __init__(self, address: str, model: BundleModel, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._address = address
        self._model = model

    async def start(self, max_workers: int) -> None:
        """Raises SeatrialError when the address is taken."""
        size = "message_length"
        self._server = grpc.aio.server(
            futures.ThreadPoolExecutor(max_workers=max_workers),
            interceptors=(ExceptionToStatusInterceptor(),),
            options=[
                (f"grpc.max_send_{size}", self._kwargs.get(f"grpc_max_send_{size}")),
                (f"grpc.max_receive_{size}", self._kwargs.get(f"grpc_max_receive_{size}")),
                # With port reuse a second predictor would silently share the first one's port.
                ("grpc.so_reuseport", 0),
            ],
        )
        servicer = Servicer(self._data_plane, self._model_repository_extension, self._model)
        service.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        try:
            self._server.add_insecure_port(self._address)
        except RuntimeError:
            raise SeatrialError(
                f"cannot bind gRPC to {self._address}: it is taken; stop its owner or give"
                " another --grpc_port"
            ) from None
        await self._server.start()
        await self._server.wait_for_termination()

    async def stop_within(self, seconds: float) -> None:
        if self._server is not None:
            await self._server.stop(grace=seconds)
