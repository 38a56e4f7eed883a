"""Numbers and digests as people read them; a value that is not there is a dash."""

from __future__ import annotations

import json
from typing import Any

NOTHING = "–"


def count(value: Any) -> str:
    """12345 -> 12,345."""
    return NOTHING if value is None else f"{value:,.0f}"


def milliseconds(value: Any) -> str:
    """Three significant digits with the unit: 4.21 ms, 5.1 s."""
    if value is None:
        return NOTHING
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return (
        f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"
    )


def seconds(value: Any) -> str:
    """4.2 s, 1 min 05 s."""
    if value is None:
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def percent(share: Any) -> str:
    """A share as a percentage that is never rounded up to 100 %."""
    if share is None:
        return NOTHING
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    shown = min(max(100 * share, 0.01), 99.99)
    return f"{shown:.2f} %"


def short(digest: Any) -> str:
    """The first 12 characters, as bundle folders have them."""
    return NOTHING if digest is None else str(digest)[:12]


def metric(value: Any) -> str:
    """A metric of any shape: numbers to four digits, the rest as compact JSON."""
    if value is None:
        return NOTHING
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list) and all(isinstance(v, int | float) for v in value):
        return " – ".join(f"{v:.4f}" for v in value)
    return json.dumps(value, sort_keys=True)


def plural(number: int, noun: str) -> str:
    """1 request, 2 requests."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"
