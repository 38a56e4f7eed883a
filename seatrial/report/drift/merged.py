"""Snapshots of several replicas as one picture: their sketches are counts, and counts add up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.bundle import Bundle
from serving.drift.config import parse_config
from serving.drift.introduction import introduce
from serving.drift.sketch import Sketch
from serving.drift.snapshot import read_snapshot
from serving.drift.status import STATUS_FORMAT
from serving.errors import DataError


def merge_snapshots(bundle: Bundle, files: Sequence[Path]) -> dict[str, Any]:
    """One status of all replicas: features and their bins over all windows, rows, quality.

    Evidence is not merged: each replica's watch keeps its own promise. Raises FileError for what is
    no snapshot, DataError for one of another bundle or arm, or a file given twice.
    """
    snapshots = {file: read_snapshot(file) for file in files}
    identities = {str(dict(s.meta["identity"])): s.meta["identity"] for s in snapshots.values()}
    if len(identities) != 1:
        raise DataError("the snapshots are not all of one bundle and arm; merge like with like")
    (identity,) = identities.values()
    if identity["bundle"] != bundle.digest:
        raise DataError(
            f"the snapshots are of bundle {identity['bundle'][:12]} and not of {bundle.path},"
            f" {bundle.digest[:12]}; give theirs"
        )
    if len({file.resolve() for file in files}) < len(files):
        raise DataError("a snapshot is given twice: its rows would count twice")
    known = introduce(
        digest=bundle.digest,
        arm=identity["arm"],
        model=identity["model"],
        contract=bundle.contract,
        config=parse_config(bundle.read("drift/config.json"), f"{bundle.path}/drift/config.json"),
        packed=bundle.read("drift/reference.npz"),
    )
    columns = known.encoder.columns
    whole = Sketch.for_reference(columns, known.reference)
    own = Sketch(whole.grid)
    own.add(known.reference)
    for file, snapshot in snapshots.items():
        for part in ("current", "last"):
            sketch = Sketch(whole.grid)
            try:
                sketch.load(snapshot.under(f"sketch/{part}"))
            except DataError as error:
                raise DataError(f"{file}: {error}") from None
            whole.merge(sketch)
    rows = sum(int(snapshot.meta["row"]) for snapshot in snapshots.values())
    episodes = [
        current
        for snapshot in snapshots.values()
        if (current := snapshot.meta["episodes"]["current"]) is not None
    ]
    still = [e for e in episodes if e["resolved"] is None]
    chosen = min(still or episodes, key=lambda e: str(e["opened"]), default=None)
    return {
        "format": STATUS_FORMAT,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "replica": f"{len(files)} replicas merged",
        "bundle": {"digest": known.digest, "arm": known.arm, "model": known.model},
        "input": {"kind": None, "rows": rows, "waiting": 0, "dropped": {}, "refused": {}},
        "problems": [],
        "open": bool(still),
        "events": {"pending": 0},
        "detector": {"ready": False, "name": None, "problem": None},
        "watch": None,
        "reference": {"digest": known.reference_digest, "rows": len(known.reference)},
        "columns": [column.name for column in columns],
        "episode": None
        if chosen is None
        else {**chosen, "state": "open" if still else "resolved", "rows": 0},
        "last": None,
        "features": [
            {
                "name": column.name,
                "kind": column.kind,
                "role": column.role,
                "psi": whole.psi(column.name),
                "js": whole.js(column.name),
                "missing_ratio": whole.missing_ratio(column.name),
                "reference_missing_ratio": own.missing_ratio(column.name),
                "p_value": None,
                "effect": None,
                "evidence": {},
                "direction": {},
                "bins": [
                    {"label": s.label, "reference": s.reference, "window": s.stream}
                    for s in whole.shares(column.name)
                ],
                "violations": {},
            }
            for column in columns
        ],
        "timeline": [],
        "quality": {"raised": []},
        "labels": None,
        "state": {"folder": None, "snapshot_age_seconds": None, "problem": None},
    }
