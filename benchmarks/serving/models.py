"""Networks of random weights: as one plain graph, and as a bundle that the predictor serves."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serving.bundle import Bundle, Contract, write_bundle

SMALL = (30, 256, 128, 1)
LARGE = (30, 1024, 1024, 512, 1)
FEATURES = tuple(f"f{at:02d}" for at in range(SMALL[0]))


def sample(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows [rows, 30] within the contract's bounds."""
    return np.random.default_rng(seed).normal(0, 1, (rows, len(FEATURES))).astype(np.float32)


def plain_model(sizes: Sequence[int]) -> bytes:
    """x [rows, 30] -> score [rows]."""
    start = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", sizes[0]])
    return _model(sizes, [start], [])


def column_model(sizes: Sequence[int]) -> bytes:
    """The same from one input a feature, put together in the graph."""
    inputs = [helper.make_tensor_value_info(f, TensorProto.FLOAT, ["rows"]) for f in FEATURES]
    # One join for all: an Unsqueeze a feature costs more than the small network itself.
    nodes = [
        helper.make_node("Concat", list(FEATURES), ["joined"], axis=0),
        helper.make_node("Reshape", ["joined", "turned"], ["by_feature"]),
        helper.make_node("Transpose", ["by_feature"], ["x"]),
    ]
    return _model(sizes, inputs, nodes)


def bundle(
    parent: Path,
    sizes: Sequence[int],
    *,
    change: Callable[[bytes], bytes] = bytes,
    rules: Sequence[dict[str, Any]] = (),
) -> Bundle:
    """A bundle whose contract bounds every feature, so that every value is checked.

    `change` gives another model for the one that is made here.
    """
    contract = Contract.model_validate(
        {
            "name": "bench",
            "features": [
                {"name": f, "dtype": "float32", "min": -100, "max": 100} for f in FEATURES
            ],
            "label": {"column": "y"},
            "decision": {"review": 0.4, "decline": 0.6},
            "rules": rules,
        }
    )
    model = change(column_model(sizes))
    golden = dict(zip(FEATURES, np.ascontiguousarray(sample(4).T), strict=True))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    score = session.run(["score"], golden)[0]
    reference = io.BytesIO()
    arrays: dict[str, Any] = dict(zip(FEATURES, sample(200).T, strict=True))
    np.savez(reference, **arrays)
    rows = {name: column.tolist() for name, column in golden.items()}
    files = {
        "model.onnx": model,
        "contract.json": contract.canonical_json().encode(),
        "golden.json": json.dumps({"columns": rows, "score": score.tolist()}).encode(),
        "lineage.json": b'{"data": "0", "code": "0", "parent": null}',
        "metrics.json": b"{}",
        "card.md": b"# bench\n",
        "drift/reference.npz": reference.getvalue(),
        "drift/config.json": b'{"detector": "tabular", "p_value": 0.05, "window": 500}',
    }
    return write_bundle(parent, files, attestation={"run": "bench"})


def _model(sizes: Sequence[int], inputs: list[Any], nodes: list[Any]) -> bytes:
    rng = np.random.default_rng(1)
    constants = [
        numpy_helper.from_array(np.array([sizes[0], -1]), "turned"),
        numpy_helper.from_array(np.array([-1]), "flat"),
    ]
    last = "x"
    for layer, (width, height) in enumerate(itertools.pairwise(sizes)):
        weights = (rng.normal(size=(width, height)) / np.sqrt(width)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{layer}"))
        constants.append(numpy_helper.from_array(np.zeros(height, np.float32), f"b{layer}"))
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"h{layer}"]))
        act = "Sigmoid" if layer == len(sizes) - 2 else "Relu"
        last = f"a{layer}"
        nodes.append(helper.make_node(act, [f"h{layer}"], [last]))
    nodes.append(helper.make_node("Reshape", [last, "flat"], ["score"]))
    end = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])
    graph = helper.make_graph(nodes, "bench", inputs, [end], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
