"""The output folder: what the batch is, its shards, and what they add up to.

_batch.json          bundle, table and shard size; a run of anything else is refused
part-00000.parquet   rows 0 to shard_rows - 1, whole or not there
_summary.json        counts, once every shard is there

Readers of Parquet folders pass over names that begin with an underscore.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.files import write_json
from serving.errors import UsageError

BATCH, SUMMARY = "_batch.json", "_summary.json"
COUNTS = b"seatrial.counts"
ROW_GROUP = 131_072


class Shards:
    """The shards of one batch. Any number of workers may write them, on one machine or many."""

    def __init__(self, folder: Path, batch: dict[str, Any]) -> None:
        """Raises UsageError when the folder holds another batch."""
        self._folder = folder
        self._rows, self._size = int(batch["rows"]), int(batch["shard_rows"])
        file = folder / BATCH
        if not file.exists():
            write_json(file, batch)
        found = json.loads(file.read_text("utf-8"))
        for name, value in batch.items():
            if found.get(name) != value:
                raise UsageError(
                    f"{file}: this folder holds a batch with another '{name}'; give a new folder"
                )

    @property
    def count(self) -> int:
        return -(-self._rows // self._size)

    def bounds(self, number: int) -> tuple[int, int]:
        """The shard's rows: first, and one past the last."""
        return number * self._size, min((number + 1) * self._size, self._rows)

    def path(self, number: int) -> Path:
        return self._folder / f"part-{number:05d}.parquet"

    def write(self, number: int, batches: Iterable[tuple[pa.RecordBatch, Counter[str]]]) -> bool:
        """Writes the shard unless it is there; says whether it did.

        A worker that is killed leaves a partial file that the next one starts anew.
        """
        path = self.path(number)
        with self._claimed(number) as handle:
            if handle is None:
                return False
            counts: Counter[str] = Counter()
            writer: pq.ParquetWriter | None = None
            held: list[pa.RecordBatch] = []

            def flush() -> None:
                nonlocal writer
                if writer is None:
                    writer = pq.ParquetWriter(handle, held[0].schema, compression="zstd")
                writer.write_table(pa.Table.from_batches(held), row_group_size=ROW_GROUP)
                held.clear()

            for batch, counted in batches:
                held.append(batch)
                counts += counted
                if sum(part.num_rows for part in held) >= ROW_GROUP:
                    flush()
            if held:
                flush()
            if writer is not None:
                writer.add_key_value_metadata({COUNTS: json.dumps(counts, sort_keys=True)})
                writer.close()
            handle.flush()
            os.fsync(handle.fileno())
            os.replace(self._partial(number), path)
        return True

    def summary(self) -> dict[str, Any] | None:
        """What all shards add up to, written too; None while one is not there."""
        total: Counter[str] = Counter()
        rows = 0
        for number in range(self.count):
            if not self.path(number).exists():
                return None
            metadata = pq.read_metadata(self.path(number))
            rows += metadata.num_rows
            total.update(json.loads(metadata.metadata[COUNTS]))
        found = {"rows": rows, "shards": self.count, **dict(sorted(total.items()))}
        write_json(self._folder / SUMMARY, found)
        return found

    def _partial(self, number: int) -> Path:
        return self._folder / f".part-{number:05d}.partial"

    @contextmanager
    def _claimed(self, number: int) -> Iterator[Any]:
        """The partial file, locked and empty; None when the shard is there, perhaps because the
        one who held the lock has just finished it."""
        while True:
            if self.path(number).exists():
                yield None
                return
            descriptor = os.open(self._partial(number), os.O_RDWR | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "r+b") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if self.path(number).exists() or not self._same(handle, number):
                    continue
                handle.truncate(0)
                yield handle
                return

    def _same(self, handle: Any, number: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle.fileno()), os.stat(self._partial(number)))
        except FileNotFoundError:
            return False
