"""Peak memory and time of ingesting tables of 1 and of 10 million rows out of time order.

    python -m benchmarks.training.ingest --write

Each is ingested by a process of its own, whose peak resident memory the kernel tells.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serving.bundle import Contract

NUMBERS, PIECE = 12, 500_000
COUNTS = (1_000_000, 10_000_000)


def contract() -> Contract:
    features: list[dict[str, Any]] = [{"name": f"n{i}", "dtype": "float64"} for i in range(NUMBERS)]
    features.append({"name": "kind", "dtype": "string", "categories": ["a", "b", "c"]})
    return Contract.model_validate(
        {
            "name": "bench",
            "features": features,
            "label": {"column": "label"},
            "time": "time",
            "decision": {"review": 0.3, "decline": 0.7},
        }
    )


def write_table(file: Path, rows: int) -> None:
    """Rows in no order of time, written in pieces."""
    rng = np.random.default_rng(0)
    writer = None
    for _ in range(0, rows, PIECE):
        columns: dict[str, Any] = {f"n{i}": rng.normal(size=PIECE) for i in range(NUMBERS)}
        columns["kind"] = np.array(["a", "b", "c"])[rng.integers(0, 3, PIECE)]
        columns["label"] = rng.integers(0, 2, PIECE)
        columns["time"] = rng.uniform(0, 1e8, PIECE)
        piece = pa.table(columns)
        writer = writer or pq.ParquetWriter(file, piece.schema, compression="none")
        writer.write_table(piece)
    if writer is not None:
        writer.close()


def ingest(folder: Path, rows: int) -> dict[str, float]:
    """Seconds and peak MiB of one run."""
    write_table(folder / "table.parquet", rows)
    (folder / "contract.json").write_text(contract().canonical_json())
    given = {"source": "table.parquet", "contract": "contract.json", "table": "out"}
    options = [part for k, v in given.items() for part in (f"--{k}", str(folder / v))]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "components.ingest", *options], stdout=subprocess.PIPE, text=True
    )
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or json.loads(output)["rows"] != rows:
        raise RuntimeError(f"ingesting {rows} rows ended with {process.returncode}")
    size = (folder / "table.parquet").stat().st_size / 2**20
    return {
        "seconds": time.perf_counter() - began,
        "mib": usage.ru_maxrss / 1024,
        "table_mib": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.ingest")
    parser.add_argument("--write", action="store_true", help="replace ingest.md")
    args = parser.parse_args()
    lines = [
        "# Ingesting a table out of order",
        "",
        (
            f"`python -m benchmarks.training.ingest --write`: Parquet with {NUMBERS + 3}"
            " columns, read, typed, sorted by time and written by one process; its peak resident"
            " memory."
        ),
        "",
        "| rows | table, MiB | peak memory, MiB | seconds |",
        "|---|---|---|---|",
    ]
    for rows in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            found = ingest(Path(folder), rows)
        lines.append(
            f"| {rows:,} | {found['table_mib']:,.0f} | {found['mib']:,.0f} |"
            f" {found['seconds']:.0f} |"
        )
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if args.write:
        Path(__file__).with_name("ingest.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
