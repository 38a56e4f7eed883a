"""A copy of every scored row to the drift sidecar, off the request path.

A bounded queue and one thread. A sidecar that is slow, dead or not there costs the caller nothing:
rows that do not fit are dropped and counted.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import itertools
import threading
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.bundle import Bundle
from serving.errors import BundleError
from serving.predictor.metrics import Metrics
from serving.predictor.rows import join
from serving.predictor.wire import Request, Scored

MAX_PENDING_ROWS = 4096
MAX_EVENT_ROWS = 1024
# Rows that arrive within this time share an event.
LINGER_SECONDS = 0.25
TIMEOUT_SECONDS = 2.0
BACKOFF_SECONDS = (0.1, 2.0)
EVENT_TYPE = "io.seatrial.inference.rows"

_Item = tuple[Request, Scored]


class Tee:
    """Sends rows to `url`; use `start`, `offer` from the event loop, `close`."""

    def __init__(self, url: str, bundle: Bundle, model: str, arm: str, metrics: Metrics) -> None:
        address = urlsplit(url)
        self._host = (address.hostname or "localhost", address.port or 80)
        self._path = address.path.rstrip("/")
        self._digest = bundle.digest
        self._arm = arm
        self._source = f"/seatrial/{model}/{arm}"
        self._introduction = _introduction(bundle, model, arm)
        self._metrics = metrics
        self._pending: deque[_Item] = deque()
        self._pending_rows = 0
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._full = threading.Event()
        self._closing = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._introduced = False
        self._thread = threading.Thread(target=self._work, name="tee", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, request: Request, scored: Scored) -> None:
        """Takes the rows, or drops and counts them when the queue is full. Never waits."""
        with self._lock:
            fits = not self._pending or self._pending_rows + request.rows.count <= MAX_PENDING_ROWS
            first = not self._pending
            if fits:
                self._pending.append((request, scored))
                self._pending_rows += request.rows.count
        if first:
            self._arrived.set()
        if self._pending_rows >= MAX_EVENT_ROWS and not self._full.is_set():
            self._full.set()
        if not fits:
            self._metrics.tee_dropped("full", request.rows.count)

    def close(self, seconds: float) -> None:
        """Sends what is queued, for at most `seconds`."""
        self._closing.set()
        self._arrived.set()
        self._full.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        failures = 0
        while True:
            if self._introduced:
                self._arrived.wait()
                self._full.wait(LINGER_SECONDS)
                well = self._deliver(self._take())
            else:
                well = self._introduce()
            if self._closing.is_set() and not (well and self._pending):
                return
            failures = 0 if well else failures + 1
            if failures:
                low, high = BACKOFF_SECONDS
                self._closing.wait(min(high, low * 2 ** min(failures, 10)))

    def _take(self) -> list[_Item]:
        batch: list[_Item] = []
        rows = 0
        with self._lock:
            while self._pending and (
                not batch or rows + self._pending[0][0].rows.count <= MAX_EVENT_ROWS
            ):
                batch.append(self._pending.popleft())
                rows += batch[-1][0].rows.count
            self._pending_rows -= rows
            if not self._pending:
                self._arrived.clear()
            if self._pending_rows < MAX_EVENT_ROWS and not self._closing.is_set():
                self._full.clear()
        return batch

    def _introduce(self) -> bool:
        status = self._call("PUT", "/bundle", self._introduction, "application/json")
        self._introduced = status is not None and status < 300
        return self._introduced

    def _deliver(self, batch: list[_Item]) -> bool:
        """Whether the sidecar answered well; rows it did not take are counted as dropped."""
        if not batch:
            return True
        rows = sum(request.rows.count for request, _ in batch)
        event = self._event(batch)
        status = self._call("POST", "/events", event, "application/cloudevents+json")
        if status == 409 and self._introduce():
            status = self._call("POST", "/events", event, "application/cloudevents+json")
        if status == 409:
            self._introduced = False
        well = status is not None and status < 300
        if well:
            self._metrics.teed(rows)
        else:
            self._metrics.tee_dropped("unreachable" if status is None else "refused", rows)
        return well

    def _event(self, batch: list[_Item]) -> bytes:
        rows = join([request.rows for request, _ in batch])
        # A row by itself is shorter as JSON: orjson writes NaN as null; text has its own missing
        # value. The digits of many cost more than all the rest of the event.
        numbers: Callable[[NDArray[Any]], Any] = packed if rows.count > 1 else lambda column: column
        columns: dict[str, Any] = {
            name: [v or None for v in column] if column.dtype == object else numbers(column)
            for name, column in rows.columns.items()
        }
        data = {
            "digest": self._digest,
            "arm": self._arm,
            "ids": list(itertools.chain.from_iterable(_row_ids(request) for request, _ in batch)),
            "columns": columns,
            "outputs": {
                "score": numbers(np.concatenate([scored.scores for _, scored in batch])),
                "decision": [d for _, scored in batch for d in scored.decisions],
            },
        }
        event = {
            "specversion": "1.0",
            "type": EVENT_TYPE,
            "source": self._source,
            "id": uuid.uuid4().hex,
            "time": datetime.now(UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": data,
        }
        return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)

    def _call(self, method: str, path: str, body: bytes, content_type: str) -> int | None:
        """The HTTP status, None when there was no answer."""
        kept, self._connection = self._connection, None
        # A kept connection may have been closed since; a new one is worth one more try.
        for connection in (kept, http.client.HTTPConnection(*self._host, timeout=TIMEOUT_SECONDS)):
            if connection is None:
                continue
            try:
                connection.request(method, self._path + path, body, {"content-type": content_type})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
            else:
                self._connection = connection
                return response.status
        return None


def packed(column: NDArray[Any]) -> dict[str, str]:
    """<f4, <f8 or <i8 [rows], as the sidecar reads them."""
    data = binascii.b2a_base64(np.ascontiguousarray(column).data, newline=False)
    return {"dtype": column.dtype.str, "base64": data.decode()}


def _row_ids(request: Request) -> list[str]:
    """The request's id for its only row, or that id with the row's position."""
    if request.rows.count == 1:
        return [request.id]
    return [f"{request.id}/{row}" for row in range(request.rows.count)]


def _introduction(bundle: Bundle, model: str, arm: str) -> bytes:
    try:
        config = bundle.read_json("drift/config.json")
    except ValueError as error:
        raise BundleError(f"{bundle.path}/drift/config.json: not JSON ({error})") from None
    return orjson.dumps(
        {
            "digest": bundle.digest,
            "arm": arm,
            "model": model,
            "contract": bundle.read_json("contract.json"),
            "config": config,
            "metrics": bundle.read_json("metrics.json"),
            "reference": base64.b64encode(bundle.read("drift/reference.npz")).decode(),
        }
    )
