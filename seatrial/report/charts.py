"""Inline SVG from numbers. Colours and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Scale:
    """Maps [lo, hi] to pixels [start, end], linearly or by logarithm."""

    lo: float
    hi: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        value = min(max(value, self.lo), self.hi)
        if self.log:
            share = math.log(value / self.lo) / math.log(self.hi / self.lo)
        else:
            share = (value - self.lo) / (self.hi - self.lo)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round numbers inside the scale."""
        if self.log:
            low, high = math.floor(math.log10(self.lo)), math.ceil(math.log10(self.hi))
            steps = (1,) if high - low > 3 else (1, 2, 5)
            found = [s * 10.0**p for p in range(low, high + 1) for s in steps]
            return [t for t in found if self.lo <= t * 1.0001 and t <= self.hi * 1.0001]
        raw = (self.hi - self.lo) / max(1, wanted)
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
        first = math.ceil(self.lo / step - 1e-9)
        last = math.floor(self.hi / step + 1e-9)
        return [round(k * step, 10) for k in range(first, last + 1)]


def tag(name: str, text: str | None = None, **attributes: object) -> str:
    """One element; `text` is escaped; class_ is class, and underscores become hyphens."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{shown}/>" if text is None else f"<{name}{shown}>{escape(text)}</{name}>"


def svg(parts: Iterable[str], width: float, height: float, label: str) -> str:
    """A figure that scales with its box and says to a screen reader what it shows."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{''.join(parts)}</svg>"
    )


def line(points: Sequence[Point], x: Scale, y: Scale, class_: str) -> str:
    """A line with gaps where a value is None; a lone value is a dot."""
    parts: list[str] = []
    run: list[str] = []

    def close() -> None:
        if len(run) == 1:
            cx, cy = run[0].split(",")
            parts.append(tag("circle", cx=cx, cy=cy, r=1.5, class_=f"{class_} dot"))
        elif run:
            parts.append(tag("polyline", points=" ".join(run), class_=class_))
        run.clear()

    for at, value in points:
        if value is None or not math.isfinite(value):
            close()
        else:
            run.append(f"{x(at)},{y(value)}")
    close()
    return "".join(parts)


def band(
    top: Sequence[tuple[float, float]], bottom: Sequence[float], x: Scale, y: Scale, class_: str
) -> str:
    """The area between two lines over the same positions."""
    upper = [f"{x(at)},{y(value)}" for at, value in top]
    lower = [f"{x(at)},{y(value)}" for (at, _), value in zip(top, bottom, strict=True)]
    return tag("polygon", points=" ".join([*upper, *reversed(lower)]), class_=class_)


def y_axis(y: Scale, left: float, right: float, labels: Sequence[tuple[float, str]]) -> str:
    """Grid lines with their labels on the left."""
    parts: list[str] = []
    for value, text in labels:
        at = y(value)
        parts.append(tag("line", x1=left, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(tag("text", text, x=left - 8, y=at + 4, class_="tick end"))
    return "".join(parts)


def x_axis(x: Scale, bottom: float, labels: Sequence[tuple[float, str]]) -> str:
    """A base line with labels below it."""
    parts = [tag("line", x1=x.start, x2=x.end, y1=bottom, y2=bottom, class_="axis")]
    parts += [tag("text", text, x=x(v), y=bottom + 17, class_="tick middle") for v, text in labels]
    return "".join(parts)


def number(value: float) -> str:
    """A tick's label."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
