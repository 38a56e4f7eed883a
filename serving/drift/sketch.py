"""What a stream looked like, in counts: additive, so that replicas merge and snapshots are small.

psi and js compare at most ten groups of equal reference mass a column (and missing, unseen, beyond
the range), because both grow with the number of groups by chance alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.drift.cells import Codes, ColumnCells, Counts, Grid
from serving.drift.encoding import Column, Matrix
from serving.errors import DataError

GROUPS = 10
PRIOR = 0.5
"""Added to each group's count, so that an empty one has a finite logarithm."""


@dataclass(frozen=True)
class Share:
    """One cell of a column: what part of the reference's rows and of the stream's it has."""

    label: str
    reference: float
    stream: float


class Sketch:
    """Counts of a stream per cell of a grid."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.counts: Counts = np.zeros(grid.size, dtype=np.int64)
        self._index = {cells.column.name: i for i, cells in enumerate(grid.columns)}

    @classmethod
    def for_reference(cls, columns: Sequence[Column], reference: Matrix) -> Sketch:
        return cls(Grid(columns, reference))

    @property
    def rows(self) -> int:
        return int(self.counts[self.grid.slice(0)].sum()) if self.grid.columns else 0

    def add(self, rows: Matrix) -> None:
        """Counts rows [n, columns]."""
        self.add_codes(self.grid.code(rows))

    def add_codes(self, codes: Codes) -> None:
        """The same of what grid.code has made of rows."""
        self.counts += self.grid.count(codes)

    def add_counts(self, counts: Counts) -> None:
        """Adds what a watch of the same grid has counted already (WatchStep.counts)."""
        self.counts += counts

    def merge(self, other: Sketch) -> None:
        """Adds a replica's counts. Raises DataError for a sketch of another reference."""
        if not np.array_equal(self.grid.digest, other.grid.digest):
            raise DataError("the sketches were made against different references")
        self.counts += other.counts

    def clear(self) -> None:
        self.counts[:] = 0

    def psi(self, column: str) -> float:
        """Population stability index: sum of (q - p) ln(q / p). 0 for no rows."""
        p, q = self._groups(column)
        return float(((q - p) * np.log(q / p)).sum()) if self.rows else 0.0

    def js(self, column: str) -> float:
        """Jensen-Shannon distance in 0..1: the root of the divergence to base 2."""
        if not self.rows:
            return 0.0
        p, q = self._groups(column)
        middle = (p + q) / 2
        divergence = (p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2
        return float(np.sqrt(max(divergence, 0.0)))

    def missing_ratio(self, column: str) -> float:
        return self._ratio(column, -1)

    def unseen_ratio(self, column: str) -> float:
        """The share of categories outside the list; of numbers outside the reference's range."""
        return self._ratio(column, 0) + self._ratio(column, -2)

    def shares(self, column: str) -> tuple[Share, ...]:
        """Every cell of a column, for people to look at."""
        cells, counts = self._of(column)
        total, rows = max(int(cells.reference.sum()), 1), max(self.rows, 1)
        return tuple(
            Share(label, int(a) / total, int(b) / rows)
            for label, a, b in zip(cells.labels(), cells.reference, counts, strict=True)
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What load() takes; plain arrays for an .npz."""
        return {"counts": self.counts.copy(), "grid": self.grid.digest}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raises DataError for counts of another reference, or for no counts at all."""
        counts, digest = arrays.get("counts"), arrays.get("grid")
        if counts is None or digest is None or not np.array_equal(digest, self.grid.digest):
            raise DataError("the sketch was made against another reference")
        if counts.shape != self.counts.shape or counts.dtype.kind != "i" or counts.min() < 0:
            raise DataError("the sketch's counts are damaged")
        self.counts = counts.astype(np.int64)

    def _of(self, column: str) -> tuple[ColumnCells, Counts]:
        index = self._index[column]
        return self.grid.columns[index], self.counts[self.grid.slice(index)]

    def _ratio(self, column: str, cell: int) -> float:
        counts = self._of(column)[1]
        return int(counts[cell]) / max(self.rows, 1)

    def _groups(self, column: str) -> tuple[Matrix, Matrix]:
        cells, counts = self._of(column)
        starts = _group_starts(cells)
        shares = []
        for given in (cells.reference, counts):
            grouped = np.add.reduceat(given, starts) + PRIOR
            shares.append(grouped / grouped.sum())
        return shares[0], shares[1]


def _group_starts(cells: ColumnCells) -> NDArray[np.intp]:
    """Where groups of cells begin: a category keeps its own, quantile bins share ten."""
    ends = [cells.size - 2, cells.size - 1]
    body = cells.reference[1:-2]
    if cells.column.kind == "category" or len(body) <= GROUPS:
        return np.array([*range(cells.size - 2), *ends])
    before = np.cumsum(body) - body
    decile = (before * GROUPS) // max(int(body.sum()), 1)
    first = np.flatnonzero(np.diff(decile, prepend=-1)) + 1
    return np.array([0, *first, *ends])
