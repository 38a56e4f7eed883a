"""results.md, results.json and results.svg."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import chi2

from benchmarks.drift.comparison import CLEAN_ROWS as COMPARED_ROWS
from benchmarks.drift.comparison import CLEAN_STREAMS, COMPARED, RUN_LENGTH, Played
from benchmarks.drift.ours import CLEAN_ROWS, DEFAULT, CleanRun, DriftRun
from benchmarks.drift.real import Found
from benchmarks.drift.streams import INDEPENDENT, REFERENCE_ROWS, SCENARIOS

INTRODUCTION = """\
`make bench-drift` wrote this, seed {seed}: 30 numbers and 3 categories, references of
{reference:,} rows that share no seed with any stream, {streams} clean streams of {rows:,} rows in
each world. The watch learns its tolerance from 40,000 rows in time order, as `fit_drift` does, and
runs at its default: an average run length of {length:,.0f} rows."""
DELAYS = """\
Mean (5th to 95th percentile) of {repeats} streams; named: how often the columns that moved came
before all others. In the daily world the shifted columns are among those that move by half a
standard deviation through each day by themselves: what lies within that is tolerated, and found
late."""
COMPARISON = """\
Each at the most sensitive setting that raised at most {most} false alarms on {streams} clean
streams of {rows:,} rows: one in {length:,}. River played half of them. Mean rows to the alarm and,
in brackets, the share of streams without one in 5,000 rows. A window is judged when it is full."""
SETTINGS = """\
Settings: the watch's average run length; -log10 of the p-value; Evidently's distance or share of
columns; ADWIN's delta."""
SPEED = """\
Sketch and watch together, CPU of one core, batches of 8,192 rows: {rows_per_second:,.0f} rows a
second (median of 15 rounds, {lowest:,.0f} to {highest:,.0f}); row by row
{single_rows_per_second:,.0f}. {rss_mb:.0f} MB resident, grown by {grown_mb:.1f} MB over 10 million
rows; no torch, SciPy or Alibi Detect loaded."""

QUARTER, HALF = SCENARIOS[0].name, SCENARIOS[1].name


@dataclass(frozen=True)
class Results:
    seed: int
    streams: int
    clean: dict[str, list[CleanRun]]
    drifts: dict[str, dict[str, list[DriftRun]]]
    """By world and scenario."""
    compared: list[Played]
    skipped: dict[str, str]
    """Why each that is not among them is not."""
    real: list[Found]
    speed: dict[str, Any]


def write(results: Results, folder: Path) -> None:
    (folder / "results.json").write_text(json.dumps(_json(results), indent=1) + "\n")
    (folder / "results.md").write_text("\n".join(_markdown(results)) + "\n")
    _plot(results, folder / "results.svg")


def checked(results: Results) -> list[tuple[str, bool, str]]:
    """(bar, reached, numbers) of everything that was promised beforehand."""
    found = []
    for world, runs in results.clean.items():
        alarms, rows = sum(run.alarms for run in runs), len(runs) * CLEAN_ROWS
        low, high = _rate_interval(alarms, rows)
        found.append(
            (
                f"{world}: at most one false alarm in {DEFAULT:,.0f} rows",
                alarms <= rows / DEFAULT,
                f"{alarms} in {rows:,} rows, {low * 1e6:.2f}-{high * 1e6:.2f} in a million",
            )
        )
    for name, bar, aim in ((QUARTER, 600, 400), (HALF, 160, 120)):
        delays = _delays(results.drifts[INDEPENDENT.name][name])
        mean = float(np.mean(delays)) if delays else math.inf
        missed = len(results.drifts[INDEPENDENT.name][name]) - len(delays)
        numbers = f"mean {mean:.0f} rows, {missed} missed"
        found.append((f"{name}: found after {bar} rows", mean <= bar and not missed, numbers))
        found.append((f"{name}: found after {aim} rows (aim)", mean <= aim and not missed, numbers))
    for real in results.real:
        alarm = real.at_change
        delay = alarm.row - real.table.change if alarm else None
        found.append(
            (
                f"{real.table.name}: {real.table.what}, found in 500 rows, what moves then first",
                delay is not None and delay <= 500 and real.named,
                f"after {delay} rows: {', '.join(alarm.named) if alarm else 'nothing'}",
            )
        )
    speed = results.speed
    found.append(
        (
            "sketch and watch: 200,000 rows a second on one core, 33 columns",
            speed["rows_per_second"] >= 200_000,
            (
                f"median {speed['rows_per_second']:,.0f}, {speed['lowest']:,.0f} to"
                f" {speed['highest']:,.0f}"
            ),
        )
    )
    found.append(
        (
            "below 150 MB with the watch alone, no growth over 10 million rows",
            speed["rss_mb"] < 150 and speed["grown_mb"] < 5 and not speed["heavy"],
            f"{speed['rss_mb']:.0f} MB, grown by {speed['grown_mb']:.1f} MB",
        )
    )
    return found


def _markdown(results: Results) -> list[str]:
    repeats = len(next(iter(results.drifts[INDEPENDENT.name].values())))
    bars = [f"| {bar} | {_reached(good)} | {told} |" for bar, good, told in checked(results)]
    lines = [
        "# Drift detection, measured",
        "",
        INTRODUCTION.format(
            seed=results.seed,
            reference=REFERENCE_ROWS,
            streams=results.streams,
            rows=CLEAN_ROWS,
            length=DEFAULT,
        ),
        "",
        "| promised | reached | measured |",
        "|---|---|---|",
        *bars,
        "",
        "## Rows from onset to alarm",
        "",
        DELAYS.format(repeats=repeats),
        "",
        "| drift | " + " | ".join(results.drifts) + " |",
        "|---" * (1 + len(results.drifts)) + "|",
    ]
    for scenario in SCENARIOS:
        cells = [_drift_cell(runs[scenario.name]) for runs in results.drifts.values()]
        lines.append(f"| {scenario.name} | " + " | ".join(cells) + " |")
    lines += ["", "![delays at equal false alarms](results.svg)", "", *_comparison(results)]
    lines += ["## Real tables", ""]
    for real in results.real:
        lines += [*_table(real), ""]
    return [*lines, "## Speed", "", SPEED.format(**results.speed)]


