"""A watching as a snapshot, and a watching that goes on from one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from serving.drift.events import CloudEvent
from serving.drift.snapshot import Arrays, Snapshot
from serving.drift.watching import Watching
from serving.drift.window import Window


def capture(
    watching: Watching, sequence: int, pending: Sequence[CloudEvent], recent: Iterable[int]
) -> Snapshot:
    """`pending` are events made by this state that the outbox may not have yet, `recent` the
    fingerprints of the events that rows came in."""
    window = watching.tumbler.recent()
    arrays: Arrays = {
        "recent": np.fromiter(recent, dtype=np.uint64),
        "window": window.rows if window else np.empty((0, len(watching.known.encoder.columns))),
    }
    parts = {"sketch/current": watching.current, "sketch/last": watching.last}
    for prefix, part in (
        *parts.items(),
        ("watch", watching.watch),
        ("labels", watching.labels),
    ):
        if part is not None:
            arrays |= {f"{prefix}/{name}": array for name, array in part.arrays().items()}
    meta = {
        "identity": watching.known.identity,
        "sequence": sequence,
        "pending": [event.to_json() for event in pending],
        "row": watching.row,
        "windows": watching.windows,
        "spent": watching.spending.windows,
        "seen": watching.seen,
        "rate": watching.traffic.rate,
        "window": [window.start, window.end] if window else None,
        "in_window": watching.tumbler.pending,
        "episodes": watching.episodes.to_json(),
        "quality": watching.quality.to_json(),
        "timeline": watching.timeline.state(),
        "named": watching.named,
        "moved": [[*key, since] for key, since in watching.moved.items()],
    }
    return Snapshot(meta, arrays)


def restore(watching: Watching, snapshot: Snapshot, now: float) -> None:
    """Goes on from a snapshot of the same identity.

    Raises DataError, KeyError, TypeError or ValueError for a state that cannot be taken up; then
    `watching` is of no use any more.
    """
    meta: Any = snapshot.meta
    if watching.watch is not None and snapshot.under("watch"):
        watching.watch.load(snapshot.under("watch"))
    if watching.labels is not None and snapshot.under("labels"):
        watching.labels.load(snapshot.under("labels"))
    watching.current.load(snapshot.under("sketch/current"))
    watching.last.load(snapshot.under("sketch/last"))
    rows = snapshot.arrays["window"].astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(watching.known.encoder.columns):
        raise ValueError(f"the window's rows have shape {rows.shape}")
    window = Window(rows, *map(float, meta["window"])) if meta["window"] else None
    watching.tumbler.load(window, int(meta["in_window"]), now)
    watching.row, watching.windows = int(meta["row"]), int(meta["windows"])
    watching.spending.windows = int(meta["spent"])
    watching.seen = float(meta["seen"])
    watching.traffic.load(float(meta["rate"]))
    watching.episodes.load(meta["episodes"])
    watching.quality.load(meta["quality"])
    watching.timeline.load(meta["timeline"])
    watching.named = list(meta["named"])
    watching.moved = {(str(a), str(b)): str(since) for a, b, since in meta["moved"]}
