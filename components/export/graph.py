"""One ONNX graph of the whole model: raw columns in, calibrated probability out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from components.export.cores import CODES, MARGIN, ML_OPSET, OPSET, VALUES, core_nodes
from components.train.calibration import LIMIT, Calibration
from components.train.inputs import UNSEEN, codes_of, numeric_features, text_features
from components.train.model import Model
from serving.bundle import Contract, Feature

IR_VERSION = 10
_KINDS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "string": TensorProto.STRING,
}
_PREFIX = "raw/"
"""Names of the front's own tensors; no feature's name may hold a slash."""
_Part = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]


def build(model: Model) -> bytes:
    """The model of a bundle: one input ["rows"] per feature, the contract's outputs ["rows"].

    Checked by onnx.checker, shapes included. Equal models give equal bytes.
    """
    contract = model.contract
    front, front_constants = _front(contract)
    core = core_nodes(contract, model.core)
    back, back_constants = _back(model.calibration, contract.outputs)
    graph = helper.make_graph(
        [*front, *core.nodes, *back],
        contract.name,
        [_raw_input(feature) for feature in contract.features],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows"]) for n in contract.outputs],
        [*front_constants, *core.constants, *back_constants],
    )
    proto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="seatrial",
    )
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def _raw_input(feature: Feature) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(feature.name, _KINDS[feature.dtype], ["rows"])


def _front(contract: Contract) -> _Part:
    """From raw columns to the matrices that `inputs.matrices` makes in training.

    All columns are laid one after the other and turned once: a node for each would cost more than
    the arithmetic of a small model.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    numeric, text = numeric_features(contract), text_features(contract)
    same = len({feature.dtype for feature in numeric}) == 1
    columns = []
    for feature in numeric:
        columns.append(feature.name)
        if not same and feature.dtype != "float64":
            columns[-1] = _PREFIX + feature.name
            inputs: list[Any] = [feature.name]
            nodes.append(helper.make_node("Cast", inputs, columns[-1:], to=TensorProto.DOUBLE))
    if numeric:
        cast = same and numeric[0].dtype != "float64"
        turned = _PREFIX + VALUES if cast else VALUES
        _matrix(columns, turned, nodes, constants)
        if cast:
            nodes.append(helper.make_node("Cast", [turned], [VALUES], to=TensorProto.DOUBLE))
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
    if text:
        _matrix([_PREFIX + feature.name for feature in text], CODES, nodes, constants)
    return nodes, constants


def _matrix(
    columns: list[str],
    name: str,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
) -> None:
    """["rows"] each to ["rows", columns]."""
    long, wide, shape = (f"{_PREFIX}{name}/{part}" for part in ("long", "wide", "shape"))
    constants.append(numpy_helper.from_array(np.array([len(columns), -1]), shape))
    nodes.append(helper.make_node("Concat", columns, [long], axis=0))
    nodes.append(helper.make_node("Reshape", [long, shape], [wide], allowzero=0))
    nodes.append(helper.make_node("Transpose", [wide], [name], perm=[1, 0]))


def _back(calibration: Calibration, outputs: tuple[str, ...]) -> _Part:
    """From the core's log-odds to the contract's outputs."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: Any) -> str:
        name = f"calibration/{name}"
        constants.append(numpy_helper.from_array(np.array(value, dtype=np.float32), name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = output if output in {"score", "raw_score"} else f"calibration/{output}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    bounded = add("Clip", [MARGIN, constant("low", -LIMIT), constant("high", LIMIT)], "bounded")
    if len(calibration.slopes) == 1:
        risen = add("Mul", [bounded, constant("slope", calibration.slopes[0])], "risen")
    else:
        one = numpy_helper.from_array(np.array([1]), "calibration/one")
        constants.append(one)
        column = add("Unsqueeze", [bounded, one.name], "column")
        shifted = add("Sub", [column, constant("anchors", calibration.anchors)], "shifted")
        above = add("Max", [shifted, constant("lows", calibration.lows)], "above")
        pieces = add("Min", [above, constant("highs", calibration.highs)], "pieces")
        risen = add("MatMul", [pieces, constant("slopes", calibration.slopes)], "risen")
    moved = add("Add", [risen, constant("offset", calibration.offset)], "moved")
    add("Sigmoid", [moved], "score")
    if "raw_score" in outputs:
        add("Sigmoid", [bounded], "raw_score")
    return nodes, constants
