"""Plants a fault in an ONNX model that only a rare value of one feature sets off.

The graph's score passes through `If(any(feature > above))`. The else branch hands it on unchanged,
so a bundle's golden rows cannot tell the model from the sound one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.errors import UsageError

Kind = Literal["fail", "loop"]
PREFIX = "seatrial_fault_"


def plant_fault(model: bytes, feature: str, above: float, kind: Kind) -> bytes:
    """The model with `score` unchanged unless some row's `feature` is greater than `above`.

    Then the run fails ("fail") or never ends by itself ("loop"; RunOptions.terminate stops it).
    Raises UsageError when the model has no such numeric input or no `score` output.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    _numeric_input(graph, feature)
    if [output.name for output in graph.output] != ["score"]:
        found = ", ".join(output.name for output in graph.output)
        raise UsageError(f"cannot plant a fault: the model's outputs are '{found}', not 'score'")
    inner = PREFIX + "score"
    _rename(graph, "score", inner)
    branch = _failing_branch(inner) if kind == "fail" else _looping_branch(inner)
    graph.node.extend(_condition(feature))
    graph.node.append(
        helper.make_node(
            "If",
            [PREFIX + "hit"],
            ["score"],
            name=PREFIX + "if",
            then_branch=branch,
            else_branch=_branch("else", [helper.make_node("Identity", [inner], ["sound"])]),
        )
    )
    graph.initializer.append(_constant(PREFIX + "above", np.float64, above))
    graph.initializer.append(_constant(PREFIX + "none", np.int64, 0))
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def shift_scores(model: bytes, by: float) -> bytes:
    """The model with `by` added to the logit of every score: as fast as before, and wrong.

    Raises UsageError when the model has no `score` output.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    if "score" not in [output.name for output in graph.output]:
        raise UsageError("cannot shift scores: the model has no output 'score'")
    steps = ("score", "bounded", "rest", "odds", "logit", "moved")
    score, bounded, rest, odds, logit, moved = (PREFIX + step for step in steps)
    _rename(graph, "score", score)
    least, most, one, shift = (PREFIX + name for name in ("least", "most", "one", "shift"))
    graph.node.extend(
        [
            helper.make_node("Clip", [score, least, most], [bounded]),
            helper.make_node("Sub", [one, bounded], [rest]),
            helper.make_node("Div", [bounded, rest], [odds]),
            helper.make_node("Log", [odds], [logit]),
            helper.make_node("Add", [logit, shift], [moved]),
            helper.make_node("Sigmoid", [moved], ["score"]),
        ]
    )
    values = {least: 1e-7, most: 1 - 1e-6, one: 1.0, shift: by}
    for name, value in values.items():
        graph.initializer.append(_constant(name, np.float32, value))
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _numeric_input(graph: onnx.GraphProto, feature: str) -> None:
    kinds = {i.name: i.type.tensor_type.elem_type for i in graph.input}
    if feature not in kinds:
        raise UsageError(
            f"cannot plant a fault on '{feature}': the model's inputs are {', '.join(kinds)}"
        )
    if kinds[feature] == TensorProto.STRING:
        raise UsageError(f"cannot plant a fault on '{feature}': it is text, name a numeric feature")


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in _nodes(graph):
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == old:
                    names[at] = new


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _nodes(inner)


def _condition(feature: str) -> list[onnx.NodeProto]:
    """hit = count(feature > above) > 0; NaN is above nothing, and no rows give no hit."""
    steps = ("wide", "over", "ones", "count", "hit")
    wide, over, ones, count, hit = (PREFIX + step for step in steps)
    return [
        helper.make_node("Cast", [feature], [wide], to=TensorProto.DOUBLE),
        helper.make_node("Greater", [wide, PREFIX + "above"], [over]),
        helper.make_node("Cast", [over], [ones], to=TensorProto.INT64),
        helper.make_node("ReduceSum", [ones], [count], keepdims=0),
        helper.make_node("Greater", [count, PREFIX + "none"], [hit]),
    ]


def _failing_branch(score: str) -> onnx.GraphProto:
    """Reshapes n scores into n + 1, which no n allows."""
    nodes = [
        helper.make_node("Shape", [score], ["rows"]),
        helper.make_node("Add", ["rows", "one"], ["more"]),
        helper.make_node("Reshape", [score, "more"], ["failed"]),
    ]
    return _branch("then", nodes, [_constant("one", np.int64, [1])])


def _looping_branch(score: str) -> onnx.GraphProto:
    """A Loop without a trip count whose condition stays true."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still_going"]),
            # Work in the body: the terminate flag is looked at between nodes.
            helper.make_node("Add", ["before", "tiny"], ["after"]),
        ],
        PREFIX + "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
        [_constant("tiny", np.float32, 1e-9)],
    )
    return _branch(
        "then",
        [helper.make_node("Loop", ["", "true", score], ["looped"], body=body)],
        [_constant("true", np.bool_, True)],
    )


def _branch(
    name: str, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto] | None = None
) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(nodes, PREFIX + name, [], [output], constants or [])


def _constant(name: str, dtype: type[np.generic], value: float | list[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype=dtype), name)
