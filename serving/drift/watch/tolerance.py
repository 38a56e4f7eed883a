"""What the training period's own order teaches the watch to tolerate.

Real rows are no independent draws: hours, weekdays and seasons move them. So every bet is played
over the training period in time order, and pays from then on, per row, the larger of two prices:

- half as much again as what would have kept it there from winning, over any stretch, more than
  independent rows let it;
- what keeps most of its guarantee in the most favourable hours that were seen: one path through
  them says little about how much luck the next ones add.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.drift.cells import BLOCK, Grid
from serving.drift.detector import Aspect
from serving.drift.encoding import Column, Matrix
from serving.drift.watch.joint import MEMORIES
from serving.drift.watch.table import JOINT, BetTable

MARGIN = 1.5
BEYOND_CHANCE = 2.0
"""Nats above what chance lets the luckiest stretch win: one bet in seven still pays for luck."""
STEPS = 20
STRETCHES = (16, 64, 256)
"""Blocks over which "favourable hours" are averages."""
KEPT = 0.75
"""Exponent that the guarantee keeps in them: a bet wins x nats with probability e^(-KEPT x)."""
PIECE = 4096
"""Blocks paid at once."""

Learned = dict[str, dict[Aspect, tuple[float, ...]]]


def learn_tolerance(columns: Sequence[Column], reference: Matrix, rows: Matrix) -> Learned:
    """Nats a row, by column, aspect and bet, from the training period `rows` [n, columns] in time
    order; bets that need none are left out where a whole aspect has none."""
    table = BetTable(Grid(columns, reference), reference, {})
    paid = _play(table, rows)
    losses = table.losses()
    penalties = np.maximum(
        MARGIN * _least(paid, _chance(losses, len(rows))), _favoured(paid, losses)
    )
    # Three significant digits, upwards: what is written must tolerate as much as what was learned.
    penalties = np.ceil(penalties * 1e5) / 1e5
    learned: Learned = {}
    for group in table.groups:
        _put(learned, columns[group.column].name, group.aspect, penalties[group.bets])
    if table.joint is not None:
        _put(learned, JOINT, "location", penalties[len(table.bets) :])
    return learned


def _put(learned: Learned, column: str, aspect: Aspect, penalties: Matrix) -> None:
    if penalties.any():
        learned.setdefault(column, {})[aspect] = tuple(float(p) for p in penalties)


def _play(table: BetTable, rows: Matrix) -> Matrix:
    """Nats [blocks, bets] over whole blocks of the rows."""
    whole = len(rows) // BLOCK * BLOCK
    recent = np.zeros((len(MEMORIES), table.joint_columns))
    paid = [np.empty((0, table.size))]
    for start in range(0, whole, PIECE * BLOCK):
        piece = rows[start : min(start + PIECE * BLOCK, whole)]
        paid.append(table.pay(table.grid.count_blocks(table.grid.code(piece), 0), recent))
    return np.concatenate(paid)


def _chance(losses: Matrix, rows: int) -> Matrix:
    """[bets], about the most nats that independent rows let a bet win over any stretch.

    A bet that loses k nats a row on average gets about rows x k new chances, and each wins x nats
    with a probability of e^-x (Lundberg).
    """
    losses = np.maximum(losses, 1 / (2 * max(MEMORIES)))
    return np.asarray(np.log1p(rows * losses) + BEYOND_CHANCE)


def _favoured(paid: Matrix, losses: Matrix) -> Matrix:
    """[bets], nats a row that keep the guarantee's exponent at KEPT in the best of all stretches.

    A bet that loses k nats a row on average, with a variance of about 2 k, and in that stretch
    gains e more than that, has the exponent 1 - (e - price) / k.
    """
    total = np.concatenate([np.zeros((1, paid.shape[1])), paid.cumsum(axis=0)])
    price = np.zeros(paid.shape[1])
    for blocks in STRETCHES:
        if len(paid) < 2 * blocks:
            break
        rows = blocks * BLOCK
        gain = (total[blocks:] - total[:-blocks]).max(axis=0) / rows + losses
        luck = np.sqrt(2 * losses / rows * 2 * np.log(len(paid) / blocks + 1))
        price = np.maximum(price, gain - luck - (1 - KEPT) * losses)
    return price


def _least(paid: Matrix, level: Matrix) -> Matrix:
    """[bets], the least nats a row with which no stretch of blocks wins `level` nats or more."""
    low = np.zeros(paid.shape[1])
    high = np.maximum(paid.max(axis=0, initial=0.0) / BLOCK, 0.0)
    unneeded = _best_stretch(paid, low) < level
    for _ in range(STEPS):
        middle = (low + high) / 2
        quiet = _best_stretch(paid, middle) < level
        low, high = np.where(quiet, low, middle), np.where(quiet, middle, high)
    return np.where(unneeded, 0.0, high)


def _best_stretch(paid: Matrix, penalty: Matrix) -> Matrix:
    """[bets], the most that any stretch of consecutive blocks wins (Page's CUSUM)."""
    won = np.zeros(paid.shape[1])
    best = won.copy()
    cost = BLOCK * penalty
    for block in paid:
        won += block
        won -= cost
        np.maximum(won, 0.0, out=won)
        np.maximum(best, won, out=best)
    return best
