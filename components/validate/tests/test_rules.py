from __future__ import annotations

from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.checked import read_checked
from components.tests.table import CONTRACT, small_contract, small_table
from components.validate.core import run
from components.validate.report import MASK
from components.validate.rules import leaks, shifts
from components.validate.schema import breaches
from serving.bundle import canonical_columns, check_columns
from serving.errors import DataError


def warnings(tmp_path: Path, frame: pd.DataFrame, **checks: str) -> dict[str, str]:
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    facts = run(
        table=tmp_path / "t.parquet",
        contract=small_contract(checks=checks),
        checked=tmp_path / "checked",
        findings=tmp_path / "report.html",
    )
    found: dict[str, str] = facts["warnings"]
    return found


def ordered(rows: int = 1000) -> pd.DataFrame:
    return small_table(rows).sort_values("when", ignore_index=True)


def spoiled(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    if kind == "duplicates":
        return pd.concat([frame, frame[-3:]]).sort_values("when", ignore_index=True)
    if kind == "time_order":
        return frame.iloc[::-1]
    if kind == "label_rate":
        late = (frame["when"] > 1.7e9 + 800) & (frame.index % 3 == 0)
        return frame.assign(fraud=frame["fraud"].where(~late, 1))
    assert kind == "leakage"
    return frame.assign(amount=frame["amount"].rank() + 5000.0 * frame["fraud"])


WORDS = {
    "duplicates": "3 rows repeat an earlier row",
    "time_order": "999 rows lie after a later one",
    "label_rate": "of the test slice is positive",
    "leakage": "feature 'amount' alone ranks the label with ROC AUC 1.0000",
}


def test_a_sound_table_has_no_warning(tmp_path: Path) -> None:
    assert warnings(tmp_path, ordered()) == {}
    assert ">warn<" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("rule", WORDS)
def test_each_rule_warns_fails_or_is_ignored_as_the_contract_says(
    tmp_path: Path, rule: str
) -> None:
    frame = spoiled(ordered(), rule)
    found = warnings(tmp_path, frame)
    assert list(found) == [rule]
    assert WORDS[rule] in found[rule]
    page = unescape((tmp_path / "report.html").read_text())
    assert WORDS[rule] in page
    assert warnings(tmp_path, frame, **{rule: "ignore"}) == {}
    with pytest.raises(DataError, match=f"{rule}: .*{WORDS[rule]}.* set checks.{rule} to 'warn'"):
        warnings(tmp_path, frame, **{rule: "fail"})


def test_a_text_that_gives_the_label_away_is_suspect_and_a_key_is_not(tmp_path: Path) -> None:
    frame = ordered()
    frame["card"] = np.where(frame["fraud"] == 1, "credit", "debit")
    assert "feature 'card' alone ranks" in warnings(tmp_path, frame)["leakage"]
    table = read_checked(tmp_path / "checked")
    table.rows.columns["card"][:] = [str(row) for row in range(len(table.rows))]
    assert list(leaks(table.contract, table.rows)) == []


def test_a_feature_that_moved_since_the_parent_is_told(tmp_path: Path) -> None:
    warnings(tmp_path, ordered())
    table = read_checked(tmp_path / "checked")
    columns = table.rows.columns
    reference: dict[str, Any] = {
        n: c.astype("U") if c.dtype == object else c for n, c in columns.items()
    }
    assert list(shifts(table.contract, table.rows, reference)) == []
    reference["amount"] = columns["amount"] * 3
    reference["card"] = np.full(50, "debit")
    reference["age"] = np.full(50, np.nan)
    sentences = list(shifts(table.contract, table.rows, reference))
    names = [sentence.split("'")[1] for sentence in sentences]
    assert names == ["amount", "age", "card"]


def test_the_page_shows_failing_rows_by_their_place_in_the_file_and_masks_the_sensitive(
    tmp_path: Path,
) -> None:
    features = [{**f, "sensitive": f["name"] == "age"} for f in CONTRACT["features"]]
    frame = ordered()
    frame.loc[[11, 700], "amount"] = -2.5
    frame.loc[11, "age"] = 43.75
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="-2.5 in row 11 and 1 more"):
        run(
            table=tmp_path / "t.csv",
            contract=small_contract(features=features),
            checked=tmp_path / "checked",
            findings=tmp_path / "report.html",
        )
    page = (tmp_path / "report.html").read_text()
    assert "feature &#x27;amount&#x27; must be at least 0: 2 rows are not" in page
    assert "<td>11</td><td>-2.5</td><td>" + MASK in page
    assert "43.75" not in page
    assert not (tmp_path / "checked").exists()


def test_a_table_that_cannot_be_read_as_the_contracts_has_its_page_too(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        warnings(tmp_path, ordered().drop(columns="visits"))
    assert "column &#x27;visits&#x27; is missing" in (tmp_path / "report.html").read_text()


def test_the_schema_and_the_predictors_check_find_the_same_rows() -> None:
    contract = small_contract()
    columns = canonical_columns(
        contract,
        {
            "amount": [1.0, -1.0, np.nan, np.inf, 2.0],
            "age": [np.nan, 1.0, -np.inf, 5.0, 6.0],
            "visits": [1, -2, 3, 4, 5],
            "channel": ["web", "pigeon", "unknown", "", "shop"],
            "card": ["debit", "store", "credit", "", "debit"],
        },
    )
    ours = {(b.feature, tuple(b.rows.tolist())) for b in breaches(contract, columns)}
    theirs = {(v.feature, tuple(v.rows.tolist())) for v in check_columns(contract, columns)}
    # An empty text is missing for both, and for the schema no category either.
    assert {n: r for n, r in theirs if n != "card"} == {n: r for n, r in ours if n != "card"}
    for found in (ours, theirs):
        assert {r for n, rows in found if n == "card" for r in rows} == {1, 3}
    assert ("amount", (2,)) in ours
