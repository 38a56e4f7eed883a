"""One ONNX graph of the whole model: the network as PyTorch exports it, behind raw columns."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from components.train.network import UNSEEN, Network, codes_of, numeric_features, text_features
from serving.bundle import Contract, Feature

OPSET, ML_OPSET, IR_VERSION = 18, 3, 10
_KINDS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "string": TensorProto.STRING,
}
_PREFIX = "raw/"
"""Names of the front's own tensors; no feature's name may hold a slash."""


def build(network: Network) -> bytes:
    """The model of a bundle: one input ["rows"] per feature, one output `score` ["rows"].

    Checked by onnx.checker, shapes included. Equal networks give equal bytes.
    """
    contract = network.contract
    core = _export(network)
    graph = helper.make_graph(
        [*_front(contract), *core.node],
        contract.name,
        [_raw_input(feature) for feature in contract.features],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(np.array([1]), _PREFIX + "axis"), *core.initializer],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="seatrial",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _export(network: Network) -> onnx.GraphProto:
    """The network's own graph: `values` and `codes` in, `score` out."""
    contract = network.contract
    values = torch.zeros(3, len(numeric_features(contract)), dtype=torch.float64)
    codes = torch.zeros(3, len(text_features(contract)), dtype=torch.int64)
    rows = torch.export.Dim("rows")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own internals
        program = torch.onnx.export(
            network.eval(),
            (values, codes),
            dynamo=True,
            opset_version=OPSET,
            input_names=["values", "codes"],
            output_names=["score"],
            dynamic_shapes=({0: rows}, {0: rows}),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    graph: onnx.GraphProto = program.model_proto.graph
    # Torch notes source paths and line numbers on each node: they tell the machine, not the model.
    for item in (graph, *graph.node, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    return graph


def _raw_input(feature: Feature) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(feature.name, _KINDS[feature.dtype], ["rows"])


def _front(contract: Contract) -> list[onnx.NodeProto]:
    """Nodes from raw columns to the matrices that `network.tensors` makes in training."""
    nodes: list[onnx.NodeProto] = []
    numeric, text = numeric_features(contract), text_features(contract)
    for feature in numeric:
        as_double = _PREFIX + feature.name
        nodes.append(helper.make_node("Cast", [feature.name], [as_double], to=TensorProto.DOUBLE))
        nodes += _column(feature)
    for feature in text:
        codes = codes_of(feature)
        nodes.append(
            helper.make_node(
                "LabelEncoder",
                [feature.name],
                [_PREFIX + feature.name],
                domain="ai.onnx.ml",
                keys_strings=list(codes),
                values_int64s=list(codes.values()),
                default_int64=UNSEEN,
            )
        )
        nodes += _column(feature)
    groups: tuple[tuple[str, list[Feature]], ...] = (("values", numeric), ("codes", text))
    for name, features in groups:
        if features:
            columns = [_as_column(feature) for feature in features]
            nodes.append(helper.make_node("Concat", columns, [name], axis=1))
    return nodes


def _column(feature: Feature) -> list[onnx.NodeProto]:
    parts: list[Any] = [_PREFIX + feature.name, _PREFIX + "axis"]
    return [helper.make_node("Unsqueeze", parts, [_as_column(feature)])]


def _as_column(feature: Feature) -> str:
    return f"{_PREFIX}{feature.name}/column"
