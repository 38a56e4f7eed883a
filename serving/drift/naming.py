"""Which columns moved, as events and /status name them."""

from __future__ import annotations

import math
from typing import Any

from serving.drift.cloudevents import timestamp
from serving.drift.episode import Episodes
from serving.drift.events import short, tested
from serving.drift.sketch import Sketch
from serving.drift.spending import Spending, Verdict
from serving.drift.watch import Watch

NAMED = 3
"""Columns that are named when none of them is significant alone."""


def certainty(watch: Watch) -> float:
    """Log evidence that one of a column's aspects needs to be called moved: with a chance of 5 %
    over all of them (Markov and Bonferroni) it has so much without drift."""
    return math.log(max(watch.rows, 1)) + math.log(20 * max(len(watch.table.groups), 1))


def moved_columns(
    watch: Watch | None, verdict: Verdict | None, spending: Spending, recent: Sketch
) -> list[dict[str, Any]]:
    """First what the tests name, then what the watch is sure of, or else its best."""
    found = tested(verdict, spending) if verdict else []
    named = {column["name"]: column for column in found}
    findings = watch.findings() if watch else ()
    limit = certainty(watch) if watch else math.inf
    sure = [f for f in findings if f.evidence >= limit or f.column in named]
    best = [f for f in findings[:NAMED] if f.evidence > 0]
    for finding in sure or (best if not found else ()):
        column = named.setdefault(
            finding.column,
            {"name": finding.column, "role": finding.role, "aspect": finding.aspect},
        )
        column.setdefault("direction", finding.direction)
        column.setdefault("evidence", nats(finding.evidence))
    for name, column in named.items():
        column["psi"], column["js"] = short(recent.psi(name)), short(recent.js(name))
    return list(named.values())


def timeline_entry(
    watch: Watch | None, episodes: Episodes, row: int, when: float
) -> dict[str, Any]:
    """How things stood at a time, as /status tells it."""
    episode = episodes.current
    return {
        "time": timestamp(when),
        "rows": row,
        "evidence": nats(watch.evidence) if watch else 0.0,
        "threshold": short(watch.threshold) if watch else 0.0,
        "open": episodes.open,
        "severity": episode.severity if episode and episodes.open else None,
        "top": [
            {"name": f.column, "aspect": f.aspect, "evidence": nats(f.evidence)}
            for f in (watch.findings()[:5] if watch else ())
        ],
    }


def nats(evidence: float) -> float:
    """Evidence as it is told: none is 0, not minus infinity."""
    return short(max(evidence, 0.0))
