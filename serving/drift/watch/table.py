"""All bets of all columns as one table, applied to blocks of counted rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.drift.cells import BLOCK, Counts, Grid
from serving.drift.detector import Aspect
from serving.drift.encoding import Matrix
from serving.drift.watch.bets import Bet, column_bets, stakes
from serving.drift.watch.joint import MEMORIES, JointBet
from serving.errors import DataError

JOINT = "*"
"""Where a tolerance stands for the joint bet, in place of a column's name."""
JOINT_STAKE = 0.4
Tolerance = Mapping[str, Mapping[Aspect, Sequence[float]]]


@dataclass(frozen=True)
class Aspects:
    """The bets on one column's aspect: a slice of the table."""

    column: int
    aspect: Aspect
    bets: slice


class BetTable:
    """Bets of a grid; the joint bets, if there are any, come last."""

    def __init__(self, grid: Grid, reference: Matrix, tolerance: Tolerance) -> None:
        self.grid = grid
        self.joint = JointBet.against(grid, reference)
        columns = [column_bets(cells) for cells in grid.columns]
        self.bets: list[Bet] = [bet for bets in columns for bet in bets]
        self.groups = _groups(columns)
        shared = [stakes(bets) for bets in columns]
        own = np.concatenate(shared) / len(columns)
        last = np.full(len(MEMORIES) if self.joint else 0, JOINT_STAKE / len(MEMORIES))
        self.stakes: Matrix = np.concatenate([own * (1 - last.sum()), last])
        self.starts = np.array([group.bets.start for group in self.groups], dtype=np.intp)
        self.weights: Matrix = np.add.reduceat(self.stakes[: len(own)], self.starts)
        """[groups], the sums of their stakes."""
        self._cost = BLOCK * self._penalties(tolerance)
        self._payoffs = [
            np.array([bet.payoff for bet in bets]).reshape(-1, cells.size).T.copy()
            for bets, cells in zip(columns, grid.columns, strict=True)
        ]

    @property
    def size(self) -> int:
        return len(self.stakes)

    @property
    def joint_columns(self) -> int:
        return len(self.joint.scores) if self.joint else 0

    @cached_property
    def identity(self) -> NDArray[np.uint8]:
        """sha256 of all that a kept state depends on."""
        found = hashlib.sha256(self.grid.digest.tobytes())
        for part in (*self._payoffs, self.stakes, self._cost):
            found.update(np.round(part, 9).tobytes())
        return np.frombuffer(found.digest(), dtype=np.uint8)

    def pay(self, counts: Counts, recent: Matrix) -> Matrix:
        """Nats [blocks, bets] for whole blocks [blocks, cells]; the joint bet's memory learns."""
        blocks = counts.astype(np.float64)
        paid = np.empty((len(blocks), self.size))
        start = 0
        for i, payoffs in enumerate(self._payoffs):
            end = start + payoffs.shape[1]
            np.matmul(blocks[:, self.grid.slice(i)], payoffs, out=paid[:, start:end])
            start = end
        if self.joint is not None:
            paid[:, start:] = self.joint.pay(recent, self.joint.totals(blocks))
        paid -= self._cost
        return paid

    def losses(self) -> Matrix:
        """Nats [bets] that a row of the reference loses on average; 0 for joint bets."""
        lost = np.zeros(self.size)
        start = 0
        for i, payoffs in enumerate(self._payoffs):
            counts = self.grid.columns[i].reference
            end = start + payoffs.shape[1]
            lost[start:end] = -(counts @ payoffs) / max(int(counts.sum()), 1)
            start = end
        return lost

    def _penalties(self, tolerance: Tolerance) -> Matrix:
        """Nats a row that each bet pays for its tolerance. Raises DataError."""
        penalties = np.zeros(self.size)
        names = [cells.column.name for cells in self.grid.columns]
        places = {(names[g.column], g.aspect): g.bets for g in self.groups}
        places[JOINT, "location"] = slice(len(self.bets), self.size)
        for column, aspects in tolerance.items():
            if column != JOINT and column not in names:
                continue  # learned for a column that is not watched here
            for aspect, values in aspects.items():
                place = places.get((column, aspect))
                if place is None or len(values) != place.stop - place.start:
                    raise DataError(
                        f"watch.tolerance: '{column}' has {len(values)} values for '{aspect}', but"
                        f" {place.stop - place.start if place else 0} bets; fit the bundle again"
                    )
                penalties[place] = values
        return penalties


def _groups(columns: Sequence[Sequence[Bet]]) -> list[Aspects]:
    groups: list[Aspects] = []
    start = 0
    for column, bets in enumerate(columns):
        for bet in bets:
            if groups and (groups[-1].column, groups[-1].aspect) == (column, bet.aspect):
                groups[-1] = Aspects(column, bet.aspect, slice(groups[-1].bets.start, start + 1))
            else:
                groups.append(Aspects(column, bet.aspect, slice(start, start + 1)))
            start += 1
    return groups
