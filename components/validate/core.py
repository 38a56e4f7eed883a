"""From a table file and a contract to checked rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import PARTS, Checked, Part, Rows, fingerprint, write_checked
from components.validate.split import Split, cut, select
from components.validate.table import Arrays, read_table
from serving.bundle import Contract, canonical_columns, check_columns
from serving.bundle.rows import Columns
from serving.errors import DataError, UsageError


def run(
    *,
    table: Path,
    contract: Contract,
    checked: Path,
    window_from: float | None = None,
    window_to: float | None = None,
    test_from: float | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
) -> dict[str, Any]:
    """Checks a table, splits it by time and writes the checked rows.

    table: CSV or Parquet file.
    contract: what its columns must look like.
    checked: folder to write.
    window_from: rows earlier than this time are left out.
    window_to: rows from this time on are left out, and labels known only then.
    test_from: time at which the test slice begins; else the last test_fraction of the rows.
    validation_fraction: share of the rows before the test slice that training stops by.
    test_fraction: share of the rows that the model is judged on.

    Returns the facts it wrote. Raises FileError, DataError or UsageError.
    """
    split = Split(test_from, validation_fraction, test_fraction)
    arrays = read_table(table, contract)
    columns = _features(table, contract, arrays)
    rows = Rows(
        columns,
        _label(table, contract, arrays),
        _weight(table, contract, arrays),
        _time(table, contract, arrays),
    )
    positions = select(rows.time, window_from, window_to)
    if not len(positions):
        raise DataError(
            f"{table}: no row has {contract.time or 'a position'} in the window"
            f" [{_bound(window_from)}, {_bound(window_to)}); the table spans"
            f" [{rows.time.min():g}, {rows.time.max():g}]"
        )
    rows = rows.take(positions)
    for violation in check_columns(contract, rows.columns):
        in_file = replace(violation, rows=np.sort(positions[violation.rows]))
        raise DataError(f"{table}: {in_file.sentence()}")
    end = float(rows.time[-1]) if window_to is None else window_to
    kept, counts = cut(rows.time, _known(contract, arrays, positions, end), split)
    left_out = len(rows) - len(kept)
    rows = rows.take(kept)
    _check_classes(table, contract, rows, counts)
    facts = {
        "source": table.name,
        "data": fingerprint(contract, rows, counts),
        "from": float(rows.time[0]),
        "to": float(rows.time[-1]),
        "test_from": float(rows.time[counts["train"] + counts["validation"]]),
        "positives": int(rows.label.sum()),
        "label_unknown": left_out,
    }
    done = Checked(contract, rows, counts, facts)
    write_checked(checked, done)
    return {**facts, "rows": counts}


def moment(name: str, text: str) -> float | None:
    """A time given as text; empty is none. For kfp.local, which passes no empty number on."""
    try:
        return float(text) if text else None
    except ValueError:
        raise UsageError(f"{name} {text!r} is not a time; give a number or nothing") from None


def _features(table: Path, contract: Contract, arrays: Arrays) -> Columns:
    try:
        return canonical_columns(contract, {n: arrays[n] for n in contract.feature_names})
    except DataError as error:
        raise DataError(f"{table}: {error}") from None


def _label(table: Path, contract: Contract, arrays: Arrays) -> NDArray[np.int8]:
    name, values = contract.label.column, arrays[contract.label.column]
    if values.dtype == object:
        absent = np.flatnonzero([value in {None, ""} for value in values])
    else:
        absent = np.flatnonzero(np.isnan(values))
    if len(absent):
        raise DataError(
            f"{table}: label column '{name}': row {absent[0]} has no label; drop such rows"
        )
    if isinstance(contract.label.positive, str) and values.dtype != object:
        raise DataError(
            f"{table}: label column '{name}' holds numbers such as {values[0]}; the contract's"
            f" positive is the text {contract.label.positive!r}"
        )
    distinct = sorted(set(values.tolist()), key=str)
    if len(distinct) > 2:
        shown = ", ".join(str(value) for value in distinct[:5])
        raise DataError(
            f"{table}: label column '{name}' has {len(distinct)} values ({shown}); it needs two"
        )
    return np.asarray(values == contract.label.positive, dtype=np.int8)


def _weight(table: Path, contract: Contract, arrays: Arrays) -> NDArray[np.float64]:
    if contract.weight is None:
        return np.ones(len(arrays[contract.label.column]))
    weight = arrays[contract.weight].astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(weight) | (weight < 0))
    if len(bad):
        raise DataError(
            f"{table}: weight column '{contract.weight}': {weight[bad[0]]:g} in row {bad[0]}"
            " is not a weight; give finite numbers from 0 up"
        )
    return weight


def _time(table: Path, contract: Contract, arrays: Arrays) -> NDArray[np.float64]:
    if contract.time is None:
        return np.arange(len(arrays[contract.label.column]), dtype=np.float64)
    time = arrays[contract.time].astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(time))
    if len(bad):
        raise DataError(
            f"{table}: time column '{contract.time}': row {bad[0]} has no time; the rows cannot be"
            " put in order"
        )
    return time


def _known(
    contract: Contract, arrays: Arrays, positions: NDArray[np.intp], end: float
) -> NDArray[np.bool_]:
    """Whether each row's label was known at the window's end; one without a date never was."""
    if contract.label.available_at is None:
        return np.ones(len(positions), dtype=bool)
    available = arrays[contract.label.available_at].astype(np.float64)[positions]
    return np.asarray(available <= end)


def _check_classes(table: Path, contract: Contract, rows: Rows, counts: dict[Part, int]) -> None:
    """Every slice needs weighted rows of both classes, to fit, to stop by or to judge with."""
    everything = Checked(contract, rows, counts, {})
    for part in PARTS:
        of_part = everything.part(part)
        for value, name in ((1, "positive"), (0, "negative")):
            if not of_part.weight[of_part.label == value].sum() > 0:
                raise DataError(
                    f"{table}: label column '{contract.label.column}' has no {name} row among the"
                    f" {len(of_part)} rows of the {part} slice"
                    f" (positive is {contract.label.positive!r}); give more rows or another split"
                )


def _bound(value: float | None) -> str:
    return "..." if value is None else f"{value:g}"
