"""The figures of the page: the rollout over time, and the bundles' curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seatrial.report.charts import Scale, band, line, number, svg, tag, x_axis, y_axis

Facts = Mapping[str, Any]
COLOURS = 6
"""Colours for arms in the style sheet: arm-0 to arm-5."""
TARGET_MS = 100.0

_WIDTH, _LEFT, _RIGHT = 1080.0, 56.0, 1064.0
_PANELS = {
    "Share of answers": (70.0, 180.0),
    "Requests per second": (222.0, 322.0),
    "Errors per second": (364.0, 414.0),
    "Latency of answered requests, ms: p50 solid, p99 thin (log scale)": (456.0, 596.0),
}
_SHARE, _REQUESTS, _ERRORS, _LATENCY = _PANELS.values()
_LABEL_PX = 6.6


def arm_order(facts: Facts) -> list[str]:
    """Arms by first appearance; the position picks the colour."""
    found: dict[str, None] = {}
    for step in facts.get("timeline") or ():
        found.update(dict.fromkeys(step["weights"]))
    for bundle in facts.get("bundles") or ():
        found.setdefault(bundle["role"])
    for row in (facts.get("traffic") or {}).get("by_arm", ()):
        found.setdefault(row["arm"])
    return list(found)


def colour(arm: str, arms: Sequence[str]) -> str:
    """CSS class of an arm's colour."""
    return f"arm-{arms.index(arm) % COLOURS}" if arm in arms else "arm-none"


def rollout_figure(facts: Facts) -> str | None:
    """Traffic split, requests, errors, latency by arm on one time axis; None without traffic."""
    rows = (facts.get("traffic") or {}).get("by_second") or []
    if not rows:
        return None
    arms = arm_order(facts)
    by: dict[str, dict[int, Facts]] = {}
    for row in rows:
        by.setdefault(row["arm"], {})[int(row["t"])] = row
    present = [arm for arm in [*arms, *sorted(set(by) - set(arms))] if arm in by]
    end = max(int(row["t"]) for row in rows) + 1
    # The last second is rarely whole, and half a second of traffic looks like a fault.
    whole = list(range(max(1, end - 1)))
    x = Scale(0, max(end, 1), _LEFT, _RIGHT)
    parts = [
        _share_panel(by, present, arms, whole, x),
        _lines_panel(by, present, arms, whole, x),
        _errors_panel(by, present, arms, range(end), x),
        _latency_panel(by, present, arms, whole, x),
        _markers(facts.get("timeline") or (), x),
        *(tag("text", name, x=0, y=top - 13, class_="panel") for name, (top, _) in _PANELS.items()),
        x_axis(x, _LATENCY[1], [(t, f"{number(t)} s") for t in x.ticks(10)]),
    ]
    label = "Share of traffic, requests, errors and latency by arm over time, with rollout steps"
    return svg(parts, _WIDTH, _LATENCY[1] + 28, label)


By = Mapping[str, Mapping[int, Facts]]


def _at(by: By, arm: str, t: int, key: str) -> float:
    row = by[arm].get(t)
    return float(row[key]) if row is not None else 0.0


