"""One request and its answer, the same on every wire."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import DataError
from serving.predictor.rows import Rows

OUTPUTS = {"score": "FP32", "decision": "BYTES", "reason": "BYTES"}
BOTH = {"score": False, "decision": False}
"""The outputs of who asks for none: `reason` comes on demand."""
BOTH_PACKED = {"score": True, "decision": True}


BINARY_OUTPUT = "binary_data_output"
"""The one request parameter that the protocol itself reads."""


def _forever() -> bool:
    return False


@dataclass(slots=True)
class Request:
    """What one request asks for."""

    rows: Rows
    id: str
    """The client's, or a new one: KServe's SDK and V2 clients expect one in the answer."""
    outputs: Mapping[str, bool]
    """Requested outputs; True for the packed binary form."""
    parameters: Mapping[str, Any] | None = None
    """The request's own, which its answer carries too."""
    seconds: float | None = None
    """How long the client waits from now on; None: as long as it takes."""
    gone: Callable[[], bool] = _forever
    """Whether the client has left, and nobody reads the answer."""


@dataclass(slots=True)
class Scored:
    """One entry a row."""

    scores: NDArray[np.float32]
    """NaN where the model was not asked."""
    decisions: list[str]
    reasons: list[str]
    fallback: str = ""
    """Why the model was not heard, for an answer that had to do without it."""

    def texts(self, output: str) -> list[str]:
        return self.decisions if output == "decision" else self.reasons


def requested_outputs(names: Sequence[object]) -> Sequence[str]:
    """The default outputs when none is named. Raises DataError for one the model lacks."""
    for name in names:
        if name not in OUTPUTS:
            raise DataError(f"output {name!r:.60} does not exist; there are {', '.join(OUTPUTS)}")
    return [str(name) for name in names] or list(BOTH)


_PROCESS = uuid.uuid4().hex[:16]
_count = itertools.count()


def new_id() -> str:
    """Unique among all predictors; a uuid a request would cost what a small model does."""
    return f"{_PROCESS}-{next(_count):x}"
