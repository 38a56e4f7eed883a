"""`python -m benchmarks.serving.rules`: how fast a final rule answers, over the wire.

The model never ends on the very rows that the rule decides: an answer is one that did without it.
The bar is 10 ms at p99.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from benchmarks.serving import models
from benchmarks.serving.processes import Load, predictor, stop
from seatrial.demo.fault import plant_fault

BAR_MS = 10.0
VALUE, LIMIT = 99.0, 90
"""Of the first feature: from the limit on a rule decides, and the model loops without end."""
RULE = {"feature": "f00", "op": ">=", "value": LIMIT, "decision": "decline", "reason": "limit"}


def measure(seconds: float, folder: Path) -> list[dict[str, Any]]:
    """One row a wire."""
    log = folder / "log"
    bundle = models.bundle(
        folder,
        models.SMALL,
        change=lambda model: plant_fault(model, "f00", LIMIT - 1, "loop"),
        rules=[RULE],
    ).path
    load = Load(log)
    process, http, grpc = predictor(bundle, log, "--predict_timeout_seconds=1")
    found = []
    try:
        for wire in ("v2", "v1", "grpc"):
            job = {**_task(wire, (http, grpc)), "connections": 4, "seconds": seconds}
            answer = load.run(job)
            if set(answer["statuses"]) - {"200", "OK"}:
                raise RuntimeError(f"{wire}: {answer['statuses']}")
            found.append({"wire": wire, **answer})
    finally:
        load.stop()
        stop([process])
    return found


def _task(wire: str, ports: tuple[int, int]) -> dict[str, Any]:
    row = models.sample(1, seed=3)
    row[0, 0] = VALUE
    if wire == "grpc":
        message = pb.ModelInferRequest(model_name="bench", id="r")
        message.inputs.add(name="x", datatype="FP32", shape=row.shape)
        message.raw_input_contents.append(row.tobytes())
        body = base64.b64encode(message.SerializeToString()).decode()
        return {"wire": "grpc", "port": ports[1], "body": body}
    path, content = "/v1/models/bench:predict", {"instances": row.tolist()}
    if wire == "v2":
        tensor = {"name": "x", "shape": list(row.shape), "datatype": "FP32"}
        path = "/v2/models/bench/infer"
        content = {"inputs": [{**tensor, "data": row.ravel().tolist()}]}
    body = base64.b64encode(orjson.dumps(content)).decode()
    return {"wire": "http", "port": ports[0], "path": path, "json_size": None, "body": body}


def table(results: dict[str, Any]) -> str:
    lines = [
        "# A final rule's answer",
        "",
        (
            f"`{results['command']}`: four connections ask for rows that a rule decides and on"
            " which the model would loop without end. The server on one core, the load generator on"
            " another."
        ),
        "",
        f"| wire | answers | p50 ms | p99 ms | longest ms | p99 under {BAR_MS:g} ms |",
        "|---|---|---|---|---|---|",
    ]
    for cell in results["wires"]:
        held = "held" if cell["p99_ms"] < BAR_MS else "**missed**"
        lines.append(
            f"| {cell['wire']} | {cell['requests']:,} | {cell['p50_ms']:.2f} |"
            f" {cell['p99_ms']:.2f} | {cell['max_ms']:.0f} | {held} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.rules", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one wire's turn")
    parser.add_argument("--write", action="store_true", help="replace rules.json and rules.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as folder:
        results = {
            "command": " ".join(["python -m benchmarks.serving.rules", *sys.argv[1:]]),
            "wires": measure(args.seconds, Path(folder)),
        }
    text = table(results)
    sys.stdout.write(text)
    if args.write:
        here = Path(__file__).parent
        (here / "rules.json").write_text(json.dumps(results, indent=1) + "\n")
        (here / "rules.md").write_text(text)


if __name__ == "__main__":
    main()
