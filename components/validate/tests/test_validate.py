from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.checked import read_checked
from components.tests.table import small_contract, small_table
from components.validate.core import moment, run
from serving.bundle import Contract
from serving.errors import DataError, FileError, SeatrialError, UsageError


def checked_from(
    tmp_path: Path,
    frame: pd.DataFrame,
    contract: Contract | None = None,
    name: str = "table.parquet",
    **options: Any,
) -> dict[str, Any]:
    file = tmp_path / name
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file, index=False)
    return run(
        table=file, contract=contract or small_contract(), checked=tmp_path / "out", **options
    )


def test_orders_rows_by_time_and_splits_the_latest_off(tmp_path: Path) -> None:
    facts = checked_from(tmp_path, small_table(1000), validation_fraction=0.25, test_fraction=0.1)
    table = read_checked(tmp_path / "out")
    assert (np.diff(table.rows.time) > 0).all()
    assert facts["rows"]["test"] == 100
    known_before_test = 900 - facts["label_unknown"]
    assert facts["rows"]["validation"] == round(known_before_test * 0.25)
    assert table.part("validation").time.max() < table.part("test").time.min()
    assert len(table.held_out()) == table.counts["validation"] + 100


def test_types_every_column_as_the_contract_says(tmp_path: Path) -> None:
    checked_from(tmp_path, small_table(500))
    columns = read_checked(tmp_path / "out").rows.columns
    assert [column.dtype.str for column in columns.values()] == ["<f8", "<f4", "<i8", "|O", "|O"]
    assert list(columns) == ["amount", "age", "visits", "channel", "card"]


def test_csv_and_parquet_of_the_same_rows_have_one_fingerprint(tmp_path: Path) -> None:
    frame = small_table(800)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = checked_from(tmp_path / "a", frame, name="table.csv")
    second = checked_from(tmp_path / "b", frame.sample(frac=1, random_state=1))
    assert first["data"] == second["data"]


def test_one_changed_value_changes_the_fingerprint(tmp_path: Path) -> None:
    frame = small_table(800)
    first = checked_from(tmp_path, frame)
    frame["visits"] = frame["visits"].where(frame["id"] != 17, 99)
    assert checked_from(tmp_path, frame)["data"] != first["data"]


def test_a_window_keeps_its_first_moment_and_not_its_last(tmp_path: Path) -> None:
    checked_from(tmp_path, small_table(1000), window_from=1.7e9 + 100, window_to=1.7e9 + 600)
    time = read_checked(tmp_path / "out").rows.time
    assert time.min() == 1.7e9 + 100
    assert time.max() == 1.7e9 + 599


def test_leaves_out_training_rows_whose_label_came_after_the_window(tmp_path: Path) -> None:
    frame = small_table(1000)
    late = frame["when"].between(1.7e9 + 200, 1.7e9 + 210)
    frame.loc[late, "known_at"] = 1.7e9 + 5000
    facts = checked_from(tmp_path, frame, window_to=1.7e9 + 600, test_from=1.7e9 + 400)
    assert facts["label_unknown"] == 11
    time = read_checked(tmp_path / "out").rows.time
    assert not ((time >= 1.7e9 + 200) & (time <= 1.7e9 + 210)).any()
    assert facts["rows"]["test"] == 200


def test_a_bad_row_outside_the_window_does_no_harm(tmp_path: Path) -> None:
    frame = small_table(1000)
    frame.loc[frame["when"] == 1.7e9 + 900, "amount"] = -1.0
    assert checked_from(tmp_path, frame, window_to=1.7e9 + 800)["rows"]["test"] == 160


def test_the_label_may_be_text_or_a_flag(tmp_path: Path) -> None:
    frame = small_table(600)
    numbers = checked_from(tmp_path, frame)["positives"]
    text = frame.assign(fraud=frame["fraud"].map({0: "no", 1: "yes"}))
    label = {"column": "fraud", "positive": "yes", "available_at": "known_at"}
    assert checked_from(tmp_path, text, small_contract(label=label))["positives"] == numbers
    flag = frame.assign(fraud=frame["fraud"] == 1)
    assert checked_from(tmp_path, flag)["positives"] == numbers


def test_pandas_own_index_column_is_not_an_extra_column(tmp_path: Path) -> None:
    frame = small_table(1000)
    frame[frame["visits"] > 0].to_parquet(tmp_path / "table.parquet")
    run(table=tmp_path / "table.parquet", contract=small_contract(), checked=tmp_path / "out")
    assert (read_checked(tmp_path / "out").rows.columns["visits"] > 0).all()


