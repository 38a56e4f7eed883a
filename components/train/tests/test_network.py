from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.checked import read_checked
from components.tests.table import small_contract
from components.train.inputs import FIRST_CATEGORY, MISSING, UNSEEN, matrices
from components.train.model import load_model, scores
from components.train.network import Network, Numbers, Shape
from serving.bundle import canonical_columns
from serving.errors import FileError


def test_codes_tell_missing_unseen_and_categories_apart() -> None:
    columns = canonical_columns(
        small_contract(),
        {
            "amount": [1.0] * 5,
            "age": [None] * 5,
            "visits": [1] * 5,
            "channel": [None, "unknown", "fax", "web", "phone"],
            "card": ["debit"] * 5,
        },
    )
    _, codes = matrices(small_contract(), columns)
    assert codes[:, 0].tolist() == [MISSING, MISSING, UNSEEN, FIRST_CATEGORY, FIRST_CATEGORY + 2]


def test_large_offsets_keep_their_digits() -> None:
    numbers = Numbers(1, bins=4, nullable=[])
    seconds = 1.7e9 + np.arange(1000.0)
    numbers.fit(seconds[:, None])
    standard = numbers.standardise(torch.from_numpy(seconds[:, None]))
    steps = torch.diff(standard[:, 0])
    assert (steps > 0).all()
    assert torch.allclose(steps, steps.mean(), rtol=1e-2)


@pytest.mark.parametrize("value", [float("nan"), 1e300, -1e300, 0.0])
def test_every_float_gives_a_finite_encoding(value: float) -> None:
    numbers = Numbers(1, bins=4, nullable=[0])
    numbers.fit(np.random.default_rng(0).normal(size=(100, 1)))
    encoded = numbers(numbers.standardise(torch.tensor([[value]], dtype=torch.float64)))
    assert encoded.shape == (1, numbers.size)
    assert torch.isfinite(encoded).all()


@pytest.mark.parametrize("column", [np.zeros(50), np.full(50, np.nan), np.arange(50) % 2 * 1.0])
def test_a_column_with_hardly_any_values_is_no_trouble(column: np.ndarray) -> None:
    numbers = Numbers(1, bins=4, nullable=[])
    numbers.fit(column[:, None])
    assert torch.isfinite(numbers(numbers.standardise(torch.from_numpy(column[:, None])))).all()


def test_a_loaded_model_scores_as_the_saved_one(checked: Path, network: Path) -> None:
    rows = read_checked(checked).part("test")
    first, second = load_model(network), load_model(network)
    found = scores(first, rows.columns)
    assert np.array_equal(found, scores(second, rows.columns))
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()


def test_a_contract_without_text_or_without_numbers_has_a_network_too() -> None:
    contract = small_contract()
    for chosen in (contract.features[:3], contract.features[3:]):
        part = small_contract(features=chosen, rules=())
        values = torch.zeros(2, sum(f.dtype != "string" for f in chosen), dtype=torch.float64)
        codes = torch.zeros(2, sum(f.dtype == "string" for f in chosen), dtype=torch.int64)
        assert Network(part, Shape()).eval()(values, codes).shape == (2,)


def test_says_where_a_model_was_expected(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no model here; give the folder that the train step"):
        load_model(tmp_path)
