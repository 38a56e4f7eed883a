"""Cuts a table, in time order, into the two training windows and the held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.validate.table import read_table
from serving.bundle import Contract, load_contract
from serving.errors import DataError
from serving.whole import replacing

Window = tuple[float, float]


@dataclass(frozen=True)
class Shares:
    """Shares of the rows in time order; the later window never sees a held-out row."""

    first: Window
    later: Window
    held_out: Window
    calm: Window
    """Rows like the first window's, which it never sees."""


PLAIN = Shares(first=(0.0, 0.6), later=(0.15, 0.75), held_out=(0.75, 1.0), calm=(0.75, 1.0))
SHIFTED = Shares(first=(0.0, 0.36), calm=(0.36, 0.395), later=(0.25, 0.83), held_out=(0.83, 1.0))
"""For the simulator's table, which shifts at 0.4 of its time (demo.shift)."""


@dataclass(frozen=True)
class Cut:
    """Windows [from, to) of the contract's time, or of row numbers where it names none."""

    table: Path
    first: Window
    later: Window
    held_out: Path
    """Parquet of the rows no training sees, in time order."""
    calm: Path
    """The same of rows that are like the first window's."""
    summary: dict[str, Any]


def cut(table: Path, contract_file: Path, folder: Path, shares: Shares = PLAIN) -> Cut:
    """Writes `folder/held_out.parquet` and `folder/calm.parquet`.

    Raises FileError or DataError when the table is none, or lacks a class in one of the windows.
    """
    contract = load_contract(contract_file)
    arrays = read_table(table, contract)
    positive = np.asarray(arrays[contract.label.column] == contract.label.positive)
    time = arrays[contract.time].astype(float) if contract.time else np.arange(float(len(positive)))
    order = np.argsort(time, kind="stable")
    windows = {
        name: _window(time[order], *part)
        for name, part in (
            ("first", shares.first),
            ("later", shares.later),
            ("held-out", shares.held_out),
            ("calm", shares.calm),
        )
    }
    for name, (start, end) in windows.items():
        inside = positive[(time >= start) & (time < end)]
        # Nothing is learned or measured on the calm rows.
        if name != "calm" and not 2 <= inside.sum() <= len(inside) - 2:
            raise DataError(
                f"{table}: the {name} window [{start:g}, {end:g}) has {int(inside.sum())} positive"
                f" labels in {len(inside)} rows; the demo needs both classes in each window"
            )
    files = {"held-out": folder / "held_out.parquet", "calm": folder / "calm.parquet"}
    for name, file in files.items():
        start, end = windows[name]
        kept = order[(time[order] >= start) & (time[order] < end)]
        _write(file, {column: values[kept] for column, values in arrays.items()})
    summary = _summary(table, contract, time[order], positive, len(arrays))
    return Cut(table, windows["first"], windows["later"], files["held-out"], files["calm"], summary)


def _window(time: NDArray[np.float64], start: float, end: float) -> Window:
    bounds = np.append(time, np.nextafter(time[-1], np.inf))
    return float(bounds[int(start * len(time))]), float(bounds[int(end * len(time))])


def _write(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with replacing(file) as partial:
        pd.DataFrame(arrays).to_parquet(partial, index=False)


def _summary(
    table: Path,
    contract: Contract,
    time: NDArray[np.float64],
    positive: NDArray[np.bool_],
    columns: int,
) -> dict[str, Any]:
    return {
        "source": f"{table.name} ({contract.name})",
        "rows": len(positive),
        "positives": int(positive.sum()),
        "columns": columns,
        "from": float(time[0]),
        "to": float(time[-1]),
    }
