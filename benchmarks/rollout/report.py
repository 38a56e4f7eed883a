"""results.md, results.json and results.svg."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.rollout.gate import PLAN
from benchmarks.rollout.traffic import SCENARIOS
from benchmarks.rollout.trials import ON_THRESHOLDS, Row, independent, worst
from benchmarks.rollout.waiting import Waiting

INTRODUCTION = (
    "10 → 50 % in five steps, one look a minute. Each cell: percent of runs decided wrongly (95 %",
    "Clopper–Pearson interval), median minutes to the verdict. Wrong is a rollback of a good",
    "canary and a promotion of a bad one.",
    "",
    "Seatrial runs the plan of `gate.py` beside this file; the others run their defaults, then the",
    "thresholds that had the lowest sum of both worst rows on these very runs. That sum leaves out",
    "what no threshold of theirs settles: traffic that stops, and the score shift, which Flagger",
    "and Argo Rollouts have no metric for. Kayenta can compare the mean score, which then fails an",
    "honest retrain too; it is shown with and without. It has 50 minutes for every canary.",
)
WAITING = (
    "Canary requests, at 10 % of the traffic, until the errors of a healthy canary are proven;",
    "beside it the samples that fixed tests at level beta with 80 % power need: the conditional",
    "test against stable, and the binomial test against the SLO, each told beforehand at which",
    "rate to test. The last column counts the shorter of the two in whole looks, for it is read at",
    "a look as well. phi is estimated while running, or declared as 1 in the plan.",
    "",
    "Where a bar is missed: the estimate of phi needs a few intervals to tell independent errors",
    "from bursts, and at 200 requests/s one look a minute is 1,200 canary requests: a third look,",
    "where the fixed sample ends with the second. An estimate that errs on the other side would",
    "end there too, and take bursts for independent errors more often.",
)


@dataclass(frozen=True)
class Results:
    runs: int
    seed: int
    rows: dict[int, dict[str, Row]]
    """Per rate and tool."""
    waits: list[Waiting]


def write(results: Results, folder: Path) -> None:
    bars = checked(results)
    (folder / "results.json").write_text(json.dumps(_json(results, bars), indent=1) + "\n")
    (folder / "results.md").write_text(_markdown(results, bars))
    _plot(results, folder / "results.svg")


def checked(results: Results) -> list[tuple[str, bool, str]]:
    """(bar, reached, numbers) of everything that was promised beforehand."""
    found = []
    for rate, tools in results.rows.items():
        ours = tools["Seatrial"]
        alone = {
            bad: max(
                ours[kind.name].wrong(bad) / results.runs
                for kind in independent()
                if kind.bad is bad
            )
            for bad in (False, True)
        }
        burst = max(
            ours[kind.name].wrong(kind.bad) / results.runs for kind in SCENARIOS if kind.burst > 1
        )
        totals = {name: worst(row).total for name, row in tools.items()}
        lenient = {name: worst(row, ON_THRESHOLDS).total for name, row in tools.items()}
        others, settled = (
            min((total, name) for name, total in sums.items() if name != "Seatrial")
            for sums in (totals, lenient)
        )
        at = f"at {rate} requests/s"
        found += [
            (f"false rollbacks ≤ alpha {at}", alone[False] <= PLAN.alpha, _percent(alone[False])),
            (f"bad canaries promoted ≤ beta {at}", alone[True] <= PLAN.beta, _percent(alone[True])),
            (f"either ≤ 2 alpha with bursts of 5 {at}", burst <= 2 * PLAN.alpha, _percent(burst)),
            (
                f"lowest sum of both worst rows {at}",
                totals["Seatrial"] < others[0],
                (
                    f"{_percent(totals['Seatrial'])}, best other {_percent(others[0])}"
                    f" ({others[1]}); on the rows that a threshold can settle"
                    f" {_percent(lenient['Seatrial'])} and {_percent(settled[0])} ({settled[1]})"
                ),
            ),
        ]
    for wait in results.waits:
        what = "errors never occur" if wait.error_rate == 0 else f"errors {wait.error_rate:.1%}"
        found.append(
            (
                (
                    f"proof ≤ 1.3 × the fixed sample, {what}, {wait.rate} requests/s,"
                    f" a look every {wait.look_seconds:g} s, phi {wait.dispersion}"
                ),
                wait.ratio <= 1.3,
                f"{wait.ratio:.2f} ×",
            )
        )
    return found


def _markdown(results: Results, bars: list[tuple[str, bool, str]]) -> str:
    lines = [
        "# Wrong decisions of rollout tools, simulated",
        "",
        f"`make bench-rollout` wrote this: {results.runs:,} runs a cell, seed {results.seed}.",
        *INTRODUCTION,
        "",
        "![worst rows](results.svg)",
    ]
    for rate, tools in results.rows.items():
        lines += ["", f"## {rate} requests/s", ""]
        lines += [
            "| scenario | wrong is | " + " | ".join(tools) + " |",
            "|---|---|" + "---|" * len(tools),
        ]
        for kind in SCENARIOS:
            cells = []
            for row in tools.values():
                cell = row[kind.name]
                low, high = cell.interval(kind.bad)
                cells.append(
                    f"{100 * cell.wrong(kind.bad) / cell.runs:.1f}"
                    f" ({100 * low:.1f}–{100 * high:.1f}), {cell.median_minutes:.0f} min"
                )
            wrong = "promoted" if kind.bad else "rolled back"
            lines.append(f"| {kind.name} | {wrong} | " + " | ".join(cells) + " |")
        for label, kinds in (
            ("worst + worst, all rows", SCENARIOS),
            ("the same, traffic going on and errors or latency to blame", ON_THRESHOLDS),
        ):
            sums = [f"{100 * worst(row, kinds).total:.1f}" for row in tools.values()]
            lines.append(f"| **{label}** | | " + " | ".join(sums) + " |")
    return "\n".join([*lines, *_undecided(results), *_waiting(results), *_bars(bars)]) + "\n"


def _undecided(results: Results) -> list[str]:
    lines = [
        "",
        "## What the gate leaves to a person",
        "",
        "Percent of runs without a verdict after a day, then at 0 %; a score shift is held.",
        "",
        "| scenario | " + " | ".join(f"{rate} requests/s" for rate in results.rows) + " |",
        "|---|" + "---|" * len(results.rows),
    ]
    for kind in SCENARIOS:
        cells = [tools["Seatrial"][kind.name] for tools in results.rows.values()]
        shares = " | ".join(f"{100 * cell.held / cell.runs:.1f}" for cell in cells)
        lines.append(f"| {kind.name} | {shares} |")
    return lines


def _waiting(results: Results) -> list[str]:
    lines = [
        "",
        "## How long a proof takes",
        "",
        *WAITING,
        "",
        (
            "| requests/s | look | error rate | phi | gate, median | gate, p95 | fixed, stable |"
            " fixed, SLO | median / shorter fixed |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for wait in results.waits:
        relative = "–" if wait.fixed_relative is None else f"{wait.fixed_relative:,}"
        lines.append(
            f"| {wait.rate} | {wait.look_seconds:g} s | {wait.error_rate:.1%} | {wait.dispersion}"
            f" | {wait.median:,.0f}"
            f" | {wait.p95:,.0f} | {relative} | {wait.fixed_absolute:,} | {wait.ratio:.2f} |"
        )
    return lines


def _bars(bars: list[tuple[str, bool, str]]) -> list[str]:
    lines = ["", "## Bars", "", "| bar | reached | measured |", "|---|---|---|"]
    return lines + [f"| {bar} | {'yes' if ok else '**missed**'} | {n} |" for bar, ok, n in bars]


def _json(results: Results, bars: list[tuple[str, bool, str]]) -> dict[str, Any]:
    return {
        "runs": results.runs,
        "seed": results.seed,
        "plan": PLAN.to_json(),
        "rates": {
            str(rate): {
                tool: {kind.name: row[kind.name].to_json(kind.bad) for kind in SCENARIOS}
                for tool, row in tools.items()
            }
            for rate, tools in results.rows.items()
        },
        "waiting": [wait.to_json() for wait in results.waits],
        "bars": [{"bar": bar, "reached": ok, "measured": n} for bar, ok, n in bars],
    }


def _plot(results: Results, file: Path) -> None:
    with mpl.rc_context({"svg.hashsalt": "seatrial", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        panels = figure.subplots(1, len(results.rows), sharey=True)
        for panel, (rate, tools) in zip(panels, results.rows.items(), strict=True):
            for name, row in tools.items():
                found, tuned = worst(row), "hindsight" in name
                label = name.split(" (")[0]
                panel.scatter(
                    100 * found.false_rollback,
                    100 * found.promoted_bad,
                    marker="*" if name == "Seatrial" else ("s" if tuned else "o"),
                    s=90 if name == "Seatrial" else 30,
                    label=label,
                )
            panel.set_title(f"{rate} requests/s")
            panel.set_xlabel("worst false rollback, %")
            panel.set_xlim(-4, 104)
            panel.set_ylim(-4, 104)
        panels[0].set_ylabel("worst bad canary promoted, %")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(file, metadata={"Date": None})


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
