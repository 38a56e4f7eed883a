"""A Parquet file, or a folder of them in the order of their names, read by row ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serving.bundle import Contract
from serving.errors import DataError, FileError


@dataclass(frozen=True)
class Part:
    """One file of the table."""

    path: Path
    rows: int
    footer: str
    """sha256 of the file's footer, which holds the place and size of every page."""


@dataclass(frozen=True)
class Table:
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def to_json(self) -> list[dict[str, Any]]:
        return [{"file": p.path.name, "rows": p.rows, "footer": p.footer} for p in self.parts]

    def read(
        self, start: int, stop: int, columns: Sequence[str], chunk: int
    ) -> Iterator[pa.RecordBatch]:
        """Rows start <= row < stop in order, at most `chunk` at a time. Raises FileError."""
        first = 0
        for part in self.parts:
            low, high = max(start - first, 0), min(stop - first, part.rows)
            if low < high:
                try:
                    yield from _read(part.path, low, high, columns, chunk)
                except (pa.ArrowException, OSError) as error:
                    raise _unreadable(part.path, error) from None
            first += part.rows


def open_table(path: Path, contract: Contract, keep: Sequence[str]) -> Table:
    """Raises FileError for what is no Parquet table, DataError for columns that do not fit."""
    if not path.exists():
        raise FileError(f"{path}: there is no such file; give a Parquet file or a folder of them")
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise FileError(f"{path}: no .parquet file in this folder")
    parts = []
    for file in files:
        try:
            metadata = pq.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
            parts.append(Part(file, metadata.num_rows, _footer(file)))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from None
        _check(file, schema, contract, keep)
    return Table(tuple(parts))


def _read(
    file: Path, low: int, high: int, columns: Sequence[str], chunk: int
) -> Iterator[pa.RecordBatch]:
    # pre_buffer would hold whole row groups in memory.
    with pq.ParquetFile(file, pre_buffer=False) as source:
        groups, first, at = [], None, 0
        for number in range(source.metadata.num_row_groups):
            rows = source.metadata.row_group(number).num_rows
            if at < high and at + rows > low:
                groups.append(number)
                first = at if first is None else first
            at += rows
        at = first or 0
        for batch in source.iter_batches(chunk, groups, list(columns), use_threads=False):
            begin, end = max(low - at, 0), min(high - at, batch.num_rows)
            if begin < end:
                yield batch.slice(begin, end - begin)
            at += batch.num_rows
            if at >= high:
                return


def _footer(file: Path) -> str:
    with file.open("rb") as handle:
        handle.seek(-8, 2)
        length = int.from_bytes(handle.read(4), "little")
        handle.seek(-8 - length, 2)
        return hashlib.sha256(handle.read(length)).hexdigest()


def _check(file: Path, schema: pa.Schema, contract: Contract, keep: Sequence[str]) -> None:
    roles = [contract.label.column, contract.label.available_at, contract.time, contract.weight]
    known = {*contract.feature_names, *contract.ignore, *roles, *keep}
    for name in (*contract.feature_names, *keep):
        if schema.names.count(name) != 1:
            found = "is missing" if name not in schema.names else "is there more than once"
            needs = "the contract needs it" if name not in keep else "it is to be kept"
            raise DataError(f"{file}: column '{name}' {found}; {needs}")
    for name in schema.names:
        if name not in known and not name.startswith("__index_level_"):
            raise DataError(
                f"{file}: column '{name}' is not in the contract; drop it, list it in 'ignore', or"
                " keep it"
            )
    for feature in contract.features:
        kind = schema.field(feature.name).type
        if not _fits(kind, text=feature.dtype == "string"):
            raise DataError(
                f"{file}: column '{feature.name}' has type {kind}; the contract wants"
                f" {feature.dtype}"
            )


def _fits(kind: pa.DataType, *, text: bool) -> bool:
    if pa.types.is_null(kind):
        return True
    if text:
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        return bool(pa.types.is_string(value) or pa.types.is_large_string(value))
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _unreadable(file: Path, error: BaseException) -> FileError:
    return FileError(f"{file}: cannot read it as Parquet: {' '.join(str(error).split())[:200]}")
