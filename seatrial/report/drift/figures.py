"""The page's figures: a feature's reference beside its window, and the evidence over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from seatrial.report.charts import Scale, line, number, svg, tag, x_axis, y_axis

Facts = Mapping[str, Any]
GROUPS = 12
"""Bars a feature gets at most; neighbours are added up, categories beyond it are 'others'."""
_WIDTH, _HEIGHT = 300.0, 132.0
_LEFT, _TOP, _BOTTOM = 34.0, 8.0, 92.0
_CHARACTERS = 11


def feature_figure(feature: Facts) -> str:
    """Shares of reference and window per group, side by side."""
    groups = grouped(feature)
    most = max([0.01, *(max(r, w) for _, r, w in groups)])
    y = Scale(0, most * 1.05, _BOTTOM, _TOP)
    step = (_WIDTH - _LEFT - 4) / max(len(groups), 1)
    bar = min(max(step / 2 - 1.5, 1.5), 16.0)
    parts = [y_axis(y, _LEFT, _WIDTH, [(t, f"{100 * t:.4g} %") for t in y.ticks(2)])]
    for i, (label, reference, window) in enumerate(groups):
        middle = _LEFT + 4 + (i + 0.5) * step
        for x, value, class_ in ((middle - bar, reference, "arm-none"), (middle, window, "arm-0")):
            parts.append(
                tag(
                    "rect",
                    x=round(x, 1),
                    y=y(value),
                    width=round(bar, 1),
                    height=round(_BOTTOM - y(value), 1),
                    class_=f"bar {class_}",
                )
            )
        if i in _labelled(len(groups)):
            parts.append(_label(label, middle, i, len(groups)))
    name = feature["name"]
    parts.append(tag("line", x1=_LEFT, x2=_WIDTH, y1=_BOTTOM, y2=_BOTTOM, class_="axis"))
    return svg(parts, _WIDTH, _HEIGHT, f"{name}: share of rows by value, reference and window")


def grouped(feature: Facts) -> list[tuple[str, float, float]]:
    """(label, reference share, window share) of at most GROUPS groups; empty rare cells go."""
    bins = [
        (b["label"], b["reference"], b["window"])
        for b in feature["bins"]
        if b["reference"] or b["window"]
    ]
    if len(bins) <= GROUPS:
        return bins
    if feature["kind"] == "category":
        kept = sorted(bins, key=lambda b: -max(b[1], b[2]))[: GROUPS - 1]
        rest = [b for b in bins if b not in kept]
        return [*kept, ("others", sum(b[1] for b in rest), sum(b[2] for b in rest))]
    # Quantile bins: neighbours with equal reference mass together.
    total = sum(b[1] for b in bins) or 1.0
    found: list[list[Any]] = []
    mass, last = 0.0, -1
    for label, reference, window in bins:
        group = min(int(mass / total * GROUPS), GROUPS - 1)
        if group != last:
            found.append([label, 0.0, 0.0])
            last = group
        found[-1][1] += reference
        found[-1][2] += window
        mass += reference
    return [(label, r, w) for label, r, w in found]


def _labelled(groups: int) -> set[int]:
    if groups <= 5:
        return set(range(groups))
    return {0, groups // 2, groups - 1}


def _label(label: str, x: float, index: int, groups: int) -> str:
    shown = shortened(label)
    place = "tick middle"
    if groups > 5 and index == 0:
        place, x = "tick", _LEFT
    elif groups > 5 and index == groups - 1:
        place, x = "tick end", _WIDTH
    return tag("text", shown, x=round(x, 1), y=_BOTTOM + 16, class_=place)


def shortened(label: str) -> str:
    """A bin by its lower edge, to four digits; other labels by their first characters."""
    low, separator, _ = label.partition(" to ")
    if separator:
        try:
            return f"{float(low):.4g}"
        except ValueError:
            pass
    return label if len(label) <= _CHARACTERS else label[: _CHARACTERS - 1] + "…"


_W, _L, _R = 1080.0, 56.0, 1064.0
_T, _B = 34.0, 214.0
STROKES = ("arm-0", "arm-1", "arm-2", "arm-3")
NAMED = len(STROKES)


def timeline_figure(status: Facts) -> str | None:
    """Evidence against its threshold, the strongest columns beside it; None with too little."""
    entries = [e for e in status.get("timeline") or () if _seconds(e["time"]) is not None]
    known = [e for e in entries if e["evidence"] is not None]
    if len(known) < 2:
        return None
    times = [_seconds(e["time"]) or 0.0 for e in entries]
    start, end = min(times), max(*times, min(times) + 1)
    threshold = max((e["threshold"] or 0.0) for e in entries)
    names = strongest(entries)
    values = [e["evidence"] for e in known]
    values += [t["evidence"] for e in entries for t in e["top"] if t["name"] in names]
    high = max([threshold * 1.25, *(min(v, threshold * 4) for v in values if v is not None)])
    x = Scale(0, end - start, _L, _R)
    y = Scale(min(0.0, *(max(v, -5.0) for v in values if v is not None)), high, _B, _T)
    parts = [
        tag("text", "Evidence for drift, in nats (log scale by nature)", x=0, y=14, class_="panel"),
        *_open_spans(entries, times, start, x),
        y_axis(y, _L, _R, [(t, number(t)) for t in y.ticks(4)]),
        tag("line", x1=_L, x2=_R, y1=y(threshold), y2=y(threshold), class_="target"),
    ]
    for name, class_ in zip(names, STROKES, strict=False):
        points = [
            (t - start, max((p["evidence"] for p in e["top"] if p["name"] == name), default=None))
            for t, e in zip(times, entries, strict=True)
        ]
        parts.append(line(points, x, y, f"line thin {class_}"))
    total = [(t - start, e["evidence"]) for t, e in zip(times, entries, strict=True)]
    parts.append(line(total, x, y, "line total"))
    parts.append(x_axis(x, _B, [(t, span(t)) for t in x.ticks(8)]))
    return svg(parts, _W, _B + 28, "Evidence for drift over time, against the threshold")


def strongest(entries: Sequence[Facts]) -> list[str]:
    """Names of the columns with the largest evidence anywhere on the timeline."""
    best: dict[str, float] = {}
    for entry in entries:
        for top in entry["top"]:
            if top["evidence"] is not None:
                best[top["name"]] = max(top["evidence"], best.get(top["name"], top["evidence"]))
    return sorted(best, key=lambda name: -best[name])[:NAMED]


def span(seconds: float) -> str:
    """A length of time as an axis says it: 30 s, 5 min, 2 h, 3 d."""
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _open_spans(
    entries: Sequence[Facts], times: Sequence[float], start: float, x: Scale
) -> list[str]:
    """Where an episode was open."""
    spans = []
    for (a, entry), (b, _) in pairwise(zip(times, entries, strict=True)):
        if entry["open"] and b > a:
            left = x(a - start)
            width = round(x(b - start) - left, 1)
            spans.append(tag("rect", x=left, y=_T, width=width, height=_B - _T, class_="episode"))
    return spans


def _seconds(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
