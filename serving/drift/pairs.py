"""KServe's payload logger: a request's features and its response's score, joined by their id."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from serving.bundle import Contract
from serving.drift.cloudevents import Envelope
from serving.drift.payloads import read_request, read_scores
from serving.drift.rows import Block
from serving.errors import DataError

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
TYPES = (REQUEST, RESPONSE)

Mode = Literal["all", "request"]
"""What the logger sends: its field `mode`. In mode request there are no scores."""


class Pairs:
    """Turns logger events into blocks. In mode all, a half waits for the other one.

    Halves wait at most `patience` seconds and `capacity` rows of them are kept; what ends without
    its other half is dropped. A request that the model refused has no response: as with the tee,
    only rows that were answered are watched.
    """

    def __init__(
        self,
        contract: Contract,
        mode: Mode,
        *,
        patience: float,
        capacity: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = contract.feature_names
        self._mode = mode
        self._patience = patience
        self._capacity = capacity
        self._clock = clock
        self._waiting: OrderedDict[tuple[str, str], tuple[float, Block | Sequence[Any]]] = (
            OrderedDict()
        )
        self.rows = 0
        """Rows that wait for their other half."""

    def take(self, event: Envelope) -> tuple[Block | None, int]:
        """(the block that this event completes, rows dropped). Raises DataError."""
        size = _json_size(event)
        half: Block | Sequence[Any]
        if event.type == REQUEST:
            columns, rows = read_request(event.data, self._names, size)
            if not any(name in columns for name in self._names):
                raise DataError("no column of the payload is in the contract; is it this model's?")
            half = Block(columns, rows, event.time, _ids(event.key[2], rows))
            if self._mode == "request":
                return half, 0
        elif self._mode == "request":
            return None, 0
        else:
            half = read_scores(event.data, size)
        return self._join((event.key[0], event.key[2]), half)

    def expire(self) -> int:
        """Drops halves that have waited too long; returns how many requests' rows went."""
        dropped = 0
        limit = self._clock() - self._patience
        while self._waiting and (
            next(iter(self._waiting.values()))[0] < limit or self.rows > self._capacity
        ):
            _, (_, half) = self._waiting.popitem(last=False)
            self.rows -= _length(half)
            dropped += _length(half) if isinstance(half, Block) else 0
        return dropped

    def _join(self, key: tuple[str, str], half: Block | Sequence[Any]) -> tuple[Block | None, int]:
        _, other = self._waiting.get(key, (0.0, None))
        if other is None or isinstance(other, Block) == isinstance(half, Block):
            self.rows += _length(half) - (0 if other is None else _length(other))
            self._waiting[key] = (self._clock(), half)
            return None, self.expire()
        del self._waiting[key]
        self.rows -= _length(other)
        block, scores = (half, other) if isinstance(half, Block) else (other, half)
        assert isinstance(block, Block)  # noqa: S101 - one of two halves
        if len(scores) != block.rows:  # type: ignore[arg-type]
            raise DataError(
                f"event '{key[1]}': {block.rows} rows were asked and {len(scores)} answered"  # type: ignore[arg-type]
            )
        return replace(block, scores=scores), self.expire()


def _length(half: Block | Sequence[Any]) -> int:
    return half.rows if isinstance(half, Block) else len(half)


def _ids(event_id: str, rows: int) -> list[str]:
    """As the tee has them: the request's id for its only row, or that id with the row."""
    return [event_id] if rows == 1 else [f"{event_id}/{row}" for row in range(rows)]


def _json_size(event: Envelope) -> int | None:
    """Inference-Header-Content-Length where the logger passes it on (metadataHeaders)."""
    text = event.extensions.get("inferenceheadercontentlength")
    if text is None and "metadata" in event.extensions:
        try:
            headers = json.loads(event.extensions["metadata"])
            named = {str(k).lower(): v for k, v in headers.items()}
            found = named.get("inference-header-content-length")
            text = found[0] if isinstance(found, list) else found
        except (ValueError, AttributeError, IndexError):
            return None
    return int(text) if isinstance(text, str) and text.isdecimal() else None
