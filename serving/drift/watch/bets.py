"""Bets on the cells of one column.

A bet gives every cell a payoff in nats, so that a row drawn from the reference multiplies the
stake by at most 1 in expectation (a log-optimal wager: Shafer, "Testing by betting", 2021). Sums of
payoffs over rows are all that the watch keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from serving.drift.cells import ColumnCells
from serving.drift.detector import Aspect
from serving.drift.encoding import Matrix

CAUTION = 3.0
"""Standard errors of the reference's own sampling that no bet may live on: otherwise they would
be drift for ever, however large the stream."""
SHIFTS = (0.125, 0.25, 0.5, 1.0)
"""Strengths of location bets: the shifts, in standard deviations, that each suits best."""
WIDER, NARROWER, SHAPES, MIXES = (0.1, 0.3), (0.2, 0.6), (0.35,), (0.2, 0.6)
SHARES = (0.02, 0.1, 0.4)
"""Shares of rows that bets on something rare expect of it."""
COMMON = 0.02
"""A share of the reference from which on bets tilt it; below it, they only expect more."""
MOST_CATEGORIES = 30
OUTMOST = 3.0
"""Normal scores end here: no single row may decide."""

STAKES: dict[Aspect, float] = {
    "location": 0.6,
    "scale": 0.15,
    "shape": 0.06,
    "category": 0.6,
    "unseen": 0.2,
    "rare": 0.1,
    "missing": 0.1,
    "range": 0.1,
}
"""How a column's stake is split between aspects; what it lacks goes to the others."""


@dataclass(frozen=True)
class Bet:
    aspect: Aspect
    direction: str
    payoff: Matrix
    """[cells], nats a row."""


def column_bets(cells: ColumnCells) -> list[Bet]:
    """Bets against one column's reference; bets on one aspect lie side by side."""
    own = _category_bets if cells.column.kind == "category" else _number_bets
    found = [*own(cells), *_missing_bets(cells)]
    return [bet for bet in found if bet.payoff.max() > 0]


def stakes(bets: list[Bet]) -> Matrix:
    """Each bet's part of the column's stake; they sum to 1, if there are any."""
    aspects = [bet.aspect for bet in bets]
    raw = np.array([STAKES[aspect] / aspects.count(aspect) for aspect in aspects])
    return np.asarray(raw / raw.sum())


def normal_scores(cells: ColumnCells) -> Matrix | None:
    """[cells], mean 0 and variance 1 over the reference's present rows, 0 for missing; None for
    a column without two different values."""
    share = _present(cells)
    ranks = np.cumsum(share) - share / 2
    scores: Matrix = np.array([NormalDist().inv_cdf(rank) for rank in ranks])
    return _standard(np.clip(scores, -OUTMOST, OUTMOST), share)


def _number_bets(cells: ColumnCells) -> Iterator[Bet]:
    share = _present(cells)
    rows = int(cells.reference[:-1].sum())
    location = normal_scores(cells)
    if location is not None:
        for shift in SHIFTS:
            yield Bet("location", "higher", _tilt(location, shift, share, rows))
            yield Bet("location", "lower", _tilt(location, -shift, share, rows))
        scale = _standard(location[:-1] ** 2, share, location)
        if scale is not None:
            for strength in WIDER:
                yield Bet("scale", "wider", _tilt(scale, strength, share, rows))
            for strength in NARROWER:
                yield Bet("scale", "narrower", _tilt(scale, -strength, share, rows))
            middle = 2 * (np.cumsum(share) - share / 2) - 1
            third = _standard(5 * middle**3 - 3 * middle, share, location, scale)
            fourth = _standard(35 * middle**4 - 30 * middle**2, share, location, scale)
            for basis in (third, fourth):
                if basis is not None:
                    for strength in (*SHAPES, *(-s for s in SHAPES)):
                        yield Bet("shape", "other", _tilt(basis, strength, share, rows))
    yield from _more(cells, 0, "range", "lower")
    yield from _more(cells, cells.size - 2, "range", "higher")


