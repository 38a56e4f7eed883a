"""Scores of rows that were asked about before, for one bundle, within bounds."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from serving.predictor.graph import Scores
from serving.predictor.rows import Rows


class Cache:
    """The `entries` requests answered last; keyed by bundle digest and every input value."""

    def __init__(self, entries: int, digest: str) -> None:
        self._entries = entries
        self._digest = digest.encode()
        self._kept: OrderedDict[bytes, Scores] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, rows: Rows) -> Scores | None:
        key = self._key(rows)
        with self._lock:
            scores = self._kept.get(key)
            if scores is not None:
                self._kept.move_to_end(key)
        return scores

    def put(self, rows: Rows, scores: Scores) -> None:
        key = self._key(rows)
        with self._lock:
            self._kept[key] = scores
            if len(self._kept) > self._entries:
                self._kept.popitem(last=False)

    def _key(self, rows: Rows) -> bytes:
        told = hashlib.blake2b(self._digest, digest_size=32)
        # The same rows have the same key, whether they came as a matrix or as columns.
        for column in rows.columns.values():
            if column.dtype == object:
                texts = [str(text).encode() for text in column]
                told.update(b"".join(len(text).to_bytes(4, "little") + text for text in texts))
            else:
                told.update(column.tobytes())
        told.update(rows.count.to_bytes(8, "little"))
        return told.digest()
