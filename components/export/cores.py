"""Each family's part of the graph: `values` and `codes` in, `margin` float32 ["rows"] out."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from components.train.inputs import numeric_features, text_features
from components.train.logistic import FAR, Logistic, text_starts
from components.train.network import Network
from components.train.tree import Tree
from serving.bundle import Contract

OPSET, ML_OPSET = 18, 3
VALUES, CODES, MARGIN = "values", "codes", "margin"
_OWN = "core/"
"""Names of a core's own tensors; no feature's name may hold a slash."""


@dataclass
class Nodes:
    """A part of a graph under construction."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), _OWN + name))
        return _OWN + name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = output if output == MARGIN else _OWN + output
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name


def core_nodes(contract: Contract, core: Network | Tree | Logistic) -> Nodes:
    if isinstance(core, Network):
        return _network(core)
    if isinstance(core, Tree):
        return _tree(contract, core)
    return _logistic(contract, core)


def _network(network: Network) -> Nodes:
    """As PyTorch exports it."""
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
            input_names=[VALUES, CODES],
            output_names=[MARGIN],
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
    return Nodes(list(graph.node), list(graph.initializer))


def _tree(contract: Contract, tree: Tree) -> Nodes:
    made = Nodes()
    parts = []
    if numeric_features(contract):
        center, scale = made.constant("center", tree.center), made.constant("scale", tree.scale)
        centred = made.add("Sub", [VALUES, center], "centred")
        scaled = made.add("Div", [centred, scale], "scaled")
        parts.append(made.add("Cast", [scaled], "numbers", to=TensorProto.FLOAT))
    if text_features(contract):
        parts.append(_looked_up(contract, made, tree.text))
    design = parts[0] if len(parts) == 1 else made.add("Concat", parts, "design", axis=1)
    count = np.diff([*tree.starts, len(tree.feature)])
    number = np.repeat(np.arange(tree.rounds), count)
    leaf = tree.leaf == 1
    places = np.arange(len(number)) - tree.starts[number]
    made.add(
        "TreeEnsembleRegressor",
        [design],
        "leaves",
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=[tree.base],
        nodes_treeids=number.tolist(),
        nodes_nodeids=places.tolist(),
        nodes_featureids=np.where(leaf, 0, tree.feature).tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values=np.where(leaf, np.float32(0), tree.threshold).tolist(),
        nodes_truenodeids=np.where(leaf, 0, tree.left).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, tree.right).tolist(),
        nodes_missing_value_tracks_true=np.where(leaf, 0, tree.missing_left).tolist(),
        target_treeids=number[leaf].tolist(),
        target_nodeids=places[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=tree.value[leaf].astype(np.float32).tolist(),
    )
    made.add("Reshape", [_OWN + "leaves", made.constant("flat", np.array([-1]))], MARGIN)
    return made


def _logistic(contract: Contract, model: Logistic) -> Nodes:
    """In float64, as NumPy computes it."""
    made = Nodes()
    total = made.constant("intercept", np.array([model.intercept]))
    if numeric_features(contract):
        centred = made.add("Sub", [VALUES, made.constant("center", model.center)], "centred")
        scaled = made.add("Div", [centred, made.constant("scale", model.scale)], "scaled")
        bounds = [made.constant("least", np.array(-FAR)), made.constant("most", np.array(FAR))]
        near = made.add("Clip", [scaled, *bounds], "near")
        absent = made.add("IsNaN", [VALUES], "absent")
        filled = made.add("Where", [absent, made.constant("median", model.median), near], "filled")
        weight = made.constant("weight", model.weight)
        total = made.add("Add", [made.add("MatMul", [filled, weight], "sum"), total], "numbers")
        if model.absent.any():
            flags = made.add("Cast", [absent], "flags", to=TensorProto.DOUBLE)
            lost = made.add("MatMul", [flags, made.constant("lost", model.absent)], "missing")
            total = made.add("Add", [total, lost], "known")
    if text_features(contract):
        axis = made.constant("columns", np.array([1]))
        picked = _looked_up(contract, made, model.text)
        texts = made.add("ReduceSum", [picked, axis], "text_sum", keepdims=0)
        total = made.add("Add", [total, texts], "all")
    made.add("Cast", [total], MARGIN, to=TensorProto.FLOAT)
    return made


def _looked_up(contract: Contract, made: Nodes, table: NDArray[Any]) -> str:
    """The entry of each text's code, ["rows", texts]."""
    starts = made.constant("text_starts", text_starts(contract))
    places = made.add("Add", [CODES, starts], "text_places")
    return made.add("Gather", [made.constant("text", table), places], "texts", axis=0)
