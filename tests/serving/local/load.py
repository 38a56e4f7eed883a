"""A closed-loop client over HTTP and gRPC that counts every answer, on a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services

ROW: dict[str, tuple[str, Any]] = {
    "amount": ("FP64", 12.5),
    "age": ("FP32", 40.0),
    "visits": ("INT64", 2),
    "channel": ("BYTES", "web"),
}
PAUSE_S = 0.03


@dataclass(frozen=True)
class Answer:
    at: float
    wire: str
    arm: str
    status: str
    """"200" or "OK"; else the code and what came with it."""
    score: float | None = None

    @property
    def ok(self) -> bool:
        return self.status in ("200", "OK")


def v2_json(**changed: Any) -> dict[str, Any]:
    """One row as a V2 request, with some features changed."""
    return {
        "id": "1",
        "inputs": [
            {"name": n, "datatype": t, "shape": [1], "data": [changed.get(n, value)]}
            for n, (t, value) in ROW.items()
        ],
    }


def v2_rows(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of the tiny contract as one V2 request; NaN becomes null."""
    return {
        "id": "1",
        "inputs": [
            {
                "name": name,
                "datatype": datatype,
                "shape": [len(columns[name])],
                "data": [None if v != v else v for v in columns[name].tolist()],  # noqa: PLR0124
            }
            for name, (datatype, _) in ROW.items()
        ],
    }


def v2_message() -> Any:
    message = pb.ModelInferRequest(model_name="tiny", id="1")
    for name, (datatype, value) in ROW.items():
        contents = message.inputs.add(name=name, datatype=datatype, shape=[1]).contents
        if datatype == "FP64":
            contents.fp64_contents.append(value)
        elif datatype == "FP32":
            contents.fp32_contents.append(value)
        elif datatype == "INT64":
            contents.int64_contents.append(value)
        else:
            contents.bytes_contents.append(value.encode())
    return message


def ask(gateway: str, path: str, body: Any = None) -> tuple[int, str]:
    """(status, arm) of one request on a connection of its own. Raises OSError when refused."""
    connection = http.client.HTTPConnection(gateway, timeout=20)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("x-seatrial-arm", "")
    finally:
        connection.close()


class Load:
    """`with Load(gateway) as load:` sends until the block ends; every answer is in `answers`."""

    def __init__(self, gateway: str, http_loops: int = 5, grpc_loops: int = 3) -> None:
        self.answers: list[Answer] = []
        self._gateway, self._http, self._grpc = gateway, http_loops, grpc_loops
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.ok]

    def since(self, at: float, wire: str | None = None) -> Counter[str]:
        """Answers by arm of requests that were sent after `at`."""
        return Counter(
            a.arm for a in self.answers if a.at >= at and (wire is None or a.wire == wire)
        )

    def wait_for(self, count: int) -> float:
        """Waits for so many more answers; returns the time from which they were counted."""
        began, goal = time.monotonic(), len(self.answers) + count
        while len(self.answers) < goal:
            assert time.monotonic() < began + 60, f"{len(self.answers)} answers only"
            time.sleep(0.02)
        return began

    async def _run(self) -> None:
        async with (
            aiohttp.ClientSession() as session,
            grpc.aio.insecure_channel(self._gateway) as channel,
        ):
            stub = services.GRPCInferenceServiceStub(channel)
            await asyncio.gather(
                *(self._http_loop(session) for _ in range(self._http)),
                *(self._grpc_loop(stub) for _ in range(self._grpc)),
            )

    async def _http_loop(self, session: aiohttp.ClientSession) -> None:
        url, body = f"http://{self._gateway}/v2/models/tiny/infer", v2_json()
        while not self._stop.is_set():
            at = time.monotonic()
            try:
                async with session.post(url, json=body) as answer:
                    text = await answer.text()
                    arm = answer.headers.get("x-seatrial-arm", "")
                    status = "200" if answer.status == 200 else f"{answer.status} {text}"
            except (aiohttp.ClientError, OSError) as error:
                arm, status = "", repr(error)
            self.answers.append(Answer(at, "http", arm, status))
            await asyncio.sleep(PAUSE_S)

    async def _grpc_loop(self, stub: Any) -> None:
        message = v2_message()
        while not self._stop.is_set():
            at = time.monotonic()
            call = stub.ModelInfer(message, timeout=10)
            arm = ""
            try:
                await call
                status = "OK"
                headers = dict(await call.initial_metadata())
                arm = headers.get("x-seatrial-arm", "")
            except grpc.aio.AioRpcError as error:
                status = f"{error.code().name} {error.details()}"
            self.answers.append(Answer(at, "grpc", arm, status))
            await asyncio.sleep(PAUSE_S)
