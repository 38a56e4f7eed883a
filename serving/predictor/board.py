"""Numbers that several processes count together: one row of a shared file per worker.

A slot is one time series. Every worker writes only its own row, under its own lock; whoever is
scraped adds the rows up. A worker that is started again goes on where its row stands, so counters
never fall while the group lives.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

_SLOT_BYTES = 8


class Board:
    """`workers` rows of `slots` float64 numbers; this process writes row `worker`."""

    def __init__(self, slots: int, *, worker: int = 0, workers: int = 1, file: Path | None = None):
        """Without a file the numbers are this process's alone. A new file reads as zeros."""
        size = slots * _SLOT_BYTES
        if file is None:
            self._map = mmap.mmap(-1, size * workers)
        else:
            with file.open("r+b") as handle:
                handle.truncate(size * workers)
                self._map = mmap.mmap(handle.fileno(), size * workers)
        self._all = memoryview(self._map).cast("d")
        self._slots = slots
        self.mine = self._all[worker * slots : (worker + 1) * slots]

    def column(self, slot: int) -> list[float]:
        """One number per worker."""
        return list(self._all[slot :: self._slots])


def board_file() -> Path:
    """A new, empty file for the workers of one group to share."""
    handle, name = tempfile.mkstemp(prefix="seatrial-metrics-")
    os.close(handle)
    return Path(name)
