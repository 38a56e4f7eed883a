"""Every value falls into one cell of its column: what sketch and watch count.

A column's cells, in order: below (or an unseen category), the body (quantile bins of the
reference, or one cell a category), above (or a category beyond the list), missing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.drift.encoding import Column, Matrix
from serving.drift.lookup import Lookup

Codes = NDArray[np.intp]
Counts = NDArray[np.int64]
BINS = 64
BLOCK = 32
"""Rows between two looks of the watch. Blocks are cut by row number, never by batch."""


@dataclass(frozen=True)
class ColumnCells:
    """`edges` end with NaN, which sorts last: one binary search finds missing values too."""

    column: Column
    edges: Matrix
    reference: Counts
    """How many reference rows each cell has."""

    @cached_property
    def lookup(self) -> Lookup:
        return Lookup(self.edges)

    @property
    def size(self) -> int:
        return len(self.reference)

    @property
    def missing(self) -> int:
        return self.size - 1

    def labels(self) -> tuple[str, ...]:
        """A name for each cell."""
        if self.column.kind == "category":
            known = self.column.categories or tuple(map(str, range(self.size - 3)))
            return ("(unseen)", *known, "(beyond)", "(missing)")
        bounds = [f"{edge:.6g}" for edge in self.edges[:-1]]
        body = [f"{a} to {b}" for a, b in itertools.pairwise(bounds)]
        return (f"below {bounds[0]}", *body, f"above {bounds[-1]}", "(missing)")


class Grid:
    """The cells of all columns, one after another, frozen with the reference [n, columns]."""

    def __init__(self, columns: Sequence[Column], reference: Matrix) -> None:
        self.columns = tuple(_cells(c, reference[:, i]) for i, c in enumerate(columns))
        self.starts = np.cumsum([0, *(cells.size for cells in self.columns)])
        self.size = int(self.starts[-1])
        self._slices = [slice(a, b) for a, b in itertools.pairwise(self.starts.tolist())]

    def code(self, rows: Matrix) -> Codes:
        """The cell of each value [n, columns], numbered over all columns."""
        codes = np.empty(rows.shape, dtype=np.intp, order="F")
        for i, cells in enumerate(self.columns):
            np.add(cells.lookup.find(rows[:, i]), self.starts[i], out=codes[:, i])
        return codes

    def count(self, codes: Codes) -> Counts:
        """How many values each cell got, [cells]."""
        return np.bincount(codes.ravel(order="K"), minlength=self.size).astype(np.int64)

    def count_blocks(self, codes: Codes, filled: int) -> Counts:
        """[blocks, cells] when the first block has `filled` rows already; the last may be part."""
        blocks = (filled + np.arange(len(codes))) // BLOCK
        count = int(blocks[-1]) + 1 if len(blocks) else 0
        flat = (codes + (blocks * self.size)[:, None]).ravel(order="K")
        return np.bincount(flat, minlength=count * self.size).reshape(count, self.size)

    def slice(self, index: int) -> slice:
        """Where the cells of column `index` lie."""
        return self._slices[index]

    @cached_property
    def reference(self) -> Counts:
        return np.concatenate([cells.reference for cells in self.columns])

    @cached_property
    def digest(self) -> NDArray[np.uint8]:
        """sha256 over names, edges and reference counts: what must agree before counts add up."""
        found = hashlib.sha256()
        for cells in self.columns:
            found.update(cells.column.name.encode() + b"\0")
            found.update(cells.edges.tobytes() + cells.reference.astype("<i8").tobytes())
        return np.frombuffer(found.digest(), dtype=np.uint8)


def _cells(column: Column, reference: Matrix) -> ColumnCells:
    present = reference[~np.isnan(reference)]
    if column.kind == "category":
        finite = present[np.isfinite(present)]
        known = len(column.categories) or int(finite.max(initial=-1)) + 1
        body = np.arange(known + 1, dtype=np.float64)
    else:
        body = _quantile_edges(present)
    edges = np.append(body, np.nan)
    codes = np.searchsorted(edges, reference, side="right")
    return ColumnCells(column, edges, np.bincount(codes, minlength=len(edges) + 1).astype(np.int64))


def _quantile_edges(present: Matrix) -> Matrix:
    """From the smallest value to just above the largest; a value that fills a bin gets its own."""
    if not len(present):
        return np.array([np.inf])
    ordered = np.sort(present)
    steps = np.linspace(0, len(ordered) - 1, BINS + 1).round().astype(int)
    marks = ordered[steps]
    heavy = np.unique(marks[1:][marks[1:] == marks[:-1]])
    return np.unique(np.concatenate([marks, np.nextafter(heavy, np.inf), [above(ordered[-1])]]))


def above(value: float) -> float:
    return float(np.nextafter(value, np.inf))
