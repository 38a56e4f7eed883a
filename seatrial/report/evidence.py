"""The gate's evidence over time: each e-process beside the threshold it must cross."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seatrial.report.charts import Point, Scale, line, svg, tag, x_axis, y_axis
from seatrial.report.figures import arm_order, colour

Facts = Mapping[str, Any]

_WIDTH, _LEFT, _RIGHT = 1080.0, 56.0, 1064.0
_PANELS = {
    "For the canary: ln E as a share of what promotion asks (1 = proven)": ("good", 34.0, 154.0),
    "Against it: ln E as a share of what rolls back, or holds (1 = crossed)": (
        *("against", 196.0),
        316.0,
    ),
}
_LOW, _HIGH = -0.5, 1.6
"""Evidence beyond these shares is drawn at the edge: what matters is where it crosses 1."""
STROKES = {"errors": "", "latency": "dashed", "scores": "dotted", "decisions": "dotted"}


def evidence_figure(facts: Facts) -> str | None:
    """Both sides of every guarded run on the time axis of the traffic; None without one."""
    runs: Sequence[Facts] = facts.get("gate") or ()
    if not any(run["looks"] for run in runs):
        return None
    seconds = [row["t"] + 1 for row in (facts.get("traffic") or {}).get("by_second", ())]
    end = max([*seconds, *(look["t"] for run in runs for look in run["looks"])])
    x = Scale(0, end, _LEFT, _RIGHT)
    arms = arm_order(facts)
    parts = []
    for name, (side, top, bottom) in _PANELS.items():
        y = Scale(_LOW, _HIGH, bottom, top)
        parts.append(tag("text", name, x=0, y=top - 13, class_="panel"))
        parts.append(y_axis(y, _LEFT, _RIGHT, [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]))
        parts.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=y(1), y2=y(1), class_="target"))
        for run in runs:
            for kind, points in _processes(run, side):
                class_ = f"line {STROKES.get(kind, '')} {colour(run['canary'], arms)}"
                parts.append(line(points, x, y, class_))
    bottom = max(bottom for _, _, bottom in _PANELS.values())
    parts.append(x_axis(x, bottom, [(t, f"{t:g} s") for t in x.ticks(10)]))
    label = "Evidence for and against each canary over time, metric by metric, with thresholds"
    return svg(parts, _WIDTH, bottom + 28, label)


def _processes(run: Facts, side: str) -> Iterator[tuple[str, list[Point]]]:
    kinds = dict.fromkeys(r["kind"] for look in run["looks"] for r in look["readings"])
    for kind in kinds:
        points: list[Point] = []
        for look in run["looks"]:
            for reading in look["readings"]:
                if reading["kind"] == kind:
                    value = reading[side]
                    share = None if value is None else value / reading[f"{side}_at"]
                    points.append((look["t"], share))
        yield kind, points
