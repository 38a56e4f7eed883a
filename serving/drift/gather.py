"""From blocks as they came in to matrices, whatever they lack: a bad value never stops the rest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.bundle import Contract
from serving.drift.encoding import Encoder, Matrix
from serving.drift.rows import Block, merged
from serving.errors import DataError

EXTRA = 20
"""Columns beyond the contract that are told by name."""

Violations = Counter[tuple[str, str]]
"""Rows by (feature, kind)."""


@dataclass(frozen=True)
class Gathered:
    """Encoded rows [n, columns] and what had to be left out of them."""

    rows: Matrix
    block: Block
    scores: Sequence[float] | None
    """Usable ones only: None where a block has none, or other than numbers."""
    violations: Violations
    """type: not a value of the column's type, read as missing. absent: the column is not there,
    all its values are missing. extra: a column that the contract does not know, ignored."""


class Gatherer:
    """Encodes blocks of one contract."""

    def __init__(self, contract: Contract, encoder: Encoder) -> None:
        self._encoder = encoder
        self._texts = {f.name for f in contract.features if f.dtype == "string"}
        self._known = set(contract.feature_names)
        roles = (contract.label.column, contract.label.available_at, contract.time, contract.weight)
        self._ignored = {*contract.ignore, *(role for role in roles if role)}
        self._extra: set[str] = set()

    def gather(self, blocks: Sequence[Block]) -> list[Gathered]:
        """One matrix per layout of neighbouring blocks, in their order."""
        return [self._encode(block) for block in merged(blocks) if block.rows]

    def _encode(self, block: Block) -> Gathered:
        violations: Violations = Counter()
        columns: Mapping[str, Any] = block.columns
        if columns.keys() != self._known:
            columns = self._completed(block, violations)
        absent = [None] * block.rows
        scores = block.scores
        try:
            rows = self._encoder.encode(
                columns, absent if scores is None else scores, block.decisions
            )
        except DataError:
            columns = {k: self._repaired(k, v, violations) for k, v in columns.items()}
            decisions = [d if type(d) is str else None for d in block.decisions or ()] or None
            scores = None if scores is None else self._numbers(scores)[0]
            rows = self._encoder.encode(columns, absent if scores is None else scores, decisions)
        return Gathered(rows, block, scores, violations)

    def _completed(self, block: Block, violations: Violations) -> dict[str, Any]:
        for name in block.columns.keys() - self._known - self._ignored:
            if name not in self._extra and len(self._extra) < EXTRA:
                self._extra.add(name)
            violations[name[:64] if name in self._extra else "(other)", "extra"] += block.rows
        columns: dict[str, Any] = {}
        for name in self._known:
            if name in block.columns:
                columns[name] = block.columns[name]
            else:
                violations[name, "absent"] += block.rows
                columns[name] = [None] * block.rows
        return columns

    def _repaired(self, name: str, values: Any, violations: Violations) -> Any:
        kept: Sequence[Any]
        if name in self._texts:
            given = values.tolist() if isinstance(values, np.ndarray) else values
            kept = [v if type(v) is str or v is None else None for v in given]
            wrong = sum(a is not b for a, b in zip(given, kept, strict=True))
        else:
            kept, wrong = self._numbers(values)
        if wrong:
            violations[name, "type"] += wrong
        return kept

    def _numbers(self, values: Any) -> tuple[list[float | None], int]:
        """Numbers or None, and how many values were neither."""
        given = values.tolist() if isinstance(values, np.ndarray) else values
        kept = [_number(value) for value in given]
        return kept, sum(a is not None and b is None for a, b in zip(given, kept, strict=True))


def _number(value: Any) -> float | None:
    # type(), because true and false are ints to isinstance.
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value) if abs(value) < 2**1023 else (math.inf if value > 0 else -math.inf)
    return None