def _reached(good: bool) -> str:
    return "yes" if good else "**no**"


def _table(real: Found) -> list[str]:
    table, alarm = real.table, real.at_change
    before, after = "no alarm", "**nothing**"
    if real.before:
        first = real.before[0]
        before = f"{len(real.before)} alarms, restarted after each, the first at row {first.row:,}"
        before += f" ({', '.join(first.named[:3])})"
    if alarm is not None:
        after = f"alarm after {alarm.row - table.change} rows, naming {', '.join(alarm.named)}"
    return [
        f"**{table.name}**: {table.what} at row {table.change:,}. Reference: out of the first",
        f"{table.training:,} rows. Not watched, as they never repeat: {', '.join(table.calendar)}.",
        f"The training rows themselves bring at most {real.training_evidence:.1f} nats of the",
        f"{math.log(DEFAULT):.1f} that alarm. Between them and the change: {before}.",
        f"From the change on: {after}.",
    ]


def _comparison(results: Results) -> list[str]:
    head = ("detector", "setting", "false alarms", "at its default", *(s.name for s in COMPARED))
    lines = [
        "## Beside others, at equal false alarms",
        "",
        COMPARISON.format(
            most=CLEAN_STREAMS * COMPARED_ROWS // RUN_LENGTH,
            streams=CLEAN_STREAMS,
            rows=COMPARED_ROWS,
            length=RUN_LENGTH,
        ),
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for played in results.compared:
        chosen = played.chosen()
        default = "" if played.default is None else str(played.false_alarms[played.default])
        if chosen is None:
            row = [played.name, "none is quiet enough", "", default, *("" for _ in COMPARED)]
        else:
            delays = [_compared_cell(played.delays[s.name][chosen]) for s in COMPARED]
            setting, alarms = f"{played.settings[chosen]:.3g}", str(played.false_alarms[chosen])
            row = [played.name, setting, alarms, default, *delays]
        lines.append(f"| {' | '.join(row)} |")
    for name, why in results.skipped.items():
        row = [name, f"skipped: {why}", "", "", *("" for _ in COMPARED)]
        lines.append(f"| {' | '.join(row)} |")
    return [*lines, "", SETTINGS, ""]


def _delays(runs: list[DriftRun]) -> list[int]:
    return [run.delay for run in runs if run.delay is not None]


def _drift_cell(runs: list[DriftRun]) -> str:
    delays = _delays(runs)
    if not delays:
        return "missed"
    low, high = np.percentile(delays, [5, 95])
    missed = len(runs) - len(delays)
    told = f"{np.mean(delays):,.0f} ({low:,.0f}-{high:,.0f})"
    if missed:
        told += f", {missed} missed"
    return f"{told}; named {np.mean([run.named for run in runs]):.0%}"


def _compared_cell(delays: list[int | None]) -> str:
    found = [delay for delay in delays if delay is not None]
    missed = 1 - len(found) / len(delays)
    mean = f"{np.mean(found):,.0f}" if found else "-"
    return f"{mean} ({missed:.0%})"


def _rate_interval(events: int, rows: int) -> tuple[float, float]:
    """95 % Clopper-Pearson interval of a Poisson rate."""
    low = chi2.ppf(0.025, 2 * events) / 2 if events else 0.0
    return float(low) / rows, float(chi2.ppf(0.975, 2 * events + 2)) / 2 / rows


def _json(results: Results) -> dict[str, Any]:
    compared = []
    for played in results.compared:
        chosen = played.chosen()
        compared.append(
            {
                "name": played.name,
                "settings": played.settings,
                "false_alarms": played.false_alarms,
                "chosen": chosen,
                "delays": {k: v[chosen] for k, v in played.delays.items()}
                if chosen is not None
                else {},
            }
        )
    return {
        "seed": results.seed,
        "bars": [
            dict(zip(("bar", "reached", "measured"), bar, strict=True)) for bar in checked(results)
        ],
        "clean": {k: [asdict(run) for run in runs] for k, runs in results.clean.items()},
        "drifts": {
            world: {name: [asdict(run) for run in runs] for name, runs in kinds.items()}
            for world, kinds in results.drifts.items()
        },
        "compared": compared,
        "skipped": results.skipped,
        "real": [asdict(real) for real in results.real],
        "speed": results.speed,
    }


def _plot(results: Results, path: Path) -> None:
    mpl.rcParams["svg.hashsalt"] = "seatrial"
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.add_subplot()
    shown = [p for p in results.compared if p.chosen() is not None and p.name != "never alarms"]
    for i, played in enumerate(shown):
        means = []
        for scenario in COMPARED:
            delays = played.delays[scenario.name][played.chosen() or 0]
            # A miss counts as the whole stream.
            means.append(float(np.mean([5000 if d is None else d for d in delays])))
        places = np.arange(len(COMPARED)) + (i - len(shown) / 2) * 0.8 / len(shown)
        axes.bar(places, means, width=0.8 / len(shown), label=played.name)
    axes.set_yscale("log")
    axes.set_xticks(range(len(COMPARED)), [s.name.replace(" in ", "\nin ") for s in COMPARED])
    axes.set_ylabel("rows to the alarm (missed: 5,000)")
    axes.set_title(f"one false alarm in {RUN_LENGTH:,} rows, measured")
    axes.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})