Breaking = Callable[[pd.DataFrame], pd.DataFrame]
BROKEN: dict[str, tuple[Breaking, str]] = {
    "a missing column": (
        lambda t: t.drop(columns="visits"),
        "column 'visits' is missing; the contract needs it",
    ),
    "an extra column": (
        lambda t: t.assign(surprise=1),
        "column 'surprise' is not in the contract; drop it or list it in 'ignore'",
    ),
    "text for a number": (
        lambda t: t.assign(amount=["12 EUR", *t["amount"].astype(str)[1:]]),
        "column 'amount'.*'12 EUR'",
    ),
    "a fraction for an integer": (
        lambda t: t.assign(visits=t["visits"] + 0.5),
        r"column 'visits': \d+\.5 in row 0 is not an int64",
    ),
    "an unknown category": (
        lambda t: t.assign(card=["store", *t["card"][1:]]),
        "feature 'card': 'store' in row 0; known categories: debit, credit",
    ),
    "a NaN where none may be": (
        lambda t: t.assign(amount=[np.nan, *t["amount"][1:]]),
        "feature 'amount': a missing value in row 0; it is not nullable",
    ),
    "a value out of range": (
        lambda t: t.assign(amount=[*t["amount"][:-1], -3.5]),
        "feature 'amount': -3.5 in row 499; the contract's minimum is 0",
    ),
    "labels of one class": (
        lambda t: t.assign(fraud=0),
        "label column 'fraud' has no positive row among the .* rows of the train slice",
    ),
    "labels of three classes": (
        lambda t: t.assign(fraud=np.arange(len(t)) % 3),
        r"label column 'fraud' has 3 values \(0, 1, 2\); it needs two",
    ),
    "a row without label": (
        lambda t: t.assign(fraud=[np.nan, *t["fraud"][1:]]),
        "label column 'fraud': row 0 has no label",
    ),
    "a negative weight": (
        lambda t: t.assign(weight=[-1.0, *t["weight"][1:]]),
        "weight column 'weight': -1 in row 0 is not a weight",
    ),
    "a row without time": (
        lambda t: t.assign(when=[np.nan, *t["when"][1:]]),
        "time column 'when': row 0 has no time",
    ),
    "no rows": (lambda t: t[:0], "the table has no rows"),
}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("kind", BROKEN)
def test_refuses_with_one_sentence_and_writes_nothing(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    spoil, sentence = BROKEN[kind]
    frame = spoil(small_table(500).sort_values("when", ignore_index=True))
    with pytest.raises(DataError, match=sentence) as refusal:
        checked_from(tmp_path, frame, name=f"table.{suffix}")
    assert str(refusal.value).startswith(f"{tmp_path / 'table'}.{suffix}: ")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_names_the_row_of_the_file_and_not_of_the_sorted_window(tmp_path: Path) -> None:
    frame = small_table(500)
    frame.loc[123, "amount"] = -1.0
    with pytest.raises(DataError, match="row 123;"):
        checked_from(tmp_path, frame, window_from=1.7e9 - 5)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.parquet", None, "there is no such file"),
        ("empty.csv", b"", "the file is empty"),
        ("broken.parquet", b"not a parquet file at all", "cannot read it as parquet"),
        ("table.xlsx", b"x", "'.xlsx' is no table format"),
    ],
)
def test_refuses_a_file_that_is_no_table(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=sentence):
        run(table=tmp_path / name, contract=small_contract(), checked=tmp_path / "out")


def test_refuses_a_window_without_rows_and_says_what_the_table_spans(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row has when in the window \[3, 4\)"):
        checked_from(tmp_path, small_table(300), window_from=3.0, window_to=4.0)


@pytest.mark.parametrize("options", [{"test_fraction": 0.0}, {"validation_fraction": 1.5}])
def test_refuses_a_fraction_that_is_no_share(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is not a share of rows"):
        checked_from(tmp_path, small_table(300), **options)


def test_a_moment_is_a_number_or_nothing() -> None:
    assert moment("test_from", "") is None
    assert moment("test_from", "86400") == 86400
    with pytest.raises(SeatrialError, match="test_from 'noon' is not a time"):
        moment("test_from", "noon")
