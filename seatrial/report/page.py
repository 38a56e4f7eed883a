"""The HTML report: one file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from seatrial.report import text
from seatrial.report.drift.page import render_sections
from seatrial.report.evidence import evidence_figure
from seatrial.report.figures import arm_order, colour, curve_figures, rollout_figure
from seatrial.report.verdict import verdict
from serving.whole import write_text

Facts = Mapping[str, Any]
NAME = "report.html"


def write_report(facts: Facts, folder: Path) -> Path:
    """Writes `folder/report.html` atomically and returns its path.

    `facts` as in a run's facts.json; blocks that a failed run never reached may be absent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NAME
    write_text(target, render(facts))
    return target


def render(facts: Facts) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("count", "milliseconds", "seconds", "percent", "short", "metric"):
        environment.filters[name] = getattr(text, name)
    environment.filters["moment"] = _moment
    environment.filters["clock"] = _clock
    bundles: Sequence[Facts] = facts.get("bundles") or ()
    rollout, arms = rollout_figure(facts), arm_order(facts)
    return environment.get_template("report.html.j2").render(
        run=facts.get("run", ""),
        command=facts.get("command", ""),
        started=facts.get("started"),
        finished=facts.get("finished"),
        verdict=verdict(facts),
        stages=_stages(facts.get("stages") or ()),
        data=facts.get("data"),
        bundles=bundles,
        metric_names=list(dict.fromkeys(name for b in bundles for name in b["metrics"])),
        names={b["digest"]: b["role"] for b in bundles},
        timeline=facts.get("timeline") or (),
        traffic=facts.get("traffic"),
        gateway=facts.get("gateway"),
        events=[_event(event) for event in facts.get("drift_events") or ()],
        arms=[arm for arm in arms if arm in _seen(facts)],
        colour=lambda arm: colour(arm, arms),
        rollout=rollout,
        evidence=evidence_figure(facts),
        drift=_drift(facts),
        guarded=facts.get("gate") or (),
        curves=curve_figures(facts),
    )


def _seen(facts: Facts) -> set[str]:
    return {row["arm"] for row in (facts.get("traffic") or {}).get("by_arm", ())}


def _stages(stages: Sequence[Facts]) -> list[dict[str, Any]]:
    """Each stage with the width of its bar: its share of the slowest."""
    slowest = max((s["seconds"] for s in stages), default=0) or 1
    return [{**s, "width": round(100 * s["seconds"] / slowest, 1)} for s in stages]


def _drift(facts: Facts) -> dict[str, Any] | None:
    """The loop: what moved, the event, the run it started, and its end; None where none closed."""
    found = facts.get("drift")
    if not found:
        return None
    told = (found.get("receiver") or {}).get("events", ())
    return {
        "opened": found["opened"],
        "resolved": found.get("resolved"),
        "receiver": told,
        "sections": render_sections(found["status"]),
    }


def _event(event: Facts) -> dict[str, Any]:
    data = event.get("data")
    shown = json.dumps(data, indent=2, sort_keys=True) if data is not None else ""
    keys = ("time", "type", "source", "id")
    return {**{key: event.get(key, text.NOTHING) for key in keys}, "data": shown}


def _clock(seconds: float) -> str:
    """Unix seconds as a moment."""
    return _moment(datetime.fromtimestamp(seconds, UTC).isoformat())


def _moment(value: Any) -> str:
    """2025-03-12 14:15:03 UTC; what is no ISO time stays as it is."""
    if value is None:
        return text.NOTHING
    if not isinstance(value, str):
        return text.metric(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()
