"""python -m benchmarks.batch: scores a table of card transactions on one core.

The bundle is what `seatrial train` makes of a simulated table; the table is its rows again and
again. Each run is a process of its own, pinned to one core, its start included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.local import run_train
from seatrial.simulator import SimulatorSettings, write
from serving.bundle import open_bundle

BAR = 1_000_000
RESULTS = Path(__file__).with_name("results.md")
ROW_GROUP = 100_000


@dataclass(frozen=True)
class Run:
    rows: int
    seconds: float
    cpu: float
    """User and system seconds of the process."""
    peak: float
    """Largest resident size, MiB."""

    @property
    def rate(self) -> float:
        return 60 * self.rows / self.seconds

    @property
    def cpu_rate(self) -> float:
        return 60 * self.rows / self.cpu


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 1_000_000, 2_000_000])
    parser.add_argument("--bundle", type=Path, help="use this bundle and not one trained here")
    parser.add_argument("--table", type=Path, help="rows for it, as Parquet")
    parser.add_argument("--write", action="store_true", help="write results.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        bundle, table = given.bundle, given.table
        if bundle is None or table is None:
            table, contract = write(work / "data", SimulatorSettings(customers=1000, days=90))
            bundle = run_train(table, contract, work / "bundles", work=work / "work")
        found: dict[int, list[Run]] = {rows: [] for rows in given.rows}
        files = {rows: _repeated(table, rows, work / f"{rows}.parquet") for rows in given.rows}
        for _ in range(given.rounds):
            for rows, file in files.items():
                found[rows].append(_score(bundle, file, rows, work / "out"))
                sys.stderr.write(f"{rows} rows: {found[rows][-1]}\n")
        text = _report(bundle, found, given.rounds)
    sys.stdout.write(text)
    if given.write:
        RESULTS.write_text(text, "utf-8")


def _repeated(table: Path, rows: int, file: Path) -> Path:
    """The table's rows from its start, as often as it takes."""
    source = pq.read_table(table)
    with pq.ParquetWriter(file, source.schema) as writer:
        left = rows
        while left:
            part = source.slice(0, min(left, source.num_rows))
            writer.write_table(part, row_group_size=ROW_GROUP)
            left -= part.num_rows
    return file


def _score(bundle: Path, table: Path, rows: int, out: Path) -> Run:
    core = {max(os.sched_getaffinity(0))}
    command = [sys.executable, "-m", "components.batch_score", "--table", str(table)]
    command += ["--bundle", str(bundle), "--out", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, core),  # noqa: PLW1509 - one thread here
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    written = sum(pq.read_metadata(file).num_rows for file in out.glob("part-*.parquet"))
    shutil.rmtree(out, ignore_errors=True)
    if process.returncode or written != rows:
        raise SystemExit(f"{written} of {rows} rows, exit status {process.returncode}")
    return Run(rows, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _report(bundle: Path, found: dict[int, list[Run]], rounds: int) -> str:
    contract = open_bundle(bundle).contract
    text = sum(feature.dtype == "string" for feature in contract.features)
    family = open_bundle(bundle).read_json("lineage.json")["training"].get("family", "network")
    sizes = " ".join(map(str, found))
    about = (
        f"`python -m benchmarks.batch --rounds {rounds} --rows {sizes} --write`: {rounds} runs of"
        " each size, every run a process pinned to one core, its start, golden rows, contract"
        f" check, model, policy and writing included. The {contract.name} bundle ({family};"
        f" {len(contract.features)} features, {text} of them text), Arrow {pa.__version__}, from"
        f" local Parquet to local Parquet. Median (lowest–highest). {os.cpu_count()} cores, load"
        f" average {os.getloadavg()[2]:.1f}: what other processes take is missing from the rows a"
        " minute and not from the rows a CPU minute."
    )
    lines = [
        "# Offline inference on one core",
        "",
        about,
        "",
        "| rows | seconds | rows a minute | rows a CPU minute | peak memory MiB |",
        "|---|---|---|---|---|",
    ]
    for rows, runs in found.items():
        cells = [f"{rows:,}", _spread([r.seconds for r in runs], ".1f")]
        cells += [_spread([r.rate for r in runs], ",.0f")]
        cells += [_spread([r.cpu_rate for r in runs], ",.0f")]
        cells += [_spread([r.peak for r in runs], ".0f")]
        lines.append(f"| {' | '.join(cells)} |")
    slowest = min(run.rate for run in found[max(found)])
    share = min(run.cpu_rate for run in found[max(found)])
    bar = (
        f"Bar: {BAR:,} rows a minute on one core, in the slowest run of the largest table:"
        f" {'reached' if slowest >= BAR else 'missed'} by the clock ({slowest:,.0f}),"
        f" {'reached' if share >= BAR else 'missed'} by CPU time ({share:,.0f})."
    )
    lines += ["", bar, ""]
    return "\n".join(lines)


def _spread(values: list[float], form: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}}–{high:{form}})"


if __name__ == "__main__":
    main()
