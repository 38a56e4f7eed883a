"""The file of answers and what it adds up to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from seatrial.replay.wires import Answer
from serving.errors import DataError, FileError

COLUMNS = ("t", "wire", "arm", "status", "kind", "ms", "row", "score")
NOBODY = "nobody"
"""The arm of requests that no arm answered."""


def encode(answer: Answer) -> bytes:
    """One line of the answers file."""
    return orjson.dumps(asdict(answer), option=orjson.OPT_APPEND_NEWLINE)


def read_answers(path: Path) -> pd.DataFrame:
    """One row per answer, by time sent; columns as in Answer, arm "nobody" when none answered.

    A last line without its end is left out: the file may still be written. Raises FileError when
    there is no file, DataError naming a line that is no answer.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the answers: {error.strerror}") from None
    records: list[list[Any]] = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            record = orjson.loads(line)
            records.append([record[name] for name in COLUMNS])
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: line {number} is not an answer; replay again") from None
    frame = pd.DataFrame(records, columns=list(COLUMNS))
    frame = frame.astype({"t": float, "ms": float, "row": "int64", "score": float})
    frame["arm"] = frame["arm"].astype(object).where(frame["arm"].notna(), NOBODY)
    return frame.sort_values("t", kind="stable", ignore_index=True)


def failed_by_move(answers: pd.DataFrame) -> int:
    """Failed answers that the model itself is not to blame for."""
    return int((~answers["kind"].isin(["ok", "model_error"])).sum())


def percentiles(ms: pd.Series[float]) -> tuple[float | None, float | None]:
    """p50 and p99 in ms; None for no answers."""
    if ms.empty:
        return None, None
    p50, p99 = np.percentile(ms.to_numpy(), [50, 99])
    return round(float(p50), 3), round(float(p99), 3)


def by_arm(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Requests, errors and latency of the answers with a score, per arm and wire."""
    return [
        {"arm": arm, "wire": wire, **_counts(group)}
        for (arm, wire), group in answers.groupby(["arm", "wire"], sort=True)
    ]


def by_second(answers: pd.DataFrame, started: float) -> list[dict[str, Any]]:
    """The same per arm and second since `started` (Unix seconds)."""
    seconds = np.floor(answers["t"] - started).astype("int64")
    found: dict[tuple[int, str], pd.DataFrame] = dict(
        iter(answers.groupby([seconds, answers["arm"]], sort=True))  # type: ignore[arg-type]
    )
    return [{"t": int(t), "arm": arm, **_counts(group)} for (t, arm), group in found.items()]


def traffic_facts(answers: pd.DataFrame, started: float | None = None) -> dict[str, Any]:
    """The "traffic" block of a run's facts; `started` (Unix seconds) defaults to the first answer.

    Rate is answers per second from the first to the last.
    """
    first, last = (float(answers["t"].min()), float(answers["t"].max())) if len(answers) else (0, 0)
    seconds = last - first
    return {
        "seconds": round(seconds, 3),
        "answers": len(answers),
        "rate": round(len(answers) / seconds, 1) if seconds > 0 else None,
        "by_arm": by_arm(answers),
        "by_second": by_second(answers, first if started is None else started),
        "model_errors": int((answers["kind"] == "model_error").sum()),
        "failed_by_move": failed_by_move(answers),
    }


def _counts(group: pd.DataFrame) -> dict[str, Any]:
    ok = group["kind"] == "ok"
    p50, p99 = percentiles(group.loc[ok, "ms"])
    return {"requests": len(group), "errors": int((~ok).sum()), "p50_ms": p50, "p99_ms": p99}
