"""One bet over all numbers together: several small shifts at once add up.

The stake goes on the direction in which the last rows moved (predictable: each block is bet on
before it is seen), for two lengths of memory. What a block of n rows pays is l.s - n l'Cl / 2, with
s the sum of its normal scores and C their covariance in the reference: the exponential martingale
of a sub-Gaussian vector, valid for columns that depend on each other. Columns whose scores are too
skewed for that take no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.drift.cells import BLOCK, Grid
from serving.drift.encoding import Matrix
from serving.drift.watch.bets import CAUTION, normal_scores

MEMORIES = (64, 256)
"""Rows."""
CLEAR = 2.0
"""A column's recent mean joins the direction from this many of its standard errors on."""
LARGEST = 0.6
"""Largest stake on one column, in nats per standard deviation."""
SLACK = 1.1
"""Normal scores of dependent columns may have heavier joint tails than a normal vector."""


@dataclass(frozen=True)
class JointBet:
    """`places` are the columns' cells in the grid, `scores` what each cell adds to s."""

    places: tuple[slice, ...]
    scores: tuple[Matrix, ...]
    covariance: Matrix
    error: float
    """CAUTION standard errors of a unit direction's mean in the reference."""

    @classmethod
    def against(cls, grid: Grid, reference: Matrix) -> JointBet | None:
        """None where fewer than two columns are fit for it."""
        fit = []
        for i, cells in enumerate(grid.columns):
            scores = normal_scores(cells) if cells.column.kind == "number" else None
            if scores is not None and _sub_gaussian(scores, cells.reference):
                fit.append((i, scores))
        if len(fit) < 2:
            return None
        codes = grid.code(reference)
        values = np.column_stack([s[codes[:, i] - grid.slice(i).start] for i, s in fit])
        return cls(
            places=tuple(grid.slice(i) for i, _ in fit),
            scores=tuple(scores for _, scores in fit),
            covariance=np.cov(values, rowvar=False, bias=True),
            error=CAUTION / float(np.sqrt(len(reference))),
        )

    def totals(self, blocks: Matrix) -> Matrix:
        """s of each block [blocks, columns] from its counts [blocks, cells]."""
        parts = zip(self.places, self.scores, strict=True)
        return np.column_stack([blocks[:, place] @ scores for place, scores in parts])

    def pay(self, recent: Matrix, totals: Matrix) -> Matrix:
        """Nats [blocks, memories] that blocks with the sums `totals` [blocks, columns] pay;
        `recent` [memories, columns] learns from each once it has paid."""
        known = np.empty((len(totals), *recent.shape))
        for before, total in zip(known, totals, strict=True):
            before[:] = recent
            recent += _RATES * (total / BLOCK - recent)
        bet = np.clip(known, -LARGEST, LARGEST)
        bet[np.abs(known) <= _CLEAR] = 0.0
        variance = ((bet @ self.covariance) * bet).sum(axis=2)
        # Correlated columns tell the same twice; this is the best length along the direction.
        length = np.minimum((bet * bet).sum(axis=2) / np.maximum(variance, 1e-12), 1.0)
        variance *= length * length
        cost = SLACK * variance / 2 + self.error * np.sqrt(variance)
        paid: Matrix = length * (bet @ totals[:, :, None])[:, :, 0] - BLOCK * cost
        return paid


def _sub_gaussian(scores: Matrix, reference: NDArray[np.int64]) -> bool:
    share = reference / max(int(reference.sum()), 1)
    return all(
        np.log(share @ np.exp(strength * scores)) <= SLACK * strength**2 / 2
        for strength in (-LARGEST, -LARGEST / 2, LARGEST / 2, LARGEST)
    )


_CLEAR = np.array([[CLEAR / np.sqrt(2 * rows)] for rows in MEMORIES])
_RATES = np.array([[-np.expm1(-BLOCK / rows)] for rows in MEMORIES])
