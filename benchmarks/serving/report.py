"""The table: each cell against the floor of its round, and the bars it has to reach."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    wire: str
    rows: int
    against: tuple[str, str, int]
    must: float
    aim: float


BARS = (
    Bar("v2", 1, ("floor", "v2", 1), 1.6, 1.25),
    Bar("v2", 32, ("floor", "v2", 32), 1.5, 1.2),
    Bar("v2-binary", 32, ("floor", "v2", 32), 1.0, 0.8),
    Bar("v1", 1, ("floor", "v2", 1), 1.6, 1.25),
    Bar("grpc", 1, ("stock", "grpc", 1), 0.6, 0.45),
)


def ratios(results: dict[str, Any], cell: tuple[str, str, int], base: tuple[str, str, int]) -> Any:
    """One ratio a round; empty when either was not measured."""
    found = {(c["server"], c["wire"], c["rows"]): c["ms"] for c in results["cells"]}
    return [a / b for a, b in zip(found.get(cell, ()), found.get(base, ()), strict=False)]


def table(results: dict[str, Any]) -> str:
    about = (
        f"`{results['command']}`: {results['rounds']} rounds of {results['seconds']:g} s a cell,"
        f" {results['connections']} connections, {results['machine']}, load generator on another;"
        f" KServe {results['versions']['kserve']},"
        f" ONNX Runtime {results['versions']['onnxruntime']}; the 30→256→128→1 model."
        " Median of the rounds (lowest–highest). Ours checks every value against its contract,"
        " decides, counts and tees every row."
    )
    lines = [
        "# Server CPU per request",
        "",
        about,
        "",
        "| server | wire | rows | CPU ms/request | × floor, V2 JSON | requests/s | p50 | p99 ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in results["cells"]:
        key = (cell["server"], cell["wire"], cell["rows"])
        times = ratios(results, key, ("floor", "v2", cell["rows"]))
        shown = [statistics.median(cell[name]) for name in ("rps", "p50_ms", "p99_ms")]
        lines.append(
            f"| {cell['server']} | {cell['wire']} | {cell['rows']} | {_spread(cell['ms'], 3)} |"
            f" {_spread(times, 2)} | {shown[0]:,.0f} | {shown[1]:.2f} | {shown[2]:.2f} |"
        )
    lines += [
        "",
        "## Bars",
        "",
        "| wire | rows | against | must | aim | reached | |",
        "|---|---|---|---|---|---|---|",
    ]
    for bar in BARS:
        times = ratios(results, ("ours", bar.wire, bar.rows), bar.against)
        if times:
            middle = statistics.median(times)
            word = "aim" if middle <= bar.aim else "must" if middle <= bar.must else "**missed**"
            lines.append(
                f"| {bar.wire} | {bar.rows} | {bar.against[0]} {bar.against[1]} {bar.against[2]} |"
                f" ≤ {bar.must:g} × | {bar.aim:g} × | {_spread(times, 2)} × | {word} |"
            )
    memory = ", ".join(f"{name} {mib} MiB" for name, mib in results["resident_mib"].items())
    return "\n".join([*lines, "", f"Resident memory: {memory}.", ""])


def _spread(numbers: list[float], digits: int) -> str:
    if not numbers:
        return "–"
    middle = statistics.median(numbers)
    return f"{middle:.{digits}f} ({min(numbers):.{digits}f}–{max(numbers):.{digits}f})"
