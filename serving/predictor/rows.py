"""Checked rows on their way to the model: as columns, or as one matrix while that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]
Raw = list[Any] | NDArray[Any]


class Rows:
    """Canonical rows of a contract: float32, float64, int64 or object (str) columns of one length.

    Rows of one float type may come as a matrix; their columns are made when someone asks.
    """

    __slots__ = ("_columns", "count", "matrix", "names")

    def __init__(
        self,
        names: Sequence[str],
        count: int,
        columns: Columns | None = None,
        matrix: NDArray[Any] | None = None,
    ) -> None:
        """Either columns [count] by name in the contract's order, or a matrix [count, features]."""
        self.names = names
        self.count = count
        self.matrix = matrix
        self._columns = columns

    @property
    def columns(self) -> Columns:
        if self._columns is None:
            matrix: Any = self.matrix
            turned = np.ascontiguousarray(matrix.T)
            self._columns = dict(zip(self.names, turned, strict=True))
        return self._columns

    def __getitem__(self, name: str) -> NDArray[Any]:
        if self.matrix is not None:
            column: NDArray[Any] = self.matrix[:, self.names.index(name)]
            return column
        return self.columns[name]

    def take(self, chosen: NDArray[Any]) -> Rows:
        """The rows where the boolean array `chosen` [count] is true."""
        count = int(np.count_nonzero(chosen))
        if self.matrix is not None:
            return Rows(self.names, count, matrix=self.matrix[chosen])
        return Rows(
            self.names, count, {name: column[chosen] for name, column in self.columns.items()}
        )


def join(parts: Sequence[Rows]) -> Rows:
    """All rows in order. The parts are of one contract."""
    if len(parts) == 1:
        return parts[0]
    names = parts[0].names
    count = sum(part.count for part in parts)
    matrices = [part.matrix for part in parts if part.matrix is not None]
    if len(matrices) == len(parts):
        return Rows(names, count, matrix=np.concatenate(matrices))
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
    return Rows(names, count, columns)