def _share_panel(
    by: By, present: Sequence[str], arms: Sequence[str], whole: Sequence[int], x: Scale
) -> str:
    top, bottom = _SHARE
    y = Scale(0, 1, bottom, top)
    parts: list[str] = []
    totals = {t: sum(_at(by, arm, t, "requests") for arm in present) for t in whole}
    seconds = [t for t in whole if totals[t] > 0]
    # Drawn from the middle of each second, and out to both ends of the traffic.
    middles = [t + 0.5 for t in seconds]
    if len(middles) > 1:
        middles[0], middles[-1] = float(seconds[0]), float(seconds[-1] + 1)
    floor = [0.0] * len(seconds)
    for arm in present:
        share = [_at(by, arm, t, "requests") / totals[t] for t in seconds]
        upper = [low + part for low, part in zip(floor, share, strict=True)]
        edge = list(zip(middles, upper, strict=True))
        parts.append(band(edge, floor, x, y, f"area {colour(arm, arms)}"))
        floor = upper
    labels = [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")]
    return "".join([*parts, y_axis(y, _LEFT, _RIGHT, labels)])


def _lines_panel(
    by: By, present: Sequence[str], arms: Sequence[str], whole: Sequence[int], x: Scale
) -> str:
    top, bottom = _REQUESTS
    most = max(_at(by, arm, t, "requests") for arm in present for t in whole)
    y = Scale(0, max(most * 1.08, 1), bottom, top)
    parts = [y_axis(y, _LEFT, _RIGHT, [(t, number(t)) for t in y.ticks(4)])]
    for arm in present:
        points = [(t + 0.5, _at(by, arm, t, "requests") if t in by[arm] else None) for t in whole]
        parts.append(line(points, x, y, f"line {colour(arm, arms)}"))
    return "".join(parts)


def _errors_panel(
    by: By, present: Sequence[str], arms: Sequence[str], seconds: Sequence[int], x: Scale
) -> str:
    top, bottom = _ERRORS
    totals = [sum(_at(by, arm, t, "errors") for arm in present) for t in seconds]
    y = Scale(0, max(*totals, 1), bottom, top)
    labels = [(0.0, "0"), (y.hi, number(y.hi))]
    parts = [y_axis(y, _LEFT, _RIGHT, labels)]
    width = max((_RIGHT - _LEFT) / max(len(totals), 1) - 1, 1)
    for t in seconds:
        level = 0.0
        for arm in present:
            errors = _at(by, arm, t, "errors")
            if errors:
                high, low = y(level + errors), y(level)
                parts.append(
                    tag(
                        "rect",
                        x=x(t),
                        y=high,
                        width=round(width, 1),
                        height=round(low - high, 1),
                        class_=f"bar {colour(arm, arms)}",
                    )
                )
                level += errors
    if not any(totals):
        middle = (_LEFT + _RIGHT) / 2
        note = "no errors"
        parts.append(tag("text", note, x=middle, y=(top + bottom) / 2 + 4, class_="tick middle"))
    return "".join(parts)


def _latency_panel(
    by: By, present: Sequence[str], arms: Sequence[str], whole: Sequence[int], x: Scale
) -> str:
    top, bottom = _LATENCY
    values = [
        float(row[key])
        for arm in present
        for row in by[arm].values()
        for key in ("p50_ms", "p99_ms")
        if row[key]
    ]
    low, high = min([1.0, *values]), max([TARGET_MS * 1.3, *values])
    y = Scale(max(low, 0.1), high, bottom, top, log=True)
    parts = [y_axis(y, _LEFT, _RIGHT, [(t, number(t)) for t in y.ticks()])]
    limit = y(TARGET_MS)
    parts.append(tag("line", x1=_LEFT, x2=_RIGHT, y1=limit, y2=limit, class_="target"))
    for arm in present:
        for key, class_ in (("p99_ms", "line thin"), ("p50_ms", "line")):
            points = [(t + 0.5, by[arm][t][key] if t in by[arm] else None) for t in whole]
            parts.append(line(points, x, y, f"{class_} {colour(arm, arms)}"))
    return "".join(parts)


def _markers(timeline: Sequence[Facts], x: Scale) -> str:
    """A line and a number through all panels for each step; its name where there is room."""
    spots = [x(float(step["t"])) for step in timeline]
    rows: list[int] = []
    last = [-_RIGHT, -_RIGHT]
    for at in spots:
        row = 0 if last[0] <= last[1] else 1
        last[row] = at
        rows.append(row)
    parts: list[str] = []
    for i, (step, at, row) in enumerate(zip(timeline, spots, rows, strict=True)):
        height = (14.0, 36.0)[row]
        parts.append(tag("line", x1=at, x2=at, y1=height + 9, y2=_LATENCY[1], class_="step"))
        parts.append(tag("circle", cx=at, cy=height, r=9, class_="badge"))
        parts.append(tag("text", str(i + 1), x=at, y=height + 4, class_="badge-text"))
        text = str(step["step"])
        later = [spots[k] for k in range(i + 1, len(spots)) if rows[k] == row]
        if at + 14 + len(text) * _LABEL_PX <= min([*(spot - 9 for spot in later), _RIGHT]):
            parts.append(tag("text", text, x=at + 14, y=height + 4, class_="step-name"))
    return "".join(parts)


_SIZE, _BOX = 340.0, (46.0, 14.0, 326.0, 294.0)


def curve_figures(facts: Facts) -> list[tuple[str, str]]:
    """(caption, SVG) of ROC, precision-recall and calibration, all bundles in each."""
    bundles = [b for b in facts.get("bundles") or () if b.get("curves")]
    arms = arm_order(facts)
    found: list[tuple[str, str]] = []
    for key, caption, across, up in (
        ("roc", "ROC", "false positive rate", "true positive rate"),
        ("pr", "Precision and recall", "recall", "precision"),
        ("calibration", "Calibration", "mean score", "observed rate"),
    ):
        curves = [(b["role"], b["curves"].get(key)) for b in bundles]
        drawn = [(role, points) for role, points in curves if points]
        if drawn:
            label = f"{caption} of {', '.join(role for role, _ in drawn)}: {up} against {across}"
            found.append((caption, _curves(key, drawn, arms, (across, up), label)))
    return found


def _curves(
    key: str,
    drawn: Sequence[tuple[str, Sequence[Sequence[float]]]],
    arms: Sequence[str],
    names: tuple[str, str],
    label: str,
) -> str:
    left, top, right, bottom = _BOX
    log = key == "calibration" and min(p[0] for _, points in drawn for p in points) < 0.02
    low = 0.0
    if log:
        positive = [v for _, points in drawn for p in points for v in p[:2] if v > 0]
        low = max(min([*positive, 0.1]), 1e-5)
    x = Scale(low, 1, left, right, log=log)
    y = Scale(low, 1, bottom, top, log=log)
    parts = [
        y_axis(y, left, right, [(t, number(t)) for t in y.ticks()]),
        x_axis(x, bottom, [(t, number(t)) for t in x.ticks()]),
        tag("text", names[0], x=(left + right) / 2, y=bottom + 36, class_="tick middle"),
        tag("text", names[1], x=left, y=top - 4, class_="tick"),
    ]
    if key != "pr":
        parts.append(tag("line", x1=left, y1=bottom, x2=right, y2=top, class_="diagonal"))
    for role, points in drawn:
        class_ = f"line {colour(role, arms)}"
        kept = [p for p in points if not log or (p[0] > 0 and p[1] > 0)]
        parts.append(line([(p[0], p[1]) for p in kept], x, y, class_))
        if key == "calibration":
            parts += [
                tag("circle", cx=x(p[0]), cy=y(p[1]), r=3.5, class_=f"point {colour(role, arms)}")
                for p in kept
            ]
    return svg(parts, _SIZE, _SIZE, label)
