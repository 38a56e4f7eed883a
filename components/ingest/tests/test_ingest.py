from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components.ingest import order, read
from components.ingest.core import run
from components.tests.table import small_contract, small_table
from components.validate.core import run as validate
from serving.errors import DataError, FileError


def ingested(tmp_path: Path, frame: pd.DataFrame, name: str = "t.parquet") -> dict[str, Any]:
    file = tmp_path / name
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file, index=False)
    return run(source=file, contract=small_contract(), table=tmp_path / "out")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces and ranges so small that a small table has many of them."""
    monkeypatch.setattr(read, "ROWS", 97)
    monkeypatch.setattr(read, "BLOCK", 4096)
    monkeypatch.setattr(order, "RANGE_ROWS", 150)
    monkeypatch.setattr(order, "SAMPLE", 300)


@pytest.mark.usefixtures("small_pieces")
def test_sorts_a_table_that_is_larger_than_a_piece(tmp_path: Path) -> None:
    frame = small_table(2000)
    facts = ingested(tmp_path, frame)
    assert facts["was_ordered"] is False
    assert facts["rows"] == 2000
    found = pq.read_table(tmp_path / "out" / "table.parquet").to_pandas()
    expected = frame.sort_values("when", kind="stable", ignore_index=True)
    assert found["when"].tolist() == expected["when"].tolist()
    assert found["amount"].tolist() == expected["amount"].tolist()
    assert found["channel"].tolist() == expected["channel"].tolist()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["facts.json", "table.parquet"]


@pytest.mark.usefixtures("small_pieces")
def test_rows_of_one_time_keep_the_tables_order(tmp_path: Path) -> None:
    frame = small_table(1500)
    frame["when"] = np.repeat([5.0, 3.0, 3.0, 1.0, 3.0], 300)
    ingested(tmp_path, frame)
    found = pq.read_table(tmp_path / "out" / "table.parquet").to_pandas()
    expected = frame.sort_values("when", kind="stable")
    assert found["amount"].tolist() == expected["amount"].tolist()


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_breach_is_named_by_its_row_in_the_users_file_though_rows_were_sorted(
    tmp_path: Path, name: str
) -> None:
    frame = small_table(900)
    frame.loc[[700, 123], "amount"] = [-1.0, -2.0]
    frame.loc[700, "when"] = 1.0  # the last of the two in the file is the first in time
    ingested(tmp_path, frame, name)
    with pytest.raises(DataError, match="-1 in row 700 and 1 more; the contract's minimum is 0"):
        validate(table=tmp_path / "out", contract=small_contract(), checked=tmp_path / "checked")


def test_rows_out_of_order_are_told_of_though_ingesting_sorted_them(tmp_path: Path) -> None:
    ingested(tmp_path, small_table(900))
    contract = small_contract(checks={"time_order": "fail"})
    with pytest.raises(DataError, match=r"time_order: \d+ rows lie after a later one"):
        validate(table=tmp_path / "out", contract=contract, checked=tmp_path / "checked")


def test_types_every_column_as_the_contract_says_and_drops_the_ignored(tmp_path: Path) -> None:
    ingested(tmp_path, small_table(300).sort_values("when"), "t.csv")
    schema = pq.read_schema(tmp_path / "out" / "table.parquet")
    assert {f.name: str(f.type) for f in schema} == {
        "amount": "double",
        "age": "float",
        "visits": "int64",
        "channel": "string",
        "card": "string",
        "fraud": "double",
        "known_at": "double",
        "weight": "double",
        "when": "double",
    }


def test_the_fingerprint_is_of_the_content_and_not_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = small_table(800)
    first = ingested(tmp_path, frame, "t.csv")["data"]
    monkeypatch.setattr(read, "ROWS", 61)
    assert ingested(tmp_path, frame.sample(frac=1, random_state=3))["data"] == first
    frame["visits"] = frame["visits"].where(frame["id"] != 17, 99)
    assert ingested(tmp_path, frame)["data"] != first


def test_validate_finds_the_same_rows_in_the_ingested_and_in_the_raw_table(tmp_path: Path) -> None:
    raw = small_table(900)
    ingested(tmp_path, raw, "raw.csv")
    facts = [
        validate(table=tmp_path / name, contract=small_contract(), checked=tmp_path / "checked")
        for name in ("raw.csv", "out")
    ]
    assert facts[0]["data"] == facts[1]["data"]
    assert facts[0]["source"] == facts[1]["source"] == "raw.csv"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("amount", "12 EUR", "column 'amount'(: '12 EUR' in row 7| has type .*string)"),
        ("visits", 2.5, "column 'visits': 2.5 in row 7 is not an int64"),
        ("visits", np.nan, "column 'visits': (row 7 is missing|nan in row 7)"),
        ("when", np.nan, "time column 'when': row 7 has no time"),
    ],
)
def test_refuses_with_one_sentence_and_writes_nothing(
    tmp_path: Path, suffix: str, column: str, value: object, sentence: str
) -> None:
    frame = small_table(200)
    values = frame[column].astype(object if isinstance(value, str) else float)
    values[7] = value
    frame[column] = values.astype(str) if isinstance(value, str) else values
    with pytest.raises(DataError, match=sentence):
        ingested(tmp_path, frame, f"t.{suffix}")
    assert not (tmp_path / "out").exists()


def test_refuses_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    with pytest.raises(FileError, match="cannot read it as parquet"):
        run(source=tmp_path / "t.parquet", contract=small_contract(), table=tmp_path / "out")
    with pytest.raises(DataError, match="column 'visits' is missing"):
        ingested(tmp_path, small_table(50).drop(columns="visits"))
    with pytest.raises(DataError, match="the table has no rows"):
        ingested(tmp_path, small_table(50)[:0])
    assert not (tmp_path / "out").exists()


def test_the_command_takes_the_components_arguments(tmp_path: Path) -> None:
    small_table(100).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "c.json").write_text(small_contract().canonical_json())
    given = {"source": "t.csv", "contract": "c.json", "table": "out"}
    options = [part for k, v in given.items() for part in (f"--{k}", str(tmp_path / v))]
    command = [sys.executable, "-m", "components.ingest", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == 100
