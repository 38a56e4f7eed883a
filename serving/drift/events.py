"""CloudEvents 1.0: reading the tee's structured events, building the sidecar's own binary ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from serving.drift.episode import Episode, Verdict
from serving.drift.introduction import Introduction
from serving.drift.window import Window
from serving.errors import DataError

ROWS = "io.seatrial.inference.rows"
OPENED = "io.seatrial.drift.opened"
TOP = 10
"""Features an event names: with their p-values it stays far below the 64 KB all brokers forward."""


@dataclass(frozen=True)
class RowsEvent:
    """Rows that the predictor answered, as the tee sends them."""

    key: tuple[str, str, str]
    """(source, type, id): what makes an event unique."""
    time: datetime
    digest: str
    arm: str
    columns: Mapping[str, Any]
    score: Any
    ids: int
    """How many rows it says it has."""

    def check_length(self, rows: int) -> None:
        """Raises DataError unless its columns have a value for each of its ids."""
        if rows != self.ids:
            raise DataError(f"data has {self.ids} ids for columns of {rows} rows")


@dataclass(frozen=True)
class CloudEvent:
    """An event in binary mode: attributes in ce-* headers, JSON data as body."""

    id: str
    type: str
    source: str
    time: str
    data: Mapping[str, Any]

    def headers(self) -> dict[str, str]:
        return {
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": self.source,
            "ce-time": self.time,
            "content-type": "application/json",
        }

    def body(self) -> bytes:
        return orjson.dumps(self.data)


def read_rows_event(body: bytes) -> RowsEvent:
    """Reads a structured CloudEvent of the tee. Raises DataError naming the field."""
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the event is not JSON: {error}") from None
    if not isinstance(event, dict):
        raise DataError("the event is not a JSON object")
    for name in ("specversion", "type", "source", "id"):
        if not isinstance(event.get(name), str) or not event[name]:
            raise DataError(f"the event has no text in '{name}'; CloudEvents need it")
    if event["specversion"] != "1.0":
        raise DataError(f"specversion '{event['specversion'][:20]}' is not 1.0")
    if event["type"] != ROWS:
        raise DataError(f"type '{event['type'][:80]}' is not {ROWS}")
    data = event.get("data")
    if not isinstance(data, dict):
        raise DataError("the event's data is not a JSON object")
    ids, columns, outputs = data.get("ids"), data.get("columns"), data.get("outputs")
    if not isinstance(ids, list) or not isinstance(columns, dict) or not isinstance(outputs, dict):
        raise DataError("data needs a list 'ids' and objects 'columns' and 'outputs'")
    if not isinstance(data.get("digest"), str) or not isinstance(data.get("arm"), str):
        raise DataError("data needs texts 'digest' and 'arm'")
    return RowsEvent(
        key=(event["source"], event["type"], event["id"]),
        time=_time(event.get("time")),
        digest=data["digest"],
        arm=data["arm"],
        columns=columns,
        score=outputs.get("score"),
        ids=len(ids),
    )


def opened_event(
    known: Introduction, detector: str, window: Window, verdict: Verdict, episode: Episode
) -> CloudEvent:
    """The event of an episode that opens with `window`.

    Its id depends on nothing but what it tells, so that sending it again is harmless. The window's
    start is part of it because numbers begin at 1 again after a restart.
    """
    start, end = _text(window.start), _text(window.end)
    identity = [detector, known.reference_digest, verdict.window, start, "opened"]
    features, score = _named(verdict, episode)
    return CloudEvent(
        id=hashlib.sha256(orjson.dumps(identity)).hexdigest()[:32],
        type=OPENED,
        source=f"/seatrial/{known.model}/{known.arm}/drift",
        time=_text(datetime.now(UTC)),
        data={
            "model": known.model,
            "arm": known.arm,
            "bundle": known.digest,
            "reference": known.reference_digest,
            "detector": detector,
            "window": {
                "number": verdict.window,
                "rows": len(window.rows),
                "from": start,
                "to": end,
            },
            "tests": len(verdict.results),
            "threshold": verdict.threshold,
            "features": features[:TOP],
            "score": score,
            "p_values": _p_values(verdict),
        },
    )


def _named(
    verdict: Verdict, episode: Episode
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The drifted features, each by its strongest test, and the score if it is among them."""
    features: dict[str, dict[str, Any]] = {}
    score: dict[str, Any] | None = None
    for result in verdict.results:
        if (result.column, result.aspect) not in verdict.drifted:
            continue
        told = {
            "name": result.column,
            "aspect": result.aspect,
            "test": result.method,
            "p_value": _short(result.p_value),
            "effect": _short(result.effect),
            "usual_effect": _short(episode.usual(result)),
        }
        if result.role == "score":
            score = score or told
        else:
            features.setdefault(result.column, told)
    return list(features.values()), score


def _p_values(verdict: Verdict) -> dict[str, float]:
    """The smallest p-value of each column, before any correction."""
    smallest: dict[str, float] = {}
    for result in verdict.results:
        smallest[result.column] = min(result.p_value, smallest.get(result.column, 1.0))
    return {name: _short(smallest[name]) for name in sorted(smallest)}


def _time(text: object) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(f"time {str(text)[:40]!r} is not an RFC 3339 time") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _short(value: float) -> float:
    return float(f"{value:.4g}")
