"""Rows as they come in, before they are encoded, and many small blocks of them as one."""

from __future__ import annotations

import base64
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.drift.cloudevents import Envelope
from serving.errors import DataError

ROWS = "io.seatrial.inference.rows"
"""Type of the events that our own predictor's tee sends."""
_PACKED = frozenset({"<f4", "<f8", "<i8"})
"""numpy's names of float32, float64 and int64, little-endian."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one event, column by column: each a list of JSON values or an array, [rows]."""

    columns: Mapping[str, Any]
    rows: int
    time: float
    """Of the event, in seconds since 1970."""
    ids: Sequence[str]
    scores: Any = None
    """[rows], None where there are none."""
    decisions: Sequence[str] | None = None
    record: tuple[tuple[str, ...], list[Any]] | None = None
    """(names, values) of a single row in place of columns: a third of the memory, and of the time
    to walk through it once it has left the processor's cache."""

    def last(self, rows: int) -> Block:
        """Only its newest rows."""
        at = slice(self.rows - rows, None)
        return Block(
            {name: values[at] for name, values in self.columns.items()},
            rows,
            self.time,
            self.ids[at],
            None if self.scores is None else self.scores[at],
            None if self.decisions is None else self.decisions[at],
        )


@dataclass(frozen=True, slots=True)
class TeeRows:
    """Rows that our predictor answered, and which of its bundles answered them."""

    digest: str
    arm: str
    block: Block


def read_tee(event: Envelope) -> TeeRows:
    """Raises DataError naming the field."""
    data = event.data
    if not isinstance(data, dict):
        raise DataError("the event's data is not a JSON object")
    ids, columns, outputs = data.get("ids"), data.get("columns"), data.get("outputs")
    if not isinstance(ids, list) or not isinstance(columns, dict) or not isinstance(outputs, dict):
        raise DataError("data needs a list 'ids' and objects 'columns' and 'outputs'")
    digest, arm = data.get("digest"), data.get("arm")
    if not isinstance(digest, str) or not isinstance(arm, str):
        raise DataError("data needs texts 'digest' and 'arm'")
    rows = len(ids)
    if set(map(type, ids)) - {str}:
        raise DataError("data has ids that are not texts")
    columns, outputs = _lists("column", columns, rows), _lists("output", outputs, rows)
    record = None
    if rows == 1:
        record = (_same(tuple(columns)), [value for (value,) in columns.values()])
        columns = {}
    score, decision = outputs.get("score"), outputs.get("decision")
    return TeeRows(digest, arm, Block(columns, rows, event.time, ids, score, decision, record))


def _lists(what: str, given: dict[str, Any], rows: int) -> dict[str, Any]:
    """Lists or arrays of so many values. Raises DataError for the first that is none."""
    # The whole of it at once: this is done for each row of a stream.
    kinds = set(map(type, given.values()))
    if dict in kinds:
        given = {
            name: _unpacked(what, name, values, rows) if isinstance(values, dict) else values
            for name, values in given.items()
        }
    if kinds - {list, dict}:
        name = next(n for n, v in given.items() if not isinstance(v, list | np.ndarray))
        raise DataError(f"{what} '{name}' is not a list of values")
    if set(map(len, given.values())) - {rows}:
        name = next(name for name, values in given.items() if len(values) != rows)
        raise DataError(f"data has {rows} ids for {what} '{name}' of {len(given[name])} rows")
    return given


def _unpacked(what: str, name: str, values: Mapping[str, Any], rows: int) -> Any:
    try:
        data = base64.b64decode(values["base64"], validate=True)
        if values["dtype"] not in _PACKED:
            raise ValueError
        found = np.frombuffer(data, values["dtype"])
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{what} '{name}' is neither a list of values nor base64 with a dtype of"
            f" {', '.join(sorted(_PACKED))}"
        ) from None
    return found if rows > 1 else found.tolist()


@functools.lru_cache(maxsize=64)
def _same(names: tuple[str, ...]) -> tuple[str, ...]:
    """One tuple for all events with these columns."""
    return names


def merged(blocks: Sequence[Block]) -> Iterator[Block]:
    """Neighbours with the same columns as one block: encoding costs far more a block than a row.

    The merged block has the last one's time.
    """
    for _, group in itertools.groupby(blocks, _layout):
        alike = list(group)
        if alike[0].record is not None:
            names, _ = alike[0].record
            values = zip(*(block.record[1] for block in alike if block.record), strict=True)
            columns: dict[str, Any] = dict(zip(names, map(list, values), strict=True))
        elif len(alike) == 1:
            yield alike[0]
            continue
        else:
            columns = {
                name: _joined([block.columns[name] for block in alike]) for name in alike[0].columns
            }
        scored, decided = alike[0].scores is not None, alike[0].decisions is not None
        yield Block(
            columns,
            sum(block.rows for block in alike),
            alike[-1].time,
            list(itertools.chain.from_iterable(block.ids for block in alike)),
            _joined([block.scores for block in alike]) if scored else None,
            list(itertools.chain.from_iterable(b.decisions or () for b in alike))
            if decided
            else None,
        )


def _layout(block: Block) -> tuple[object, ...]:
    names = block.record[0] if block.record else tuple(block.columns)
    return names, block.record is None, block.scores is None, block.decisions is None


def _joined(parts: list[Any]) -> Any:
    kinds = set(map(type, parts))
    if kinds == {np.ndarray}:
        return np.concatenate(parts)
    if np.ndarray in kinds:
        parts = [part.tolist() if isinstance(part, np.ndarray) else part for part in parts]
    return list(itertools.chain.from_iterable(parts))
