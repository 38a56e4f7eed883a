"""What a table can suffer from though every row satisfies the contract."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import PARTS, Checked, Rows
from components.evaluate.measures import Ranking, roc_auc
from serving.bundle import Contract, open_bundle
from serving.bundle.contract import Level

LEAK_ROWS, LEAK_AUC = 50_000, 0.995
"""Rows looked at for leakage, and the ROC AUC of one feature from which it is suspect."""
SHIFT_ROWS, SHIFT = 50_000, 0.2
"""Rows compared with the parent's reference, and the distance of distributions from which a feature
has shifted: Kolmogorov-Smirnov's for numbers, total variation for texts, both in 0..1."""
RATE_FACTOR, RATE_POSITIVES = 2.0, 20
"""A share of positives so many times that of the rows before is suspect, given so many."""


@dataclass(frozen=True)
class Finding:
    """What one rule found."""

    rule: str
    level: Level
    sentence: str
    rows: NDArray[np.intp] | None = None
    """Positions of the rows it concerns, where it concerns single rows."""

    @property
    def result(self) -> str:
        return "pass" if not self.sentence else "warn" if self.level == "warn" else "fail"


def examine(
    table: Checked, in_file: Rows, reference: dict[str, NDArray[Any]] | None
) -> list[Finding]:
    """One finding for each rule that the contract does not ignore.

    in_file: the window's rows in the file's order.
    reference: the parent bundle's drift reference.
    """
    levels = table.contract.checks
    found = []
    if levels.duplicates != "ignore":
        rows = duplicates(in_file)
        words = f"{len(rows)} rows repeat an earlier row in every column" if len(rows) else ""
        found.append(Finding("duplicates", levels.duplicates, words, rows))
    if levels.time_order != "ignore":
        late = np.flatnonzero(in_file.time < np.maximum.accumulate(in_file.time))
        words = f"{len(late)} rows lie after a later one; they were sorted" if len(late) else ""
        found.append(Finding("time_order", levels.time_order, words, late))
    if levels.label_rate != "ignore":
        found.append(Finding("label_rate", levels.label_rate, label_rate(table)))
    if levels.leakage != "ignore":
        suspects = "; ".join(leaks(table.contract, table.rows))
        found.append(Finding("leakage", levels.leakage, suspects))
    if levels.shift != "ignore" and reference is not None:
        moved = "; ".join(shifts(table.contract, table.rows, reference))
        found.append(Finding("shift", levels.shift, moved))
    return found


def duplicates(rows: Rows) -> NDArray[np.intp]:
    """Positions of rows equal to an earlier one in features, label, weight and time."""
    import polars as pl  # noqa: PLC0415

    frame = pl.DataFrame(
        {**rows.columns, "label:": rows.label, "weight:": rows.weight, "time:": rows.time}
    )
    first = frame.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return np.flatnonzero(~first)


def label_rate(table: Checked) -> str:
    """A sentence when a slice's weighted share of positives is far from that before it."""
    shares, counts = [], []
    for part in PARTS:
        rows = table.part(part)
        shares.append(float((rows.weight * rows.label).sum() / rows.weight.sum()))
        counts.append(int(rows.label.sum()))
    for index in (1, 2):
        before, after = shares[index - 1], shares[index]
        enough = min(counts[index - 1], counts[index]) >= RATE_POSITIVES
        if enough and not 1 / RATE_FACTOR <= after / before <= RATE_FACTOR:
            return (
                f"{after:.4f} of the {PARTS[index]} slice is positive,"
                f" {before:.4f} of the {PARTS[index - 1]} slice before it"
            )
    return ""


def leaks(contract: Contract, rows: Rows) -> Iterator[str]:
    """A sentence for each feature that alone ranks the rows almost as the label does."""
    picked = np.unique(np.linspace(0, len(rows) - 1, LEAK_ROWS).astype(np.intp))
    label = rows.label[picked]
    weight = np.ones(len(picked))
    if min(label.sum(), len(label) - label.sum()) < RATE_POSITIVES:
        return
    for feature in contract.features:
        column = rows.columns[feature.name][picked]
        score = _rates(column, label) if feature.dtype == "string" else column.astype(np.float64)
        absent = np.isnan(score)
        tries = [np.where(absent, np.nanmin(score, initial=0.0) - 1, score)]
        if absent.any():
            tries.append(absent.astype(np.float64))
        for tried in tries:
            area = roc_auc(Ranking.of(label, tried).hits(weight))
            if max(area, 1 - area) >= LEAK_AUC:
                yield (
                    f"feature '{feature.name}' alone ranks the label with ROC AUC"
                    f" {max(area, 1 - area):.4f}: is it known before the label?"
                )
                break


def _rates(column: NDArray[Any], label: NDArray[np.int8]) -> NDArray[np.float64]:
    """The rate of positives of each row's text, the row itself left out and pulled to the mean."""
    texts, code = np.unique(column.astype(str), return_inverse=True)
    hits = np.bincount(code, label, len(texts))
    mass = np.bincount(code, minlength=len(texts))
    pulled: NDArray[np.float64] = (hits[code] - label + label.mean()) / mass[code]
    return pulled


def shifts(contract: Contract, rows: Rows, reference: dict[str, NDArray[Any]]) -> Iterator[str]:
    """A sentence for each feature distributed otherwise than in the reference."""
    picked = np.unique(np.linspace(0, len(rows) - 1, SHIFT_ROWS).astype(np.intp))
    for feature in contract.features:
        before = reference.get(feature.name)
        text = feature.dtype == "string"
        if before is None or (before.dtype.kind in "US") != text or not len(before):
            continue  # the parent's contract had another such feature
        now = rows.columns[feature.name][picked]
        distance = _variation(before, now) if text else _kolmogorov(before, now)
        if distance >= SHIFT:
            yield f"feature '{feature.name}' has moved by {distance:.2f} of 1 since the parent"


def _kolmogorov(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Largest distance of the distribution functions; missing values count as the least."""
    known = (np.nan_to_num(side.astype(np.float64), nan=-np.inf) for side in (first, second))
    sides = [np.sort(side) for side in known]
    at = np.concatenate(sides)
    shares = [np.searchsorted(side, at, side="right") / len(side) for side in sides]
    return float(np.abs(shares[0] - shares[1]).max())


def _variation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Half the sum of differences of the shares of each text."""
    texts = np.concatenate([first.astype(str), second.astype(str)])
    distinct, code = np.unique(texts, return_inverse=True)
    sides = (code[: len(first)], code[len(first) :])
    shares = [np.bincount(side, minlength=len(distinct)) / len(side) for side in sides]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def drift_reference(parent: Path) -> dict[str, NDArray[Any]]:
    """The drift reference of a bundle, by feature. Raises BundleError."""
    content = open_bundle(parent).read("drift/reference.npz")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
