"""Reading a table file: columns by name, checked against the contract's list of columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serving.bundle import Contract
from serving.errors import DataError, FileError

Arrays = dict[str, NDArray[Any]]
_PANDAS_INDEX = re.compile(r"__index_level_\d+__$")
"""How pandas stores the index of a filtered frame: its own note, not a column of the data."""
_NO_NUMBER = frozenset({"", "nan", "na", "null", "none"})
"""Texts that mean "no number" in a CSV's numeric column, in lower case."""
FILE_ROW = "row:"
"""Column that the ingest step adds to rows it had to sort: where each lay in the user's file."""


def is_pandas_index(name: str) -> bool:
    return _PANDAS_INDEX.match(name) is not None


def read_table(path: Path, contract: Contract) -> Arrays:
    """The columns that the contract uses, [rows] in the order of the user's file; text as objects,
    nulls as NaN or None.

    Raises FileError for a file that is missing, empty or neither CSV nor Parquet, and DataError
    for a missing or extra column and for text where the contract wants numbers.
    """
    ingested = (path / "table.parquet").is_file()
    if ingested:
        path = path / "table.parquet"
    suffix = suffix_of(path)
    try:
        table = _read_csv(path) if suffix == ".csv" else pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{path}: cannot read it as {suffix[1:]}: {one_line(error)}") from None
    index = [name for name in table.column_names if is_pandas_index(name)]
    table = table.drop_columns(index)
    if ingested and FILE_ROW in table.column_names:
        table = table.sort_by(FILE_ROW).drop_columns(FILE_ROW)
    used = check_names(path, table.column_names, contract)
    if table.num_rows == 0:
        raise DataError(f"{path}: the table has no rows")
    numeric = set(used) - {f.name for f in contract.features if f.dtype == "string"}
    if isinstance(contract.label.positive, str):
        numeric.discard(contract.label.column)
    arrays: Arrays = {}
    for name in used:
        column = table.column(name).combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if suffix == ".csv" and name in numeric:
            arrays[name] = _numbers(path, name, column)
        else:
            if name in numeric:
                _expect_numbers(path, name, column, flags=name == contract.label.column)
            arrays[name] = column.to_numpy(zero_copy_only=False)
    return arrays


def suffix_of(path: Path) -> str:
    """.csv or .parquet. Raises FileError for a file that can be no table."""
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise FileError(f"{path}: '{suffix}' is no table format; give a .csv or a .parquet file")
    if not path.is_file():
        raise FileError(f"{path}: there is no such file; give the path of a table")
    if path.stat().st_size == 0:
        raise FileError(f"{path}: the file is empty; a table needs a header and rows")
    return suffix


def _read_csv(path: Path) -> pa.Table:
    """Every column as text: the contract, not a guess, says what is a number."""
    with pc.open_csv(path) as reader:
        names = reader.schema.names
    convert = pc.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    return pc.read_csv(path, convert_options=convert)


def check_names(path: Path, names: list[str], contract: Contract) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: column '{name}' is there {names.count(name)} times")
    roles = [*contract.feature_names, contract.label.column]
    roles += [n for n in (contract.label.available_at, contract.time, contract.weight) if n]
    for name in roles:
        if name not in names:
            raise DataError(f"{path}: column '{name}' is missing; the contract needs it")
    for name in names:
        if name not in roles and name not in contract.ignore:
            raise DataError(
                f"{path}: column '{name}' is not in the contract; drop it or list it in 'ignore'"
            )
    return list(dict.fromkeys(roles))


def _expect_numbers(path: Path, name: str, column: pa.Array, *, flags: bool) -> None:
    kind = column.type
    if flags and pa.types.is_boolean(kind) and not column.null_count:
        return
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return
    values = column.drop_null()
    value = f", the first value {str(values[0].as_py())[:40]!r}" if len(values) else ""
    raise DataError(f"{path}: column '{name}' has type {kind}{value}; the contract wants numbers")


def _numbers(path: Path, name: str, column: pa.Array) -> NDArray[Any]:
    texts = column.to_pylist()
    plain = [None if text.strip().lower() in _NO_NUMBER else text for text in texts]
    try:
        if None not in plain:
            return np.array([int(text) for text in plain if text is not None], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    values = np.empty(len(plain), dtype=np.float64)
    for row, text in enumerate(plain):
        try:
            values[row] = np.nan if text is None else float(text)
        except ValueError:
            raise DataError(
                f"{path}: column '{name}': {text!r} in row {row} is not a number"
            ) from None
    return values


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
