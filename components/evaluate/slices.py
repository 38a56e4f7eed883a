"""The measures again for parts of the test slice: by time, and by the contract's segments."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows
from components.evaluate.judge import Judge, Scores, interval, number, resample
from serving.bundle import Contract

TIME_SLICES = 5
MOST_VALUES = 12
"""A numeric segment with more values than this is cut into quarters."""
Part = tuple[str, NDArray[np.bool_]]


def time_slices(rows: Rows) -> Iterator[Part]:
    """Slices of equally many rows in time order, named by their first and last time."""
    for positions in np.array_split(np.arange(len(rows)), min(TIME_SLICES, len(rows))):
        chosen = np.zeros(len(rows), dtype=np.bool_)
        chosen[positions] = True
        first, last = rows.time[positions[0]], rows.time[positions[-1]]
        yield f"{first:.10g} to {last:.10g}", chosen


def segments(contract: Contract, rows: Rows) -> dict[str, list[Part]]:
    """By feature: its values with the rows that have them."""
    return {
        name: list(_values(rows.columns[name], contract.feature(name).missing))
        for name in contract.evaluation.segments
    }


def _values(column: NDArray[Any], missing: tuple[str, ...]) -> Iterator[Part]:
    if column.dtype == object:
        absent = np.isin(column.astype("U"), ["", *missing])
        texts = np.where(absent, "", column)
        for value in sorted(set(texts.tolist()) - {""}):
            yield value, texts == value
    else:
        absent = np.isnan(column.astype(np.float64))
        known = np.unique(column[~absent])
        if len(known) <= MOST_VALUES:
            for value in known:
                yield f"{value:g}", column == value
        else:
            edges = np.unique(np.quantile(column[~absent], [0, 0.25, 0.5, 0.75, 1]))
            for i, (low, high) in enumerate(pairwise(edges)):
                below = column <= high if i == len(edges) - 2 else column < high
                yield f"{low:g} to {high:g}", (column >= low) & below
    if absent.any():
        yield "missing", absent


def measured(
    contract: Contract,
    rows: Rows,
    parts: Iterator[Part] | list[Part],
    scores: dict[str, tuple[Scores, Contract]],
    *,
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One entry a part that has weight: rows, share of positives, measures with intervals.

    `scores`: by model ("model", and "champion" where there is one) its scores and its policy.
    """
    found = []
    for name, chosen in parts:
        part = rows.take(np.flatnonzero(chosen))
        total = float(part.weight.sum())
        if not total > 0:
            continue
        judges = {
            who: Judge.of(contract, part, score[chosen], policy)
            for who, (score, policy) in scores.items()
        }
        drawn = resample({"model": judges["model"]}, part.weight, draws, seed)
        entry: dict[str, Any] = {
            "name": name,
            "rows": len(part),
            "share": total / float(rows.weight.sum()),
            "positive_share": float((part.weight * part.label).sum() / total),
            "intervals": {
                measure: interval(values) for measure, values in drawn.get("model", {}).items()
            },
        }
        for who, judge in judges.items():
            values = judge.measures(part.weight)
            key = "metrics" if who == "model" else who
            entry[key] = {measure: number(value) for measure, value in values.items()}
        found.append(entry)
    return found
