"""Every single bet is fair against the reference, whatever the column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.drift.cells import ColumnCells, Grid
from serving.drift.encoding import Column
from serving.drift.watch.bets import column_bets, stakes
from serving.drift.watch.joint import JointBet
from tests.serving.drift.rows import COLUMNS, rows

RNG = np.random.default_rng(0)
ODD: dict[str, tuple[Column, NDArray[Any]]] = {
    "normal": (Column("c", "number"), RNG.normal(size=3000)),
    "half missing": (Column("c", "number"), np.where(RNG.random(3000) < 0.5, np.nan, 1.0)),
    "gaps": (
        Column("c", "number"),
        np.where(RNG.random(3000) < 0.3, np.nan, RNG.normal(size=3000)),
    ),
    "heavy": (Column("c", "number"), RNG.standard_cauchy(3000)),
    "mostly zero": (Column("c", "number"), np.where(RNG.random(3000) < 0.9, 0.0, RNG.random(3000))),
    "flag": (Column("c", "number"), (RNG.random(3000) < 0.01).astype(float)),
    "category": (
        Column("c", "category", categories=tuple("abcdef")),
        RNG.integers(0, 5, 3000) * 1.0,
    ),
    "many": (Column("c", "category"), RNG.integers(0, 200, 3000) * 1.0),
}


def cells(name: str) -> ColumnCells:
    column, values = ODD[name]
    return Grid((column,), values[:, None]).columns[0]


@pytest.mark.parametrize("name", ODD)
def test_a_row_of_the_reference_multiplies_no_stake_by_more_than_1(name: str) -> None:
    given = cells(name)
    share = given.reference / given.reference.sum()
    bets = column_bets(given)
    assert bets
    for bet in bets:
        assert share @ np.exp(bet.payoff) <= 1 + 1e-9, (bet.aspect, bet.direction)
        assert bet.payoff.max() > 0
        # One row is never enough for an alarm at a mean run length of a day's traffic.
        assert bet.payoff.max() < 12
    assert stakes(bets).sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ODD)
def test_bets_on_what_is_present_say_nothing_about_missing_rows(name: str) -> None:
    given = cells(name)
    for bet in column_bets(given):
        if bet.aspect != "missing":
            assert bet.payoff[given.missing] == 0


def test_a_better_reference_leaves_more_to_win() -> None:
    small, large = (
        {(b.direction, i): b.payoff.max() for i, b in enumerate(column_bets(part))}
        for part in (
            Grid((Column("c", "number"),), RNG.normal(size=(n, 1))).columns[0]
            for n in (1000, 100_000)
        )
    )
    assert small["higher", 0] < large["higher", 0]


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_the_joint_bet_is_fair_on_dependent_columns(correlation: float) -> None:
    reference = rows(10_000, 1, correlation)
    grid = Grid(COLUMNS, reference)
    bet = JointBet.against(grid, reference)
    assert bet is not None
    assert len(bet.scores) == 7
    stream = rows(320_000, 2, correlation)
    blocks = grid.count_blocks(grid.code(stream), 0).astype(float)
    totals = bet.totals(blocks)
    for direction in (np.eye(7)[0] * 0.3, np.full(7, 0.2), np.tile([0.3, -0.3], 4)[:7]):
        recent = np.tile(direction, (2, 1))
        gains = [np.exp(bet.pay(recent.copy(), total[None])) for total in totals]
        assert np.mean(gains) <= 1.0


def test_skewed_columns_take_no_part_in_the_joint_bet() -> None:
    columns = tuple(Column(n, "number") for n in ("a", "b", "flag"))
    reference = RNG.normal(size=(5000, 3))
    reference[:, 2] = RNG.random(5000) < 0.01
    bet = JointBet.against(Grid(columns, reference), reference)
    assert bet is not None
    assert len(bet.scores) == 2
