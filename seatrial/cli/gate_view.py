"""A run on the terminal: weights, evidence against both thresholds, time to a decision."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serving.rollout.run.view import RunView

BAR = 24


def line(found: RunView) -> str:
    """One line, for after a request."""
    state = found.state
    paused = ", paused" if state.orders.paused else ""
    return f"run {state.run}: {state.phase.value} at {found.share} %{paused}; {found.reason}"


def live(found: RunView) -> RenderableType:
    """The whole picture."""
    state = found.state
    weight = "unknown" if found.weight is None else f"{found.weight} %"
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{state.service}", "bold"),
            f"  {state.stable.name} → {state.canary.name}  run {state.run}",
        ),
        Text(_phase(found)),
        Text(
            f"canary {weight} of {found.share} %  "
            + " → ".join(
                f"[{share}]" if i == state.step else str(share)
                for i, share in enumerate(found.plan.steps)
            )
        ),
        _evidence(found),
        Text(found.reason),
    ]
    if found.problem:
        parts.append(Text(found.problem, style="red"))
    left = found.seconds_left()
    if left is not None:
        parts.append(Text(f"promotion in about {_time(left)}, if it goes on like this"))
    return Group(*parts)


def _phase(found: RunView) -> str:
    state = found.state
    words = [state.phase.value, f"{state.looks} looks"]
    if state.orders.paused:
        words.append("paused")
    if not state.ended:
        words.append(f"led by {found.gate}" if found.gate else "NO GATE AT WORK")
    return ", ".join(words)


def _evidence(found: RunView) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("METRIC", "CANARY", "STABLE", "AGAINST IT", "FOR IT"):
        table.add_column(heading)
    for reading in found.readings:
        counts = [
            f"{n[1]:,} / {n[0]:,}" if len(n) == 2 else f"{sum(n):,} rows"
            for n in (reading.canary, reading.stable)
        ]
        if reading.shift:
            counts = [f"{sum(n):,} rows" for n in (reading.canary, reading.stable)]
        table.add_row(
            reading.kind,
            *counts,
            _bar(reading.against, reading.against_at, "red"),
            _bar(reading.good, reading.good_at, "green"),
        )
    return table


def _bar(value: float, threshold: float, colour: str) -> Text:
    """How far ln E has come to its threshold."""
    part = min(1.0, max(0.0, value / threshold)) if threshold > 0 else 0.0
    full = round(BAR * part)
    percent = f" {100 * part:3.0f} %"
    return Text.assemble(("━" * full, colour), ("━" * (BAR - full), "dim"), percent)


def _time(seconds: float) -> str:
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
