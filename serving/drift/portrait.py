"""A watching as /status tells it; the shape is documented in serving.drift.status."""

from __future__ import annotations

import time
from typing import Any

from serving.drift.cloudevents import timestamp
from serving.drift.naming import nats
from serving.drift.quality import describe
from serving.drift.spending import Verdict
from serving.drift.watch import Finding
from serving.drift.watching import Watching

BINS = 80
"""Cells a feature shows at most."""


def portrait(watching: Watching, waiting: int) -> dict[str, Any]:
    """What /status tells once there is a bundle. Call while nothing else touches `watching`."""
    known, watch, tumbler = watching.known, watching.watch, watching.tumbler
    pending = tumbler.recent()
    episode = watching.episodes.current
    return {
        "bundle": {"digest": known.digest, "arm": known.arm, "model": known.model},
        "detector": {
            "ready": watching.detector is not None,
            "name": watching.detector.name if watching.detector else None,
            "problem": watching.problem or None,
        },
        "watch": None
        if watch is None
        else {
            "evidence": nats(watch.evidence),
            "threshold": watch.threshold,
            "average_run_length": watch.average_run_length,
            "rows": watch.rows,
        },
        "reference": {"digest": known.reference_digest, "rows": len(known.reference)},
        "rows": watching.row,
        "columns": [column.name for column in known.encoder.columns],
        "window": {
            "size": tumbler.size,
            "seconds": tumbler.seconds,
            "pending": tumbler.pending,
            "tested": watching.spending.windows,
            "whole": watching.windows,
            "waiting": waiting + watching.waiting_windows,
            "from": timestamp(pending.start) if pending else None,
            "age_seconds": max(time.time() - pending.start, 0.0) if pending else None,
        },
        "open": watching.episodes.open,
        "episode": None
        if episode is None
        else {
            **{k: v for k, v in episode.to_json().items() if not k.endswith("_row")},
            "state": episode.state,
            "rows": watching.row - episode.opened_row,
        },
        "last": _summary(watching.verdict) if watching.verdict else None,
        "labels": watching.labels.status() if watching.labels else None,
        "features": _features(watching),
        "timeline": watching.timeline.to_json(),
        "quality": {
            "raised": [describe(f) for f in watching.quality.findings() if f.since],
        },
    }


def _features(watching: Watching) -> list[dict[str, Any]]:
    recent = watching.recent()
    by_column: dict[str, list[Finding]] = {}
    for finding in watching.watch.findings() if watching.watch else ():
        by_column.setdefault(finding.column, []).append(finding)
    broken: dict[str, dict[str, Any]] = {}
    for found in watching.quality.findings():
        broken.setdefault(found.feature, {})[found.kind] = {
            "rows": found.rows,
            "share": describe(found)["share"],
            "raised": bool(found.since),
        }
    for (name, kind), total in watching.quality.total.items():
        of_kind = broken.setdefault(name, {}).setdefault(
            kind, {"rows": 0, "share": 0.0, "raised": False}
        )
        of_kind["total"] = total
    tests: dict[str, Any] = {}
    for result in watching.verdict.results if watching.verdict else ():
        if result.column not in tests or result.p_value < tests[result.column].p_value:
            tests[result.column] = result
    features = []
    for column in watching.known.encoder.columns:
        name, found_of = column.name, by_column.get(column.name, [])
        test = tests.get(name)
        features.append(
            {
                "name": name,
                "kind": column.kind,
                "role": column.role,
                "psi": recent.psi(name),
                "js": recent.js(name),
                "missing_ratio": recent.missing_ratio(name),
                "reference_missing_ratio": watching.reference_missing[name],
                "p_value": test.p_value if test else None,
                "effect": test.effect if test else None,
                "evidence": {f.aspect: nats(f.evidence) for f in found_of},
                "direction": {f.aspect: f.direction for f in found_of},
                "bins": [
                    {"label": s.label, "reference": s.reference, "window": s.stream}
                    for s in recent.shares(name)[:BINS]
                ],
                "violations": {
                    kind: {"total": 0, **told} for kind, told in broken.get(name, {}).items()
                },
            }
        )
    return features


def _summary(verdict: Verdict) -> dict[str, Any]:
    return {
        "window": verdict.window,
        "threshold": verdict.threshold,
        "drifted": [
            f"{r.column}/{r.aspect}"
            for r in verdict.results
            if (r.column, r.aspect) in verdict.drifted
        ],
        "smallest_p_value": min((r.p_value for r in verdict.results), default=1.0),
    }
