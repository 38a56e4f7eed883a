"""The bundle as a `kserve.Model`: columns in, scores and decisions out."""

from __future__ import annotations

from typing import Any

import kserve
import numpy as np
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import InferOutput, InferRequest, InferResponse

from serving.errors import DataError
from serving.policy import decide
from serving.predictor.columns import ColumnReader
from serving.predictor.metrics import Metrics
from serving.predictor.session import ModelSession
from serving.predictor.tee import Tee
from serving.predictor.tensors import DATATYPE, TensorRules
from serving.predictor.wire import (
    OUTPUTS,
    HttpWire,
    Request,
    Scored,
    new_id,
    predictions,
    requested_outputs,
)


class BundleModel(kserve.Model):  # type: ignore[misc]
    """Ready from the time its golden rows were reproduced until the process is told to stop."""

    def __init__(
        self, name: str, session: ModelSession, metrics: Metrics, tee: Tee | None = None
    ) -> None:
        super().__init__(name)
        self.session = session
        self.contract = session.bundle.contract
        self.http_wire = HttpWire(name, self.contract)
        self.metrics = metrics
        self._tee = tee

    async def score(self, request: Request) -> Scored:
        """Raises InferenceFailed or InferenceTimeout."""
        scores = await self.session.run(request.columns)
        decided = decide(self.contract, request.columns, scores)
        scored = Scored(scores, decided.decisions)
        self.metrics.scored(scored)
        if self._tee is not None:
            self._tee.offer(request, scored)
        return scored

    async def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """KServe's own way in: CloudEvents, and callers inside the process."""
        try:
            if isinstance(payload, InferRequest):
                return await self._predict_tensors(payload)
            return {"predictions": predictions(await self.score(self.http_wire.read_v1(payload)))}
        except DataError as error:
            raise InvalidInput(str(error)) from None

    async def _predict_tensors(self, payload: InferRequest) -> InferResponse:
        rules = TensorRules(self.contract)
        for tensor in payload.inputs:
            rules.rows(tensor.name, tensor.datatype, tensor.shape)
        columns = {tensor.name: tensor.as_numpy().reshape(-1) for tensor in payload.inputs}
        read = ColumnReader(self.contract).read(columns)
        rows = len(next(iter(read.values())))
        names = requested_outputs([output.name for output in payload.request_outputs or ()])
        request = Request(read, rows, payload.id or new_id(), dict.fromkeys(names, False))
        scored = await self.score(request)
        values = {"score": scored.scores, "decision": scored.decisions}
        outputs = []
        for name in names:
            output = InferOutput(name, [rows], OUTPUTS[name])
            output.set_data_from_numpy(np.asarray(values[name]), binary_data=False)
            outputs.append(output)
        return InferResponse(request.id, self.name, outputs)

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
