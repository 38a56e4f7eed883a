"""The drift page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from seatrial.report import text
from seatrial.report.drift.figures import feature_figure, strongest, timeline_figure
from seatrial.report.drift.reading import clock, read_pod, size
from serving.whole import write_text

Status = Mapping[str, Any]
TEMPLATES = Path(__file__).resolve().parents[1]
"""Also those of the run's report, and the style of both."""
MOST_FEATURES = 24
"""Features with a chart; those that moved and the largest ones come first."""
RANKS = {"open": 0, "unknown": 1, "resolved": 2, "quiet": 3}
PILLS = {"open": "Drift", "unknown": "Blind", "resolved": "Resolved", "quiet": "Quiet"}


def write_drift_report(statuses: Sequence[Status], file: Path) -> Path:
    """Writes the page atomically and returns its path. Folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, render(statuses))
    return file


def render(statuses: Sequence[Status]) -> str:
    """The page of one or more sidecars' statuses, the one to look at first first."""
    pods = sorted(map(read_pod, statuses), key=lambda pod: RANKS[pod.state])
    return (
        _environment().get_template("drift.html.j2").render(pods=pods, worst=pods[0], pills=PILLS)
    )


def render_sections(status: Status) -> str:
    """What the page says of one sidecar, as HTML to be part of another page."""
    return (
        _environment().get_template("drift_pod.html.j2").render(pod=read_pod(status), status=status)
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("count", "percent", "short", "metric"):
        environment.filters[name] = getattr(text, name)
    environment.filters["clock"] = clock
    environment.filters["size"] = size
    environment.filters["nats"] = lambda value: text.NOTHING if value is None else f"{value:.1f}"
    environment.globals.update(
        figure=feature_figure,
        timeline=timeline_figure,
        strongest=lambda status: strongest(status.get("timeline") or ()),
        most=MOST_FEATURES,
    )
    return environment
