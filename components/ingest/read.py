"""A table in pieces, each typed as the contract says; no piece knows how long the table is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from components.validate.table import FILE_ROW, check_names, is_pandas_index, one_line, suffix_of
from serving.bundle import Contract
from serving.errors import DataError, FileError

BLOCK = 1 << 24
"""Bytes of CSV in a piece."""
ROWS = 1 << 17
"""Rows of Parquet in a piece."""
_NO_NUMBER = pa.array(["", "nan", "na", "null", "none"])
_KINDS = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64()}


def schema_of(contract: Contract) -> pa.Schema:
    """Features in the contract's order, then label, weight, time and the date of the label.

    Columns that the contract ignores are left out: nothing after this step reads them.
    """
    fields = [(f.name, _KINDS.get(f.dtype, pa.string())) for f in contract.features]
    text = isinstance(contract.label.positive, str)
    fields.append((contract.label.column, pa.string() if text else pa.float64()))
    names = dict(fields)
    others = (contract.label.available_at, contract.weight, contract.time)
    fields += [(n, pa.float64()) for n in others if n is not None and n not in names]
    return pa.schema(fields)


def pieces(path: Path, contract: Contract) -> Iterator[pa.RecordBatch]:
    """The table's rows in its order. Raises FileError or DataError, naming column and value."""
    suffix = suffix_of(path)
    schema, first = schema_of(contract), 0
    try:
        for piece in _csv(path, contract) if suffix == ".csv" else _parquet(path, contract):
            columns = [_typed(path, piece, field, first) for field in schema]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
            first += piece.num_rows
    except (pa.ArrowException, OSError) as error:
        sentence = f"{path}: cannot read it as {suffix[1:]}: {one_line(error)}"
        raise FileError(sentence) from None
    if first == 0:
        raise DataError(f"{path}: the table has no rows")


def numbered(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The pieces with each row's place in the file, which sorting would lose."""
    first = 0
    for piece in rows:
        place = np.arange(first, first + piece.num_rows)
        yield piece.append_column(FILE_ROW, pa.array(place))
        first += piece.num_rows


def _csv(path: Path, contract: Contract) -> Iterator[pa.RecordBatch]:
    with pcsv.open_csv(path) as reader:
        names = reader.schema.names
    used = check_names(path, names, contract)
    convert = pcsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=used,
        strings_can_be_null=False,
    )
    options = pcsv.ReadOptions(block_size=BLOCK, use_threads=False)
    with pcsv.open_csv(path, read_options=options, convert_options=convert) as reader:
        yield from reader


def _parquet(path: Path, contract: Contract) -> Iterator[pa.RecordBatch]:
    # What Arrow reads ahead it keeps until the file is closed, and a mapped file counts as ours.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        names = [name for name in file.schema_arrow.names if not is_pandas_index(name)]
        used = check_names(path, names, contract)
        yield from file.iter_batches(batch_size=ROWS, columns=used)


def _typed(path: Path, piece: pa.RecordBatch, field: pa.Field, first: int) -> pa.Array:
    column = piece.column(field.name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(field.type):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return pc.fill_null(column.cast(pa.string()), "")
        return _refuse(path, field.name, column, "text")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_string(column.type) and path.suffix.lower() == ".csv":
        texts = pc.utf8_trim_whitespace(column)
        absent = pc.is_in(pc.utf8_lower(texts), value_set=_NO_NUMBER)
        column = _numbers(path, field.name, pc.if_else(absent, None, texts), first)
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return _refuse(path, field.name, column, "numbers")
    if pa.types.is_integer(field.type):
        return _whole(path, field.name, column, first)
    # Large integers may lose their last digits as floats, as everywhere behind this step.
    return pc.fill_null(column.cast(field.type, safe=False), float("nan"))


def _numbers(path: Path, name: str, texts: pa.Array, first: int) -> pa.Array:
    for kind in (pa.int64(), pa.float64()):
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid:
            continue
    for row, text in enumerate(texts.to_pylist()):
        try:
            float(text or 0)
        except ValueError:
            raise DataError(
                f"{path}: column '{name}': {text!r} in row {first + row} is not a number"
            ) from None
    return pa.array([None if t is None else float(t) for t in texts.to_pylist()], pa.float64())


def _whole(path: Path, name: str, column: pa.Array, first: int) -> pa.Array:
    if column.null_count:
        row = first + pc.index(column.is_null(), value=True).as_py()
        raise DataError(f"{path}: column '{name}': row {row} is missing; it is not nullable")
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        for row, value in enumerate(column.to_pylist()):
            if value != value or value != int(value) or abs(value) >= 2**63:  # noqa: PLR0124 - NaN
                raise DataError(
                    f"{path}: column '{name}': {value} in row {first + row} is not an int64"
                ) from None
        raise


def _refuse(path: Path, name: str, column: pa.Array, wanted: str) -> pa.Array:
    known = column.drop_null()
    value = f", the first value {str(known[0].as_py())[:40]!r}" if len(known) else ""
    raise DataError(
        f"{path}: column '{name}' has type {column.type}{value}; the contract wants {wanted}"
    )
