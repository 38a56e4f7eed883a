"""The real predictor as a subprocess on loopback, and the requests its tests send."""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from numpy.typing import NDArray

from tests.support import tiny

MODEL = "tiny"
DATATYPES = {"amount": "FP64", "age": "FP32", "visits": "INT64", "channel": "BYTES"}
ROW: dict[str, Any] = {"amount": 12.5, "age": 40.0, "visits": 2, "channel": "web"}
_CONTENTS = {
    "FP64": "fp64_contents",
    "FP32": "fp32_contents",
    "INT64": "int64_contents",
    "BYTES": "bytes_contents",
}


@dataclass
class Answer:
    """What an HTTP request or a gRPC call came back with."""

    code: int | str
    body: Any

    @property
    def error(self) -> str:
        assert set(self.body) == {"error"}, self.body
        return str(self.body["error"])


@dataclass
class Served:
    process: subprocess.Popen[str]
    http_port: int
    grpc_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def http(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        request = urllib.request.Request(self.url + path, data, dict(headers or {}))  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                return Answer(response.status, orjson.loads(response.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, orjson.loads(error.read()))

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case and body of one request as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return (
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )

    def v1(self, *instances: Mapping[str, Any]) -> Answer:
        return self.http(f"/v1/models/{MODEL}:predict", {"instances": list(instances)})

    def v2(self, columns: Mapping[str, Any], **more: Any) -> Answer:
        return self.http(f"/v2/models/{MODEL}/infer", {"inputs": v2_inputs(columns), **more})

    def grpc(self, message: Any) -> Answer:
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            try:
                stub = service.GRPCInferenceServiceStub(channel)
                return Answer("OK", stub.ModelInfer(message, timeout=20, wait_for_ready=True))
            except grpc.RpcError as error:
                return Answer(error.code().name, {"error": error.details()})

    def ready(self) -> bool:
        try:
            return self.http(f"/v2/models/{MODEL}/ready").code == 200
        except OSError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series whose labels include these."""
        with urllib.request.urlopen(self.url + "/metrics") as response:  # noqa: S310
            text = response.read().decode()
        total = 0.0
        for line in text.splitlines():
            found = re.match(rf"{name}\{{(.*)\}} (\S+)", line)
            if found and all(f'{key}="{value}"' in found[1] for key, value in labels.items()):
                total += float(found[2])
        return total


@contextlib.contextmanager
def serve(
    model_dir: Path, log: Path, *flags: str, env: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """A predictor that is ready; ended when the block ends."""
    served = launch(model_dir, log, *flags, env=env)
    try:
        wait_for(lambda: served.ready() or served.process.poll() is not None, 90)
        assert served.process.poll() is None, log.read_text()
        yield served
    finally:
        served.process.terminate()
        try:
            served.process.wait(10)
        except subprocess.TimeoutExpired:
            served.process.kill()
            raise


def launch(model_dir: Path, log: Path, *flags: str, env: Mapping[str, str] | None = None) -> Served:
    http_port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "serving.predictor", f"--model_name={MODEL}"]
    command += [f"--model_dir={model_dir}", f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    if not any(flag.startswith("--tee_url") for flag in flags):
        command.append("--tee_url=")
    with log.open("w") as handle:
        process = subprocess.Popen(
            [*command, *flags],
            stdout=handle,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "SEATRIAL_HOST": "127.0.0.1", **(env or {})},
        )
    return Served(process, http_port, grpc_port, log)


def wait_for(condition: Any, seconds: float) -> None:
    """Polls until the condition holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def instances(columns: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Rows for V1, missing values as null."""
    lists = {name: json_list(column) for name, column in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def json_list(column: Any) -> list[Any]:
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return [None if value in (None, "") or is_nan(value) else value for value in values]


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def v2_inputs(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "shape": [len(column)],
            "datatype": datatype_of(name, column),
            "data": json_list(column),
        }
        for name, column in columns.items()
    ]


def datatype_of(name: str, column: Any) -> str:
    """The contract's datatype, or the one that a value of another type brings."""
    first = column[0]
    if name in DATATYPES and not isinstance(first, str) and type(first) is not float:
        return DATATYPES[name]
    if isinstance(first, str):
        return "BYTES"
    return "FP64" if DATATYPES.get(name) != "FP32" else "FP32"


def grpc_request(columns: Mapping[str, Any], *, raw: bool = False) -> Any:
    message = pb.ModelInferRequest(model_name=MODEL)
    for name, column in columns.items():
        datatype = datatype_of(name, column)
        tensor = message.inputs.add(name=name, datatype=datatype, shape=[len(column)])
        values: list[Any] = column.tolist() if isinstance(column, np.ndarray) else list(column)
        if datatype == "BYTES":
            texts = [(value or "").encode() for value in values]
            if raw:
                packed = b"".join(len(t).to_bytes(4, "little") + t for t in texts)
                message.raw_input_contents.append(packed)
            else:
                tensor.contents.bytes_contents.extend(texts)
            continue
        numbers = [np.nan if value is None else value for value in values]
        if raw:
            kinds = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8"}
            message.raw_input_contents.append(np.array(numbers, kinds[datatype]).tobytes())
        else:
            getattr(tensor.contents, _CONTENTS[datatype]).extend(numbers)
    return message


def unseen_rows(count: int) -> dict[str, NDArray[Any]]:
    """Valid rows of the tiny contract, with missing ages and channels among them."""
    columns = tiny.rows(count, seed=11)
    assert np.isnan(columns["age"]).any()
    assert (columns["channel"] == "").any()
    return columns
