"""Rows of any number in time order with memory for a few pieces: an external sort by ranges.

A first pass has sampled the times; the second deals the rows to one file for each range of time;
the third sorts one range at a time. Equal times keep the table's order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

RANGE_ROWS = 500_000
"""Rows of a range, about: the most that is sorted in memory at once."""
SAMPLE = 200_000
"""Times kept to choose the ranges by."""


class Times:
    """What one pass over the times tells: how many, whether in order, and an even sample."""

    def __init__(self) -> None:
        self.rows, self.ordered, self.missing = 0, True, -1
        self._last, self._step = -np.inf, 1
        self._sample: list[NDArray[np.float64]] = []

    def see(self, time: NDArray[np.float64]) -> None:
        bad = np.flatnonzero(~np.isfinite(time))
        if len(bad) and self.missing < 0:
            self.missing = self.rows + int(bad[0])
        if len(time):
            self.ordered &= bool(time[0] >= self._last and (np.diff(time) >= 0).all())
            self._last = float(time[-1])
        offset = -self.rows % self._step
        self._sample.append(time[offset :: self._step].copy())
        self.rows += len(time)
        if sum(map(len, self._sample)) > SAMPLE:
            self._sample = [np.concatenate(self._sample)[::2]]
            self._step *= 2

    def edges(self) -> NDArray[np.float64]:
        """Times at which a new range begins, all but the first."""
        ranges = -(-self.rows // RANGE_ROWS)
        sample = np.concatenate(self._sample)
        found = np.quantile(sample, np.linspace(0, 1, ranges + 1)[1:-1], method="lower")
        return np.unique(found)


def in_order(
    pieces: Iterable[pa.RecordBatch], column: str, edges: NDArray[np.float64], work: Path
) -> Iterator[pa.RecordBatch]:
    """The pieces' rows by `column`; temporary files lie in `work` until the end."""
    with tempfile.TemporaryDirectory(prefix=".sort-", dir=work) as folder:
        files = [Path(folder) / f"{number}.arrow" for number in range(len(edges) + 1)]
        _deal(pieces, column, edges, files)
        for file in files:
            if file.exists():
                yield from _sorted(file, column)
                file.unlink()


def _deal(
    pieces: Iterable[pa.RecordBatch], column: str, edges: NDArray[np.float64], files: list[Path]
) -> None:
    writers: dict[int, pa.RecordBatchStreamWriter] = {}
    try:
        for piece in pieces:
            chosen = np.searchsorted(edges, piece.column(column).to_numpy(), side="right")
            order = np.argsort(chosen, kind="stable")
            dealt = piece.take(pa.array(order))
            ends = np.searchsorted(chosen[order], np.arange(len(files)), side="right")
            start = 0
            for number, end in enumerate(ends):
                if end > start:
                    if number not in writers:
                        writers[number] = pa.ipc.new_stream(str(files[number]), piece.schema)
                    writers[number].write_batch(dealt.slice(start, end - start))
                start = int(end)
    finally:
        for writer in writers.values():
            writer.close()


def _sorted(file: Path, column: str) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
        times = [batch.column(column).to_numpy() for batch in reader]
    one_time = min(part.min() for part in times) == max(part.max() for part in times)
    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
        if one_time:  # however many rows share it, they are in order already
            yield from reader
            return
        order = np.argsort(np.concatenate(times), kind="stable")
        yield from pc.take(reader.read_all(), pa.array(order)).to_batches()
