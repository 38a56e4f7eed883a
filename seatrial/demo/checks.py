"""What must be true of the system the demo started; each raises StageError when it is not."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import grpc
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from serving.bundle import Bundle
from serving.errors import StageError
from serving.local import Status

SIDECAR = "drift-detector"
TOLERANCE = 1e-5
DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "string": "BYTES"}
FIELDS = {
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "int64": "int64_contents",
    "string": "bytes_contents",
}


def golden_rows(status: Status, bundle: Bundle) -> None:
    """Both wires of the gateway give the bundle's golden rows their stored scores."""
    golden = bundle.read_json("golden.json")
    for wire, ask in (("HTTP", _ask_http), ("gRPC", _ask_grpc)):
        scores = np.asarray(ask(status, bundle, golden["columns"]), dtype=float)
        # NaN: a rule decided that row, and the model was not asked.
        apart = float(np.nanmax(np.abs(scores - np.asarray(golden["score"])), initial=0.0))
        if apart > TOLERANCE:
            raise StageError(f"golden rows over {wire} are {apart:g} off their stored scores")


def sidecars_know(status: Status, within: float = 30.0) -> None:
    """Every ready arm's sidecar has been introduced to that arm's bundle."""
    for arm, asked in _sidecars(status):
        deadline = time.monotonic() + within
        while (found := (asked().get("bundle") or {}).get("digest")) != arm.digest:
            if time.monotonic() > deadline:
                raise StageError(f"{SIDECAR} of '{arm.name}' knows bundle {found}, not its own")
            time.sleep(0.2)


def sidecar_status(status: Status, arm: str) -> dict[str, Any]:
    """What the /status of an arm's sidecar says."""
    for found, asked in _sidecars(status):
        if found.name == arm and (told := asked()):
            return dict(told)
    raise StageError(f"{SIDECAR} of '{arm}' does not answer")


def sidecars_saw_rows(status: Status) -> None:
    for arm, asked in _sidecars(status):
        window = asked().get("window") or {}
        if not any(window.get(key) for key in ("pending", "tested", "waiting")):
            raise StageError(f"{SIDECAR} of '{arm.name}' has seen no rows of the traffic")


def nothing_restarted(status: Status) -> None:
    """A process that had to be restarted is a fault the demo must not hide."""
    for arm in status.arms:
        for container, restarts in arm.restarts.items():
            if restarts:
                raise StageError(f"{container} of '{arm.name}' was restarted {restarts} time(s)")


def _sidecars(status: Status) -> Any:
    for arm in status.arms:
        if arm.ready:
            if SIDECAR not in arm.ports:
                raise StageError(f"'{arm.name}' runs no container '{SIDECAR}'")
            port = next(iter(arm.ports[SIDECAR].values()))
            yield arm, lambda port=port: _get_json(f"http://127.0.0.1:{port}/status")


def _get_json(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback only
            return dict(json.load(answer))
    except (OSError, ValueError):
        return {}


def _ask_http(status: Status, bundle: Bundle, columns: dict[str, list[Any]]) -> list[float]:
    inputs = [
        {
            "name": f.name,
            "datatype": DATATYPES[f.dtype],
            "shape": [len(columns[f.name])],
            "data": columns[f.name],
        }
        for f in bundle.contract.features
    ]
    request = urllib.request.Request(
        f"http://{status.gateway}/v2/models/{status.service}/infer",
        json.dumps({"inputs": inputs}).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback only
            outputs = json.load(answer)["outputs"]
    except urllib.error.HTTPError as error:
        raise StageError(f"golden rows over HTTP: {error.code} {error.read().decode()}") from None
    except OSError as error:
        raise StageError(f"golden rows over HTTP: {error}") from None
    return list(next(o["data"] for o in outputs if o["name"] == "score"))


def _ask_grpc(status: Status, bundle: Bundle, columns: dict[str, list[Any]]) -> list[float]:
    request = pb.ModelInferRequest(model_name=status.service)
    for feature in bundle.contract.features:
        tensor = request.inputs.add(
            name=feature.name,
            datatype=DATATYPES[feature.dtype],
            shape=[len(columns[feature.name])],
        )
        values = columns[feature.name]
        if feature.dtype == "string":
            values = [(v or "").encode() for v in values]
        else:
            values = [float("nan") if v is None else v for v in values]
        getattr(tensor.contents, FIELDS[feature.dtype]).extend(values)
    with grpc.insecure_channel(status.gateway) as channel:
        try:
            answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
        except grpc.RpcError as error:
            raise StageError(f"golden rows over gRPC: {error.code().name}") from None
    for number, output in enumerate(answer.outputs):
        if output.name == "score":
            if answer.raw_output_contents:
                raw = answer.raw_output_contents[number]
                return list(np.frombuffer(raw, dtype=np.float32).astype(float))
            return list(output.contents.fp32_contents)
    raise StageError("golden rows over gRPC: the answer has no output 'score'")
