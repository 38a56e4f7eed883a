"""The watch itself: rows in, evidence out.

A Shiryaev-Roberts e-detector (Shin, Ramdas & Rinaldo, "E-detectors", 2022): every bet's stake M
becomes (M + n) x payoff with each block of n rows, as if a new unit were staked on every row. The
stakes' weighted mean less the number of rows is a supermartingale while the stream is like the
reference, whatever the dependence between columns, so the mean run length until it reaches A is at
least A rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.drift.cells import BLOCK, Codes, Counts, Grid
from serving.drift.detector import Aspect
from serving.drift.encoding import Column, Matrix, Role
from serving.drift.watch.joint import MEMORIES
from serving.drift.watch.table import BetTable, Tolerance
from serving.errors import DataError

PIECE = 256 * BLOCK
"""Rows counted at once: what is counted then stays in the processor's cache."""
RICHEST = 1e150
"""Stakes end here, far above any threshold."""
MOST = 300.0
"""Nats that one block may win or lose: with RICHEST below overflow."""


@dataclass(frozen=True)
class WatchSettings:
    average_run_length: float = 1_000_000
    """Rows between false alarms on average, at least: the traffic of the period to promise."""
    tolerance: Tolerance = field(default_factory=dict)
    """drift/config.json's watch.tolerance."""


@dataclass(frozen=True)
class WatchStep:
    """What a batch of rows did."""

    evidence: float
    """Natural log of the e-detector after the batch; it crosses at ln(average_run_length)."""
    crossing: int | None
    """Index in the batch of the row whose look crossed the threshold first; None: none did."""
    counts: Counts
    """The batch's rows per cell of watch.grid, for Sketch.add_counts."""

    @property
    def crossed(self) -> bool:
        return self.crossing is not None


@dataclass(frozen=True)
class Finding:
    """One column and aspect, with its evidence so far."""

    column: str
    role: Role
    aspect: Aspect
    evidence: float
    """Natural log of its own e-detector; comparable between findings and with the threshold."""
    direction: str
    """In words: higher, lower, wider, narrower, other, more, fewer, or more or fewer of what."""


class Watch:
    """State of one stream against one reference [n, columns]. Not thread-safe."""

    name = "watch/1"

    def __init__(
        self, columns: Sequence[Column], reference: Matrix, settings: WatchSettings
    ) -> None:
        """Raises DataError for a reference without rows and for a tolerance of other bets."""
        if not len(reference) or not columns:
            raise DataError("the drift reference has no rows; the watch needs some to compare with")
        self.grid = Grid(columns, reference)
        self.table = BetTable(self.grid, reference, settings.tolerance)
        self.average_run_length = settings.average_run_length
        """May be changed at any time."""
        self.restart()

    @property
    def threshold(self) -> float:
        """What a step's evidence is compared with, in nats."""
        return math.log(self.average_run_length)

    def restart(self) -> None:
        """Forgets all evidence: after an opened event. A shift that lasts crosses again, and
        one that is over does not: that is how to tell when an episode ends."""
        self.rows = 0
        """Rows observed since the last restart."""
        self._won: Matrix = np.zeros(self.table.size)
        self._recent = np.zeros((len(MEMORIES), self.table.joint_columns))
        self._partial: Counts = np.zeros(self.grid.size, dtype=np.int64)

    def observe(self, rows: Matrix) -> WatchStep:
        """Takes rows [n, columns], n >= 0. Any NaN and any code is fine."""
        return self.observe_codes(self.grid.code(rows))

    def observe_codes(self, codes: Codes) -> WatchStep:
        """The same of what grid.code has made of rows."""
        total: Counts = np.zeros(self.grid.size, dtype=np.int64)
        crossing: int | None = None
        for start in range(0, len(codes), PIECE):
            crossed = self._observe(codes[start : start + PIECE], total)
            if crossing is None and crossed is not None:
                crossing = start + crossed
        return WatchStep(self.evidence, crossing, total)

    @property
    def evidence(self) -> float:
        won = float(self.table.stakes @ self._won)
        return math.log(won) if won > 0 else -math.inf

    def findings(self, least: float = -math.inf) -> tuple[Finding, ...]:
        """Every column and aspect with an evidence of at least `least`, the strongest first."""
        table = self.table
        weighted = (table.stakes * self._won)[: len(table.bets)]
        means = np.add.reduceat(weighted, table.starts) / table.weights
        with np.errstate(divide="ignore"):
            evidence = np.log(means)
        found = []
        for at in np.argsort(-evidence, kind="stable")[: int((evidence >= least).sum())].tolist():
            group = table.groups[at]
            column = self.grid.columns[group.column].column
            best = table.bets[group.bets.start + int(self._won[group.bets].argmax())]
            found.append(
                Finding(
                    column=column.name,
                    role=column.role,
                    aspect=group.aspect,
                    evidence=float(evidence[at]),
                    direction=best.direction,
                )
            )
        return tuple(found)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state, as plain arrays for an .npz."""
        return {
            "bets": self.table.identity,
            "won": self._won.copy(),
            "recent": self._recent.copy(),
            "partial": self._partial.copy(),
            "rows": np.array(self.rows, dtype=np.int64),
        }

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes up a state; raises DataError for one of another reference or version, or damaged,
        and then leaves the watch as it was."""
        identity = arrays.get("bets")
        if identity is None or not np.array_equal(identity, self.table.identity):
            raise DataError("the watch's state was made with another reference or version")
        mine = self.arrays()
        for name, array in mine.items():
            given = arrays.get(name)
            if given is None or given.shape != array.shape or given.dtype.kind != array.dtype.kind:
                raise DataError(f"the watch's state has no usable '{name}'")
            if not np.isfinite(given).all():
                raise DataError(f"the watch's state is damaged: '{name}' is not finite")
        self._won = arrays["won"].astype(np.float64)
        self._recent = arrays["recent"].astype(np.float64)
        self._partial = arrays["partial"].astype(np.int64)
        self.rows = int(arrays["rows"])

    def _observe(self, codes: Codes, total: Counts) -> int | None:
        """Adds the rows' counts to `total`; returns the index of the row of the first crossing."""
        filled = self.rows % BLOCK
        blocks = self.grid.count_blocks(codes, filled)
        total += blocks.sum(axis=0)
        blocks[0] += self._partial
        self.rows += len(codes)
        whole = (filled + len(codes)) // BLOCK
        if whole < len(blocks):
            self._partial = blocks[whole].copy()
        else:
            self._partial = np.zeros_like(self._partial)
        if not whole:
            return None
        factors = np.exp(np.clip(self.table.pay(blocks[:whole], self._recent), -MOST, MOST))
        won, stakes, threshold = self._won, self.table.stakes, self.average_run_length
        crossed = None
        for block, factor in enumerate(factors):
            won += BLOCK
            won *= factor
            np.minimum(won, RICHEST, out=won)
            if crossed is None and stakes @ won >= threshold:
                crossed = block
        return None if crossed is None else (crossed + 1) * BLOCK - filled - 1
