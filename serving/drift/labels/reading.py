"""Labels as they come in: POST /labels, and events of type io.seatrial.labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from serving.errors import DataError

LABELS = "io.seatrial.labels"
"""Type of events whose data is what POST /labels takes."""
LONGEST_ID = 256
_TRUTH: dict[Any, bool] = {True: True, False: False, "1": True, "0": False}  # 1 == True


@dataclass(frozen=True)
class Labels:
    """Columns [labels]."""

    ids: Sequence[str]
    outcomes: Sequence[bool]
    """True: positive, as the contract's label says."""
    times: Sequence[float]
    """When each was known, unix seconds."""


def read_labels(body: bytes) -> Labels:
    """Reads a JSON list, {"labels": [...]}, or JSON lines of {id, outcome, time?}.

    `outcome` is true or false, or 1 or 0; `time` is RFC 3339 or unix seconds, else it is now.
    Raises DataError naming the label and the field.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _lines(body)
    return labels_of(document)


def labels_of(document: Any) -> Labels:
    """The same from parsed JSON. Raises DataError."""
    if isinstance(document, dict):
        document = document.get("labels", [document])
    if not isinstance(document, list):
        raise DataError("labels are a JSON list of objects {id, outcome, time?}, or one a line")
    now = time.time()
    ids, outcomes, times = [], [], []
    for number, label in enumerate(document, start=1):
        if not isinstance(label, dict):
            raise DataError(f"label {number}: not a JSON object {{id, outcome, time?}}")
        name, outcome = label.get("id"), label.get("outcome")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ID:
            raise DataError(f"label {number}: 'id' must be text of 1 to {LONGEST_ID} characters")
        if isinstance(outcome, list | dict) or outcome not in _TRUTH:
            raise DataError(
                f"label {number} ('{name[:80]}'): outcome {str(outcome)[:40]!r} is none of true,"
                " false, 1 and 0"
            )
        ids.append(name)
        outcomes.append(_TRUTH[outcome])
        times.append(_time(label.get("time"), number, now))
    return Labels(ids, outcomes, times)


def _lines(body: bytes) -> list[Any]:
    found = []
    for number, line in enumerate(body.splitlines(), start=1):
        if line.strip():
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError as error:
                raise DataError(f"labels, line {number}: not JSON: {error}") from None
    return found


def _time(value: Any, number: int, now: float) -> float:
    if value is None:
        return now
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11:
        return float(value)
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise DataError(
            f"label {number}: time {str(value)[:40]!r} is neither RFC 3339 nor unix seconds"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
