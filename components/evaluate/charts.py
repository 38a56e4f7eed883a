"""Charts as inline SVG: no file beside the page, no script, no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

SIDE, MARGIN = 260, 44
Points = Sequence[Sequence[float]]


def square(
    title: str, across: str, up: str, points: Points, *, dots: bool = False, diagonal: bool = False
) -> str:
    """A curve in the unit square; `points` are (x, y) in 0..1."""

    def at(x: float, y: float) -> str:
        return f"{MARGIN + x * SIDE:.1f},{MARGIN + (1 - y) * SIDE:.1f}"

    parts = [f'<rect class="frame" x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}"/>']
    if diagonal:
        parts.append(f'<polyline class="even" points="{at(0, 0)} {at(1, 1)}"/>')
    line = " ".join(at(*point[:2]) for point in points)
    parts.append(f'<polyline class="curve" points="{line}"/>')
    if dots:
        for point in points:
            x, _, y = at(*point[:2]).partition(",")
            parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="3.5"/>')
    for tick in (0.0, 0.5, 1.0):
        x, _, _ = at(tick, 0).partition(",")
        _, _, y = at(0, tick).partition(",")
        parts.append(f'<text x="{x}" y="{MARGIN + SIDE + 14}" class="tick">{tick:g}</text>')
        parts.append(f'<text x="{MARGIN - 6}" y="{y}" class="tick end">{tick:g}</text>')
    parts.append(f'<text x="{MARGIN + SIDE / 2}" y="18" class="title">{escape(title)}</text>')
    middle, below = MARGIN + SIDE / 2, MARGIN + SIDE + 30
    parts.append(f'<text x="{middle}" y="{below}" class="tick">{escape(across)}</text>')
    parts.append(
        f'<text x="11" y="{middle}" class="tick" transform="rotate(-90 11 {middle})">'
        f"{escape(up)}</text>"
    )
    edge = SIDE + 2 * MARGIN
    return _svg(edge + 6, edge + 4, title, parts)


def bars(title: str, values: Sequence[tuple[str, float, float]]) -> str:
    """One bar a row: (name, value, spread); what is below zero has no bar."""
    width, step, left = 640, 20, 220
    most = max((value + spread for _, value, spread in values), default=0.0) or 1.0
    scale = (width - left - 70) / most
    parts = []
    for i, (name, value, spread) in enumerate(values):
        y = 8 + i * step
        long = max(0.0, value) * scale
        end = left + long
        parts.append(f'<text x="{left - 8}" y="{y + 11}" class="tick end">{escape(name)}</text>')
        parts.append(
            f'<rect class="bar" x="{left}" y="{y}" width="{max(long, 0.5):.1f}" height="13"/>'
        )
        low, high = max(left, end - spread * scale), end + spread * scale
        parts.append(
            f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 6.5}" y2="{y + 6.5}"/>'
        )
        parts.append(f'<text x="{high + 6:.1f}" y="{y + 11}" class="tick start">{value:.4f}</text>')
    return _svg(width, 16 + step * len(values), title, parts)


def _svg(width: float, height: float, title: str, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"'
        f' aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
