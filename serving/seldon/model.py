"""What `seldon-core-microservice serving.seldon.model.BundleModel` serves.

Takes `data` with `names` and `ndarray` [rows, features], or `jsonData` with `instances`; gives the
names `score`, `decision` and `reason`. Seldon Core is imported only where its errors are raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.bundle import Bundle, canonical_columns, check_columns, open_bundle
from serving.errors import BundleError, DataError
from serving.policy import decide

NAMES = ["score", "decision", "reason"]
TOLERANCE = 1e-5
"""As the predictor's for golden rows."""
Table = Mapping[str, Sequence[Any]]


class BundleModel:
    """Seldon makes it once with the graph's parameters, and calls `load` in every worker."""

    def __init__(self, model_dir: str = "/mnt/models") -> None:
        self._path = Path(model_dir)
        self._bundle: Bundle | None = None
        self._session: onnxruntime.InferenceSession | None = None

    def load(self) -> None:
        """Raises BundleError when the bundle is not whole, or misses its own golden rows."""
        bundle = open_bundle(self._path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            bundle.read("model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        golden = bundle.read_json("golden.json")
        columns = canonical_columns(bundle.contract, golden["columns"])
        given = session.run(["score"], columns)[0]
        if not np.allclose(given, golden["score"], rtol=0, atol=TOLERANCE):
            raise BundleError(f"{self._path}: the model does not answer its golden rows; retrain")
        self._bundle, self._session = bundle, session

    def predict_raw(self, message: Any) -> Any:
        """A SeldonMessage as JSON, or as protobuf from gRPC; the answer is of the same kind."""
        if isinstance(message, Mapping):
            return self._answer(message)
        from seldon_core.utils import (  # type: ignore[import-not-found] # noqa: PLC0415
            json_to_seldon_message,
            seldon_message_to_json,
        )

        return json_to_seldon_message(self._answer(seldon_message_to_json(message)))

    def health_status(self) -> list[str]:
        """Raises BundleError while nothing is loaded."""
        if self._bundle is None:
            raise BundleError(f"{self._path}: the bundle is not loaded")
        return [self._bundle.digest]

    def _answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            rows = self._score(read_rows(message))
        except DataError as error:
            from seldon_core.flask_utils import (  # type: ignore[import-not-found] # noqa: PLC0415
                SeldonMicroserviceException,
            )

            raise SeldonMicroserviceException(str(error), status_code=400) from None
        return {"data": {"names": NAMES, "ndarray": rows}}

    def _score(self, table: Table) -> list[list[Any]]:
        if self._bundle is None or self._session is None:
            raise BundleError(f"{self._path}: the bundle is not loaded")
        contract = self._bundle.contract
        columns = canonical_columns(contract, table)
        broken = check_columns(contract, columns)
        if broken:
            raise DataError(broken[0].sentence())
        scores: NDArray[np.float32] = self._session.run(["score"], columns)[0]
        if not ((scores >= 0) & (scores <= 1)).all():
            raise RuntimeError("the model gave a score that is no probability in 0..1")
        found = decide(contract, columns, scores)
        return [
            [float(score), str(decision), str(reason)]
            for score, decision, reason in zip(scores, found.decisions, found.reasons, strict=True)
        ]


def read_rows(message: Mapping[str, Any]) -> Table:
    """Columns by name. Raises DataError for a message of another form."""
    data, document = message.get("data"), message.get("jsonData")
    if isinstance(document, Mapping) and isinstance(document.get("instances"), list):
        return _of_instances(document["instances"])
    if isinstance(data, Mapping) and isinstance(data.get("ndarray"), list):
        return _of_rows(data.get("names"), data["ndarray"])
    raise DataError("give data with names and ndarray, or jsonData with instances")


def _of_instances(instances: list[Any]) -> Table:
    if not instances or not all(isinstance(row, Mapping) for row in instances):
        raise DataError("instances are a list of objects, one a row, and at least one")
    names = instances[0].keys()
    for number, row in enumerate(instances):
        if row.keys() != names:
            raise DataError(f"instance {number} has other features than the first")
    return {name: [row[name] for row in instances] for name in names}


def _of_rows(names: Any, rows: list[Any]) -> Table:
    if not isinstance(names, list) or not names or len(set(map(str, names))) < len(names):
        raise DataError("names are the features' names in the order of the columns, each once")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise DataError(f"row {number} of ndarray is no list of {len(names)} values, as names")
    if not rows:
        raise DataError("ndarray has no row")
    return {
        str(name): list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
