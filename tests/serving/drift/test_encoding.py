from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.drift.encoding import UNSEEN, Encoder
from serving.errors import DataError
from tests.serving.drift.stream import as_json
from tests.support import tiny

GIVEN: dict[str, list[Any]] = {
    "amount": [1, 2.5, 3.0, 4.0],
    "age": [30.0, None, 50.0, 60.0],
    "visits": [0, 1, 2, 3],
    "channel": ["web", None, "fax", ""],
}


def encoder() -> Encoder:
    contract = tiny.contract()
    return Encoder(contract, contract.feature_names, score=True)


def test_missing_is_nan_and_an_unseen_category_has_a_code_of_its_own() -> None:
    rows = encoder().encode(GIVEN, [0.125, 0.25, 0.5, 1.0])
    assert rows.shape == (4, 5)
    assert np.isnan(rows[1, 1])
    assert rows[[0, 2], 3].tolist() == [0.0, UNSEEN]
    assert np.isnan(rows[[1, 3], 3]).all()
    assert rows[:, 4].tolist() == [0.125, 0.25, 0.5, 1.0]


def test_arrays_and_lists_give_the_same_matrix() -> None:
    rows = tiny.rows(50, seed=4)
    lists = {n: as_json(c) for n, c in rows.items()}
    stored = {n: c.astype("U") if c.dtype == object else c for n, c in rows.items()}
    score = tiny.expected_scores(rows)
    np.testing.assert_array_equal(
        encoder().encode(lists, score.tolist()), encoder().encode(stored, score)
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"amount": ["12", 1, 1, 1]}, "'amount' has a str"),
        ({"amount": [True, 1, 1, 1]}, "'amount' has a bool"),
        ({"channel": [1, "", "", ""]}, "'channel' has a int"),
        ({"channel": [["web"], "", "", ""]}, "'channel' has a list"),
        ({"age": "thirty"}, "'age' is not a list"),
        ({"age": [1.0]}, "'age' has 1 rows, not 4"),
        ({"amount": [10**400, 1, 1, 1]}, "'amount' has a number too large"),
        ({"colour": [1, 2, 3, 4]}, "'colour' is not in the contract"),
    ],
)
def test_names_the_column_that_is_not_of_the_contract(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        encoder().encode({**GIVEN, **changes}, [0.1] * 4)


def test_names_the_column_that_is_missing() -> None:
    given = {n: c for n, c in GIVEN.items() if n != "visits"}
    with pytest.raises(DataError, match="'visits' is missing"):
        encoder().encode(given, [0.1] * 4)
    with pytest.raises(DataError, match="'score' is not a list"):
        encoder().encode(GIVEN, None)


def test_a_float32_read_from_json_equals_the_one_in_an_array() -> None:
    stored = {n: np.array(c) for n, c in GIVEN.items() if n in ("amount", "visits")}
    stored |= {"age": np.full(4, 0.1, np.float32), "channel": np.full(4, "web")}
    lists = {n: as_json(c.astype(object) if n == "channel" else c) for n, c in stored.items()}
    lists["age"] = [0.1] * 4
    score = np.full(4, 0.3, np.float32)
    np.testing.assert_array_equal(
        encoder().encode(lists, [0.3] * 4), encoder().encode(stored, score)
    )
