"""A bundle's ONNX graph in ONNX Runtime: rows in, checked probabilities out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError, InferenceFailed
from serving.predictor.lanes import Lane
from serving.predictor.rows import Rows

Scores = NDArray[np.float32]

# Rows up to which a lane keeps the model's inputs bound: handing 30 arrays over costs more than
# running a small graph.
_BOUND_ROWS = 64
_ONNX_TYPES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "int64": "tensor(int64)",
    "string": "tensor(string)",
}
_QUIET = 4


@dataclass(frozen=True, slots=True)
class _Binding:
    io: Any
    native: Any
    block: NDArray[Any] | None
    """All inputs [features, rows] in one array, where they are of one type."""
    inputs: Mapping[str, NDArray[Any]]
    score: Scores


class Graph:
    """Safe for concurrent callers, each with its own lane."""

    def __init__(self, bundle: Bundle, providers: Sequence[Any], threads: int) -> None:
        """Loads the graph. Raises BundleError when it does not fit the bundle's contract."""
        self.bundle = bundle
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        # Spinning threads would burn the pod's CPU share while they wait for the next request.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.read("model.onnx"), options, providers=list(providers)
            )
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise BundleError(
                f"{bundle.path}/model.onnx: ONNX Runtime cannot load it: {_line(error)}"
            ) from None
        # Its wrapper searches the run options for WebGPU's: three times what a small graph takes.
        # What is private may go: then the wrapper it is.
        self._native = getattr(getattr(self._session, "_sess", None), "run_with_iobinding", None)
        self._check_signature()
        self._names = bundle.contract.feature_names
        self._kinds = [
            np.dtype(object if f.dtype == "string" else f.dtype) for f in bundle.contract.features
        ]
        self._numeric = all(kind.kind != "O" for kind in self._kinds)

    @property
    def providers(self) -> list[str]:
        """What ONNX Runtime really uses, in its order."""
        return list(self._session.get_providers())

    def metadata(self, key: str) -> str:
        """An entry of the model's own metadata, "" without one."""
        return str(self._session.get_modelmeta().custom_metadata_map.get(key, ""))

    def run(self, rows: Rows, lane: Lane) -> Scores:
        """Scores [n]. Raises InferenceFailed when the graph fails or gives no probability."""
        try:
            if self._numeric and rows.count <= _BOUND_ROWS:
                scores = self._run_bound(rows, lane)
            else:
                scores = self._session.run(["score"], rows.columns, lane.options)[0]
        except Exception as error:
            raise InferenceFailed(f"the model failed: {_line(error)}") from None
        if scores.shape != (rows.count,):
            raise InferenceFailed(
                f"the model gave scores of shape {list(scores.shape)} for {rows.count} rows"
            )
        if rows.count == 1:
            sound = 0 <= float(scores[0]) <= 1
        else:
            sound = b"\0" not in ((scores >= 0) & (scores <= 1)).tobytes()
        if not sound:
            raise InferenceFailed("the model gave a score that is no probability in 0..1")
        return np.asarray(scores, dtype=np.float32)

    def _run_bound(self, rows: Rows, lane: Lane) -> Scores:
        binding: _Binding | None = lane.bindings.get(rows.count)
        if binding is None:
            binding = lane.bindings[rows.count] = self._bind(rows.count)
        if rows.matrix is not None and binding.block is not None:
            binding.block[:] = rows.matrix.T
        else:
            for name, column in rows.columns.items():
                binding.inputs[name][:] = column
        binding.score[0] = np.nan  # no answer of the last run may pass for this one's
        if self._native is None or binding.native is None:
            self._session.run_with_iobinding(binding.io, lane.options)
        else:
            self._native(binding.native, lane.options)
        return binding.score.copy()

    def _bind(self, count: int) -> _Binding:
        block = None
        if len(set(self._kinds)) == 1:
            block = np.zeros((len(self._names), count), dtype=self._kinds[0])
            inputs = dict(zip(self._names, block, strict=True))
        else:
            inputs = {
                name: np.zeros(count, dtype=kind)
                for name, kind in zip(self._names, self._kinds, strict=True)
            }
        score = np.empty(count, dtype=np.float32)
        io = self._session.io_binding()
        for name, column in inputs.items():
            io.bind_input(name, "cpu", 0, column.dtype.type, [count], column.ctypes.data)
        io.bind_output("score", "cpu", 0, np.float32, [count], score.ctypes.data)
        return _Binding(io, getattr(io, "_iobinding", None), block, inputs, score)

    def _check_signature(self) -> None:
        where = f"{self.bundle.path}/model.onnx"
        found = {i.name: (i.type, len(i.shape)) for i in self._session.get_inputs()}
        for feature in self.bundle.contract.features:
            wanted = (_ONNX_TYPES[feature.dtype], 1)
            if found.pop(feature.name, None) != wanted:
                raise BundleError(
                    f"{where}: no 1-D {feature.dtype} input for feature '{feature.name}'; retrain"
                )
        if found:
            raise BundleError(f"{where}: input '{next(iter(found))}' is not in the contract")
        outputs = {o.name: (o.type, len(o.shape)) for o in self._session.get_outputs()}
        if outputs.get("score") != ("tensor(float)", 1):
            raise BundleError(f"{where}: the model has no 1-D float32 output 'score'; retrain")


def _line(error: Exception) -> str:
    """onnxruntime's message without its banner, on one line."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    return text if len(text) <= 300 else text[:297] + "..."
