"""Predictions that wait for their label: bounded, a few bytes a row, found by inference id.

Ids are kept as 64-bit hashes (multilinear: Lemire & Kaser, "Strongly universal string hashing is
fast", 2014), in segments by time: a label is looked up by binary search in each, and what is too
old goes a segment at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import DataError

SEGMENT = 16_384
"""Rows."""
PIECE = 2048
"""Ids that are hashed at once: what is computed then stays in the processor's cache."""
LONGEST = 64
"""Characters of an id that are hashed as they are; of longer ones, their digest."""
_FACTORS = np.random.default_rng(20_260_901).integers(
    0, 2**64, LONGEST + 1, dtype=np.uint64, endpoint=False
) | np.uint64(1)

Hashes = NDArray[np.uint64]
Floats = NDArray[np.float64]


def hash_ids(ids: Sequence[str]) -> Hashes:
    """[rows]; the same for the same id in every process."""
    pieces = [_hash(ids[start : start + PIECE]) for start in range(0, len(ids), PIECE)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.uint64)


def _hash(ids: Sequence[str]) -> Hashes:
    if max(map(len, ids)) > LONGEST:
        ids = [i if len(i) <= LONGEST else hashlib.sha256(i.encode()).hexdigest() for i in ids]
    text = np.array(ids)
    width = text.dtype.itemsize // 4
    if not width:
        return np.full(len(ids), _FACTORS[-1])
    codes = text.view(np.uint32).reshape(len(ids), width).astype(np.uint64)
    found = (codes * _FACTORS[:width]).sum(axis=1, dtype=np.uint64) + _FACTORS[-1]
    # The low bits of a multilinear hash are weak: mix them (splitmix64).
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(found ^ (found >> np.uint64(31)))


@dataclass(frozen=True)
class Joined:
    """Labels that found their prediction; arrays [rows]."""

    score: Floats
    flagged: NDArray[np.bool_]
    time: Floats
    """Of the prediction, unix seconds."""
    at: NDArray[np.intp]
    """Positions among the labels that were asked for."""


class Predictions:
    """At most `capacity` rows, none older than `ttl` seconds; a segment more or less."""

    def __init__(self, capacity: int, ttl: float) -> None:
        self.capacity, self.ttl = capacity, ttl
        self.forgotten = 0
        """Rows that made room before their label came, or grew too old."""
        self._segments: list[_Segment] = []

    def __len__(self) -> int:
        return sum(segment.rows for segment in self._segments)

    @property
    def waiting(self) -> int:
        """Rows without a label."""
        return sum(int(segment.waits.sum()) for segment in self._segments)

    def add(
        self, ids: Sequence[str], score: Floats, flagged: NDArray[np.bool_], time: float
    ) -> None:
        self._add(hash_ids(ids), score, flagged, np.full(len(ids), time))
        self._forget(time)

    def take(self, key: Hashes) -> Joined:
        """The predictions of these ids, each only once however often it is asked for."""
        _, first = np.unique(key, return_index=True)
        left = np.sort(first)
        parts = []
        for segment in reversed(self._segments):
            if not len(left):
                break
            hit, where = segment.find(key[left])
            if hit.any():
                parts.append(segment.taken(where[hit], left[hit]))
                left = left[~hit]
        if not parts:
            nothing = np.zeros(0)
            return Joined(nothing, nothing.astype(bool), nothing, nothing.astype(np.intp))
        at = np.concatenate([part.at for part in parts])
        order = np.argsort(at, kind="stable")
        return Joined(
            np.concatenate([part.score for part in parts])[order],
            np.concatenate([part.flagged for part in parts])[order],
            np.concatenate([part.time for part in parts])[order],
            at[order],
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The rows that still wait."""
        segments = self._segments or [_Segment()]
        return {
            name: np.concatenate([getattr(s, name)[: s.rows][s.waits] for s in segments])
            for name in _KINDS
        }

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises DataError for arrays that are not those of `arrays`."""
        found = [arrays.get(name) for name in _KINDS]
        for array, (name, kind) in zip(found, _KINDS.items(), strict=True):
            if array is None or array.ndim != 1 or array.dtype.kind != kind:
                raise DataError(f"the remembered predictions are damaged: '{name}'")
        key, score, flagged, time = (array for array in found if array is not None)
        if not len(key) == len(score) == len(flagged) == len(time):
            raise DataError("the remembered predictions are damaged: columns of unequal length")
        self._segments = []
        self._add(key, score, flagged, time)

    def _add(
        self, key: Hashes, score: NDArray[Any], flagged: NDArray[Any], time: NDArray[Any]
    ) -> None:
        done = 0
        while done < len(key):
            if not self._segments or self._segments[-1].rows == SEGMENT:
                self._segments.append(_Segment())
            rows = slice(done, done + SEGMENT - self._segments[-1].rows)
            done += self._segments[-1].fill(key[rows], score[rows], flagged[rows], time[rows])

    def _forget(self, now: float) -> None:
        rows = len(self)
        while self._segments and self._segments[0].rows == SEGMENT:
            oldest = self._segments[0]
            if rows <= self.capacity and float(oldest.time.max()) >= now - self.ttl:
                return
            rows -= oldest.rows
            self.forgotten += int(oldest.waits.sum())
            del self._segments[0]


_KINDS = {"key": "u", "score": "f", "flagged": "i", "time": "f"}


class _Segment:
    def __init__(self) -> None:
        self.rows = 0
        self.key = np.zeros(SEGMENT, np.uint64)
        self.score = np.zeros(SEGMENT, np.float32)
        self.flagged = np.zeros(SEGMENT, np.int8)
        self.time = np.zeros(SEGMENT, np.float64)
        self._labelled = np.zeros(SEGMENT, bool)
        self._order: NDArray[np.intp] | None = None

    @property
    def waits(self) -> NDArray[np.bool_]:
        """[rows]"""
        return ~self._labelled[: self.rows]

    def fill(
        self, key: Hashes, score: NDArray[Any], flagged: NDArray[Any], time: NDArray[Any]
    ) -> int:
        """Returns how many rows it took: all of them, they fit."""
        rows = slice(self.rows, self.rows + len(key))
        self.key[rows], self.score[rows], self.time[rows] = key, score, time
        self.flagged[rows] = flagged
        self.rows, self._order = rows.stop, None
        return len(key)

    def find(self, key: Hashes) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Which keys wait here, and where."""
        if self._order is None:
            self._order = np.argsort(self.key[: self.rows], kind="stable")
        ranked = self.key[self._order]
        where = self._order[np.minimum(np.searchsorted(ranked, key), self.rows - 1)]
        return (self.key[where] == key) & ~self._labelled[where], where

    def taken(self, where: NDArray[np.intp], at: NDArray[np.intp]) -> Joined:
        self._labelled[where] = True
        return Joined(
            self.score[where].astype(np.float64), self.flagged[where] == 1, self.time[where], at
        )
