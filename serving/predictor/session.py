"""A bundle's ONNX graph behind a time budget, run beside the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.bundle import Bundle, canonical_columns
from serving.errors import BundleError, DataError, InferenceFailed, InferenceTimeout

Scores = NDArray[np.float32]
Columns = Mapping[str, NDArray[Any]]

GOLDEN_TOLERANCE = 1e-5
# More than a pod has cores: a few graphs that are stuck until their budget leave room for others.
WORKERS = 8
_ONNX_TYPES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "int64": "tensor(int64)",
    "string": "tensor(string)",
}
_QUIET = 4


def _run_options() -> Any:
    options = onnxruntime.RunOptions()
    options.log_severity_level = _QUIET
    return options


@dataclass(eq=False, slots=True)
class _Run:
    columns: Columns
    answer: asyncio.Future[Scores]
    loop: asyncio.AbstractEventLoop
    options: Any = field(default_factory=_run_options)

    def settle(self, result: Scores | Exception) -> None:
        """On the event loop; the caller may have been answered by the clock already."""
        if self.answer.done():
            return
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class ModelSession:
    """Scores columns of raw features. Safe for any number of concurrent callers."""

    def __init__(self, bundle: Bundle, budget_seconds: float) -> None:
        """Loads the graph. Raises BundleError when it does not fit the bundle's contract."""
        self.bundle = bundle
        self.budget_seconds = budget_seconds
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.read("model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base of their own
            raise BundleError(
                f"{bundle.path}/model.onnx: ONNX Runtime cannot load it: {_line(error)}"
            ) from None
        self._check_signature()
        self._jobs: queue.SimpleQueue[_Run] = queue.SimpleQueue()
        self._running: set[_Run] = set()
        self._workers = 0

    def verify_golden_rows(self) -> None:
        """Raises BundleError when the graph does not give the stored answers to 1e-5."""
        where = f"{self.bundle.path}/golden.json"
        try:
            golden = self.bundle.read_json("golden.json")
            columns = canonical_columns(self.bundle.contract, golden["columns"])
            expected = np.asarray(golden["score"], dtype=np.float64)
        except (DataError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise BundleError(f"{where}: no golden rows to read ({error}); retrain") from None
        options = _run_options()
        clock = threading.Timer(self.budget_seconds, _terminate, [options])
        clock.daemon = True
        clock.start()
        try:
            scores = self._compute(columns, options)
        except InferenceFailed as error:
            raise BundleError(f"{where}: the model fails on the golden rows: {error}") from None
        finally:
            clock.cancel()
        if scores.shape != expected.shape:
            raise BundleError(
                f"{where}: {len(scores)} golden rows, {len(expected)} stored scores; retrain"
            )
        off = np.flatnonzero(~(np.abs(scores - expected) <= GOLDEN_TOLERANCE))
        if len(off):
            row = int(off[0])
            raise BundleError(
                f"{where}: golden row {row} scores {scores[row]:.6g} here,"
                f" the bundle says {expected[row]:.6g}; do not serve it, retrain"
            )

    async def run(self, columns: Columns) -> Scores:
        """Scores float32 [n] of canonical columns [n].

        Raises InferenceTimeout after the budget, which counts from now and so includes waiting,
        and InferenceFailed when the graph fails or gives no probability.
        """
        loop = asyncio.get_running_loop()
        run = _Run(columns, loop.create_future(), loop)
        if len(self._running) >= self._workers < WORKERS:
            self._workers += 1
            # Daemons: a kernel that ignores the terminate flag must not hold the process.
            threading.Thread(target=self._work, name=f"run-{self._workers}", daemon=True).start()
        self._running.add(run)
        clock = loop.call_later(self.budget_seconds, self._expire, run)
        self._jobs.put(run)
        try:
            return await run.answer
        finally:
            clock.cancel()
            run.options.terminate = True
            self._running.discard(run)

    def terminate_all(self) -> None:
        """Stops every run in progress; their callers get InferenceTimeout."""
        for run in list(self._running):
            self._expire(run)

    def _expire(self, run: _Run) -> None:
        run.options.terminate = True
        run.settle(self._over_budget())

    def _over_budget(self) -> InferenceTimeout:
        return InferenceTimeout(f"the model was stopped at its budget of {self.budget_seconds:g} s")

    def _work(self) -> None:
        while True:
            run = self._jobs.get()
            if run.answer.done():
                continue
            result: Scores | Exception
            try:
                result = self._compute(run.columns, run.options)
            except Exception as error:
                result = error
            try:
                run.loop.call_soon_threadsafe(run.settle, result)
            except RuntimeError:
                return  # the loop closed while the graph ran

    def _compute(self, columns: Columns, options: Any) -> Scores:
        rows = len(next(iter(columns.values())))
        try:
            scores = self._session.run(["score"], columns, options)[0]
        except Exception as error:
            if options.terminate:
                raise self._over_budget() from None
            raise InferenceFailed(f"the model failed: {_line(error)}") from None
        if scores.shape != (rows,):
            raise InferenceFailed(
                f"the model gave scores of shape {list(scores.shape)} for {rows} rows"
            )
        if rows and not (scores.min() >= 0 and scores.max() <= 1):
            raise InferenceFailed("the model gave a score that is no probability in 0..1")
        return np.asarray(scores, dtype=np.float32)

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
        if "score" not in {o.name for o in self._session.get_outputs()}:
            raise BundleError(f"{where}: the model has no output 'score'; retrain")


def _terminate(options: Any) -> None:
    options.terminate = True


def _line(error: Exception) -> str:
    """onnxruntime's message without its banner, on one line."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    return text if len(text) <= 300 else text[:297] + "..."
