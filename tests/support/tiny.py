"""A tiny real bundle, made without training: for tests that need a model and not a good one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serving.bundle import Bundle, Contract, write_bundle

CONTRACT: dict[str, Any] = {
    "name": "tiny",
    "features": [
        {"name": "amount", "dtype": "float64", "min": 0, "max": 10000},
        {"name": "age", "dtype": "float32", "nullable": True},
        {"name": "visits", "dtype": "int64", "min": 0},
        {
            "name": "channel",
            "dtype": "string",
            "nullable": True,
            "categories": ["web", "shop", "phone"],
        },
    ],
    "label": {"column": "fraud"},
    "time": "when",
    "decision": {"review": 0.3, "decline": 0.8},
    "example": {"amount": 12.5, "age": 40.0, "visits": 2, "channel": "web"},
}
DRIFT_CONFIG = b"""{
  "watch": {},
  "windows": {"detector": "tabular", "p_value": 0.05, "size": 200}
}"""
EFFECT = {"web": 0.0, "shop": -1.0, "phone": 1.0}
GOLDEN: dict[str, list[Any]] = {
    "amount": [1.0, 250.0, 9000.0],
    "age": [30.0, None, 71.5],
    "visits": [0, 3, 12],
    "channel": ["web", "", "shop"],
}


def contract() -> Contract:
    return Contract.model_validate(CONTRACT)


def rows(count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Valid random rows for the tiny contract, canonical columns of length `count`."""
    rng = np.random.default_rng(seed)
    channel = np.array(["web", "shop", "phone", ""], dtype=object)[rng.integers(0, 4, count)]
    age = rng.uniform(18, 90, count).astype(np.float32)
    age[rng.random(count) < 0.1] = np.nan
    return {
        "amount": rng.uniform(0, 9999, count),
        "age": age,
        "visits": rng.integers(0, 20, count),
        "channel": channel,
    }


def expected_scores(columns: dict[str, NDArray[Any]], bias: float = 0.0) -> NDArray[np.float64]:
    """The score the tiny model must give, computed without ONNX."""
    age = np.nan_to_num(columns["age"].astype(np.float64), nan=50.0)
    effect = np.array([EFFECT.get(c, 0.5) for c in columns["channel"]])
    logit = bias + columns["amount"] / 5000 + age / 100 - columns["visits"] / 10 + effect
    return np.asarray(1 / (1 + np.exp(-logit)))


def model_bytes(bias: float = 0.0) -> bytes:
    """score = sigmoid(bias + amount/5000 + age/100 - visits/10 + effect(channel))."""

    def constant(name: str, value: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)

    nodes = [
        helper.make_node("Cast", ["amount"], ["amount32"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["amount32", "c5000"], ["a"]),
        helper.make_node("IsNaN", ["age"], ["age_missing"]),
        helper.make_node("Where", ["age_missing", "c50", "age"], ["age_filled"]),
        helper.make_node("Div", ["age_filled", "c100"], ["b"]),
        helper.make_node("Cast", ["visits"], ["visits32"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["visits32", "c10"], ["c"]),
        helper.make_node(
            "LabelEncoder",
            ["channel"],
            ["d"],
            domain="ai.onnx.ml",
            keys_strings=list(EFFECT),
            values_floats=list(EFFECT.values()),
            default_float=0.5,
        ),
        helper.make_node("Add", ["a", "b"], ["ab"]),
        helper.make_node("Sub", ["ab", "c"], ["abc"]),
        helper.make_node("Add", ["abc", "d"], ["abcd"]),
        helper.make_node("Add", ["abcd", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    kinds = {
        "amount": TensorProto.DOUBLE,
        "age": TensorProto.FLOAT,
        "visits": TensorProto.INT64,
        "channel": TensorProto.STRING,
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, ["rows"]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [
            constant("c5000", 5000),
            constant("c50", 50),
            constant("c100", 100),
            constant("c10", 10),
            constant("bias", bias),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tiny_bundle(
    parent: Path, bias: float = 0.0, model: bytes | None = None, **extra: bytes
) -> Bundle:
    """Writes a tiny bundle under `parent`; `bias` makes digests differ, `extra` replaces files."""
    model = model or model_bytes(bias)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    golden = {
        "amount": np.array(GOLDEN["amount"]),
        "age": np.array([np.nan if v is None else v for v in GOLDEN["age"]], dtype=np.float32),
        "visits": np.array(GOLDEN["visits"]),
        "channel": np.array(GOLDEN["channel"], dtype=object),
    }
    score = session.run(["score"], golden)[0]
    reference = io.BytesIO()
    sample: dict[str, Any] = {
        k: v.astype("U") if v.dtype == object else v for k, v in rows(300, seed=7).items()
    }
    np.savez(reference, **sample)
    files = {
        "model.onnx": model,
        "contract.json": contract().canonical_json().encode(),
        "golden.json": json.dumps({"columns": GOLDEN, "score": score.tolist()}).encode(),
        "lineage.json": json.dumps({"data": "0" * 64, "code": "0" * 64, "parent": None}).encode(),
        "metrics.json": b"{}",
        "card.md": b"# tiny\n",
        "drift/reference.npz": reference.getvalue(),
        "drift/config.json": DRIFT_CONFIG,
        **extra,
    }
    return write_bundle(parent, files, attestation={"run": "test"})
