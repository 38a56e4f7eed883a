"""Asks over gRPC with tritonclient: `python triton_grpc_client.py PORT MODEL ROWS.json`.

A process of its own, because tritonclient and kserve register the same protobuf symbols.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc


def main(port: str, model: str, rows: str) -> None:
    """Prints {"ready", "inputs", "score", "decision"}; rows as {name: [datatype, values]}."""
    columns = json.loads(Path(rows).read_text("utf-8"))
    kinds = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "BYTES": np.object_}
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        inputs = []
        for name, (datatype, values) in columns.items():
            tensor = tritonclient.grpc.InferInput(name, [len(values)], datatype)
            tensor.set_data_from_numpy(np.array(values, dtype=kinds[datatype]))
            inputs.append(tensor)
        result = client.infer(model, inputs)
        answer = {
            "ready": client.is_model_ready(model),
            "inputs": {i.name: i.datatype for i in client.get_model_metadata(model).inputs},
            "score": result.as_numpy("score").tolist(),
            "decision": [d.decode() for d in result.as_numpy("decision")],
        }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
