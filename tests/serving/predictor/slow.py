"""A tiny bundle whose every run takes a while: too long for an event loop, so it has a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from seatrial.demo.fault import plant_fault
from serving.bundle import Bundle
from tests.support.faults import ABOVE, FEATURE
from tests.support.tiny import model_bytes, tiny_bundle

ROUNDS = 120_000
"""Of a loop around the score: some 50 ms."""


def slow_bundle(
    parent: Path, rounds: int = ROUNDS, kind: Literal["fail", "loop"] = "loop", **extra: bytes
) -> Bundle:
    """It also fails or never ends on rows whose `visits` is above 1000, as faulty_bundle's does."""
    files: dict[str, Any] = dict(extra)
    return tiny_bundle(parent, model=plant_fault(slow_model(rounds), FEATURE, ABOVE, kind), **files)


def slow_model(rounds: int) -> bytes:
    """The tiny model's scores, after `rounds` of doing nothing."""
    proto = onnx.load_from_string(model_bytes())
    last = proto.graph.node[-1]
    last.output[0] = "early"
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "idle",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    proto.graph.node.append(helper.make_node("Loop", ["rounds", "", "early"], ["score"], body=body))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(rounds), "rounds"))
    return bytes(proto.SerializeToString())
