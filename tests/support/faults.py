"""Tiny bundles whose graph fails, loops or is slow on a value that their golden rows lack."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from seatrial.demo.fault import plant_fault
from serving.bundle import Bundle
from tests.support.tiny import model_bytes, rows, tiny_bundle

FEATURE = "visits"
ABOVE = 1000


def faulty_bundle(parent: Path, kind: Literal["fail", "loop"], **extra: bytes) -> Bundle:
    """Sound for every row whose `visits` is at most 1000; `extra` as for tiny_bundle."""
    files: dict[str, Any] = dict(extra)
    return tiny_bundle(parent, model=plant_fault(model_bytes(), FEATURE, ABOVE, kind), **files)


def slow_bundle(parent: Path, seconds: float) -> Bundle:
    """Right as ever, but it takes about so long for a row whose `visits` is above 1000."""
    looping = plant_fault(model_bytes(), FEATURE, ABOVE, "loop")
    columns = rows(1)
    columns[FEATURE][:] = ABOVE + 1
    session = onnxruntime.InferenceSession(_bounded(looping, 50_000))
    began = time.perf_counter()
    session.run(["score"], columns)
    per_round = (time.perf_counter() - began) / 50_000
    return tiny_bundle(parent, model=_bounded(looping, round(seconds / per_round)))


def _bounded(model: bytes, rounds: int) -> bytes:
    """The planted loop with an end."""
    proto = onnx.load_from_string(model)
    branch = next(
        attribute.g
        for node in proto.graph.node
        if node.op_type == "If"
        for attribute in node.attribute
        if attribute.name == "then_branch"
    )
    loop = next(node for node in branch.node if node.op_type == "Loop")
    loop.input[0] = "rounds"
    branch.initializer.append(numpy_helper.from_array(np.array(rounds, dtype=np.int64), "rounds"))
    return bytes(proto.SerializeToString())
