"""Columns of rows against a contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.bundle import canonical_columns, check_columns
from serving.errors import DataError
from tests.support import tiny

ROW: dict[str, list[Any]] = {"amount": [1.5], "age": [None], "visits": [3], "channel": ["web"]}


def test_none_becomes_the_missing_value_of_its_dtype() -> None:
    columns = canonical_columns(tiny.contract(), {**ROW, "channel": [None]})
    assert np.isnan(columns["age"]).all()
    assert columns["age"].dtype == np.float32
    assert columns["visits"].dtype == np.int64
    assert columns["channel"].tolist() == [""]
    assert check_columns(tiny.contract(), columns) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("amount", "12", "'amount': '12' in row 0 is not a number"),
        ("amount", True, "'amount': 'True' in row 0 is not a number"),
        ("visits", 2.5, "'visits': 2.5 in row 0 is not an int64"),
        ("visits", None, "'visits': row 0 is missing"),
        ("visits", 2**70, "'visits' holds a number too large"),
        ("channel", 7, "'channel': '7' in row 0 is not text"),
        ("channel", b"\xff", "'channel': row 0 is not UTF-8"),
    ],
)
def test_names_a_value_of_the_wrong_type(name: str, value: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        canonical_columns(tiny.contract(), {**ROW, name: [value]})
    assert says in str(caught.value)


def test_names_a_missing_an_extra_and_a_ragged_column() -> None:
    contract = tiny.contract()
    with pytest.raises(DataError, match="column 'age' is missing"):
        canonical_columns(contract, {k: v for k, v in ROW.items() if k != "age"})
    with pytest.raises(DataError, match="column 'colour' is not in the contract"):
        canonical_columns(contract, {**ROW, "colour": ["red"]})
    with pytest.raises(DataError, match="column 'amount' has 1 rows, others 2"):
        canonical_columns(contract, {k: v if k == "amount" else v * 2 for k, v in ROW.items()})


@pytest.mark.parametrize(
    ("name", "value", "kind", "says"),
    [
        ("amount", -1.0, "below", "feature 'amount': -1 in row 1; the contract's minimum is 0"),
        ("amount", 1e6, "above", "feature 'amount': 1e+06 in row 1; the contract's maximum is"),
        ("amount", np.nan, "missing", "feature 'amount': a missing value in row 1; it is not"),
        ("age", np.inf, "infinite", "feature 'age': inf in row 1; it must be finite"),
        ("channel", "fax", "category", "feature 'channel': 'fax' in row 1; known categories: web"),
    ],
)
def test_reports_values_the_contract_refuses(name: str, value: Any, kind: str, says: str) -> None:
    contract = tiny.contract()
    columns = canonical_columns(contract, {k: [v[0], v[0]] for k, v in ROW.items()})
    columns[name][1] = value
    (violation,) = check_columns(contract, columns)
    assert (violation.kind, violation.rows.tolist()) == (kind, [1])
    assert violation.sentence().startswith(says)


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(st.lists(JSON, min_size=1, max_size=4))
def test_any_value_is_either_typed_or_refused_with_the_columns_name(values: list[Any]) -> None:
    for name in ROW:
        repeated = {k: v * len(values) for k, v in ROW.items()}
        refusal = None
        try:
            columns = canonical_columns(tiny.contract(), {**repeated, name: values})
        except DataError as error:
            refusal = str(error)
        if refusal is None:
            assert len(columns[name]) == len(values)
            check_columns(tiny.contract(), columns)
        else:
            assert f"'{name}'" in refusal
