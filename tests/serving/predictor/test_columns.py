"""The quick reading of columns agrees with the bundle package's own, value by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.bundle import Contract, canonical_columns, check_columns
from serving.errors import DataError
from serving.predictor.columns import RowReader

CONTRACT = Contract.model_validate(
    {
        "name": "wide",
        "features": [
            {"name": "f64", "dtype": "float64", "min": -5, "max": 5},
            {"name": "f32", "dtype": "float32", "nullable": True, "max": 0.1},
            {"name": "open", "dtype": "float32"},
            {"name": "whole", "dtype": "int64", "min": -3},
            {"name": "free", "dtype": "int64"},
            {
                "name": "text",
                "dtype": "string",
                "categories": ["a", "b"],
                "nullable": True,
                "missing": ["unknown"],
            },
            {"name": "any", "dtype": "string", "categories": ["a"], "unseen": "map"},
        ],
        "label": {"column": "y"},
        "decision": {"review": 0.5, "decline": 0.5},
    }
)
READER = RowReader(CONTRACT)
GOOD: dict[str, list[Any]] = {
    "f64": [1.5, -5, 5],
    "f32": [0.1, None, -1],
    "open": [0, 1.5, 3e38],
    "whole": [-3, 0, 2**62],
    "free": [-(2**63), 0, 2**63 - 1],
    "text": ["a", None, "unknown"],
    "any": ["a", "other", "b"],
}
JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-6, 6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-6, 6),
    st.sampled_from([0.1, -5, 5.0, 1e39, -1e39, 3.4028235677973366e38]),
    st.sampled_from(["", "a", "b", "unknown", "other", "1"]),
    st.lists(st.integers(0, 1), max_size=2),
)
ARRAYS = st.sampled_from(
    [
        np.array([1.0, np.nan, 2.0]),
        np.array([0.0, np.inf, 2.0], dtype=np.float32),
        np.array([1, 2, 3], dtype=np.int16),
        np.array([2**63, 0, 1], dtype=np.uint64),
        np.array([1e39, 0, 0]),
        np.array([0.1, 0.1, -1.0]),
        np.array([b"a", b"b", b""], dtype=object),
        np.array([b"a", b"\xff", b"b"], dtype=object),
        np.array(["a", "b", "a"], dtype=object),
        np.zeros((3, 1)),
        np.zeros((3, 2)),
        np.zeros(2),
        np.array([True, False, True]),
    ]
)


def exact(columns: dict[str, Any]) -> dict[str, Any] | None:
    """What serving.bundle makes of the columns; None when it refuses them."""
    try:
        read = canonical_columns(CONTRACT, columns)
    except DataError:
        return None
    return None if check_columns(CONTRACT, read) else dict(read)


def agrees(columns: dict[str, Any]) -> None:
    expected = exact(columns)
    if expected is None:
        with pytest.raises(DataError):
            READER.read(columns)
        return
    found = READER.read(columns).columns
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        assert found[name].dtype == column.dtype
        np.testing.assert_array_equal(found[name], column)


def test_valid_rows_are_read() -> None:
    assert exact(GOOD) is not None
    agrees(GOOD)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(list(GOOD)),
    column=st.one_of(st.lists(JSON_VALUES, min_size=3, max_size=3), ARRAYS),
)
def test_agrees_with_the_exact_check_on_any_column(name: str, column: Any) -> None:
    agrees({**GOOD, name: column})


@settings(max_examples=100, deadline=None)
@given(values=st.lists(JSON_VALUES, min_size=1, max_size=1), name=st.sampled_from(list(GOOD)))
def test_agrees_with_the_exact_check_on_one_row_as_json_brings_it(
    name: str, values: list[Any]
) -> None:
    row = {key: column[:1] for key, column in GOOD.items()}
    agrees({**row, name: orjson.loads(orjson.dumps(values))})


@pytest.mark.parametrize("name", ["f64", "open"])
def test_narrow_floats_widen(name: str) -> None:
    agrees({**GOOD, name: np.array([0.5, 1.0, 1.5], dtype=np.float16)})


@pytest.mark.parametrize("change", [{"f64": [1.0]}, {"extra": [1, 2, 3]}])
def test_refuses_ragged_and_unknown_columns(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(change))):
        READER.read({**GOOD, **change})


def test_refuses_a_missing_column_and_no_rows() -> None:
    with pytest.raises(DataError, match="whole"):
        READER.read({name: column for name, column in GOOD.items() if name != "whole"})
    with pytest.raises(DataError, match="no rows"):
        READER.read({name: [] for name in GOOD})
