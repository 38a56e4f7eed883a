"""The same rows for every server, on every wire."""

from __future__ import annotations

import base64
from typing import Any

import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from benchmarks.serving.models import FEATURES, sample


def task(wire: str, rows: int, ports: tuple[int, int]) -> dict[str, Any]:
    """What the load generator is told: wire "v1", "v1-named", "v2", "v2-binary" or "grpc"."""
    data = sample(rows, seed=3)
    if wire == "grpc":
        message = pb.ModelInferRequest(model_name="bench", id="r")
        message.inputs.add(name="x", datatype="FP32", shape=data.shape)
        message.raw_input_contents.append(data.tobytes())
        body = message.SerializeToString()
        return {"wire": "grpc", "port": ports[1], "body": base64.b64encode(body).decode()}
    path, size = "/v2/models/bench/infer", None
    tensor: dict[str, Any] = {"name": "x", "shape": list(data.shape), "datatype": "FP32"}
    if wire == "v2":
        tensor["data"] = data.reshape(-1).tolist()
        body = orjson.dumps({"id": "r", "inputs": [tensor]})
    elif wire == "v2-binary":
        tensor["parameters"] = {"binary_data_size": data.nbytes}
        head = orjson.dumps(
            {"id": "r", "inputs": [tensor], "parameters": {"binary_data_output": True}}
        )
        body, size = head + data.tobytes(), len(head)
    else:
        path = "/v1/models/bench:predict"
        lists: list[Any] = data.tolist()
        if wire == "v1-named":
            lists = [dict(zip(FEATURES, row, strict=True)) for row in lists]
        body = orjson.dumps({"instances": lists})
    return {
        "wire": "http",
        "port": ports[0],
        "path": path,
        "json_size": size,
        "body": base64.b64encode(body).decode(),
    }
