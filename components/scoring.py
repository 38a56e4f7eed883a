"""Scores of a model file, as the predictor computes them: ONNX Runtime on raw columns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.bundle.rows import Columns
from serving.errors import FileError

BATCH = 8192


def open_model(model: Path | bytes) -> Any:
    """An ONNX Runtime session on the CPU, threads bounded. Raises FileError."""
    return _session(model, ["CPUExecutionProvider"])


def on_gpu(model: Path | bytes) -> Any | None:
    """A session on CUDA, without TF32; None where ONNX Runtime finds none."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    session = _session(model, [cuda, "CPUExecutionProvider"])
    # Without a driver the provider is listed all the same and the session falls back to the CPU.
    return session if "CUDAExecutionProvider" in session.get_providers() else None


def _session(model: Path | bytes, providers: list[Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(4, len(os.sched_getaffinity(0)))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = model if isinstance(model, bytes) else str(model)
    if isinstance(model, Path) and not model.is_file():
        raise FileError(f"{model}: no model here; give the folder that the export step wrote")
    return onnxruntime.InferenceSession(content, options, providers=providers)


def model_scores(session: Any, columns: Columns, output: str = "score") -> NDArray[np.float32]:
    """The model's score of canonical columns, float32 [rows]; or another of its outputs."""
    rows = len(next(iter(columns.values())))
    parts = [
        session.run([output], {n: c[start : start + BATCH] for n, c in columns.items()})[0]
        for start in range(0, rows, BATCH)
    ]
    result: NDArray[np.float32] = np.concatenate(parts)
    return result
