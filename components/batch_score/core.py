"""Offline inference: a table's rows scored and decided as the predictor would, shard by shard."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.batch_score.answers import REJECTED, Scorer, to_arrow
from components.batch_score.shards import Shards
from components.batch_score.table import Table, open_table
from components.storage import fetch
from serving.errors import UsageError

FORMAT = "seatrial.batch/1"
CHUNK = 16_384
OURS = ("row", "score", "decision", "reason", "rejected")


def run(
    *,
    table: Path,
    bundle: str,
    out: Path,
    keep: str = "",
    shard_rows: int = 500_000,
    worker: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Scores every row of a Parquet table and writes one row for each, in order.

    table: Parquet file, or a folder of them in the order of their names.
    bundle: the bundle's folder, or s3://BUCKET/PREFIX/NAME.
    out: folder that gets the shards.
    keep: columns to carry over, such as an id, separated by commas.
    shard_rows: rows of a shard.
    worker: which of the workers this is, from 0; it takes every workers-th shard.
    workers: how many share the work.

    A row that breaks the contract is answered with the reason and no decision. A run that was
    killed goes on: shards that are there are kept. Returns counts. Raises FileError, DataError for
    columns that do not fit, BundleError, UsageError or InferenceFailed.
    """
    if shard_rows < 1:
        raise UsageError(f"shard_rows {shard_rows} is too small; give 1 or more")
    if not 0 <= worker < workers:
        raise UsageError(f"worker {worker} is none of {workers}; count from 0")
    kept = [name.strip() for name in keep.split(",") if name.strip()]
    for name in kept:
        if name in OURS:
            raise UsageError(f"keep '{name}': the output has a column of that name; rename yours")
    with tempfile.TemporaryDirectory() as scratch:
        found = fetch(bundle, Path(scratch))
        scorer = Scorer(found)
    source = open_table(table, scorer.contract, kept)
    shards = Shards(
        out,
        {
            "format": FORMAT,
            "bundle": found.digest,
            "rows": source.rows,
            "shard_rows": shard_rows,
            "keep": kept,
            "table": source.to_json(),
        },
    )
    mine = range(worker, shards.count, workers)
    written = sum(
        shards.write(number, _scored(scorer, source, shards.bounds(number), kept))
        for number in mine
    )
    return {
        "written": written,
        "kept": len(mine) - written,
        "summary": shards.summary(),
    }


def _scored(
    scorer: Scorer, table: Table, bounds: tuple[int, int], keep: Sequence[str]
) -> Iterator[tuple[pa.RecordBatch, Counter[str]]]:
    names = [name for name in keep if name not in scorer.contract.feature_names]
    row = bounds[0]
    for batch in table.read(*bounds, [*scorer.contract.feature_names, *names], CHUNK):
        answers = scorer.answer(batch)
        columns: dict[str, Any] = {"row": pa.array(np.arange(row, row + batch.num_rows))}
        columns |= {name: batch.column(name) for name in keep}
        columns |= to_arrow(answers, scorer.decider)
        taken = np.bincount(
            answers.outcomes[answers.outcomes != REJECTED], minlength=len(scorer.decider.decisions)
        )
        counts = Counter({"rejected": len(answers.refused)})
        for decision, count in zip(scorer.decider.decisions, taken.tolist(), strict=True):
            counts[decision] += count
        yield pa.RecordBatch.from_pydict(columns), counts
        row += batch.num_rows
