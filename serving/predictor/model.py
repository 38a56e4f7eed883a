"""The bundle as a `kserve.Model`: rules, then the model, then its thresholds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import kserve
import numpy as np
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import InferOutput, InferRequest, InferResponse
from numpy.typing import NDArray

from serving.bundle import Contract
from serving.errors import DataError, InferenceFailed, InferenceTimeout
from serving.policy import UNDECIDED, Breaker, Decider
from serving.predictor.cache import Cache
from serving.predictor.columns import RowReader
from serving.predictor.graph import Scores
from serving.predictor.http_wire import HttpWire, predictions
from serving.predictor.metrics import Metrics
from serving.predictor.refusal import Refusal
from serving.predictor.rows import Raw, Rows, join
from serving.predictor.session import TOGETHER_SECONDS, CallerTimeout, ModelSession
from serving.predictor.tensors import DATATYPE, TensorRules
from serving.predictor.wire import OUTPUTS, Request, Scored, new_id, requested_outputs

logger = logging.getLogger("seatrial.predictor")

Ruled = NDArray[np.intp] | None
"""What rules decide, as Decider.rules gives it."""

FALLBACK_REASONS = {
    "failed": "the model failed",
    "timeout": "the model exceeded its time budget",
    "breaker": "the model is left alone after failures in a row",
}
# Failures in a row that open the breaker, and seconds until the model is tried again.
BREAKER_FAILURES = 5
BREAKER_SECONDS = 1.0


class Copy(Protocol):
    """Who gets a copy of every answer, off the request path."""

    def offer(self, request: Request, scored: Scored) -> None: ...


class BundleModel(kserve.Model):  # type: ignore[misc]
    """Ready from the time its golden rows were reproduced until the process is told to stop."""

    def __init__(
        self,
        name: str,
        session: ModelSession,
        metrics: Metrics,
        copies: Sequence[Copy] = (),
        *,
        fallback_decision: str = "",
        cache: Cache | None = None,
        audited: bool = False,
    ) -> None:
        """`fallback_decision`: for rows that no rule decides while the model fails; "": errors."""
        super().__init__(name)
        self.session = session
        self.contract: Contract = session.bundle.contract
        self.http_wire = HttpWire(name, self.contract)
        self.metrics = metrics
        self.audited = audited
        """Whether somebody may ask for a request by its id later."""
        self._copies = copies
        self._cache = cache
        self._decider = Decider(self.contract)
        self._default = fallback_decision
        # Without a fallback every failure stays visible, also to whoever compares two arms.
        self._breaker = Breaker(BREAKER_FAILURES, BREAKER_SECONDS) if fallback_decision else None

    def score_direct(self, request: Request) -> Scored | None:
        """The answer if it takes no waiting, else None: then `score` or `score_blocking` has it.

        Raises InferenceFailed.
        """
        ruled, rows = self._open(request)
        if rows.count and not self.session.takes_directly(rows.count):
            return None
        scored = self._spared(request, rows, ruled)
        if scored is not None:
            return scored
        try:
            scores = self.session.run_direct(rows)
        except InferenceFailed as error:
            return self._without_model(request, ruled, error)
        return None if scores is None else self._with_model(request, rows, scores, ruled)

    def score_together(self, requests: Sequence[Request]) -> list[Scored | None]:
        """Answers from runs that requests share; None for those to be asked about alone."""
        answers: list[Scored | None] = [None] * len(requests)
        if self._cache is not None or self._breaker is not None:
            return answers
        opened = [self._open(request) for request in requests]
        for chunk in self.session.chunks([rows.count for _, rows in opened]):
            try:
                scores = self.session.run_direct(
                    join([opened[at][1] for at in chunk]), TOGETHER_SECONDS
                )
            except InferenceFailed:
                continue
            if scores is None:
                continue
            start = 0
            for at in chunk:
                ruled, rows = opened[at]
                part = scores[start : start + rows.count]
                answers[at] = self._answer(requests[at], part, ruled)
                start += rows.count
        return answers

    async def score(self, request: Request) -> Scored:
        """Raises InferenceFailed, InferenceTimeout, Overloaded or ClientGoneError."""
        ruled, rows = self._open(request)
        spared = self._spared(request, rows, ruled)
        if spared is not None:
            return spared
        try:
            scores = await self.session.run(rows, request.seconds, request.gone)
        except InferenceFailed as error:
            return self._without_model(request, ruled, error)
        return self._with_model(request, rows, scores, ruled)

    def score_blocking(self, request: Request) -> Scored:
        """As `score`, for callers in a thread of their own."""
        ruled, rows = self._open(request)
        spared = self._spared(request, rows, ruled)
        if spared is not None:
            return spared
        try:
            scores = self.session.run_blocking(rows, request.seconds, request.gone)
        except InferenceFailed as error:
            return self._without_model(request, ruled, error)
        return self._with_model(request, rows, scores, ruled)

    def _open(self, request: Request) -> tuple[Ruled, Rows]:
        """What the rules decide, and the rows they leave to the model."""
        rows = request.rows
        ruled = self._decider.rules(rows) if self._decider.features else None
        return ruled, rows if ruled is None else rows.take(ruled == UNDECIDED)

    def _spared(self, request: Request, rows: Rows, ruled: Ruled) -> Scored | None:
        """The answer without a run: by rules alone, from the cache, or for an open breaker.

        To be asked once a request: it counts, and an open breaker lets one request try.
        """
        if rows.count == 0:
            return self._answer(request, None, ruled)
        if self._cache is not None:
            kept = self._cache.get(rows)
            self.metrics.add("seatrial_cache", "miss" if kept is None else "hit")
            if kept is not None:
                return self._answer(request, kept, ruled)
        if self._breaker is not None and not self._breaker.allows():
            return self._answer(request, None, ruled, "breaker")
        return None

    def _with_model(self, request: Request, rows: Rows, scores: Scores, ruled: Ruled) -> Scored:
        if self._breaker is not None:
            self._breaker.succeeded()
            self.metrics.set("seatrial_breaker_open", float(self._breaker.is_open))
        if self._cache is not None:
            self._cache.put(rows, scores)
        return self._answer(request, scores, ruled)

    def _without_model(self, request: Request, ruled: Ruled, error: InferenceFailed) -> Scored:
        if self._breaker is None:
            raise error
        # An impatient caller says nothing about the model.
        if not isinstance(error, CallerTimeout):
            self._breaker.failed()
            self.metrics.set("seatrial_breaker_open", float(self._breaker.is_open))
        logger.warning("answered without the model: %s", error)
        why = "timeout" if isinstance(error, InferenceTimeout) else "failed"
        return self._answer(request, None, ruled, why)

    def _answer(
        self, request: Request, scores: Scores | None, ruled: Ruled, fallback: str = ""
    ) -> Scored:
        decider = self._decider
        if scores is not None and ruled is None:
            if request.rows.count == 1:
                outcomes = [decider.band(float(scores[0]))]
            else:
                outcomes = decider.bands(scores).tolist()
            given = scores
        else:
            given = np.full(request.rows.count, np.nan, dtype=np.float32)
            banded = np.full(request.rows.count, UNDECIDED) if ruled is None else ruled.copy()
            left = banded == UNDECIDED
            if scores is not None:
                given[left] = scores
                banded[left] = decider.bands(scores)
            outcomes = banded.tolist()
            ruled_rows = request.rows.count - int(np.count_nonzero(left))
            self.metrics.add("seatrial_rule_rows", count=ruled_rows)
            if fallback:
                self.metrics.add("seatrial_fallbacks", fallback, count=int(left.sum()))
        scored = Scored(
            given,
            [decider.decisions[o] if o >= 0 else self._default for o in outcomes],
            [decider.reasons[o] if o >= 0 else FALLBACK_REASONS[fallback] for o in outcomes],
            FALLBACK_REASONS[fallback] if fallback else "",
        )
        self.metrics.scored(given, scored.decisions)
        for copy in self._copies:
            copy.offer(request, scored)
        return scored

    async def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """KServe's own way in, for callers inside the process."""
        try:
            if isinstance(payload, InferRequest):
                return await self._predict_tensors(payload)
            request = self.http_wire.read_v1(payload)
            scored = self.score_direct(request) or await self.score(request)
            return {"predictions": predictions(scored)}
        except DataError as error:
            raise InvalidInput(str(error)) from None

    async def _predict_tensors(self, payload: InferRequest) -> InferResponse:
        rules = TensorRules(self.contract)
        columns: dict[str, Raw] = {}
        for tensor in payload.inputs:
            named = (tensor.parameters or {}).get("columns")
            layout = rules.layout(tensor.name, tensor.datatype, tensor.shape, named)
            layout.into(columns, tensor.as_numpy().reshape(-1))
        rows = RowReader(self.contract).read(columns)
        names = requested_outputs([output.name for output in payload.request_outputs or ()])
        request = Request(rows, payload.id or new_id(), dict.fromkeys(names, False))
        scored = self.score_direct(request) or await self.score(request)
        outputs = []
        for name in names:
            output = InferOutput(name, [rows.count], OUTPUTS[name])
            values: Any = scored.scores if name == "score" else np.array(scored.texts(name), object)
            output.set_data_from_numpy(values, binary_data=False)
            outputs.append(output)
        return InferResponse(request.id, self.name, outputs, parameters=payload.parameters)

    def refused(self, error: DataError) -> None:
        """Counts it."""
        reason, rows = "malformed", 1
        if isinstance(error, Refusal):
            reason, rows = error.reason, error.rows
        self.metrics.add("seatrial_rejected_rows", reason, count=rows)

    def load(self) -> bool:
        """KServe loads a model that is not ready; this one is either verified or going away."""
        return bool(self.ready)

    def start(self) -> None:
        self.ready = True
        self.metrics.ready(True)

    def stop(self) -> None:
        self.ready = False
        self.metrics.ready(False)

    def get_input_types(self) -> list[dict[str, Any]]:
        return [
            {"name": f.name, "datatype": DATATYPE[f.dtype], "shape": [-1]}
            for f in self.contract.features
        ]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": n, "datatype": d, "shape": [-1]} for n, d in OUTPUTS.items()]
