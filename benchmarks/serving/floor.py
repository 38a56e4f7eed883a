"""The least a Python server can do: `python -m benchmarks.serving.floor KIND MODEL PORT`.

http: a bare ASGI application on uvicorn, uvloop and httptools, with orjson. grpc: a bare handler on
grpc's server with threads. Neither checks anything.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson

_JSON_SIZE = b"inference-header-content-length"


def _session(model: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        Path(model).read_bytes(), options, providers=["CPUExecutionProvider"]
    )


def serve_http(model: str, port: int) -> None:
    import uvicorn  # noqa: PLC0415

    session = _session(model)

    async def app(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        size = next((int(v) for k, v in scope["headers"] if k == _JSON_SIZE), None)
        request = orjson.loads(body if size is None else body[:size])
        tensor = request["inputs"][0]
        if size is None:
            rows = np.array(tensor["data"], dtype=np.float32)
        else:
            rows = np.frombuffer(body, dtype=np.float32, offset=size)
        score = session.run(["score"], {"x": rows.reshape(tensor["shape"])})[0]
        output: dict[str, Any] = {"name": "score", "shape": [len(score)], "datatype": "FP32"}
        answer = {"model_name": "bench", "id": request.get("id", ""), "outputs": [output]}
        headers = [(b"content-type", b"application/json")]
        if size is None:
            output["data"] = score.tolist()
            content = orjson.dumps(answer)
        else:
            output["parameters"] = {"binary_data_size": score.nbytes}
            head = orjson.dumps(answer)
            headers = [(_JSON_SIZE, str(len(head)).encode())]
            content = head + score.tobytes()
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
        lifespan="off",
    )


def serve_grpc(model: str, port: int) -> None:
    import grpc  # noqa: PLC0415
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb  # noqa: PLC0415
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service  # noqa: PLC0415

    session = _session(model)

    class Servicer(service.GRPCInferenceServiceServicer):  # type: ignore[misc]
        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
            rows = np.frombuffer(request.raw_input_contents[0], dtype=np.float32)
            score = session.run(["score"], {"x": rows.reshape(request.inputs[0].shape)})[0]
            answer = pb.ModelInferResponse(model_name="bench", id=request.id)
            answer.outputs.add(name="score", datatype="FP32", shape=[len(score)])
            answer.raw_output_contents.append(score.tobytes())
            return answer

    server = grpc.server(futures.ThreadPoolExecutor(4))
    service.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    (serve_http if sys.argv[1] == "http" else serve_grpc)(sys.argv[2], int(sys.argv[3]))