def _category_bets(cells: ColumnCells) -> Iterator[Bet]:
    share = _present(cells)
    rows = int(cells.reference[:-1].sum())
    labels = cells.labels()
    order = [int(i) + 1 for i in np.argsort(-cells.reference[1:-2], kind="stable")]
    order = order[:MOST_CATEGORIES]
    for cell in order:
        score = _standard(_hit(cells, cell)[:-1], share)
        if share[cell] < COMMON or score is None:
            continue
        for strength in MIXES:
            yield Bet("category", f"more {labels[cell]}", _tilt(score, strength, share, rows))
            yield Bet("category", f"fewer {labels[cell]}", _tilt(score, -strength, share, rows))
    for cell in order:
        if cells.reference[cell] > 0 and share[cell] < COMMON:
            yield from _more(cells, cell, "rare", f"more {labels[cell]}")
    # The list's own categories that the reference never has are as new as those outside it.
    never = np.zeros(cells.size, dtype=bool)
    never[:-1] = cells.reference[:-1] == 0
    yield from _more(cells, never, "unseen", "more")


def _missing_bets(cells: ColumnCells) -> Iterator[Bet]:
    counts, rows = cells.reference, int(cells.reference.sum())
    share = int(counts[cells.missing]) / max(rows, 1)
    if min(share, 1 - share) >= COMMON:
        indicator = _hit(cells, cells.missing)
        score = (indicator - share) / np.sqrt(share * (1 - share))
        weights = counts / rows
        for strength in MIXES:
            for sign, direction in ((1, "more"), (-1, "fewer")):
                payoff = _paid(sign * strength * score, weights, rows)
                yield Bet("missing", direction, payoff)
    elif share < 0.5:
        yield from _more(cells, cells.missing, "missing", "more")
    else:
        present = np.arange(cells.size) != cells.missing
        yield from _more(cells, present, "missing", "fewer")


def _more(
    cells: ColumnCells, which: int | NDArray[np.bool_], aspect: Aspect, direction: str
) -> Iterator[Bet]:
    """Bets that a rare cell, or any of several, gets a larger share."""
    hit = _hit(cells, which)
    counts, missing = cells.reference, cells.missing
    # Of all rows where missing ones are counted, else of those present.
    over_all = aspect == "missing"
    rows = max(int(counts.sum() if over_all else counts[:missing].sum()), 1)
    found = float(counts @ hit)
    # At least what 95 % of such references would show (0 of n: 3 / n), three errors for more.
    usual = (found + 3 + CAUTION * np.sqrt(found)) / rows
    expected = [share for share in SHARES if share > 2 * usual]
    if not expected and usual < 0.4:
        expected = [min(2 * usual + 0.1, 0.9)]
    for share in expected:
        payoff = np.where(hit > 0, np.log(share / usual), np.log((1 - share) / (1 - usual)))
        if not over_all:
            payoff[missing] = 0.0
        yield Bet(aspect, direction, payoff)


def _hit(cells: ColumnCells, which: int | NDArray[np.bool_]) -> Matrix:
    hit = np.zeros(cells.size)
    hit[which] = 1.0
    return hit


def _present(cells: ColumnCells) -> Matrix:
    """Shares [cells - 1] of present rows; the cells outside the reference get half a row each."""
    counts = cells.reference[:-1].astype(np.float64)
    counts[[0, -1]] += 0.5
    return np.asarray(counts / counts.sum())


def _standard(values: Matrix, share: Matrix, *beside: Matrix) -> Matrix | None:
    """Values [cells - 1] with mean 0 and variance 1, uncorrelated with `beside`, and 0 appended
    for missing; None where nothing is left."""
    left: Matrix = values - share @ values
    before = float(share @ left**2)
    for other in beside:
        left = left - float(share @ (left * other[:-1])) * other[:-1]
    variance = float(share @ left**2)
    if variance <= 1e-6 * max(before, 1e-300):
        return None
    return np.append(left / math.sqrt(variance), 0.0)


def _tilt(score: Matrix, strength: float, share: Matrix, rows: int) -> Matrix:
    """Exponential tilt of the present rows by a standardised score [cells]; 0 for missing."""
    return np.append(_paid(strength * score[:-1], share, rows), 0.0)


def _paid(tilt: Matrix, share: Matrix, rows: int) -> Matrix:
    """The tilt less its price: the log of its mean over the reference, and CAUTION standard errors
    of that mean (delta method)."""
    most = tilt.max()
    mean = share @ np.exp(tilt - most)
    payoff = tilt - most - np.log(mean)
    spread = np.sqrt(max(share @ np.exp(2 * payoff) - 1.0, 0.0))
    return np.asarray(payoff - np.log1p(CAUTION * spread / np.sqrt(max(rows, 1))))
