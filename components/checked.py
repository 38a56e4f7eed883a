"""The checked table: what `validate` writes and every later step reads.

A folder of rows.parquet (typed, in time order: train, then validation, then test), contract.json
and facts.json (rows of each slice, fingerprint, where the rows come from).
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.files import read_bytes, read_json, write_bytes, write_json
from serving.bundle import Contract, canonical_columns
from serving.bundle.contract import parse_contract
from serving.bundle.rows import Columns

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
_LABEL, _WEIGHT, _TIME = "label:", "weight:", "time:"
"""Names of the columns beside the features; no feature's name may hold a colon."""


@dataclass(frozen=True)
class Rows:
    """Canonical columns, labels 0/1, weights and event times, each [rows]."""

    columns: Columns
    label: NDArray[np.int8]
    weight: NDArray[np.float64]
    time: NDArray[np.float64]
    """The contract's time column; the row's position where the contract names none."""

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: NDArray[np.intp] | slice) -> Rows:
        return Rows(
            {name: column[rows] for name, column in self.columns.items()},
            self.label[rows],
            self.weight[rows],
            self.time[rows],
        )


@dataclass(frozen=True)
class Checked:
    """Rows that satisfy their contract, in time order, and how they are split."""

    contract: Contract
    rows: Rows
    counts: dict[Part, int]
    facts: dict[str, Any]

    def part(self, name: Part) -> Rows:
        start = 0
        for part in PARTS[: PARTS.index(name)]:
            start += self.counts[part]
        return self.rows.take(slice(start, start + self.counts[name]))

    def before_test(self) -> Rows:
        """Training and validation rows, in time order."""
        return self.rows.take(slice(0, self.counts["train"] + self.counts["validation"]))

    def held_out(self) -> Rows:
        """Rows the weights were not fitted on: validation, then test."""
        return self.rows.take(slice(self.counts["train"], None))


def fingerprint(contract: Contract, rows: Rows, counts: dict[Part, int]) -> str:
    """sha256 over the rows' values and their split, whatever file they came from."""
    digest = hashlib.sha256(json.dumps([counts[part] for part in PARTS]).encode())
    for name, column in _arrays(rows).items():
        digest.update(f"\n{name} {column.dtype.str}\n".encode())
        if column.dtype == object:
            lengths = np.fromiter((len(v) for v in column), dtype=np.int64, count=len(column))
            digest.update(lengths.tobytes() + "".join(column).encode())
        else:
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _arrays(rows: Rows) -> Columns:
    return {**rows.columns, _LABEL: rows.label, _WEIGHT: rows.weight, _TIME: rows.time}


def write_checked(folder: Path, checked: Checked) -> None:
    """Writes the folder, each file atomically, facts last."""
    table = pa.table({name: pa.array(column) for name, column in _arrays(checked.rows).items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(folder / "rows.parquet", buffer.getvalue())
    write_bytes(folder / "contract.json", checked.contract.canonical_json().encode())
    write_json(folder / "facts.json", {**checked.facts, "rows": checked.counts})


def read_checked(folder: Path) -> Checked:
    """Reads what `write_checked` wrote. Raises FileError."""
    facts = read_json(folder / "facts.json", "validate")
    text = read_bytes(folder / "contract.json", "validate").decode()
    contract = parse_contract(text, str(folder / "contract.json"))
    table = pq.read_table(pa.BufferReader(read_bytes(folder / "rows.parquet", "validate")))
    arrays = {
        name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names
    }
    label, weight, time = (arrays.pop(name) for name in (_LABEL, _WEIGHT, _TIME))
    rows = Rows(canonical_columns(contract, arrays), label, weight, time)
    return Checked(contract, rows, facts["rows"], facts)
