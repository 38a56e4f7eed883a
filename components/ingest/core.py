"""From a table of any size to typed Parquet in time order, and a name for its content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.files import write_json
from components.ingest.order import Times, in_order
from components.ingest.read import numbered, pieces, schema_of
from serving.bundle import Contract
from serving.errors import DataError

TABLE, FACTS = "table.parquet", "facts.json"


def run(*, source: Path, contract: Contract, table: Path) -> dict[str, Any]:
    """Writes the columns that the contract uses as typed Parquet in time order.

    source: CSV or Parquet file; what the simulator wrote is one too.
    contract: which columns, of which types, and which of them orders the rows.
    table: folder to write.

    Returns the facts it wrote: rows, first and last time and `data`, the sha256 that names the
    content. Raises FileError or DataError; then nothing is written.
    """
    time = contract.time
    seen = Times()
    if time is not None:
        for piece in pieces(source, contract):
            seen.see(piece.column(time).to_numpy(zero_copy_only=False).astype(np.float64))
        if seen.missing >= 0:
            raise DataError(
                f"{source}: time column '{time}': row {seen.missing} has no time; the rows cannot"
                " be put in order"
            )
    table.mkdir(parents=True, exist_ok=True)
    rows: Iterable[pa.RecordBatch] = pieces(source, contract)
    if time is not None and not seen.ordered:
        rows = in_order(numbered(rows), time, seen.edges(), table)
    content = Content(schema_of(contract))
    partial = table / f".{TABLE}.{os.getpid()}"
    try:
        _write(partial, content.watch(rows))
        os.replace(partial, table / TABLE)
    except BaseException:
        partial.unlink(missing_ok=True)
        if not any(table.iterdir()):
            table.rmdir()
        raise
    facts = {
        "source": source.name,
        "rows": content.rows,
        "was_ordered": seen.ordered,
        "data": content.fingerprint(),
    }
    write_json(table / FACTS, facts)
    return facts


class Content:
    """A sha256 of typed values in order: the same for CSV and Parquet, however it was cut."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns = {f.name: hashlib.sha256(f"{f.name} {f.type}\n".encode()) for f in schema}
        self.rows = 0

    def watch(self, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for piece in rows:
            self.rows += piece.num_rows
            for name, digest in self._columns.items():
                column = piece.column(name)
                if pa.types.is_string(column.type):
                    texts = column.to_pylist()
                    digest.update("".join(f"{len(text)}:{text}" for text in texts).encode())
                else:
                    values = column.to_numpy(zero_copy_only=False)
                    digest.update(np.ascontiguousarray(values).tobytes())
            yield piece

    def fingerprint(self) -> str:
        whole = hashlib.sha256(f"{self.rows}\n".encode())
        for digest in self._columns.values():
            whole.update(digest.digest())
        return whole.hexdigest()


def _write(file: Path, rows: Iterator[pa.RecordBatch]) -> None:
    """Whole row groups of a bounded number of rows, synced to disk."""
    first = next(rows)
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        writer.write_batch(first)
        for piece in rows:
            writer.write_batch(piece)
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
