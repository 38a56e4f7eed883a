"""The two wires a client can speak to the gateway, and what their answers mean."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import aiohttp
import orjson

from seatrial.replay.rows import Requests

Wire = Literal["http", "grpc"]
Kind = Literal["ok", "model_error", "refused", "transport", "timeout"]
ARM_HEADER = "x-seatrial-arm"
TIMEOUT_SECONDS = 20.0
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
# INTERNAL and DEADLINE_EXCEEDED also come from proxies and from gRPC itself, in these words.
_NOT_FROM_THE_MODEL = (
    "deadline exceeded",
    "received http2 header",
    "received rst_stream",
    "stream terminated",
    "upstream ",
    "stream timeout",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its client saw it."""

    t: float
    """When it was sent, Unix seconds."""
    wire: Wire
    arm: str | None
    """Who answered, as the gateway says; None when nobody did."""
    status: int | str
    """HTTP status or gRPC code name; 0 when there was none."""
    kind: Kind
    """model_error: the predictor itself said that the model failed or ran out of time.
    refused: any other answer that is not a score. transport: the connection broke."""
    ms: float
    row: int
    score: float | None


class Client(Protocol):
    """Sends one row at a time; every outcome is an Answer, none is an exception."""

    async def send(self, index: int) -> Answer: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class HttpClient:
    """V2 JSON over kept-alive connections."""

    def __init__(self, gateway: str, model: str, requests: Requests, connections: int) -> None:
        self._url = f"http://{gateway}/v2/models/{model}/infer"
        self._requests = requests
        self._connections = connections

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"content-type": "application/json"},
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def send(self, index: int) -> Answer:
        body = self._requests.http_body(index)
        row = index % self._requests.count
        t, start = time.time(), time.perf_counter()

        def answer(
            kind: Kind, status: int = 0, arm: str | None = None, score: float | None = None
        ) -> Answer:
            ms = (time.perf_counter() - start) * 1000
            return Answer(t, "http", arm, status, kind, ms, row, score)

        try:
            async with self._session.post(self._url, data=body) as response:
                status, arm = response.status, response.headers.get(ARM_HEADER)
                text = await response.read()
        except TimeoutError:
            return answer("timeout")
        except (aiohttp.ClientError, OSError):
            return answer("transport")
        if status == 200:
            score = http_score(text)
            return answer("refused" if score is None else "ok", status, arm, score)
        failed = status in {500, 504} and arm is not None and _has_error_body(text)
        return answer("model_error" if failed else "refused", status, arm)


class GrpcClient:
    """ModelInfer over one HTTP/2 connection."""

    def __init__(self, gateway: str, requests: Requests) -> None:
        self._gateway = gateway
        self._requests = requests

    async def __aenter__(self) -> Self:
        import grpc.aio  # noqa: PLC0415
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb  # noqa: PLC0415

        # A retry would hide a failed request.
        options = [("grpc.enable_retries", 0)]
        self._channel = grpc.aio.insecure_channel(self._gateway, options=options)
        self._error = grpc.aio.AioRpcError
        self._infer: Any = self._channel.unary_unary(
            _METHOD, response_deserializer=pb.ModelInferResponse.FromString
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def send(self, index: int) -> Answer:
        message = self._requests.grpc_message(index)
        row = index % self._requests.count
        t, start = time.time(), time.perf_counter()
        call = self._infer(message, timeout=TIMEOUT_SECONDS)
        try:
            response = await call
        except self._error as error:
            seconds = time.perf_counter() - start
            # A failed call may have no initial metadata: its headers come as trailers.
            arm = _arm(error.initial_metadata()) or _arm(error.trailing_metadata())
            code, details = error.code().name, error.details() or ""
            kind = grpc_kind(code, details, arm, seconds)
            return Answer(t, "grpc", arm, code, kind, seconds * 1000, row, None)
        ms = (time.perf_counter() - start) * 1000
        arm, score = _arm(await call.initial_metadata()), grpc_score(response)
        return Answer(t, "grpc", arm, "OK", "refused" if score is None else "ok", ms, row, score)


def http_score(text: bytes) -> float | None:
    """The score in a V2 JSON response of one row; NaN where a rule decided without the model,
    None when there is none."""
    try:
        outputs = orjson.loads(text)["outputs"]
        score = next(o["data"][0] for o in outputs if o["name"] == "score")
        return math.nan if score is None else float(score)
    except (ValueError, KeyError, TypeError, IndexError, StopIteration):
        return None


def grpc_score(response: Any) -> float | None:
    """The score in a ModelInferResponse of one row, typed or raw; None when there is none."""
    for place, output in enumerate(response.outputs):
        if output.name == "score":
            typed = output.contents.fp32_contents
            if typed:
                return float(typed[0])
            if place < len(response.raw_output_contents):
                raw = response.raw_output_contents[place]
                return float(struct.unpack("<f", raw)[0]) if len(raw) == 4 else None
    return None


def grpc_kind(code: str, details: str, arm: str | None, seconds: float) -> Kind:
    """What a failed call was."""
    if code == "DEADLINE_EXCEEDED" and seconds >= TIMEOUT_SECONDS * 0.99:
        return "timeout"
    known = details.lower().startswith(_NOT_FROM_THE_MODEL)
    if code in {"INTERNAL", "DEADLINE_EXCEEDED"} and arm is not None and details and not known:
        return "model_error"
    return "transport" if arm is None else "refused"


def _has_error_body(text: bytes) -> bool:
    try:
        return isinstance(orjson.loads(text)["error"], str)
    except (ValueError, KeyError, TypeError):
        return False


def _arm(metadata: Any) -> str | None:
    for key, value in metadata or ():
        if key == ARM_HEADER:
            return str(value)
    return None
