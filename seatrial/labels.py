"""Labels from a table to the drift sidecars."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seatrial.report.drift.sources import SIDECAR, read_status
from serving.drift.labels import Labels, labels_of, read_labels
from serving.errors import DataError, FileError, PlayerError
from serving.local import LocalPlayer

SETTLED_WITHIN = 5.0
"""Seconds until a sidecar has joined what it has accepted."""


def read_table(file: Path) -> Labels:
    """The labels of a CSV, Parquet or JSON-lines file with columns id, outcome and perhaps time.

    Raises FileError for what is no such table, DataError naming the row.
    """
    try:
        if file.suffix == ".parquet":
            frame = pd.read_parquet(file)
        elif file.suffix == ".csv":
            frame = pd.read_csv(file, dtype={"id": str})
        else:
            return _named(file, lambda: read_labels(file.read_bytes()))
    except OSError as error:
        raise FileError(f"{file}: {error.strerror or error}; give a table of labels") from None
    except ValueError as error:
        raise FileError(f"{file}: not a CSV or Parquet table: {error}") from None
    for name in ("id", "outcome"):
        if name not in frame:
            raise DataError(f"{file}: column '{name}' is missing; labels need id and outcome")
    kept = frame[[name for name in ("id", "outcome", "time") if name in frame]]
    if "time" in kept and kept["time"].dtype.kind == "M":
        kept = kept.assign(time=kept["time"].map(lambda t: None if pd.isna(t) else t.isoformat()))
    rows = [
        {key: value for key, value in row.items() if not pd.isna(value)}
        for row in kept.astype(object).to_dict("records")
    ]
    return _named(file, lambda: labels_of(rows))


def sidecars(state_dir: Path) -> list[str]:
    """URLs of the player's sidecars. Raises PlayerError when there is none."""
    found = [
        f"http://127.0.0.1:{port}"
        for arm in LocalPlayer(state_dir).status().arms
        for port in arm.ports.get(SIDECAR, {}).values()
    ]
    if not found:
        raise PlayerError(f"no pod of the player in {state_dir} has a '{SIDECAR}'; give --url")
    return found


def send(
    labels: Labels, urls: Sequence[str], batch: int, progress: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Posts all labels to every sidecar; returns for each {url, arm, joined, accuracy}.

    Raises FileError when a sidecar does not answer, DataError when it refuses.
    """
    before = {url: _told(url) for url in urls}
    for start in range(0, len(labels.ids), batch):
        rows = slice(start, start + batch)
        body = json.dumps(
            [
                {"id": i, "outcome": o, "time": t}
                for i, o, t in zip(
                    labels.ids[rows], labels.outcomes[rows], labels.times[rows], strict=True
                )
            ]
        ).encode()
        for url in urls:
            _post(url.rstrip("/") + "/labels", body)
        progress(min(start + batch, len(labels.ids)))
    return [_settled(url, before[url], len(labels.ids)) for url in urls]


def _settled(url: str, before: dict[str, Any], sent: int) -> dict[str, Any]:
    """What became of the labels, once all of them have been looked up."""
    deadline = time.monotonic() + SETTLED_WITHIN
    while True:
        now = _told(url)
        seen = now["labelled"] + now["unknown"] - before["labelled"] - before["unknown"]
        if seen >= sent or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return {
        "url": url,
        "arm": now["arm"],
        "joined": now["labelled"] - before["labelled"],
        "accuracy": now["accuracy"],
    }


def _told(url: str) -> dict[str, Any]:
    status = read_status(url)
    labels = status.get("labels")
    if labels is None:
        raise DataError(f"{url}: its sidecar takes no labels: no bundle is known, or they are off")
    return {
        "arm": status["bundle"]["arm"],
        "labelled": labels["labelled"],
        "unknown": labels["unknown"],
        "accuracy": labels["measured"]["accuracy"],
    }


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(  # noqa: S310 - http(s) URLs of sidecars
        url, body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            answer.read()
    except urllib.error.HTTPError as error:
        raise DataError(f"{url}: {error.code} {error.read(500).decode(errors='replace')}") from None
    except OSError as error:
        raise FileError(f"{url}: no answer: {error}; is the sidecar running?") from None


def _named(file: Path, read: Callable[[], Labels]) -> Labels:
    try:
        return read()
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
