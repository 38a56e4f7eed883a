"""KServe's own model server as its documentation shows it: `python -m benchmarks.serving.stock`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import kserve
import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, ModelServer, model_server


class Stock(kserve.Model):  # type: ignore[misc]
    def __init__(self, name: str, model: Path) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self.ready = True

    async def predict(
        self, payload: Any, headers: Any = None, response_headers: Any = None
    ) -> dict[str, Any] | InferResponse:
        if isinstance(payload, InferRequest):
            score = self._run(payload.inputs[0].as_numpy())
            output = InferOutput("score", list(score.shape), "FP32")
            output.set_data_from_numpy(score, binary_data=payload.from_grpc)
            return InferResponse(payload.id or "none", self.name, [output])
        return {"predictions": self._run(np.array(payload["instances"])).tolist()}

    def _run(self, rows: Any) -> Any:
        return self._session.run(["score"], {"x": rows.astype(np.float32)})[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--onnx", type=Path)
    args = parser.parse_args()
    ModelServer().start([Stock("bench", args.onnx)])
